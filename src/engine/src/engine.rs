//! The door of this room.

use crate::attempt::PortClaims;
use crate::event::EventLog;
use crate::index::Index;
use crate::networks::Networks;
use crate::record::LAYER_PREFIX;
use crate::volumes::Volumes;
use crate::{Container, Record, Result, Status, calls, state};
use orlop_image::ImageStore;
use orlop_lifecycle::{ContainerFilter, ContainerView, EventKind, Runtime, SandboxFilter};
use orlop_model::ContainerId;
use orlop_network::Network;
use orlop_spec::request::Owner;
use orlop_store::RecordDir;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;

/// Settings of the engine.
#[derive(Debug, Clone)]
pub struct Options {
    /// Durable state, `/var/lib/orlop`; this room's is in `engine` below it.
    pub root: PathBuf,
    /// Live state, `/run/orlop`.
    pub run: PathBuf,
}

/// Containers, networks and volumes of this machine. Clones are the same engine.
#[derive(Clone)]
pub struct Engine(pub(crate) Arc<Inner>);

/// The parts and the state.
pub(crate) struct Inner {
    pub(crate) options: Options,
    pub(crate) runtime: Runtime,
    pub(crate) images: ImageStore,
    pub(crate) network: Network,
    pub(crate) records: Arc<RecordDir<Record>>,
    pub(crate) index: Index,
    pub(crate) events: EventLog,
    pub(crate) ports: PortClaims,
    /// The boot of the host.
    pub(crate) boot: String,
    pub(crate) networks: Networks,
    pub(crate) volumes: Volumes,
    /// Held while a pod is entered or left.
    pub(crate) pods: tokio::sync::Mutex<()>,
    watcher: Mutex<Option<JoinHandle<()>>>,
}

impl Engine {
    /// Opens the state over a runtime that has recovered, and clears away what has ended or was half
    /// made.
    pub async fn open(
        options: Options,
        runtime: Runtime,
        images: ImageStore,
        network: Network,
    ) -> Result<Self> {
        let records = Arc::new(RecordDir::open(&options.root.join("engine/containers"))?);
        let networks = Networks::open(&options.root.join("engine/networks"))?;
        let volumes = Volumes::open(&options.root)?;
        let inner = Arc::new(Inner {
            runtime: runtime.of(Owner::Engine),
            events: EventLog::new(&options.run),
            options,
            images,
            network,
            records,
            index: Index::default(),
            ports: PortClaims::default(),
            boot: orlop_sys::process::boot_id().unwrap_or_default(),
            networks,
            volumes,
            pods: tokio::sync::Mutex::default(),
            watcher: Mutex::default(),
        });
        // First, so that nothing that ends meanwhile is missed.
        let events = inner.runtime.events()?;
        inner.load()?;
        inner.remove_orphans().await;
        for container in inner.index.all() {
            calls::ended(&inner, &container).await;
        }
        inner.recover_names().await;
        let watcher = tokio::spawn(watch(Arc::clone(&inner), events));
        *inner.watcher.lock().unwrap_or_else(PoisonError::into_inner) = Some(watcher);
        Ok(Self(inner))
    }

    /// Ends what runs in the background. Containers live on.
    pub async fn close(&self) {
        let watcher = self.0.watcher.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(watcher) = watcher {
            watcher.abort();
            let _ = watcher.await;
        }
    }

    /// What pods and their containers are made with; the pods of this room only.
    pub fn runtime(&self) -> &Runtime {
        &self.0.runtime
    }

    /// Where images and layers are.
    pub fn images(&self) -> &ImageStore {
        &self.0.images
    }

    /// Where networks come from.
    pub fn network(&self) -> &Network {
        &self.0.network
    }

    /// As opened with.
    pub fn options(&self) -> &Options {
        &self.0.options
    }

    /// Where events are written to.
    pub fn events(&self) -> &EventLog {
        &self.0.events
    }

    /// A container by its name, its id, or a prefix of the id that no other has.
    pub fn find(&self, text: &str) -> Result<Arc<Container>> {
        self.0.index.find(text)
    }

    /// All containers, in no order.
    pub fn containers(&self) -> Vec<Arc<Container>> {
        self.0.index.all()
    }

    /// What lifecycle knows of a container's present attempt; `None`: there is none.
    pub fn attempt(&self, container: &Container) -> Option<Arc<ContainerView>> {
        self.0.attempt_of(&container.record())
    }

    /// How a container stands.
    pub fn status(&self, container: &Container) -> Status {
        self.0.status_of(&container.record())
    }

    /// The log of a container, over all its attempts.
    pub fn log_path(&self, id: &ContainerId) -> PathBuf {
        self.0.log_dir(id).join("log")
    }
}

impl Inner {
    /// An attempt is found by its name in its pod, so that it needs no note that a crash could prevent.
    pub(crate) fn attempt_of(&self, record: &Record) -> Option<Arc<ContainerView>> {
        let attempt = record.attempt.as_ref()?;
        let filter = ContainerFilter {
            sandbox: Some(attempt.sandbox.to_string()),
            ..ContainerFilter::default()
        };
        let found = self.runtime.containers(&filter).ok()?;
        found.into_iter().find(|view| {
            view.config.metadata.name == record.id.as_str()
                && view.config.metadata.attempt == attempt.number
        })
    }

    pub(crate) fn status_of(&self, record: &Record) -> Status {
        state(record, self.attempt_of(record).as_deref())
    }

    pub(crate) fn log_dir(&self, id: &ContainerId) -> PathBuf {
        self.options.root.join("engine/logs").join(id.as_str())
    }

    fn load(&self) -> Result<()> {
        let loaded = self.records.load_all()?;
        for bad in loaded.bad {
            tracing::error!(
                "the record of container {} cannot be read and was moved to {}: {}",
                bad.name,
                bad.moved_to.display(),
                bad.why
            );
        }
        for (_, record) in loaded.records {
            if let Some(attempt) = &record.attempt {
                self.ports.note(&record.id, &attempt.ports);
            }
            let container = Container::loaded(Arc::clone(&self.records), record);
            self.index.insert(Arc::new(container));
        }
        Ok(())
    }

    /// Pods, containers, layers and logs that no record names: half made, or half removed. One that
    /// cannot be removed now is tried again by the next opening.
    async fn remove_orphans(self: &Arc<Self>) {
        let all = self.index.all();
        let records: Vec<_> = all.iter().map(|container| container.record()).collect();
        let attempts = records.iter().filter_map(|record| record.attempt.as_ref());
        let pods: HashSet<_> = attempts.map(|attempt| attempt.sandbox.as_str()).collect();
        let found = self.runtime.sandboxes(&SandboxFilter::default()).unwrap_or_default();
        for pod in found.iter().filter(|pod| !pods.contains(pod.id.as_str())) {
            if let Err(error) = self.runtime.remove_sandbox(pod.id.as_str()).await {
                tracing::warn!(pod = %pod.id, error = error.report(), "orphan not removed");
            }
        }
        let layers: HashSet<_> = records.iter().map(|record| record.layer()).collect();
        for key in self.images.rootfs_keys() {
            if key.starts_with(LAYER_PREFIX)
                && !layers.contains(&key)
                && let Err(error) = self.images.remove_rootfs(&key)
            {
                tracing::warn!(layer = key, %error, "orphan not removed");
            }
        }
        let logs = std::fs::read_dir(self.options.root.join("engine/logs"));
        for entry in logs.into_iter().flatten().flatten() {
            let name = entry.file_name();
            let known = |record: &Arc<Record>| name.to_str() == Some(record.id.as_str());
            if !records.iter().any(known) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// Clears away what ends, as long as somebody is there.
async fn watch(
    inner: Arc<Inner>,
    mut events: tokio::sync::broadcast::Receiver<orlop_lifecycle::Event>,
) {
    loop {
        let concerned = match events.recv().await {
            Ok(event) if event.kind == EventKind::Stopped => {
                let ended = event
                    .containers
                    .iter()
                    .filter(|view| Some(&view.id) == event.container.as_ref());
                let ids =
                    ended.filter_map(|view| ContainerId::parse(&view.config.metadata.name).ok());
                ids.filter_map(|id| inner.index.get(&id)).collect()
            }
            Ok(event) => {
                inner.tell_run(&event);
                Vec::new()
            }
            Err(RecvError::Lagged(_)) => inner.index.all(),
            Err(RecvError::Closed) => return,
        };
        for container in concerned {
            container.poke();
            let inner = Arc::clone(&inner);
            tokio::spawn(async move { calls::ended(&inner, &container).await });
        }
    }
}
