//! The door of this room.

use crate::index::Index;
use crate::{Container, Record, Result, Status, state};
use orlop_image::ImageStore;
use orlop_lifecycle::{ContainerFilter, ContainerView, Runtime};
use orlop_network::Network;
use orlop_spec::request::Owner;
use orlop_store::RecordDir;
use std::path::PathBuf;
use std::sync::Arc;

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
}

impl Engine {
    /// Opens the state over a runtime that has recovered.
    pub async fn open(
        options: Options,
        runtime: Runtime,
        images: ImageStore,
        network: Network,
    ) -> Result<Self> {
        let records = Arc::new(RecordDir::open(&options.root.join("engine/containers"))?);
        let index = Index::default();
        let runtime = runtime.of(Owner::Engine);
        Ok(Self(Arc::new(Inner { options, runtime, images, network, records, index })))
    }

    /// Ends what runs in the background. Containers live on.
    pub async fn close(&self) {}

    /// What pods and their containers are made with.
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
        let record = container.record();
        state(&record, self.0.attempt_of(&record).as_deref())
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
}
