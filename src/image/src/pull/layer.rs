//! One layer of a pull: found, joined, or fetched and unpacked.

use super::Shared;
use super::pipeline::{self, Failure, Feed, Incoming, Input};
use crate::disk::{LayerMeta, TempDir};
use crate::inner::Inner;
use crate::registry::{BlobFetch, BlobSource, Descriptor, Session};
use crate::unpack::{UnpackError, Unpacked, adopt_parents};
use crate::{LayerState, ProgressEvent, PullErrorKind as Kind};
use orlop_model::Digest;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Chunks between the network and the first stage.
const CHUNKS: usize = 8;

/// What is to become one snapshot.
#[derive(Clone)]
pub(super) struct Wanted {
    pub(super) index: usize,
    pub(super) descriptor: Descriptor,
    pub(super) diff_id: Digest,
    pub(super) chain: Digest,
}

/// What the layers of one pull share.
pub(super) struct Context {
    pub(super) inner: Arc<Inner>,
    pub(super) session: Arc<Session>,
    pub(super) shared: Arc<Shared>,
    /// The pull has failed or nobody wants it.
    pub(super) stop: CancellationToken,
    /// Snapshot of each layer, once there is one.
    pub(super) snapshots: Vec<watch::Receiver<Option<Digest>>>,
}

/// Makes sure that the layer is in the store and gives the name of its snapshot.
pub(super) async fn ensure(context: &Arc<Context>, wanted: &Wanted) -> Result<Digest, Kind> {
    loop {
        let known = context.inner.state().snapshot_for(&wanted.diff_id, &wanted.chain);
        if let Some(snapshot) = known {
            context.shared.tell(layer_event(wanted, LayerState::Present));
            return Ok(snapshot);
        }
        let (work, layer) = (context.clone(), wanted.clone());
        let (ticket, started) =
            context.inner.layer_jobs.join(wanted.chain.clone(), move |cancel| async move {
                job(&work, &layer, &cancel).await
            });
        let result = tokio::select! {
            result = ticket.wait() => result,
            () = context.stop.cancelled() => {
                ticket.leave().await;
                return Err(Kind::Cancelled);
            }
        };
        match result {
            Some(Ok(snapshot)) => {
                context.shared.tell(layer_event(wanted, LayerState::Done));
                return Ok(snapshot);
            }
            // What failed with another pull's credentials or for its lower layers may succeed here.
            Some(Err(kind)) if started => return Err(kind),
            None if started => return Err(Kind::Store { message: "the layer's task died".into() }),
            _ => {}
        }
    }
}

fn layer_event(wanted: &Wanted, state: LayerState) -> ProgressEvent {
    ProgressEvent::Layer { blob: wanted.descriptor.digest.clone(), state }
}

async fn job(
    context: &Arc<Context>,
    wanted: &Wanted,
    cancel: &CancellationToken,
) -> Result<Digest, Kind> {
    let unfinished = {
        let permit = tokio::select! {
            permit = context.inner.slots.clone().acquire_owned() => permit,
            () = cancel.cancelled() => return Err(Kind::Cancelled),
        };
        let _permit = permit.map_err(|_| Kind::Cancelled)?;
        fetch_and_unpack(context, wanted, cancel).await?
    };
    let lower = if unfinished.unpacked.implicit_dirs.is_empty() {
        Ok(Vec::new())
    } else {
        tokio::select! {
            lower = lower_layers(context, wanted.index) => lower,
            () = cancel.cancelled() => Err(Kind::Cancelled),
        }
    };
    let (inner, wanted) = (context.inner.clone(), wanted.clone());
    blocking(move || finish(&inner, &wanted, unfinished, &lower?)).await?
}

/// A layer that is unpacked and checked, but has no name. Dropped on blocking threads only.
pub(super) struct Unfinished {
    temp: TempDir,
    unpacked: Unpacked,
    blob: Option<Incoming>,
}

/// From the blob that is here already, or from the registry, also where the former is damaged.
/// What a mirror gave and is not what its digest says is asked of the next host.
async fn fetch_and_unpack(
    context: &Arc<Context>,
    wanted: &Wanted,
    cancel: &CancellationToken,
) -> Result<Unfinished, Kind> {
    let blob = &wanted.descriptor.digest;
    let kept = context.inner.state().blobs.contains_key(blob);
    if kept {
        match through_pipeline(context, wanted, cancel, None).await {
            Err(Kind::DigestMismatch { actual, .. }) => {
                tracing::warn!(%blob, %actual, "a blob of the store is damaged and is fetched again");
                let (inner, blob) = (context.inner.clone(), blob.clone());
                blocking(move || {
                    let forgotten = inner.forget_blob(&blob);
                    forgotten.map_err(|e| super::store_failure(&inner, "remove a damaged blob", &e))
                })
                .await??;
            }
            result => return result,
        }
    }
    let hosts = context.session.sources();
    let mut skipped = 0;
    loop {
        let source = BlobSource {
            session: context.session.clone(),
            descriptor: wanted.descriptor.clone(),
            skipped,
        };
        skipped += 1;
        match through_pipeline(context, wanted, cancel, Some(source)).await {
            Err(kind @ (Kind::DigestMismatch { .. } | Kind::SizeMismatch { .. }))
                if skipped < hosts =>
            {
                tracing::warn!(%blob, %kind, "a mirror gave something else; the next host is asked");
            }
            result => return result,
        }
    }
}

/// Runs the pipeline once, fed from the content store or from the registry.
async fn through_pipeline(
    context: &Arc<Context>,
    wanted: &Wanted,
    cancel: &CancellationToken,
    source: Option<BlobSource>,
) -> Result<Unfinished, Kind> {
    let inner = &context.inner;
    let (send, feed) = mpsc::channel(CHUNKS);
    let kept = source.is_none();
    let working = {
        let (inner, wanted) = (inner.clone(), wanted.clone());
        tokio::task::spawn_blocking(move || unpack(&inner, &wanted, (!kept).then_some(feed)))
    };
    let fetched = match &source {
        None => Ok(()),
        Some(source) => fetch(context, wanted, source, send, cancel).await,
    };
    let unpacked = working.await.map_err(|error| Kind::Store { message: error.to_string() })?;
    match (unpacked, fetched) {
        (Ok(done), Ok(())) => Ok(done),
        // The stages ended because the transfer did.
        (Err(Stopped::Aborted), Err(kind)) => Err(kind),
        (Err(Stopped::Aborted), Ok(())) => Err(Kind::Cancelled),
        (Err(Stopped::Failed(kind)), _) => Err(kind),
        (Ok(done), Err(kind)) => {
            blocking(move || drop(done)).await?;
            Err(kind)
        }
    }
}

/// Brings the bytes to the pipeline, until all are there, something fails or nobody wants them.
async fn fetch(
    context: &Context,
    wanted: &Wanted,
    source: &BlobSource,
    send: mpsc::Sender<Feed>,
    cancel: &CancellationToken,
) -> Result<(), Kind> {
    let mut stream = BlobFetch::new(source.clone());
    let (mut done, total) = (0, wanted.descriptor.size);
    loop {
        let chunk = tokio::select! {
            chunk = stream.next() => chunk?,
            () = cancel.cancelled() => return Err(Kind::Cancelled),
        };
        let Some(chunk) = chunk else { break };
        done += chunk.len() as u64;
        let sent = tokio::select! {
            sent = send.send(Feed::Data(chunk)) => sent,
            () = cancel.cancelled() => return Err(Kind::Cancelled),
        };
        if sent.is_err() {
            // The pipeline has an error of its own.
            return Err(Kind::Cancelled);
        }
        context.shared.tell(layer_event(wanted, LayerState::Fetching { done, total }));
    }
    let _ = send.send(Feed::End).await;
    Ok(())
}

pub(super) enum Stopped {
    Aborted,
    Failed(Kind),
}

/// The blocking side of a layer.
pub(super) fn unpack(
    inner: &Inner,
    wanted: &Wanted,
    feed: Option<mpsc::Receiver<Feed>>,
) -> Result<Unfinished, Stopped> {
    let fail =
        |error: io::Error| Stopped::Failed(super::store_failure(inner, "write a layer", &error));
    let (temp, dest) = inner.layout.incoming().map_err(fail)?;
    let blob = &wanted.descriptor.digest;
    let (input, incoming) = match feed {
        Some(feed) => {
            let (file, handle) = inner.layout.ingest().map_err(fail)?;
            let incoming = Incoming { file, size: wanted.descriptor.size };
            (Input::Stream(feed, handle), Some(incoming))
        }
        None => (Input::Kept(File::open(inner.layout.blob(blob)).map_err(fail)?), None),
    };
    let job = pipeline::Job {
        blob,
        diff_id: &wanted.diff_id,
        limits: &inner.options.limits,
        inflate: &inner.options.inflate,
    };
    let unpacked = pipeline::run(input, &job, dest.as_fd());
    match unpacked {
        Ok(unpacked) => Ok(Unfinished { temp, unpacked, blob: incoming }),
        Err(failure) => {
            // First give the space back, then say how much there is.
            drop((temp, incoming));
            Err(stopped(inner, wanted, failure))
        }
    }
}

fn stopped(inner: &Inner, wanted: &Wanted, failure: Failure) -> Stopped {
    let blob = wanted.descriptor.digest.clone();
    Stopped::Failed(match failure {
        Failure::Aborted => return Stopped::Aborted,
        Failure::Digest(actual) => Kind::DigestMismatch { object: "layer", expected: blob, actual },
        Failure::Io(error) => super::store_failure(inner, "write a layer", &error),
        Failure::Unpack(UnpackError::Read(error)) => {
            Kind::Layer { blob, message: error.to_string() }
        }
        Failure::DiffId(actual) => {
            Kind::DiffIdMismatch { blob, expected: wanted.diff_id.clone(), actual }
        }
        Failure::Unpack(error @ UnpackError::Io { .. }) => {
            Problem::Layer(error).explain(inner, "unpack")
        }
        Failure::Unpack(error) => Kind::Layer { blob, message: error.to_string() },
    })
}

/// Attributes from below, counts, disk, name. Blocking.
pub(super) fn finish(
    inner: &Inner,
    wanted: &Wanted,
    layer: Unfinished,
    lower: &[Digest],
) -> Result<Digest, Kind> {
    let Unfinished { temp, unpacked, blob } = layer;
    let adopted = unpacked.implicit_dirs.len() as u64;
    let name = if adopted == 0 { &wanted.diff_id } else { &wanted.chain };
    let meta = LayerMeta {
        version: LayerMeta::VERSION,
        diff_id: wanted.diff_id.clone(),
        entries: unpacked.entries,
        bytes: unpacked.bytes,
        inodes: unpacked.inodes,
        adopted,
        root_described: unpacked.root_described,
        opaque_root: unpacked.opaque_root,
        epoch: inner.epoch,
    };
    let durable = adopt(inner, &temp, lower, &unpacked)
        .and_then(|()| temp.seal(&meta).map_err(Problem::Disk))
        .and_then(|()| inner.syncer.sync().map_err(Problem::Disk));
    if let Err(problem) = durable {
        // First give the space back, then say how much there is.
        drop((temp, blob));
        return Err(problem.explain(inner, "finish a layer"));
    }
    let blob =
        blob.map(|incoming| (incoming.file, wanted.descriptor.digest.clone(), incoming.size));
    inner
        .commit_layer(temp, name, meta, blob)
        .map_err(|error| super::store_failure(inner, "name a layer", &error))?;
    Ok(name.clone())
}

/// What may fail while a layer is finished.
enum Problem {
    Disk(io::Error),
    Layer(UnpackError),
}

impl Problem {
    fn explain(self, inner: &Inner, op: &str) -> Kind {
        match self {
            Self::Disk(error) => super::store_failure(inner, op, &error),
            Self::Layer(UnpackError::Io { op, name, source }) => {
                super::store_failure(inner, &format!("{op} {name:?}"), &source)
            }
            Self::Layer(error) => Kind::Store { message: format!("{op}: {error}") },
        }
    }
}

/// The directories of all layers below, topmost first, once they are there.
async fn lower_layers(context: &Arc<Context>, index: usize) -> Result<Vec<Digest>, Kind> {
    let mut lower = Vec::with_capacity(index);
    for receiver in context.snapshots[..index].iter().rev() {
        let mut receiver = receiver.clone();
        let snapshot =
            receiver.wait_for(Option::is_some).await.map_err(|_| Kind::Cancelled)?.clone();
        lower.extend(snapshot);
    }
    Ok(lower)
}

/// Gives directories that the archive only implies what they have below.
pub(super) fn adopt_from(inner: &Inner, layer: &Unfinished, lower: &[Digest]) -> Result<(), Kind> {
    let adopted = adopt(inner, &layer.temp, lower, &layer.unpacked);
    adopted.map_err(|problem| problem.explain(inner, "finish a layer"))
}

impl Unfinished {
    /// Its directory.
    pub(super) fn path(&self) -> &std::path::Path {
        self.temp.path()
    }
}

fn adopt(
    inner: &Inner,
    temp: &TempDir,
    lower: &[Digest],
    unpacked: &Unpacked,
) -> Result<(), Problem> {
    if unpacked.implicit_dirs.is_empty() || lower.is_empty() {
        return Ok(());
    }
    let open = |name: &Digest| orlop_sys::fs::open_dir(inner.layout.layer(name));
    let opened: io::Result<Vec<OwnedFd>> = lower.iter().map(open).collect();
    let opened = opened.map_err(Problem::Disk)?;
    let lower: Vec<_> = opened.iter().map(AsFd::as_fd).collect();
    let own = orlop_sys::fs::open_dir(temp.path().join("fs")).map_err(Problem::Disk)?;
    adopt_parents(own.as_fd(), &lower, &unpacked.implicit_dirs).map_err(Problem::Layer)
}

/// Work for a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Kind> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Kind::Store { message: error.to_string() })
}
