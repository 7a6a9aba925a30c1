//! Digests of files that were read before, by what `stat` says of them, so that a tree that did not
//! change is not read again.

use orlop_model::Digest;
use redb::{Database, ReadableDatabase, TableDefinition};
use rustix::fs::Stat;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Device and inode → size, times and digest.
const FILES: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("files");

/// A file that was changed this shortly before it was read may be changed again within the same
/// tick of the clock, and look the same.
const SETTLED: i64 = 2;

/// The index on disk and what is new.
pub(crate) struct StatIndex {
    database: Option<Database>,
    new: Mutex<HashMap<(u64, u64), [u8; FACTS]>>,
}

/// size, mtime, its nanoseconds, ctime, its nanoseconds; digest.
const FACTS: usize = 40 + 32;

fn key(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

fn facts(stat: &Stat) -> [u8; 40] {
    let mut bytes = [0; 40];
    let numbers = [
        stat.st_size,
        stat.st_mtime,
        stat.st_mtime_nsec as i64,
        stat.st_ctime,
        stat.st_ctime_nsec as i64,
    ];
    for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    bytes
}

impl StatIndex {
    /// Opens the index in a directory. One that cannot be read is made anew: it holds nothing that
    /// the files do not.
    pub(crate) fn open(dir: &Path) -> Self {
        let path = dir.join("files.redb");
        let open = || Database::builder().set_cache_size(16 << 20).create(&path);
        let database = open().or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "the index of files is made anew");
            let _ = std::fs::remove_file(&path);
            open()
        });
        Self { database: database.ok(), new: Mutex::default() }
    }

    /// The digest of the file that `stat` describes, if it was read before.
    pub(crate) fn get(&self, stat: &Stat) -> Option<Digest> {
        let known = {
            let new = self.new.lock().unwrap_or_else(PoisonError::into_inner);
            new.get(&key(stat)).copied()
        };
        let known = known.or_else(|| {
            let read = self.database.as_ref()?.begin_read().ok()?;
            let table = read.open_table(FILES).ok()?;
            let row = table.get(key(stat)).ok()??;
            <[u8; FACTS]>::try_from(row.value()).ok()
        })?;
        let digest = <[u8; 32]>::try_from(&known[40..]).ok()?;
        (known[..40] == facts(stat)).then(|| Digest::from_sha256(&digest))
    }

    /// Remembers the digest of a file that looked like `stat` before and after it was read.
    pub(crate) fn put(&self, stat: &Stat, digest: &[u8; 32]) {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |elapsed| elapsed.as_secs() as i64);
        if stat.st_ctime > now - SETTLED || stat.st_mtime > now - SETTLED {
            return;
        }
        let mut row = [0; FACTS];
        row[..40].copy_from_slice(&facts(stat));
        row[40..].copy_from_slice(digest);
        self.new.lock().unwrap_or_else(PoisonError::into_inner).insert(key(stat), row);
    }

    /// Writes what is new. A power cut may lose it, which costs one reading.
    pub(crate) fn save(&self) {
        let new = std::mem::take(&mut *self.new.lock().unwrap_or_else(PoisonError::into_inner));
        let Some(database) = self.database.as_ref().filter(|_| !new.is_empty()) else { return };
        let write = || {
            let mut transaction = database.begin_write()?;
            transaction.set_durability(redb::Durability::None)?;
            {
                let mut table = transaction.open_table(FILES)?;
                for (key, row) in &new {
                    table.insert(*key, row.as_slice())?;
                }
            }
            transaction.commit()?;
            Ok::<_, redb::Error>(())
        };
        if let Err(error) = write() {
            tracing::warn!(%error, "the index of files cannot be written");
        }
    }
}
