//! Orlop's own image service, for its command line: what CRI has no call for. The daemon serves it
//! beside CRI; a command line without a daemon serves it to itself, so that there is one way.

use crate::Api;
use crate::error::{ApiError, answer};
use crate::images_v1::{self as v1, images_server::Images};
use crate::validate::Invalid;
use orlop_image::{Auth, Image, ImageStore, LayerState, Progress, ProgressEvent};
use orlop_model::{Reference, Timestamp};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, mpsc};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Bytes in one message of an archive.
const CHUNK: usize = 256 << 10;
/// Such messages that wait for the other side.
const QUEUE: usize = 8;

/// Where the service finds the store.
#[derive(Clone)]
pub struct ImageCalls(Source);

#[derive(Clone)]
enum Source {
    /// Behind a daemon, once it is ready.
    Daemon(Api),
    Store(ImageStore),
}

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl ImageCalls {
    /// Over a store that this process has opened itself.
    pub fn over(store: ImageStore) -> Self {
        Self(Source::Store(store))
    }

    pub(crate) fn of(api: Api) -> Self {
        Self(Source::Daemon(api))
    }

    fn store(&self) -> Result<ImageStore, ApiError> {
        match &self.0 {
            Source::Daemon(api) => Ok(api.engine()?.images.clone()),
            Source::Store(store) => Ok(store.clone()),
        }
    }

    fn image(&self, name: &str) -> Result<Arc<Image>, ApiError> {
        let missing = || orlop_image::StoreError::NotFound { image: name.to_owned() };
        Ok(self.store()?.get(name).ok_or_else(missing)?)
    }
}

fn reference(field: &str, text: &str) -> Result<Reference, ApiError> {
    Reference::parse(text)
        .map_err(|error| Invalid::Image { field: field.to_owned(), why: error.to_string() }.into())
}

fn auth(credentials: Option<v1::Credentials>) -> Result<Option<Auth>, ApiError> {
    let Some(given) = credentials else { return Ok(None) };
    let found = Auth::from_fields(&given.username, &given.password, "", &given.identity_token, "");
    // Only `auth` can be wrong, and it is empty.
    Ok(found.unwrap_or_default())
}

/// Reports that wait for the client: of each layer the last one only, so that a slow client costs no
/// memory.
#[derive(Default)]
struct Pending {
    head: Option<v1::Progress>,
    layers: BTreeMap<String, v1::Progress>,
}

impl Pending {
    fn put(&mut self, message: v1::Progress) {
        match &message.layer {
            Some(layer) => drop(self.layers.insert(layer.digest.clone(), message)),
            None => self.head = Some(message),
        }
    }

    fn take(&mut self) -> Vec<v1::Progress> {
        self.head.take().into_iter().chain(std::mem::take(&mut self.layers).into_values()).collect()
    }
}

/// Runs work that reports, and turns the reports and its result into messages. Dropping the
/// messages drops the work.
fn with_progress<F>(call: &'static str, work: impl FnOnce(Progress) -> F) -> Messages<v1::Progress>
where
    F: Future<Output = Result<String, ApiError>> + Send + 'static,
{
    let pending = Arc::new((Mutex::new(Pending::default()), Notify::new()));
    let take = |pending: &(Mutex<Pending>, Notify)| {
        pending.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    };
    let news = pending.clone();
    let progress: Progress = Arc::new(move |event| {
        news.0.lock().unwrap_or_else(PoisonError::into_inner).put(message(event));
        news.1.notify_one();
    });
    let work = work(progress);
    let (send, receive) = mpsc::channel(QUEUE);
    let task = tokio::spawn(async move {
        let mut work = std::pin::pin!(work);
        let result = loop {
            let result = tokio::select! {
                result = &mut work => Some(result),
                () = pending.1.notified() => None,
            };
            for message in take(&pending) {
                if send.send(Ok(message)).await.is_err() {
                    return;
                }
            }
            if let Some(result) = result {
                break result;
            }
        };
        let result = answer(call, result)
            .map(|result| v1::Progress { result: result.into_inner(), ..Default::default() });
        // Nobody may listen any more.
        let _ = send.send(result).await;
    });
    Box::pin(Ended { messages: ReceiverStream::new(receive), task })
}

/// Stops the work with its stream.
struct Ended<T> {
    messages: ReceiverStream<T>,
    task: tokio::task::JoinHandle<()>,
}

impl<T> Stream for Ended<T> {
    type Item = T;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<T>> {
        Pin::new(&mut self.messages).poll_next(context)
    }
}

impl<T> Drop for Ended<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn message(event: ProgressEvent) -> v1::Progress {
    use v1::layer_progress::State;
    match event {
        ProgressEvent::Resolved { layers, bytes, .. } => v1::Progress {
            layers: u32::try_from(layers).unwrap_or(u32::MAX),
            bytes,
            ..Default::default()
        },
        ProgressEvent::Layer { blob, state } => {
            let (state, done, total) = match state {
                LayerState::Present => (State::Present, 0, 0),
                LayerState::Fetching { done, total } => (State::Fetching, done, total),
                LayerState::Sending { done, total } => (State::Sending, done, total),
                LayerState::Done => (State::Done, 0, 0),
            };
            let digest = blob.to_string();
            let layer = v1::LayerProgress { digest, state: state.into(), done, total };
            v1::Progress { layer: Some(layer), ..Default::default() }
        }
    }
}

#[tonic::async_trait]
impl Images for ImageCalls {
    type PullStream = Messages<v1::Progress>;
    type PushStream = Messages<v1::Progress>;
    type ExportStream = Messages<v1::Chunk>;

    async fn pull(
        &self,
        request: Request<v1::PullRequest>,
    ) -> Result<Response<Self::PullStream>, Status> {
        let v1::PullRequest { name, credentials } = request.into_inner();
        let this = self.clone();
        let work = |progress| async move {
            let (store, auth) = (this.store()?, auth(credentials)?);
            let names = crate::images::names(&store, &name).await?;
            let id = crate::images::pull_first(&store, &names, auth, Some(progress)).await?;
            Ok(id.to_string())
        };
        Ok(Response::new(with_progress("pull", work)))
    }

    async fn push(
        &self,
        request: Request<v1::PushRequest>,
    ) -> Result<Response<Self::PushStream>, Status> {
        let v1::PushRequest { image, target, credentials } = request.into_inner();
        let this = self.clone();
        let work = |progress| async move {
            let (store, auth) = (this.store()?, auth(credentials)?);
            let id = this.image(&image)?.id.clone();
            let to = if target.is_empty() { &image } else { &target };
            let to = reference("target", to)?;
            // By the name that was asked for, so that its digest is known beside it.
            Ok(store.push(id.as_str(), &to, auth, Some(progress)).await?.to_string())
        };
        Ok(Response::new(with_progress("push", work)))
    }

    async fn import(
        &self,
        request: Request<Streaming<v1::ImportRequest>>,
    ) -> Result<Response<v1::ImportResponse>, Status> {
        answer("import", import(self, request.into_inner()).await)
    }

    async fn export(
        &self,
        request: Request<v1::ExportRequest>,
    ) -> Result<Response<Self::ExportStream>, Status> {
        let store = answer("export", self.store())?.into_inner();
        let names = request.into_inner().images;
        let (send, chunks) = mpsc::channel(QUEUE);
        tokio::task::spawn_blocking(move || {
            let mut writer = ChunkWriter { send: send.clone(), buffer: Vec::with_capacity(CHUNK) };
            let done = store.export(&names, &mut writer);
            if let Err(error) = done.map_err(ApiError::from)
                && let Err(status) = answer::<()>("export", Err(error))
            {
                // Nobody may listen any more.
                let _ = send.blocking_send(Err(status));
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(chunks))))
    }

    async fn tag(
        &self,
        request: Request<v1::TagRequest>,
    ) -> Result<Response<v1::TagResponse>, Status> {
        let v1::TagRequest { image, name } = request.into_inner();
        let tag = async {
            let name = reference("name", &name)?;
            if name.digest().is_some() {
                let why = "a name that is given has a tag and no digest".to_owned();
                return Err(Invalid::Image { field: "name".to_owned(), why }.into());
            }
            self.store()?.tag(&image, name).await?;
            Ok(v1::TagResponse {})
        };
        answer("tag", tag.await)
    }

    async fn remove(
        &self,
        request: Request<v1::RemoveRequest>,
    ) -> Result<Response<v1::RemoveResponse>, Status> {
        let name = request.into_inner().image;
        let remove = async {
            let removed = self.store()?.untag(&name).await?;
            Ok(v1::RemoveResponse { removed })
        };
        answer("remove", remove.await)
    }

    async fn list(
        &self,
        _: Request<v1::ListRequest>,
    ) -> Result<Response<v1::ListResponse>, Status> {
        let listed = |image: &Arc<Image>| v1::ListedImage {
            id: image.id.to_string(),
            tags: image.repo_tags.clone(),
            digests: image.repo_digests.clone(),
            size: image.size,
            created: image.config.created().clone().unwrap_or_default(),
            pinned: image.pinned,
            labels: labels(image).clone().into_iter().collect(),
        };
        let list = self
            .store()
            .map(|store| v1::ListResponse { images: store.list().iter().map(listed).collect() });
        answer("list", list)
    }

    async fn inspect(
        &self,
        request: Request<v1::InspectRequest>,
    ) -> Result<Response<v1::InspectResponse>, Status> {
        let found = self.image(&request.into_inner().image);
        let store = answer("inspect", self.store())?.into_inner();
        let image = answer("inspect", found)?.into_inner();
        let done = tokio::task::spawn_blocking(move || {
            // The bytes have fields that the OCI does not know, such as Healthcheck.
            let config = whole_config(&store, &image)
                .or_else(|| serde_json::to_value(&image.config).ok())
                .unwrap_or_default();
            let layers = image.layers.iter().map(|layer| {
                json!({"diffID": layer.diff_id, "blob": layer.blob, "blobSize": layer.blob_size})
            });
            let json = json!({
                "id": image.id, "repoTags": image.repo_tags, "repoDigests": image.repo_digests,
                "size": image.size, "pinned": image.pinned, "layers": layers.collect::<Vec<_>>(),
                "config": config,
            });
            v1::InspectResponse { json: json.to_string() }
        });
        let done = done.await.map_err(|error| ApiError::Stream { message: error.to_string() });
        answer("inspect", done)
    }

    async fn login(
        &self,
        request: Request<v1::LoginRequest>,
    ) -> Result<Response<v1::LoginResponse>, Status> {
        let v1::LoginRequest { registry, credentials } = request.into_inner();
        let login = async {
            // Any repository of it will do.
            let name = reference("registry", &format!("{registry}/login"))?;
            if let Some(auth) = auth(credentials)? {
                self.store()?.login(&name, auth).await?;
            }
            Ok(v1::LoginResponse {})
        };
        answer("login", login.await)
    }

    async fn prune(
        &self,
        request: Request<v1::PruneRequest>,
    ) -> Result<Response<v1::PruneResponse>, Status> {
        let prune = async {
            let request = request.into_inner();
            let fits = |image: &Image| fits(image, &request);
            let (removed, bytes) = self.store()?.prune(request.all, fits).await?;
            let removed = removed.iter().map(ToString::to_string).collect();
            Ok(v1::PruneResponse { removed, bytes })
        };
        answer("prune", prune.await)
    }

    async fn verify(
        &self,
        request: Request<v1::VerifyRequest>,
    ) -> Result<Response<v1::VerifyResponse>, Status> {
        let verify = async {
            let report = self.store()?.verify(request.into_inner().repair).await?;
            let findings = report.findings.into_iter().map(|finding| v1::Finding {
                object: finding.object,
                problem: finding.problem,
                outcome: finding.outcome,
                repaired: finding.repaired,
            });
            Ok(v1::VerifyResponse {
                images: report.images,
                layers: report.layers,
                blobs: report.blobs,
                counted: report.counted,
                findings: findings.collect(),
            })
        };
        answer("verify", verify.await)
    }

    async fn pulls(
        &self,
        _: Request<v1::PullsRequest>,
    ) -> Result<Response<v1::PullsResponse>, Status> {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let pulls = self.store().map(|store| {
            let pulls = store.pulls().into_iter().map(|pull| v1::RunningPull {
                reference: pull.reference,
                seconds: pull.since.elapsed().unwrap_or_default().as_secs_f64(),
                layers: count(pull.layers),
                layers_done: count(pull.layers_done),
                bytes: pull.bytes,
                bytes_done: pull.bytes_done,
            });
            v1::PullsResponse { pulls: pulls.collect() }
        });
        answer("pulls", pulls)
    }
}

type Labels = std::collections::HashMap<String, String>;

fn labels(image: &Image) -> &Labels {
    static NONE: std::sync::LazyLock<Labels> = std::sync::LazyLock::new(Labels::new);
    image.config.config().as_ref().and_then(|run| run.labels().as_ref()).unwrap_or(&NONE)
}

/// Whether an image is one of those that shall be pruned.
fn fits(image: &Image, request: &v1::PruneRequest) -> bool {
    let has = |label: &String| match label.split_once('=') {
        Some((name, value)) => labels(image).get(name).is_some_and(|has| has == value),
        None => labels(image).contains_key(label),
    };
    // One that does not say when it was made is as old as any.
    let created = image.config.created().as_deref().and_then(Timestamp::from_rfc3339);
    let created = created.unwrap_or_default().0 / 1_000_000_000;
    request.before.is_none_or(|before| created < before)
        && request.labels.iter().all(has)
        && !request.without.iter().any(has)
}

/// The configuration as it was pulled or built.
fn whole_config(store: &ImageStore, image: &Image) -> Option<serde_json::Value> {
    let mut bytes = Vec::new();
    // The store has checked its size when it came.
    store.open_blob(&image.id).ok()?.take(64 << 20).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Feeds the archive to a thread that reads it.
async fn import(
    calls: &ImageCalls,
    mut messages: Streaming<v1::ImportRequest>,
) -> Result<v1::ImportResponse, ApiError> {
    let store = calls.store()?;
    let cut = |status: Status| ApiError::Stream { message: status.message().to_owned() };
    let first = messages.message().await.map_err(cut)?.unwrap_or_default();
    let names = first.names.iter().map(|name| reference("names", name));
    let names = names.collect::<Result<Vec<_>, _>>()?;
    let (send, chunks) = mpsc::channel::<io::Result<Vec<u8>>>(QUEUE);
    let working = tokio::task::spawn_blocking(move || {
        store.import(ChunkReader { chunks, present: io::Cursor::default() }, &names)
    });
    let mut next = Some(first.data);
    while let Some(data) = next {
        if send.send(Ok(data)).await.is_err() {
            // The reader has an error of its own, or all that it needs.
            break;
        }
        next = match messages.message().await {
            Ok(message) => message.map(|message| message.data),
            Err(status) => {
                let error =
                    io::Error::new(io::ErrorKind::UnexpectedEof, status.message().to_owned());
                let _ = send.send(Err(error)).await;
                None
            }
        };
    }
    drop(send);
    let done = working.await.map_err(|error| ApiError::Stream { message: error.to_string() })?;
    let images = done?.into_iter();
    let image = |image: orlop_image::Imported| v1::ImportedImage {
        id: image.id.to_string(),
        names: image.names,
    };
    Ok(v1::ImportResponse { images: images.map(image).collect() })
}

/// Messages as a file to read.
struct ChunkReader {
    chunks: mpsc::Receiver<io::Result<Vec<u8>>>,
    present: io::Cursor<Vec<u8>>,
}

impl Read for ChunkReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.present.read(buf)?;
            if read > 0 || buf.is_empty() {
                return Ok(read);
            }
            match self.chunks.blocking_recv() {
                Some(chunk) => self.present = io::Cursor::new(chunk?),
                None => return Ok(0),
            }
        }
    }
}

/// A file to write as messages.
struct ChunkWriter {
    send: mpsc::Sender<Result<v1::Chunk, Status>>,
    buffer: Vec<u8>,
}

impl Write for ChunkWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let taken = buf.len().min(CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(&buf[..taken]);
        if self.buffer.len() == CHUNK {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let data = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        let sent = self.send.blocking_send(Ok(v1::Chunk { data }));
        sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the reader has gone"))
    }
}
