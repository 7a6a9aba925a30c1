//! Volumes: directories that outlive containers.

mod adopt;
mod calls;
mod copy;
mod mount;
mod show;

pub use show::VolumeDetail;

pub(crate) use adopt::{adopt, populate};

use crate::spec::{MountSource, VolumeSpec};
use crate::{Error, Record, Result};
use orlop_model::Timestamp;
use orlop_store::{Durability, Record as Stored, RecordDir};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// A volume.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VolumeRecord {
    /// As asked for; the name is always there and unique.
    pub spec: VolumeSpec,
    /// When it was made.
    pub created_at: Timestamp,
    /// Made for a container that named none: it goes with that, where that is asked for.
    pub anonymous: bool,
}

impl Stored for VolumeRecord {
    const KIND: &'static str = "engine-volume";
}

impl VolumeRecord {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }
}

/// All of them, from memory.
pub(crate) struct Volumes {
    records: RecordDir<VolumeRecord>,
    all: RwLock<BTreeMap<String, Arc<VolumeRecord>>>,
    root: PathBuf,
    /// Held by whoever makes, mounts or removes one.
    pub(crate) turn: tokio::sync::Mutex<()>,
}

impl Volumes {
    /// Reads the records beneath the engine's durable state. One that cannot be read is told and left
    /// out; its directory stays.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let records = RecordDir::open(&root.join("engine/volumes"))?;
        let loaded = records.load_all()?;
        for bad in loaded.bad {
            tracing::error!(
                "the record of volume {} cannot be read and was moved to {}: {}",
                bad.name,
                bad.moved_to.display(),
                bad.why
            );
        }
        let named = |record: VolumeRecord| (record.name().to_owned(), Arc::new(record));
        let all = loaded.records.into_iter().map(|(_, record)| named(record)).collect();
        let (all, turn) = (RwLock::new(all), tokio::sync::Mutex::default());
        Ok(Self { records, all, root: root.join("volumes"), turn })
    }

    pub(crate) fn all(&self) -> Vec<Arc<VolumeRecord>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(crate) fn find(&self, name: &str) -> Result<Arc<VolumeRecord>> {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        let missing = || Error::NotFound { what: "volume", name: name.chars().take(80).collect() };
        all.get(name).cloned().ok_or_else(missing)
    }

    /// Where its content is.
    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.root.join(name).join("_data")
    }

    /// Makes directory and record.
    fn keep(&self, record: VolumeRecord) -> Result<Arc<VolumeRecord>> {
        use std::os::unix::fs::DirBuilderExt;
        for (path, mode) in
            [(self.root.join(record.name()), 0o701), (self.data(record.name()), 0o755)]
        {
            let made = std::fs::DirBuilder::new().recursive(true).mode(mode).create(&path);
            made.map_err(Error::io("making directory", path))?;
        }
        self.records.put(record.name(), &record, Durability::Process)?;
        let record = Arc::new(record);
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(record.name().to_owned(), Arc::clone(&record));
        Ok(record)
    }

    /// Removes content and record; the record last, so that what a crash leaves can be removed.
    fn forget(&self, name: &str) -> Result<()> {
        let dir = self.root.join(name);
        match std::fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("removing", dir)(error));
            }
            _ => {}
        }
        self.records.remove(name)?;
        self.all.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        Ok(())
    }
}

/// The volumes that a container names.
fn names(record: &Record) -> impl Iterator<Item = &str> {
    record.spec.mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Volume { name, .. } => name.as_deref(),
        _ => None,
    })
}
