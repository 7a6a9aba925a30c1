//! Orlop's own service for builds, as the command line asks. The daemon serves it beside CRI; a
//! command that finds no daemon serves it to itself.

use crate::Api;
use crate::builds_v1::{self as v1, build_event::Event as Out, builds_server::Builds};
use crate::error::{ApiError, answer};
use orlop_build::exec::NetworkMode;
use orlop_build::ignore::IgnoreRules;
use orlop_build::output::{Archive, Compression};
use orlop_build::{Built, Engine, Event, NamedContext, Progress, Request};
use orlop_model::{Platform, Reference};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Response, Status};

/// Bytes of an output in one message.
const CHUNK: usize = 256 << 10;
/// Messages that wait for the client.
const QUEUE: usize = 64;
/// Size of a step's `/dev/shm` when nobody says.
const SHM: u64 = 64 << 20;

/// Where the service finds the builder.
#[derive(Clone)]
pub struct BuildCalls {
    source: Source,
    /// Builds that run.
    running: TaskTracker,
}

#[derive(Clone)]
enum Source {
    /// Behind a daemon, once it is ready.
    Daemon(Api),
    Own(Arc<Engine>),
}

type Events = mpsc::Sender<Result<v1::BuildEvent, Status>>;

impl BuildCalls {
    /// Over a builder that this process has opened itself.
    pub fn over(engine: Arc<Engine>) -> Self {
        Self { source: Source::Own(engine), running: TaskTracker::new() }
    }

    pub(crate) fn of(api: Api) -> Self {
        Self { source: Source::Daemon(api), running: TaskTracker::new() }
    }

    /// Ready when no build runs any more.
    pub async fn ended(&self) {
        self.running.close();
        self.running.wait().await;
    }

    fn engine(&self) -> Result<Arc<Engine>, ApiError> {
        match &self.source {
            Source::Daemon(api) => api.builder(),
            Source::Own(engine) => Ok(engine.clone()),
        }
    }

    /// Ends with the build's client, or with the daemon.
    fn watch(&self, send: Events, cancel: CancellationToken) {
        let closing = match &self.source {
            Source::Daemon(api) => Some(api.closing()),
            Source::Own(_) => None,
        };
        tokio::spawn(async move {
            let stop = async {
                match closing {
                    Some(mut closing) => drop(closing.wait_for(|closing| *closing).await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = send.closed() => cancel.cancel(),
                () = stop => cancel.cancel(),
                () = cancel.cancelled() => {}
            }
        });
    }
}

#[tonic::async_trait]
impl Builds for BuildCalls {
    type BuildStream = Pin<Box<dyn Stream<Item = Result<v1::BuildEvent, Status>> + Send>>;

    async fn build(
        &self,
        request: tonic::Request<v1::BuildRequest>,
    ) -> Result<Response<Self::BuildStream>, Status> {
        let engine = answer("Build", self.engine())?.into_inner();
        let message = request.into_inner();
        let outputs = message.outputs.clone();
        let request = read(message).map_err(Status::invalid_argument)?;
        let (send, receive) = mpsc::channel(QUEUE);
        let cancel = CancellationToken::new();
        self.watch(send.clone(), cancel.clone());
        // A build takes as long as it takes: it must not hold a thread that calls need.
        let running = self.running.token();
        let build = move || {
            let _running = running;
            let done = build(&engine, &request, &outputs, &send, &cancel);
            cancel.cancel();
            let last = match done {
                Ok(built) => Out::Result(v1::Result {
                    id: built.id.to_string(),
                    reused: built.reused as u64,
                    made: built.made as u64,
                }),
                Err(text) => Out::Failure(text),
            };
            // A client that is gone needs no answer.
            let _ = send.blocking_send(Ok(v1::BuildEvent { event: Some(last) }));
        };
        std::thread::Builder::new()
            .name("build".into())
            .spawn(build)
            .map_err(|error| Status::resource_exhausted(format!("no thread for it: {error}")))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(receive))))
    }

    async fn prune(
        &self,
        request: tonic::Request<v1::PruneRequest>,
    ) -> Result<Response<v1::PruneReply>, Status> {
        let engine = answer("Build", self.engine())?.into_inner();
        let keep = request.into_inner().keep;
        let pruned = tokio::task::spawn_blocking(move || engine.prune(keep)).await;
        let (steps, caches) = pruned
            .map_err(|error| Status::internal(error.to_string()))?
            .map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(v1::PruneReply { steps: steps as u64, caches: caches as u64 }))
    }
}

fn build(
    engine: &Engine,
    request: &Request,
    outputs: &[v1::Output],
    send: &Events,
    cancel: &CancellationToken,
) -> Result<Built, String> {
    let told = Told { send: send.clone(), cancel: cancel.clone() };
    let built = engine
        .build(request, &told, cancel)
        .map_err(|error| error.render(&request.dockerfile_name, &request.dockerfile))?;
    let tags: Vec<String> = request.tags.iter().map(ToString::to_string).collect();
    for (index, output) in outputs.iter().enumerate() {
        put(engine, &built, (request, &tags), output, (index as u32, send))
            .map_err(|error| format!("output {}: {error}", index + 1))?;
    }
    Ok(built)
}

fn put(
    engine: &Engine,
    built: &Built,
    (request, tags): (&Request, &[String]),
    output: &v1::Output,
    (index, send): (u32, &Events),
) -> io::Result<()> {
    let mut out = Chunks { index, send, held: Vec::with_capacity(CHUNK) };
    let archive = Archive {
        tags,
        annotations: &request.annotations,
        compression: match output.compression() {
            v1::Compression::Gzip => Compression::Gzip,
            v1::Compression::Zstd => Compression::Zstd,
            v1::Compression::Uncompressed => Compression::Not,
        },
        docker: output.form() == v1::Form::Docker,
    };
    match output.form() {
        v1::Form::Local => {
            return engine.copy_root(&built.layers, Path::new(&output.directory));
        }
        v1::Form::Tar => engine.write_root(&built.layers, &mut out)?,
        v1::Form::Oci | v1::Form::Docker => engine.write_archive(built, &archive, &mut out)?,
    }
    out.flush()?;
    out.send(Vec::new())
}

/// An output on its way to the client.
struct Chunks<'a> {
    index: u32,
    send: &'a Events,
    held: Vec<u8>,
}

impl Chunks<'_> {
    fn send(&self, data: Vec<u8>) -> io::Result<()> {
        let event = Some(Out::Chunk(v1::Chunk { output: self.index, data }));
        let sent = self.send.blocking_send(Ok(v1::BuildEvent { event }));
        sent.map_err(|_| io::Error::other("the client is gone"))
    }
}

impl Write for Chunks<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let taken = data.len().min(CHUNK - self.held.len());
        self.held.extend_from_slice(&data[..taken]);
        if self.held.len() == CHUNK {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.held, Vec::with_capacity(CHUNK));
        self.send(full)
    }
}

/// Tells the client what happens.
struct Told {
    send: Events,
    cancel: CancellationToken,
}

impl Progress for Told {
    fn event(&self, event: Event) {
        let event = match event {
            Event::Started { id, name } => Out::Started(v1::Started { step: id as u64, name }),
            Event::Output { id, data } => Out::Output(v1::StepOutput { step: id as u64, data }),
            Event::Done { id, cached, took } => Out::Done(v1::Done {
                step: id as u64,
                cached,
                microseconds: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            }),
            Event::Missed { id, why } => Out::Missed(v1::Missed { step: id as u64, why }),
            Event::Failed { id, error } => Out::Failed(v1::Failed { step: id as u64, error }),
            Event::Warning { message } => Out::Warning(message),
        };
        if self.block_on_send(event).is_err() {
            self.cancel.cancel();
        }
    }
}

impl Told {
    /// Steps tell from threads of the runtime, too, while they wait for their process.
    fn block_on_send(&self, event: Out) -> Result<(), ()> {
        let event = Ok(v1::BuildEvent { event: Some(event) });
        match tokio::runtime::Handle::try_current() {
            Ok(_) => tokio::task::block_in_place(|| self.send.blocking_send(event)).map_err(drop),
            Err(_) => self.send.blocking_send(event).map_err(drop),
        }
    }
}

fn read(message: v1::BuildRequest) -> Result<Request, String> {
    let platform = match message.platform.as_str() {
        "" => Platform::host(),
        text => orlop_build::platform(text)?,
    };
    let network = match message.network() {
        v1::Network::Default => NetworkMode::Default,
        v1::Network::None => NetworkMode::None,
        v1::Network::Host => NetworkMode::Host,
    };
    let allowed = |right: &str| message.allow.iter().any(|given| given == right);
    let (allow_host_network, allow_insecure) =
        (allowed("network.host") || network == NetworkMode::Host, allowed("security.insecure"));
    let tag = |text: &String| Reference::parse(text).map_err(|error| format!("{text}: {error}"));
    let (context, ignore) = match message.context {
        Some(directory) => {
            let (path, rules, name) = directory_of(directory)?;
            (Some(path), (rules, name))
        }
        None => (None, (IgnoreRules::default(), String::new())),
    };
    let mut contexts = BTreeMap::new();
    for (name, context) in message.contexts {
        contexts.insert(name, named(context)?);
    }
    let paths = |(id, path): (String, String)| (id, PathBuf::from(path));
    Ok(Request {
        dockerfile: message.dockerfile,
        dockerfile_name: message.dockerfile_name,
        context,
        ignore: ignore.0,
        ignore_name: ignore.1,
        contexts,
        target: Some(message.target).filter(|target| !target.is_empty()),
        build_args: message.build_args.into_iter().collect(),
        labels: message.labels.into_iter().collect(),
        annotations: message.annotations.into_iter().collect(),
        tags: message.tags.iter().map(tag).collect::<Result<_, _>>()?,
        no_cache: message.no_cache,
        no_cache_filter: message.no_cache_filter,
        pull: message.pull,
        secrets: message.secrets.into_iter().collect(),
        ssh: message.ssh.into_iter().map(paths).collect(),
        network,
        allow_host_network,
        allow_insecure,
        add_hosts: message.add_hosts.into_iter().map(|host| (host.name, host.address)).collect(),
        shm_size: Some(message.shm_size).filter(|size| *size > 0).unwrap_or(SHM),
        ulimits: message.ulimits.into_iter().map(|l| (l.name, l.soft, l.hard)).collect(),
        platform,
        epoch: message.epoch,
        explain: message.explain,
    })
}

fn named(context: v1::Context) -> Result<NamedContext, String> {
    match context.source {
        Some(v1::context::Source::Directory(directory)) => {
            let (path, rules, _) = directory_of(directory)?;
            Ok(NamedContext::Directory(path, rules))
        }
        Some(v1::context::Source::Image(image)) => {
            let reference = Reference::parse(&image).map_err(|e| format!("{image}: {e}"))?;
            Ok(NamedContext::Image(reference))
        }
        None => Err("a build context without a source".into()),
    }
}

/// The directory, if it is the one that the client means.
fn directory_of(directory: v1::Directory) -> Result<(PathBuf, IgnoreRules, String), String> {
    let path = PathBuf::from(&directory.path);
    let found = std::fs::metadata(&path).map_err(|e| format!("{}: {e}", directory.path))?;
    if (found.dev(), found.ino()) != (directory.device, directory.inode) {
        return Err(format!(
            "{} is another directory for the daemon than for this command: they see different mounts; build without the daemon, or give the context as an archive on standard input",
            directory.path
        ));
    }
    let ignore = directory.ignore.unwrap_or_default();
    let rules = IgnoreRules::parse(&ignore.text).map_err(|e| format!("{}: {e}", ignore.name))?;
    Ok((path, rules, ignore.name))
}
