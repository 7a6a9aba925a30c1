//! The door of this room.

use crate::{
    ContainerFilter, ContainerView, Event, ExecOutput, Options, Result, SandboxFilter, SandboxView,
};
use orlop_image::ImageStore;
use orlop_model::{ContainerId, SandboxId};
use orlop_network::Network;
use orlop_spec::request::{ContainerConfig, SandboxConfig};
use orlop_task::Launcher;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;

/// Sandboxes and containers of this node. Clones are the same runtime.
///
/// Ids may be given as a prefix that only one object has. Calls that change something run to their
/// end even if the caller goes away.
#[derive(Clone)]
pub struct Runtime(Arc<Inner>);

struct Inner {}

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

/// What [`Runtime::recover`] found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Sandboxes that are known.
    pub sandboxes: usize,
    /// Containers that are known.
    pub containers: usize,
    /// Of these, still running.
    pub running: usize,
    /// Whose shim did not answer within its time.
    pub unknown: usize,
    /// Records that could not be read and were moved aside, with the reason.
    pub bad_records: Vec<String>,
    /// Things without a record that were removed: half-made objects of the time of the crash.
    pub orphans: usize,
}

impl Runtime {
    /// Opens the state; nothing is touched before [`Self::recover`], which must come next.
    pub fn open(
        options: Options,
        images: ImageStore,
        network: Network,
        launcher: Launcher,
    ) -> Result<Self> {
        let _ = (options, images, network, launcher);
        todo!()
    }

    /// Finds what an earlier process left: running containers are supervised again, what ended
    /// meanwhile is recorded, what was half made is undone. Until it returns other calls answer
    /// [`crate::Error::NotRecovered`].
    pub async fn recover(&self) -> Result<Recovered> {
        let _ = &self.0;
        todo!()
    }

    /// CRI RunPodSandbox. A second call with the same identity and configuration while the first
    /// one works joins it.
    pub async fn run_sandbox(&self, config: SandboxConfig) -> Result<SandboxId> {
        let _ = config;
        todo!()
    }

    /// CRI StopPodSandbox: ends its containers, gives back its network. Repeatable; an unknown id is
    /// no error.
    pub async fn stop_sandbox(&self, id: &str) -> Result<()> {
        let _ = id;
        todo!()
    }

    /// CRI RemovePodSandbox: stops it if need be, removes its containers and all that is left of it.
    /// An unknown id is no error.
    pub async fn remove_sandbox(&self, id: &str) -> Result<()> {
        let _ = id;
        todo!()
    }

    /// One sandbox.
    pub fn sandbox(&self, id: &str) -> Result<Arc<SandboxView>> {
        let _ = id;
        todo!()
    }

    /// Sandboxes that the filter lets through, newest first. From memory.
    pub fn sandboxes(&self, filter: &SandboxFilter) -> Result<Vec<Arc<SandboxView>>> {
        let _ = filter;
        todo!()
    }

    /// CRI CreateContainer. Joins as [`Self::run_sandbox`] does.
    pub async fn create_container(
        &self,
        sandbox: &str,
        config: ContainerConfig,
    ) -> Result<ContainerId> {
        let _ = (sandbox, config);
        todo!()
    }

    /// CRI StartContainer.
    pub async fn start_container(&self, id: &str) -> Result<()> {
        let _ = id;
        todo!()
    }

    /// CRI StopContainer: the stop signal, `timeout` for it to work, SIGKILL. Zero or less kills at
    /// once. Repeatable; an unknown id is no error.
    pub async fn stop_container(&self, id: &str, timeout_seconds: i64) -> Result<()> {
        let _ = (id, timeout_seconds);
        todo!()
    }

    /// CRI RemoveContainer: kills it if need be. An unknown id is no error.
    pub async fn remove_container(&self, id: &str) -> Result<()> {
        let _ = id;
        todo!()
    }

    /// One container.
    pub fn container(&self, id: &str) -> Result<Arc<ContainerView>> {
        let _ = id;
        todo!()
    }

    /// Containers that the filter lets through, newest first. From memory.
    pub fn containers(&self, filter: &ContainerFilter) -> Result<Vec<Arc<ContainerView>>> {
        let _ = filter;
        todo!()
    }

    /// CRI ExecSync; `None`: no time limit.
    pub async fn exec_sync(
        &self,
        id: &str,
        command: Vec<String>,
        timeout: Option<Duration>,
    ) -> Result<ExecOutput> {
        let _ = (id, command, timeout);
        todo!()
    }

    /// CRI ReopenContainerLog.
    pub async fn reopen_log(&self, id: &str) -> Result<()> {
        let _ = id;
        todo!()
    }

    /// CRI Status.
    pub fn status(&self) -> RuntimeStatus {
        todo!()
    }

    /// What happens from now on; a listener that lags loses the oldest events.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        todo!()
    }
}
