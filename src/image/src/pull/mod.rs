//! From a reference to an image in the store.

mod again;
mod jobs;
mod layer;
mod pipeline;
mod reader;

pub(crate) use self::again::{Again, complete};
use self::jobs::Jobs;
pub(crate) use self::layer::blocking;
use self::layer::{Context, Wanted};
use crate::disk::{ImageRecord, TempFile};
use crate::inner::Inner;
use crate::policy::Signature;
use crate::registry::{Config, Descriptor, Document, Manifest, Session, sha256};
use crate::state::full_name;
use crate::{
    Auth, Image, Layer, LayerState, Progress, ProgressEvent, PullError, PullErrorKind as Kind,
    Requirement,
};
use bytes::Bytes;
use orlop_model::{Digest, Reference};
use std::collections::HashMap;
use std::io::{self, Write};
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::field::Empty;
use tracing::{Instrument, Span};

/// Pulls of the same reference with the same credentials are one.
pub(crate) type PullJobs = Jobs<(Reference, Option<Auth>), Result<Digest, PullError>>;
/// Layers by chain.
pub(crate) type LayerJobs = Jobs<Digest, Result<Digest, Kind>>;

/// Most indexes between a tag and a manifest.
const NESTING: usize = 3;

/// Whom a pull tells how it goes.
#[derive(Default)]
pub(crate) struct Shared {
    listeners: Mutex<Vec<Progress>>,
}

impl Shared {
    fn add(&self, listener: Progress) {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(listener);
    }

    fn tell(&self, event: ProgressEvent) {
        let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for listener in listeners {
            listener(event.clone());
        }
    }
}

/// Pulls, or joins a pull that runs. Stops when the future is dropped, unless others wait too.
pub(crate) async fn pull(
    inner: &Arc<Inner>,
    reference: &Reference,
    auth: Option<Auth>,
    progress: Option<Progress>,
) -> Result<Digest, PullError> {
    let span = tracing::error_span!(
        target: "orlop::operation",
        "image.pull",
        image = %reference,
        outcome = Empty,
        bytes = Empty
    );
    let fetched = Arc::new(Received::default());
    let pulled =
        join(inner, reference, auth, progress, fetched.listener()).instrument(span.clone()).await;
    span.record("outcome", pulled.as_ref().map_or_else(|error| error.kind.word(), |_| "ok"));
    span.record("bytes", fetched.bytes());
    pulled
}

async fn join(
    inner: &Arc<Inner>,
    reference: &Reference,
    auth: Option<Auth>,
    progress: Option<Progress>,
    counter: Progress,
) -> Result<Digest, PullError> {
    let (work, name, credentials) = (inner.clone(), reference.clone(), auth.clone());
    let listeners = progress.iter().cloned().chain([counter]).collect();
    let shared = Arc::new(Shared { listeners: Mutex::new(listeners) });
    let span = Span::current();
    let (ticket, started) = inner.pulls.join((reference.clone(), auth), move |cancel| async move {
        let (_track, listener) = work.running.track(name.to_string());
        shared.add(listener);
        let result = run(&work, &name, credentials, shared, cancel).instrument(span).await;
        result.map_err(|kind| PullError { reference: name, kind })
    });
    if let Some(progress) = progress.filter(|_| !started) {
        inner.running.follow(&reference.to_string(), progress);
    }
    match ticket.wait().await {
        Some(result) => result,
        None => {
            let kind = Kind::Store { message: "the pull's task died".into() };
            Err(PullError { reference: reference.clone(), kind })
        }
    }
}

async fn run(
    inner: &Arc<Inner>,
    reference: &Reference,
    auth: Option<Auth>,
    shared: Arc<Shared>,
    cancel: CancellationToken,
) -> Result<Digest, Kind> {
    let resolved = tokio::select! {
        resolved = resolve(inner, reference, auth) => resolved?,
        () = cancel.cancelled() => return Err(Kind::Cancelled),
    };
    let resolved = match resolved {
        Resolved::Present(id) => return Ok(id),
        Resolved::Image(resolved) => resolved,
    };
    let result = store(inner, reference, *resolved, shared, &cancel).await;
    if result.is_err() {
        // Layers that were finished belong to no image now.
        let inner = inner.clone();
        blocking(move || inner.collect()).await?;
    }
    result
}

/// Counts the bytes that a pull brings, by blob.
#[derive(Default)]
struct Received(Mutex<HashMap<Digest, u64>>);

impl Received {
    fn listener(self: &Arc<Self>) -> Progress {
        let fetched = Arc::clone(self);
        Arc::new(move |event| {
            if let ProgressEvent::Layer { blob, state: LayerState::Fetching { done, .. } } = event {
                fetched.0.lock().unwrap_or_else(PoisonError::into_inner).insert(blob, done);
            }
        })
    }

    fn bytes(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }
}

/// What a reference turned out to be.
enum Resolved {
    /// Here already, with this name.
    Present(Digest),
    Image(Box<Fetched>),
}

struct Fetched {
    session: Arc<Session>,
    /// Digest that the name stands for.
    top: Digest,
    manifest: Manifest,
    config: Config,
    /// Manifests, indexes and configuration, to be kept.
    documents: Vec<(Digest, Bytes)>,
    /// Where the policy asks for them.
    signatures: Vec<Signature>,
}

async fn resolve(
    inner: &Arc<Inner>,
    reference: &Reference,
    auth: Option<Auth>,
) -> Result<Resolved, Kind> {
    let session = Arc::new(Session::open(inner.http.clone(), reference, auth).await?);
    let target = match reference.digest() {
        Some(digest) => digest.as_str(),
        None => reference.tag().unwrap_or("latest"),
    };
    let known = inner.state().owner(&full_name(reference)).map(|known| known.image.clone());
    if let Some(image) = known
        && is_current(&session, reference, target, &image).await?
        && still_allowed(inner, reference, &image)
    {
        return Ok(Resolved::Present(image.id.clone()));
    }
    let first = session.manifest(target, reference.digest()).await?;
    let top = first.digest.clone();
    let mut documents = vec![(first.digest.clone(), first.bytes.clone())];
    let mut document = Document::parse(&first.bytes, &first.content_type)?;
    let mut from_index = false;
    let manifest = loop {
        let index = match document {
            Document::Manifest(manifest) => break manifest,
            Document::Index(index) => index,
        };
        if documents.len() > NESTING {
            let message = format!("indexes are nested more than {NESTING} deep");
            return Err(Kind::Malformed { object: "index", message });
        }
        from_index = true;
        let entry = index.choose(&inner.options.platform)?;
        let next = session.manifest(entry.digest.as_str(), Some(&entry.digest)).await?;
        entry.check_size("manifest", next.bytes.len() as u64)?;
        document = Document::parse(&next.bytes, &next.content_type)?;
        documents.push((next.digest, next.bytes));
    };
    let manifests: Vec<Digest> = documents.iter().map(|(digest, _)| digest.clone()).collect();
    let signatures = allowed(inner, &session, reference, &manifests).await?;
    let bytes = session.config(&manifest.config).await?;
    let config = Config::parse(&bytes, manifest.layers.len())?;
    if !from_index {
        config.check_platform(&inner.options.platform)?;
    }
    documents.push((manifest.config.digest.clone(), bytes));
    Ok(Resolved::Image(Box::new(Fetched { session, top, manifest, config, documents, signatures })))
}

/// Whether what is here may be taken for the answer, under a policy that may be younger.
fn still_allowed(inner: &Inner, reference: &Reference, image: &Image) -> bool {
    let state = inner.state();
    state.images.get(&image.id).is_some_and(|known| {
        let record = &known.record;
        let name = reference.name();
        inner.options.policy.check(&name, &record.manifests, &record.signatures).is_ok()
    })
}

/// Asks the policy before any layer is fetched; gives the signatures that were needed for it.
async fn allowed(
    inner: &Arc<Inner>,
    session: &Session,
    reference: &Reference,
    manifests: &[Digest],
) -> Result<Vec<Signature>, Kind> {
    let (name, mut signatures) = (reference.name(), Vec::new());
    if matches!(inner.options.policy.of(&name), Requirement::Signed { .. }) {
        for digest in manifests {
            signatures.extend(session.signatures(digest).await?);
        }
    }
    let (work, manifests, found) = (inner.clone(), manifests.to_vec(), signatures.clone());
    let verdict = blocking(move || work.options.policy.check(&name, &manifests, &found)).await?;
    verdict.map_err(|message| Kind::SignatureValidationFailed { message })?;
    Ok(signatures)
}

/// Whether the registry still has the image that we have under this name. Also asked for a digest,
/// which cannot change: the registry has to say that these credentials may have it.
async fn is_current(
    session: &Session,
    reference: &Reference,
    target: &str,
    image: &Image,
) -> Result<bool, Kind> {
    match session.head_manifest(target).await {
        Ok(Some(digest)) => {
            let name = format!("{}@{digest}", reference.name());
            Ok(image.repo_digests.contains(&name))
        }
        // Registries without the header, or without HEAD, are asked in full.
        Ok(None) | Err(Kind::Refused { .. }) => Ok(false),
        // Without a body there are no words of the registry: the full request brings them.
        Err(Kind::NotFound { .. } | Kind::Unauthorized { .. } | Kind::Forbidden { .. }) => {
            Ok(false)
        }
        Err(kind) => Err(kind),
    }
}

/// Keeps what a pull needs from being collected while it runs.
pub(crate) struct Hold<I: Deref<Target = Inner>> {
    inner: I,
    digests: Vec<Digest>,
}

impl<I: Deref<Target = Inner>> Hold<I> {
    pub(crate) fn new(inner: I, digests: Vec<Digest>) -> Self {
        inner.state().hold(&digests);
        Self { inner, digests }
    }
}

impl<I: Deref<Target = Inner>> Drop for Hold<I> {
    fn drop(&mut self) {
        self.inner.state().release(&self.digests);
    }
}

async fn store(
    inner: &Arc<Inner>,
    reference: &Reference,
    fetched: Fetched,
    shared: Arc<Shared>,
    cancel: &CancellationToken,
) -> Result<Digest, Kind> {
    let id = fetched.manifest.config.digest.clone();
    let layers = wanted(&fetched);
    let mut held: Vec<Digest> =
        fetched.documents.iter().map(|(digest, _)| digest.clone()).collect();
    for layer in &layers {
        held.extend([layer.diff_id.clone(), layer.chain.clone(), layer.descriptor.digest.clone()]);
    }
    let hold = Hold::new(inner.clone(), held);
    // The sizes are the registry's word: their sum may be anything.
    let sizes = fetched.manifest.layers.iter().map(|layer| layer.size);
    let bytes = sizes.fold(0, u64::saturating_add);
    shared.tell(ProgressEvent::Resolved { image: id.clone(), layers: layers.len(), bytes });
    check_space(inner, &layers)?;
    let (snapshots, documents) = bring(inner, &fetched, &layers, shared, cancel).await?;
    let record = record(reference, &fetched, &layers, &snapshots);
    let (work, config) = (inner.clone(), fetched.config);
    // From here on the pull is finished even if nobody waits for it.
    blocking(move || {
        let done = work.commit_image(documents, record, &config);
        drop(hold);
        done.map_err(|error| commit_failure(&work, &error))
    })
    .await??;
    Ok(id)
}

/// Layers, then documents, with all their data durable.
async fn bring(
    inner: &Arc<Inner>,
    fetched: &Fetched,
    layers: &[Wanted],
    shared: Arc<Shared>,
    cancel: &CancellationToken,
) -> Result<(Vec<Digest>, Documents), Kind> {
    let (senders, snapshots): (Vec<_>, Vec<_>) =
        layers.iter().map(|_| watch::channel(None)).unzip();
    let context = Arc::new(Context {
        inner: inner.clone(),
        session: fetched.session.clone(),
        shared,
        stop: cancel.child_token(),
        snapshots,
    });
    let mut set = JoinSet::new();
    for (wanted, sender) in layers.iter().cloned().zip(senders) {
        let context = context.clone();
        set.spawn(async move {
            let snapshot = layer::ensure(&context, &wanted).await?;
            // Whoever waited has gone.
            let _ = sender.send(Some(snapshot.clone()));
            Ok::<_, Kind>((wanted.index, snapshot))
        });
    }
    let mut found = vec![None; layers.len()];
    let mut failed: Option<Kind> = None;
    while let Some(done) = set.join_next().await {
        let done = done.unwrap_or_else(|error| Err(Kind::Store { message: error.to_string() }));
        match done {
            Ok((index, snapshot)) => found[index] = Some(snapshot),
            // The first cause is the one to tell; the others wind down.
            Err(kind) => {
                failed.get_or_insert(kind);
                context.stop.cancel();
            }
        }
    }
    if let Some(kind) = failed {
        return Err(kind);
    }
    let (work, documents) = (inner.clone(), fetched.documents.clone());
    let documents = blocking(move || write_documents(&work, documents)).await??;
    Ok((found.into_iter().flatten().collect(), documents))
}

/// Blobs in memory that became files without a name.
type Documents = Vec<(TempFile, Digest, u64)>;

fn write_documents(inner: &Inner, documents: Vec<(Digest, Bytes)>) -> Result<Documents, Kind> {
    let mut written = Vec::new();
    for (digest, bytes) in documents {
        let known = inner.state().blobs.contains_key(&digest);
        if known {
            continue;
        }
        let write = || {
            let (temp, mut file) = inner.layout.ingest()?;
            file.write_all(&bytes)?;
            file.sync_data()?;
            io::Result::Ok(temp)
        };
        let temp = write().map_err(|error| store_failure(inner, "write a manifest", &error))?;
        written.push((temp, digest, bytes.len() as u64));
    }
    Ok(written)
}

fn wanted(fetched: &Fetched) -> Vec<Wanted> {
    let mut chain: Option<Digest> = None;
    let pairs = fetched.manifest.layers.iter().zip(&fetched.config.diff_ids).enumerate();
    let layer = |(index, (descriptor, diff_id)): (usize, (&Descriptor, &Digest))| {
        let next = match &chain {
            None => diff_id.clone(),
            Some(below) => sha256(format!("{below} {diff_id}").as_bytes()),
        };
        chain = Some(next.clone());
        Wanted { index, descriptor: descriptor.clone(), diff_id: diff_id.clone(), chain: next }
    };
    pairs.map(layer).collect()
}

fn record(
    reference: &Reference,
    fetched: &Fetched,
    layers: &[Wanted],
    snapshots: &[Digest],
) -> ImageRecord {
    let layer = |(wanted, snapshot): (&Wanted, &Digest)| Layer {
        diff_id: wanted.diff_id.clone(),
        blob: wanted.descriptor.digest.clone(),
        blob_size: wanted.descriptor.size,
        snapshot: snapshot.clone(),
    };
    let tag = reference.digest().is_none().then(|| full_name(reference));
    let manifests = fetched.documents.iter().map(|(digest, _)| digest.clone());
    ImageRecord {
        version: ImageRecord::VERSION,
        id: fetched.manifest.config.digest.clone(),
        tags: tag.into_iter().collect(),
        digests: vec![full_name(&reference.with_digest(fetched.top.clone()))],
        layers: layers.iter().zip(snapshots).map(layer).collect(),
        manifests: manifests.filter(|digest| *digest != fetched.manifest.config.digest).collect(),
        signatures: fetched.signatures.clone(),
    }
}

/// Does not start what cannot end well: the blobs alone have to fit.
fn check_space(inner: &Inner, layers: &[Wanted]) -> Result<(), Kind> {
    let needed: u64 = {
        let state = inner.state();
        let missing = layers.iter().filter(|layer| {
            state.snapshot_for(&layer.diff_id, &layer.chain).is_none()
                && !state.blobs.contains_key(&layer.descriptor.digest)
        });
        missing.fold(0, |sum: u64, layer| sum.saturating_add(layer.descriptor.size))
    };
    let free = inner.layout.free();
    if needed <= free {
        return Ok(());
    }
    Err(Kind::NoSpace { path: inner.layout.root.clone(), free, needed })
}

/// What a failed write to the store means for the pull.
fn store_failure(inner: &Inner, op: &str, error: &io::Error) -> Kind {
    if is_full(error) {
        let free = inner.layout.free();
        return Kind::NoSpace {
            path: inner.layout.root.clone(),
            free,
            needed: free.saturating_add(1),
        };
    }
    Kind::Store { message: format!("{op} in {}: {error}", inner.layout.root.display()) }
}

fn commit_failure(inner: &Inner, error: &crate::StoreError) -> Kind {
    match error {
        crate::StoreError::Io { op, source, .. } => store_failure(inner, op, source),
        other => Kind::Store { message: other.to_string() },
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
