//! From a Dockerfile to an image: stages are built as soon as what they need is there, each step is
//! reused or made, and the result is an image of the store.

mod add;
mod base;
mod caches;
mod commit;
mod copy;
mod error;
mod export;
mod finish;
mod graph;
mod layers;
mod metadata;
mod mounts;
mod outline;
mod progress;
mod remote;
mod run;
mod scope;
mod stage;
mod time;

pub use add::is_remote;
pub(crate) use add::without_secrets;
pub use commit::Commit;
pub use error::BuildError;
pub use export::write_layer;
pub use outline::Outline;
pub use progress::{Event, Progress, Quiet, StepId};

use crate::exec::{Executor, NetworkMode};
use crate::files::stat_index::StatIndex;
use crate::ignore::IgnoreRules;
use crate::instruction::Dockerfile;
use crate::{Diagnostic, Lines};
use graph::Graph;
use layers::Steps;
use orlop_image::{ImageStore, Layer};
use orlop_model::{Digest, Platform, Reference};
use scope::Globals;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Everything that a build is made from.
pub struct Request {
    /// Text of the Dockerfile.
    pub dockerfile: String,
    /// Its name, for messages.
    pub dockerfile_name: String,
    /// The directory that `COPY` reads; none where the Dockerfile is all there is.
    pub context: Option<PathBuf>,
    /// What of it the build does not see, and the file that says so.
    pub ignore: IgnoreRules,
    /// Name of that file, for messages.
    pub ignore_name: String,
    /// `--build-context`: directories and images under a name.
    pub contexts: BTreeMap<String, NamedContext>,
    /// `--target`; the last stage without one.
    pub target: Option<String>,
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `--tag`.
    pub tags: Vec<Reference>,
    /// Nothing is reused.
    pub no_cache: bool,
    /// Nothing is reused in these stages.
    pub no_cache_filter: Vec<String>,
    /// Base images are looked for in the registry also where they are here.
    pub pull: bool,
    /// `--secret`.
    pub secrets: BTreeMap<String, Vec<u8>>,
    /// `--ssh`: sockets of agents.
    pub ssh: BTreeMap<String, PathBuf>,
    /// Network of steps that name none.
    pub network: NetworkMode,
    /// `--allow network.host`.
    pub allow_host_network: bool,
    /// `--allow security.insecure`.
    pub allow_insecure: bool,
    /// `--add-host`.
    pub add_hosts: Vec<(String, String)>,
    /// `--shm-size`.
    pub shm_size: u64,
    /// `--ulimit`.
    pub ulimits: Vec<(String, u64, u64)>,
    /// What is built for.
    pub platform: Platform,
    /// `--timestamp`: the time of everything that has none of its own.
    pub epoch: Option<i64>,
    /// Say why steps were not reused.
    pub explain: bool,
    /// `--annotation`: of the image's manifest.
    pub annotations: BTreeMap<String, String>,
}

/// What a named context is.
#[derive(Debug, Clone)]
pub enum NamedContext {
    /// A directory, with its own ignore rules.
    Directory(PathBuf, IgnoreRules),
    /// An image.
    Image(Reference),
}

/// A finished build.
#[derive(Debug, Clone)]
pub struct Built {
    /// The image.
    pub id: Digest,
    /// Its configuration.
    pub config: Vec<u8>,
    /// Its layers, lowest first.
    pub layers: Vec<Layer>,
    /// Steps that were reused.
    pub reused: usize,
    /// Steps that were made.
    pub made: usize,
}

/// What builds share: the store, the executor, and what is known of files.
pub struct Engine {
    store: ImageStore,
    executor: Arc<dyn Executor>,
    runtime: tokio::runtime::Handle,
    index: StatIndex,
    steps: Steps,
    /// Where cache mounts live.
    caches: PathBuf,
    /// What nobody needs after a step: checkouts of repositories, files that get their name later.
    temporary: PathBuf,
    /// At most this many processes at once.
    slots: layers::Slots,
    mounts: caches::CacheLocks,
    /// Bytes that steps and cache mounts may take.
    limit: u64,
}

impl Engine {
    /// `dir` is the builder's own directory, for its index and cache mounts; `limit` is how many bytes
    /// steps and cache mounts may take.
    pub fn new(
        store: ImageStore,
        executor: Arc<dyn Executor>,
        runtime: tokio::runtime::Handle,
        dir: &std::path::Path,
        limit: u64,
    ) -> std::io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let caches = dir.join("cache");
        let temporary = dir.join("temporary");
        // That of a process that was killed: nobody else has this directory.
        match std::fs::remove_dir_all(&temporary) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        for made in [&caches, &temporary] {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(made)?;
        }
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Self {
            store,
            executor,
            runtime,
            index: StatIndex::open(dir),
            steps: Steps::default(),
            caches,
            temporary,
            slots: layers::Slots::new(cores.max(2)),
            mounts: caches::CacheLocks::default(),
            limit,
        })
    }

    /// The store that images go into.
    pub fn store(&self) -> &ImageStore {
        &self.store
    }

    /// Builds. Blocking, on a thread of its own; `cancel` ends it early.
    pub fn build(
        &self,
        request: &Request,
        progress: &dyn Progress,
        cancel: &CancellationToken,
    ) -> Result<Built, BuildError> {
        let file = crate::instruction::read(&request.dockerfile)?;
        front_end(&file)?;
        let target = graph::target(&file, request.target.as_deref())?;
        let name = file.stages[target].name.clone().unwrap_or_default();
        let globals = Globals::new(&file, &request.build_args, &request.platform, &name)?;
        let epoch = epoch(request, &globals)?;
        let graph = Graph::new(&file, &globals, target, request)?;
        let build = Build {
            engine: self,
            request,
            file: &file,
            globals: &globals,
            graph: &graph,
            epoch,
            progress,
            cancel: cancel.child_token(),
            results: graph::Results::new(file.stages.len()),
            context: std::sync::OnceLock::new(),
            counter: layers::Counter::default(),
        };
        let built = build.run(target);
        self.index.save();
        let remembered = self.steps.flush(&self.store);
        let built = built?;
        remembered.map_err(|error| BuildError::Other(error.to_string()))?;
        if built.made > 0
            && let Err(error) = self.prune(self.limit)
        {
            tracing::warn!(%error, "steps and caches that are too many cannot be removed");
        }
        for name in globals.unused() {
            let message = format!("--build-arg {name} is used by no ARG of this Dockerfile");
            progress.event(Event::Warning { message });
        }
        Ok(built)
    }
}

/// One build under way.
pub(crate) struct Build<'a> {
    engine: &'a Engine,
    request: &'a Request,
    file: &'a Dockerfile,
    globals: &'a Globals,
    graph: &'a Graph,
    epoch: i64,
    progress: &'a dyn Progress,
    cancel: CancellationToken,
    results: graph::Results,
    context: std::sync::OnceLock<Result<Arc<crate::files::select::Tree>, String>>,
    counter: layers::Counter,
}

/// `# syntax=` of Docker's own front end, whatever its version, is this one.
fn front_end(file: &Dockerfile) -> Result<(), BuildError> {
    let Some(syntax) = &file.directives.syntax else { return Ok(()) };
    let name = syntax.strip_prefix("docker.io/").unwrap_or(syntax);
    let repository = name.split(['@', ':']).next().unwrap_or_default();
    let ours = ["docker/dockerfile", "docker/dockerfile-upstream", "dockerfile.v0"];
    if ours.contains(&repository) {
        return Ok(());
    }
    let diagnostic = Diagnostic::new(
        Lines { first: 1, last: 3 },
        format!(
            "the front end {syntax:?} is not known: no code from an image parses Dockerfiles here"
        ),
    );
    Err(diagnostic.at(syntax.as_str()).expected("docker/dockerfile:1, or no syntax line").into())
}

fn epoch(request: &Request, globals: &Globals) -> Result<i64, BuildError> {
    if let Some(epoch) = request.epoch {
        return Ok(epoch);
    }
    let given = request.build_args.get("SOURCE_DATE_EPOCH");
    let Some(text) = given.or_else(|| globals.values.get("SOURCE_DATE_EPOCH")) else {
        return Ok(time::EPOCH);
    };
    text.trim().parse().ok().filter(|seconds: &i64| *seconds >= 0).ok_or_else(|| {
        BuildError::Other(format!(
            "invalid SOURCE_DATE_EPOCH: {text:?}: expected seconds since 1970, such as the output of `git log -1 --format=%ct`"
        ))
    })
}
