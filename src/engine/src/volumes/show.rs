//! Lists and details of volumes, in the field names that scripts know.

use super::VolumeRecord;
use crate::calls::time;
use crate::engine::Inner;
use crate::{Engine, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What `volume inspect` shows, and `volume ls` of each.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VolumeDetail {
    /// RFC 3339.
    pub created_at: String,
    /// Always `local`.
    pub driver: String,
    /// As given.
    pub labels: BTreeMap<String, String>,
    /// Where its content is on the host.
    pub mountpoint: String,
    /// Unique.
    pub name: String,
    /// As given.
    pub options: BTreeMap<String, String>,
    /// Always `local`.
    pub scope: String,
    /// Made for a container that named none.
    pub anonymous: bool,
    /// Names of the containers that have it.
    pub containers: Vec<String>,
}

impl Engine {
    /// All volumes, by name.
    pub fn list_volumes(&self) -> Vec<VolumeDetail> {
        self.0.volumes.all().iter().map(|volume| self.0.volume(volume)).collect()
    }

    /// One volume.
    pub fn inspect_volume(&self, name: &str) -> Result<VolumeDetail> {
        Ok(self.0.volume(&*self.0.volumes.find(name)?))
    }

    /// Bytes that each volume takes, by name. Walks them: blocks.
    pub fn volume_sizes(&self) -> BTreeMap<String, u64> {
        let all = self.0.volumes.all();
        let size = |volume: &VolumeRecord| size(&self.0.volumes.data(volume.name()));
        all.iter().map(|volume| (volume.name().to_owned(), size(volume))).collect()
    }
}

impl Inner {
    fn volume(&self, record: &VolumeRecord) -> VolumeDetail {
        VolumeDetail {
            created_at: time(record.created_at),
            driver: "local".into(),
            labels: record.spec.labels.clone(),
            mountpoint: self.volumes.data(record.name()).display().to_string(),
            name: record.name().to_owned(),
            options: record.spec.options.clone(),
            scope: "local".into(),
            anonymous: record.anonymous,
            containers: self.users_of_volume(record.name()),
        }
    }
}

/// Bytes on disk beneath a directory, as far as they can be counted; links are not followed.
pub(super) fn size(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let of_entry = |entry: std::fs::DirEntry| {
        let Ok(found) = entry.metadata() else { return 0 };
        let below = if found.is_dir() { size(&entry.path()) } else { 0 };
        found.blocks().saturating_mul(512).saturating_add(below)
    };
    entries.flatten().map(of_entry).sum()
}
