//! Networks: the three that are always there, and those that people make.

mod connect;
mod create;
mod names;
mod options;
mod place;
mod resolv;
mod show;

pub use show::{EndpointShown, IpamConfig, IpamShown, NetworkDetail};

pub(crate) use names::{announce, withdraw};
pub(crate) use place::{pod_network, resolvers};
pub(crate) use resolv::{of_host, values};

use crate::spec::NetworkSpec;
use crate::{Error, Result};
use orlop_model::Timestamp;
use orlop_network::UserNetwork;
use orlop_store::{Record as Stored, RecordDir};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

/// Names that no network of people's can have.
pub(crate) const BRIDGE: &str = "bridge";
pub(crate) const HOST: &str = "host";
pub(crate) const NONE: &str = "none";
const PREDEFINED: [&str; 4] = [BRIDGE, HOST, NONE, "default"];

/// A network that people made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NetworkRecord {
    /// Its id, 64 hexadecimal digits.
    pub id: String,
    /// Unique among networks; in `spec`.
    pub spec: NetworkSpec,
    /// When it was made.
    pub created_at: Timestamp,
    /// What it is on the host.
    pub network: UserNetwork,
}

impl Stored for NetworkRecord {
    const KIND: &'static str = "engine-network";
}

impl NetworkRecord {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }
}

/// All of them, from memory.
pub(crate) struct Networks {
    records: RecordDir<NetworkRecord>,
    all: RwLock<BTreeMap<String, Arc<NetworkRecord>>>,
    /// Held by whoever makes or removes one.
    pub(crate) turn: tokio::sync::Mutex<()>,
}

impl Networks {
    /// Reads the records. One that cannot be read is told and left out.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let records = RecordDir::open(dir)?;
        let loaded = records.load_all()?;
        for bad in loaded.bad {
            tracing::error!(
                "the record of network {} cannot be read and was moved to {}: {}",
                bad.name,
                bad.moved_to.display(),
                bad.why
            );
        }
        let all = loaded.records.into_iter().map(|(id, record)| (id, Arc::new(record))).collect();
        Ok(Self { records, all: RwLock::new(all), turn: tokio::sync::Mutex::default() })
    }

    pub(crate) fn all(&self) -> Vec<Arc<NetworkRecord>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// By its name on people's lips.
    pub(crate) fn named(&self, name: &str) -> Option<Arc<NetworkRecord>> {
        self.all().into_iter().find(|network| network.name() == name)
    }

    /// By name, id, or a prefix of the id that no other has.
    pub(crate) fn find(&self, text: &str) -> Result<Arc<NetworkRecord>> {
        if let Some(found) = self.named(text) {
            return Ok(found);
        }
        let mut fits = self.all().into_iter().filter(|network| network.id.starts_with(text));
        match (fits.next(), fits.next()) {
            (Some(found), None) if !text.is_empty() => Ok(found),
            (Some(_), Some(_)) => Err(Error::Ambiguous { prefix: text.to_owned() }),
            _ => Err(Error::NotFound { what: "network", name: text.chars().take(80).collect() }),
        }
    }

    fn keep(&self, record: NetworkRecord) -> Result<Arc<NetworkRecord>> {
        self.records.put(&record.id, &record, orlop_store::Durability::Process)?;
        let record = Arc::new(record);
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(record.id.clone(), Arc::clone(&record));
        Ok(record)
    }

    fn forget(&self, id: &str) -> Result<()> {
        self.records.remove(id)?;
        self.all.write().unwrap_or_else(PoisonError::into_inner).remove(id);
        Ok(())
    }
}
