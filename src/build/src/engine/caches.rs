//! Directories of cache mounts: who uses them, and which go when there is too much.

use super::Engine;
use crate::instruction::Sharing;
use crate::key;
use orlop_image::StoreError;
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// Which caches are in use.
#[derive(Default)]
pub(crate) struct CacheLocks {
    held: Mutex<Held>,
    freed: Condvar,
}

#[derive(Default)]
struct Held {
    /// Those that have one user at most.
    alone: HashSet<String>,
    /// Users of each.
    users: HashMap<String, usize>,
}

/// A cache that is in use as long as this lives.
pub(crate) struct CacheUse<'a> {
    locks: &'a CacheLocks,
    name: String,
    alone: bool,
}

impl CacheLocks {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The directory of a cache, made where it is not there, as its sharing asks for.
    pub(crate) fn take(
        &self,
        caches: &Path,
        id: &str,
        sharing: Sharing,
        (mode, uid, gid): (u32, u32, u32),
    ) -> std::io::Result<(PathBuf, CacheUse<'_>)> {
        // A cache that is to be someone else's is another one. The name is a digest: nothing of the
        // id gets into a path.
        let base = key::digest(format!("{id} {mode:o} {uid} {gid}")).hex().to_owned();
        let mut name = base.clone();
        let mut held = self.held();
        let alone = sharing != Sharing::Shared;
        if alone {
            let mut number = 0;
            while held.alone.contains(&name) {
                if sharing == Sharing::Private {
                    number += 1;
                    name = format!("{base}.{number}");
                } else {
                    held = self.freed.wait(held).unwrap_or_else(PoisonError::into_inner);
                }
            }
            held.alone.insert(name.clone());
        }
        *held.users.entry(name.clone()).or_default() += 1;
        drop(held);
        let used = CacheUse { locks: self, name: name.clone(), alone };
        let dir = caches.join(&name);
        match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => {
                chown(&dir, Some(uid), Some(gid))?;
                std::fs::set_permissions(&dir, PermissionsExt::from_mode(mode))?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        // When it was last used.
        std::fs::write(stamp(&dir), "")?;
        Ok((dir, used))
    }

    /// Takes a cache's name away, unless somebody uses it. Gives what is left to remove.
    fn retire(&self, dir: &Path) -> Option<PathBuf> {
        // Nobody can begin to use it meanwhile.
        let held = self.held();
        let name = dir.file_name()?.to_str()?;
        if held.users.contains_key(name) {
            return None;
        }
        let gone = dir.with_extension("gone");
        let renamed = std::fs::rename(dir, &gone);
        drop(held);
        renamed.is_ok().then_some(gone)
    }
}

impl Drop for CacheUse<'_> {
    fn drop(&mut self) {
        let mut held = self.locks.held();
        if self.alone {
            held.alone.remove(&self.name);
        }
        if let Some(users) = held.users.get_mut(&self.name) {
            *users -= 1;
            if *users == 0 {
                held.users.remove(&self.name);
            }
        }
        drop(held);
        self.locks.freed.notify_all();
    }
}

fn stamp(dir: &Path) -> PathBuf {
    let mut name = OsString::from("used-");
    name.push(dir.file_name().unwrap_or_default());
    dir.with_file_name(name)
}

/// Caches with the time of their last use and their bytes.
fn list(caches: &Path) -> std::io::Result<Vec<(SystemTime, u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(caches)?.flatten() {
        let path = entry.path();
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if path.extension().is_some_and(|kind| kind == "gone") {
            // Its removal was cut off.
            remove(&path);
            continue;
        }
        let used = std::fs::metadata(stamp(&path)).and_then(|meta| meta.modified());
        found.push((used.unwrap_or(SystemTime::UNIX_EPOCH), bytes(&path), path));
    }
    Ok(found)
}

/// Bytes on the disk below a directory. Links are not followed; what goes away meanwhile counts
/// nothing.
fn bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let entry = |entry: std::fs::DirEntry| {
        let Ok(meta) = entry.metadata() else { return 0 };
        let below = if meta.is_dir() { bytes(&entry.path()) } else { 0 };
        meta.blocks() * 512 + below
    };
    entries.map(entry).sum()
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_dir_all(path) {
        tracing::warn!(path = %path.display(), %error, "a cache cannot be removed");
    }
}

impl Engine {
    /// Forgets steps and cache mounts, those that were not used for longest first, until they take
    /// no more than `keep` bytes together. Caches may have what steps leave, and half of it at
    /// least. Gives how many went of each. Blocking.
    pub fn prune(&self, keep: u64) -> Result<(usize, usize), StoreError> {
        let mut found = list(&self.caches).map_err(|source| StoreError::Io {
            op: "list",
            path: self.caches.clone(),
            source,
        })?;
        found.sort();
        let mut total: u64 = found.iter().map(|(_, bytes, _)| bytes).sum();
        let room = (keep / 2).max(keep.saturating_sub(self.store.steps_bytes()));
        let mut gone = 0;
        for (_, bytes, path) in found {
            if total <= room {
                break;
            }
            if let Some(retired) = self.mounts.retire(&path) {
                remove(&retired);
                let _ = std::fs::remove_file(stamp(&path));
                total -= bytes;
                gone += 1;
            }
        }
        let steps = match self.store.steps_bytes() > keep.saturating_sub(total) {
            true => self.store.prune_steps(keep.saturating_sub(total))?,
            false => 0,
        };
        Ok((steps, gone))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_in_use_stays() {
        let dir = tempfile::tempdir().unwrap();
        let locks = CacheLocks::default();
        let owner = std::fs::metadata(dir.path()).unwrap();
        let owner = (0o755, owner.uid(), owner.gid());
        let (path, used) = locks.take(dir.path(), "../../x", Sharing::Shared, owner).unwrap();
        assert_eq!(path.parent(), Some(dir.path()));
        let (same, other) = locks.take(dir.path(), "../../x", Sharing::Shared, owner).unwrap();
        assert_eq!(path, same);
        drop(used);
        assert!(locks.retire(&path).is_none());
        drop(other);
        std::fs::write(path.join("f"), "x").unwrap();
        let gone = locks.retire(&path).unwrap();
        assert!(!path.exists() && gone.join("f").exists());
        assert!(list(dir.path()).unwrap().is_empty() && !gone.exists());
    }

    #[test]
    fn private_caches_are_apart() {
        let dir = tempfile::tempdir().unwrap();
        let locks = CacheLocks::default();
        let owner = std::fs::metadata(dir.path()).unwrap();
        let owner = (0o755, owner.uid(), owner.gid());
        let (one, _one) = locks.take(dir.path(), "c", Sharing::Private, owner).unwrap();
        let (two, _two) = locks.take(dir.path(), "c", Sharing::Private, owner).unwrap();
        assert_ne!(one, two);
    }
}
