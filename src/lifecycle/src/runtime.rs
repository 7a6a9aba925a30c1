//! The door of this room.

use crate::container::{self, Container};
use crate::context::{Context, random_id};
use crate::host::Host;
use crate::index::{Claim, Index, joined};
use crate::kept::{from_store, to_the_end};
use crate::records::Records;
use crate::{
    ContainerFilter, ContainerView, Error, Event, ExecOutput, Options, Recovered, Result,
    SandboxFilter, SandboxView, recover, sandbox, spans,
};
use orlop_image::ImageStore;
use orlop_model::{ContainerId, SandboxId};
use orlop_network::Network;
use orlop_spec::request::{ContainerConfig, Owner, Resources, Restart, SandboxConfig};
use orlop_task::Launcher;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, broadcast};
use tracing::{Instrument, Span};

/// Events that a slow listener may be behind.
const EVENT_BACKLOG: usize = 1024;

/// Sandboxes and containers of this node. Clones are the same runtime.
///
/// Ids may be given as a prefix that only one object has. Calls that change something run to their
/// end even if the caller goes away.
///
/// A runtime is opened for clients of CRI; [`Self::of`] gives the same one as another owner sees it.
#[derive(Clone)]
pub struct Runtime(pub(crate) Arc<Context>, Owner);

/// Conditions for CRI's Status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeStatus {
    /// Recovery is through and calls are served.
    pub runtime_ready: bool,
    /// Pods can get a network.
    pub network_ready: bool,
    /// One CamelCase word why not.
    pub network_reason: String,
    /// The same in words.
    pub network_message: String,
}

impl Runtime {
    /// Opens the state; nothing is touched before [`Self::recover`], which must come next.
    pub fn open(
        options: Options,
        images: ImageStore,
        network: Network,
        launcher: Launcher,
    ) -> Result<Self> {
        let fail = |name: &'static str| move |error| from_store(name, error);
        let (root, copies) = (&options.root, options.run.join("records"));
        let sandboxes = Records::open(&root.join("sandboxes"), &copies.join("sandboxes"))
            .map_err(fail("sandboxes"))?;
        let containers = Records::open(&root.join("containers"), &copies.join("containers"))
            .map_err(fail("containers"))?;
        let context = Arc::new(Context {
            host: Arc::new(Host::detect()?),
            options,
            images,
            network,
            launcher,
            sandbox_records: Arc::new(sandboxes),
            container_records: Arc::new(containers),
            index: Index::new(),
            events: broadcast::Sender::new(EVENT_BACKLOG),
            engine_events: broadcast::Sender::new(EVENT_BACKLOG),
            recovered: AtomicBool::new(false),
            readers: Arc::new(Semaphore::new(crate::stats::READERS)),
        });
        Ok(Self(context, Owner::Cri))
    }

    /// What starts shims.
    pub fn launcher(&self) -> &Launcher {
        &self.0.launcher
    }

    /// Gives the shim of a supervised container another policy.
    pub async fn set_restart(&self, id: &str, policy: Restart) -> Result<()> {
        let found = self.existing(id)?;
        to_the_end(async move { container::set_restart(&found, policy).await }).await
    }

    /// The same runtime with the pods of `owner` in its lists and calls, and no others.
    #[must_use]
    pub fn of(&self, owner: Owner) -> Self {
        Self(Arc::clone(&self.0), owner)
    }

    /// Finds what an earlier process left: running containers are supervised again, what ended
    /// meanwhile is recorded, what was half made is undone. Until it returns other calls answer
    /// [`crate::Error::NotRecovered`]. A second call does nothing.
    pub async fn recover(&self) -> Result<Recovered> {
        if self.0.recovered.load(Ordering::Acquire) {
            return Ok(Recovered::default());
        }
        let span = tracing::error_span!(
            target: "orlop::operation",
            "recovery",
            outcome = tracing::field::Empty
        );
        let recovered = recover::recover(&self.0).instrument(span.clone()).await;
        span.record("outcome", if recovered.is_ok() { "ok" } else { "failed" });
        recovered
    }

    /// CRI RunPodSandbox. A second call with the same identity and configuration while the first
    /// one works joins it.
    pub async fn run_sandbox(&self, config: SandboxConfig) -> Result<SandboxId> {
        let (context, mut config) = (Arc::clone(&self.0), config);
        config.extras.owner = self.1;
        context.check_recovered()?;
        context.check_handler(&config.runtime_handler)?;
        let (id, config) = (SandboxId::from_random(random_id()), Arc::new(config));
        let name = config.metadata.clone();
        match context.index.sandbox_names.claim(name.clone(), &id, &config) {
            Claim::Taken(id) => Err(Error::SandboxExists { name: Box::new(name), id }),
            Claim::Join(outcome) => joined(outcome).await,
            Claim::Mine(tell) => {
                let outcome = tell.subscribe();
                spans::about_sandbox(&id);
                let making = async move {
                    // In a task of its own, so that even a panic becomes an outcome.
                    let work = sandbox::run(Arc::clone(&context), id.clone(), config);
                    let made = to_the_end(work).await;
                    // One that could not be unmade keeps its name until it is removed.
                    let listed =
                        context.index.find_sandbox(id.as_str()).is_ok_and(|found| found.is_some());
                    if listed {
                        context.index.sandbox_names.settle(name, id.clone());
                    } else {
                        context.index.sandbox_names.free(&name, &id);
                    }
                    tell.send_replace(Some(made.map(|_| id).map_err(Arc::new)));
                };
                tokio::spawn(making.in_current_span());
                joined(outcome).await
            }
        }
    }

    /// CRI StopPodSandbox: ends its containers, gives back its network. Repeatable; an unknown id is
    /// no error.
    pub async fn stop_sandbox(&self, id: &str) -> Result<()> {
        self.0.check_recovered()?;
        match self.find_sandbox(id)? {
            Some(found) => {
                spans::about_sandbox(&found.id);
                to_the_end(sandbox::stop(Arc::clone(&self.0), found)).await
            }
            None => Ok(()),
        }
    }

    /// CRI RemovePodSandbox: stops it if need be, removes its containers and all that is left of it.
    /// An unknown id is no error.
    pub async fn remove_sandbox(&self, id: &str) -> Result<()> {
        self.0.check_recovered()?;
        match self.find_sandbox(id)? {
            Some(found) => {
                spans::about_sandbox(&found.id);
                to_the_end(sandbox::remove(Arc::clone(&self.0), found)).await
            }
            None => Ok(()),
        }
    }

    /// One sandbox.
    pub fn sandbox(&self, id: &str) -> Result<Arc<SandboxView>> {
        Ok(self.existing_sandbox(id)?.view())
    }

    /// Sandboxes that the filter lets through, newest first. From memory.
    pub fn sandboxes(&self, filter: &SandboxFilter) -> Result<Vec<Arc<SandboxView>>> {
        self.0.check_recovered()?;
        let candidates = match &filter.id {
            // What fits nothing, or several, matches nothing: an empty list, not an error.
            Some(id) => self.find_sandbox(id).ok().flatten().into_iter().collect(),
            None => self.0.index.all_sandboxes(),
        };
        let mut views: Vec<_> = candidates.iter().map(|found| found.view()).collect();
        views.retain(|view| view.config.extras.owner == self.1 && filter.fits(view));
        views.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| a.id.cmp(&b.id)));
        Ok(views)
    }

    /// CRI CreateContainer. Joins as [`Self::run_sandbox`] does.
    pub async fn create_container(
        &self,
        sandbox: &str,
        config: ContainerConfig,
    ) -> Result<ContainerId> {
        let (context, mut config) = (Arc::clone(&self.0), config);
        config.extras.owner = self.1;
        let sandbox = self.existing_sandbox(sandbox)?;
        spans::about_sandbox(&sandbox.id);
        sandbox.check_ready(&context)?;
        let (id, config) = (ContainerId::from_random(random_id()), Arc::new(config));
        let name = (sandbox.id.clone(), config.metadata.clone());
        match context.index.container_names.claim(name.clone(), &id, &config) {
            Claim::Taken(id) => {
                let (sandbox, metadata) = name;
                Err(Error::ContainerExists {
                    name: metadata.name,
                    attempt: metadata.attempt,
                    sandbox,
                    id,
                })
            }
            Claim::Join(outcome) => joined(outcome).await,
            Claim::Mine(tell) => {
                let outcome = tell.subscribe();
                Span::current().record("container", id.as_str());
                let making = async move {
                    let made =
                        container::create(Arc::clone(&context), sandbox, id.clone(), config).await;
                    if made.is_ok() {
                        context.index.container_names.settle(name, id.clone());
                    } else {
                        context.index.container_names.free(&name, &id);
                    }
                    tell.send_replace(Some(made.map(|()| id).map_err(Arc::new)));
                };
                tokio::spawn(making.in_current_span());
                joined(outcome).await
            }
        }
    }

    /// CRI StartContainer.
    pub async fn start_container(&self, id: &str) -> Result<()> {
        let container = self.existing(id)?;
        let sandbox = self.0.index.sandbox(container.sandbox.as_str())?;
        to_the_end(container::start(Arc::clone(&self.0), sandbox, container)).await
    }

    /// CRI StopContainer: the stop signal, `timeout` for it to work, SIGKILL. Zero or less kills at
    /// once. Repeatable; an unknown id is no error.
    pub async fn stop_container(&self, id: &str, timeout_seconds: i64) -> Result<()> {
        self.0.check_recovered()?;
        let grace = Duration::from_secs(u64::try_from(timeout_seconds).unwrap_or(0));
        match self.find_container(id)? {
            Some(found) => {
                spans::about_container(&found);
                to_the_end(container::stop(Arc::clone(&self.0), found, grace)).await
            }
            None => Ok(()),
        }
    }

    /// CRI RemoveContainer: kills it if need be. An unknown id is no error.
    pub async fn remove_container(&self, id: &str) -> Result<()> {
        self.0.check_recovered()?;
        match self.find_container(id)? {
            Some(found) => {
                spans::about_container(&found);
                to_the_end(container::remove(Arc::clone(&self.0), found)).await
            }
            None => Ok(()),
        }
    }

    /// One container.
    pub fn container(&self, id: &str) -> Result<Arc<ContainerView>> {
        Ok(self.existing(id)?.view())
    }

    /// Containers that the filter lets through, newest first. From memory.
    pub fn containers(&self, filter: &ContainerFilter) -> Result<Vec<Arc<ContainerView>>> {
        self.0.check_recovered()?;
        let index = &self.0.index;
        let candidates = match (&filter.id, &filter.sandbox) {
            (Some(id), _) => self.find_container(id).ok().flatten().into_iter().collect(),
            (None, _) => index.all_containers(),
        };
        let sandbox = match &filter.sandbox {
            Some(id) => match self.find_sandbox(id) {
                Ok(Some(found)) => Some(found.id.clone()),
                Ok(None) | Err(_) => return Ok(Vec::new()),
            },
            None => None,
        };
        let mut views: Vec<_> = candidates.iter().map(|found| found.view()).collect();
        views.retain(|view| {
            view.config.extras.owner == self.1
                && filter.fits(view)
                && sandbox.as_ref().is_none_or(|id| *id == view.sandbox)
        });
        views.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| a.id.cmp(&b.id)));
        Ok(views)
    }

    /// CRI ExecSync; `None`: no time limit. If the caller goes away the command is killed.
    pub async fn exec_sync(
        &self,
        id: &str,
        command: Vec<String>,
        timeout: Option<Duration>,
    ) -> Result<ExecOutput> {
        let container = self.existing(id)?;
        container::exec_sync(Arc::clone(&self.0), container, command, timeout).await
    }

    /// CRI ReopenContainerLog.
    pub async fn reopen_log(&self, id: &str) -> Result<()> {
        container::reopen_log(self.existing(id)?).await
    }

    /// CRI UpdateContainerResources: limits that `asked` does not set stay as they are.
    pub async fn update_container(&self, id: &str, asked: Resources) -> Result<()> {
        let container = self.existing(id)?;
        to_the_end(container::update(Arc::clone(&self.0), container, asked)).await
    }

    /// CRI UpdatePodSandboxResources; `None` leaves as it is.
    pub async fn update_sandbox(
        &self,
        id: &str,
        overhead: Option<Resources>,
        resources: Option<Resources>,
    ) -> Result<()> {
        let found = self.existing_sandbox(id)?;
        to_the_end(sandbox::update(Arc::clone(&self.0), found, overhead, resources)).await
    }

    /// CRI CheckpointContainer: writes the tar archive `location`; `None`: ten minutes. The container
    /// runs on.
    pub async fn checkpoint(
        &self,
        id: &str,
        location: PathBuf,
        limit: Option<Duration>,
    ) -> Result<()> {
        let container = self.existing(id)?;
        to_the_end(container::checkpoint(Arc::clone(&self.0), container, location, limit)).await
    }

    /// CRI Status.
    pub fn status(&self) -> RuntimeStatus {
        let network = self.0.network.status();
        RuntimeStatus {
            runtime_ready: self.0.recovered.load(Ordering::Acquire),
            network_ready: network.ready,
            network_reason: network.reason,
            network_message: network.message,
        }
    }

    /// What happens from now on; a listener that is more than a thousand events behind is told so and
    /// has lost the oldest.
    pub fn events(&self) -> Result<broadcast::Receiver<Event>> {
        self.0.check_recovered()?;
        Ok(self.0.listeners(self.1).subscribe())
    }

    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.0
    }

    pub(crate) fn existing(&self, id: &str) -> Result<Arc<Container>> {
        self.0.check_recovered()?;
        let found = self.0.index.container(id)?;
        if found.owner != self.1 {
            return Err(Error::NotFound { what: "container", id: id.to_owned() });
        }
        spans::about_container(&found);
        Ok(found)
    }

    pub(crate) fn existing_sandbox(&self, id: &str) -> Result<Arc<sandbox::Sandbox>> {
        self.0.check_recovered()?;
        let missing = || Error::NotFound { what: "sandbox", id: id.chars().take(80).collect() };
        self.find_sandbox(id)?.ok_or_else(missing)
    }

    /// Of this owner, by id or a prefix of it.
    fn find_sandbox(&self, id: &str) -> Result<Option<Arc<sandbox::Sandbox>>> {
        Ok(self.0.index.find_sandbox(id)?.filter(|found| found.owner == self.1))
    }

    fn find_container(&self, id: &str) -> Result<Option<Arc<Container>>> {
        Ok(self.0.index.find_container(id)?.filter(|found| found.owner == self.1))
    }
}
