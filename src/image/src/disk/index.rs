//! The index of images: one row per image, in redb. Read once at the start; memory serves after.

use crate::policy::Signature;
use crate::{Layer, StoreError};
use orlop_model::Digest;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Config digest → [`ImageRecord`] as JSON.
const IMAGES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("images");

/// Everything about an image that its blobs do not say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    /// Format of this row.
    pub(crate) version: u32,
    /// Config digest.
    pub(crate) id: Digest,
    /// Full names with a tag.
    pub(crate) tags: Vec<String>,
    /// Full names with a digest.
    pub(crate) digests: Vec<String>,
    /// Lowest first.
    pub(crate) layers: Vec<Layer>,
    /// Manifests and indexes that led here.
    pub(crate) manifests: Vec<Digest>,
    /// Signatures that were found beside it, where the policy asked for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) signatures: Vec<Signature>,
}

impl ImageRecord {
    pub(crate) const VERSION: u32 = 1;
}

/// The open index.
pub(crate) struct Index(Database);

impl Index {
    /// Opens the index. One that cannot be read is moved aside, with a new one in its place: then
    /// the second value is true, and what is on disk is not to be taken for garbage.
    pub(crate) fn open(path: &Path) -> Result<(Self, Vec<ImageRecord>, bool), StoreError> {
        let opened = match Self::create(path) {
            // Somebody uses it: there is nothing wrong with it.
            Err(redb::DatabaseError::DatabaseAlreadyOpen) => {
                return Err(StoreError::Index(format!("{} is in use", path.display())));
            }
            Err(error) => Err(error.to_string()),
            Ok(database) => Self::read(database),
        };
        match opened {
            Ok((index, records)) => Ok((index, records, false)),
            Err(why) => {
                let aside = aside(path);
                tracing::error!(%why, moved_to = %aside.display(), "the image index cannot be read; starting with an empty one");
                std::fs::rename(path, &aside).map_err(|source| StoreError::Io {
                    op: "move aside",
                    path: path.to_owned(),
                    source,
                })?;
                let database =
                    Self::create(path).map_err(|error| StoreError::Index(error.to_string()))?;
                let (index, records) = Self::read(database).map_err(StoreError::Index)?;
                Ok((index, records, true))
            }
        }
    }

    fn create(path: &Path) -> Result<Database, redb::DatabaseError> {
        Database::builder().set_cache_size(1 << 20).create(path)
    }

    fn read(database: Database) -> Result<(Self, Vec<ImageRecord>), String> {
        let text = |error: redb::Error| error.to_string();
        let write = database.begin_write().map_err(|error| text(error.into()))?;
        write.open_table(IMAGES).map_err(|error| text(error.into()))?;
        write.commit().map_err(|error| text(error.into()))?;
        let mut records = Vec::new();
        let read = database.begin_read().map_err(|error| text(error.into()))?;
        let table = read.open_table(IMAGES).map_err(|error| text(error.into()))?;
        for row in table.iter().map_err(|error| text(error.into()))? {
            let (key, value) = row.map_err(|error| text(error.into()))?;
            match serde_json::from_slice::<ImageRecord>(value.value()) {
                Ok(record) if record.version == ImageRecord::VERSION => records.push(record),
                Ok(record) => {
                    tracing::warn!(
                        image = key.value(),
                        version = record.version,
                        "row of an unknown version is left alone"
                    );
                }
                Err(error) => {
                    tracing::warn!(image = key.value(), %error, "row cannot be read and is left alone")
                }
            }
        }
        drop((table, read));
        Ok((Self(database), records))
    }

    /// Writes and removes rows in one durable step.
    pub(crate) fn change(
        &self,
        put: &[&ImageRecord],
        remove: &[&Digest],
    ) -> Result<(), redb::Error> {
        let write = self.0.begin_write()?;
        {
            let mut table = write.open_table(IMAGES)?;
            for record in put {
                let bytes = serde_json::to_vec(record).map_err(std::io::Error::other)?;
                table.insert(record.id.as_str(), bytes.as_slice())?;
            }
            for id in remove {
                table.remove(id.as_str())?;
            }
        }
        Ok(write.commit()?)
    }
}

/// A name for a damaged index that is not taken.
fn aside(path: &Path) -> std::path::PathBuf {
    (0_u32..)
        .map(|n| path.with_extension(format!("redb.bad-{n}")))
        .find(|path| !path.exists())
        .unwrap_or_else(|| path.with_extension("redb.bad"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(byte: &str) -> ImageRecord {
        let id = Digest::parse(&format!("sha256:{}", byte.repeat(32))).unwrap();
        ImageRecord {
            version: 1,
            id,
            tags: vec![],
            digests: vec![],
            layers: vec![],
            manifests: vec![],
            signatures: vec![],
        }
    }

    #[test]
    fn rows_stay_and_damage_is_moved_aside() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("images.redb");
        let (index, records, rebuilt) = Index::open(&path).unwrap();
        assert!(records.is_empty() && !rebuilt);
        index.change(&[&record("0a"), &record("0b")], &[]).unwrap();
        index.change(&[], &[&record("0a").id]).unwrap();
        drop(index);
        let (index, records, _) = Index::open(&path).unwrap();
        assert_eq!(records, vec![record("0b")]);
        drop(index);
        std::fs::write(&path, b"not a database at all").unwrap();
        let (_index, records, rebuilt) = Index::open(&path).unwrap();
        assert!(records.is_empty() && rebuilt);
        assert!(temp.path().join("images.redb.bad-0").exists());
    }
}
