//! What every part of this room works with.

use crate::host::Host;
use crate::index::Index;
use crate::records::Records;
use crate::state::{ContainerRecord, SandboxRecord};
use crate::{Error, Event, EventKind, Options, Result, SandboxView};
use orlop_image::ImageStore;
use orlop_model::{ContainerId, SandboxId, Timestamp};
use orlop_network::Network;
use orlop_spec::request::Owner;
use orlop_task::Launcher;
use rand::RngCore;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, broadcast};

/// How long a shim may take for a call that should take milliseconds, on a host in trouble.
pub(crate) const SHIM_PATIENCE: Duration = Duration::from_secs(10);
/// How long creating may take: mounts and the image's disk are involved.
pub(crate) const START_PATIENCE: Duration = Duration::from_secs(110);

/// The parts and the state.
pub(crate) struct Context {
    pub(crate) options: Options,
    pub(crate) images: ImageStore,
    pub(crate) network: Network,
    pub(crate) launcher: Launcher,
    pub(crate) host: Arc<Host>,
    pub(crate) sandbox_records: Arc<Records<SandboxRecord>>,
    pub(crate) container_records: Arc<Records<ContainerRecord>>,
    pub(crate) index: Index,
    /// To clients of CRI, and to the engine: each of its own pods.
    pub(crate) events: broadcast::Sender<Event>,
    pub(crate) engine_events: broadcast::Sender<Event>,
    pub(crate) recovered: AtomicBool,
    /// Turns for reading stats.
    pub(crate) readers: Arc<Semaphore>,
}

impl Context {
    /// Refuses calls before recovery is through.
    pub(crate) fn check_recovered(&self) -> Result<()> {
        if self.recovered.load(Ordering::Acquire) { Ok(()) } else { Err(Error::NotRecovered) }
    }

    /// Tells the listeners, if there are any.
    pub(crate) fn tell(
        &self,
        kind: EventKind,
        sandbox: &SandboxId,
        container: Option<&ContainerId>,
    ) {
        log_event(kind, sandbox, container);
        if self.events.receiver_count() + self.engine_events.receiver_count() > 0 {
            let pod = self.index.find_sandbox(sandbox.as_str()).ok().flatten();
            self.send(kind, sandbox, container, pod.map(|pod| pod.view()));
        }
    }

    /// The same of a sandbox that is in no list any more.
    pub(crate) fn tell_of(
        &self,
        kind: EventKind,
        sandbox: &SandboxId,
        container: Option<&ContainerId>,
        pod: Option<Arc<SandboxView>>,
    ) {
        log_event(kind, sandbox, container);
        self.send(kind, sandbox, container, pod);
    }

    /// Who is told of the pods of an owner.
    pub(crate) fn listeners(&self, owner: Owner) -> &broadcast::Sender<Event> {
        match owner {
            Owner::Cri => &self.events,
            Owner::Engine => &self.engine_events,
        }
    }

    fn send(
        &self,
        kind: EventKind,
        sandbox: &SandboxId,
        container: Option<&ContainerId>,
        pod: Option<Arc<SandboxView>>,
    ) {
        let containers = self.index.containers_of(sandbox);
        let event = Event {
            kind,
            at: Timestamp::now(),
            sandbox: sandbox.clone(),
            container: container.cloned(),
            pod,
            containers: containers.iter().map(|container| container.view()).collect(),
        };
        let owner = event.pod.as_ref().map_or(Owner::Cri, |pod| pod.config.extras.owner);
        // Nobody listens: fine.
        let _ = self.listeners(owner).send(event);
    }

    /// Directory of the sandbox's files.
    pub(crate) fn sandbox_dir(&self, id: &SandboxId) -> PathBuf {
        self.options.run.join("sandboxes").join(id.as_str())
    }

    /// The bundle of a container, or of a sandbox's init.
    pub(crate) fn bundle(&self, id: &str) -> PathBuf {
        self.options.run.join("bundles").join(id)
    }

    /// The built-in runtime has no name, and those that the operator gave it.
    pub(crate) fn check_handler(&self, handler: &str) -> Result<()> {
        let foreign = self.options.runtimes.iter().map(|runtime| &runtime.name);
        let known: Vec<String> = self.options.handlers.iter().chain(foreign).cloned().collect();
        if handler.is_empty() || known.iter().any(|known| known == handler) {
            return Ok(());
        }
        Err(Error::UnknownHandler { handler: handler.to_owned(), known })
    }
}

/// One line for each event, whether or not anybody listens to them.
fn log_event(kind: EventKind, sandbox: &SandboxId, container: Option<&ContainerId>) {
    match container {
        Some(container) => tracing::debug!(%sandbox, %container, ?kind, "event"),
        None => tracing::debug!(%sandbox, ?kind, "event"),
    }
}

/// Bytes for a new id.
pub(crate) fn random_id() -> [u8; 32] {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}
