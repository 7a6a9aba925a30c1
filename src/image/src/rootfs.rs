//! Writable layers of containers, and the leases that keep the layers below them.

use crate::disk::{crash_point, io_error, remove_tree};
use crate::inner::Inner;
use crate::state::Lease;
use crate::{Rootfs, StoreError};
use orlop_model::Digest;
use orlop_store::Durability;
use rustix::fs::{Gid, Mode, Uid};
use std::collections::HashSet;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

impl Inner {
    pub(crate) fn create_rootfs(&self, image: &Digest, key: &str) -> Result<Rootfs, StoreError> {
        check_key(key)?;
        if let Some(rootfs) = self.rootfs(key) {
            return Ok(rootfs);
        }
        let lease = {
            // From here on garbage collection keeps the layers.
            let mut state = self.state();
            let known = state.images.get(image);
            let known = known.ok_or_else(|| StoreError::NotFound { image: image.to_string() })?;
            let snapshots =
                known.record.layers.iter().map(|layer| layer.snapshot.clone()).collect();
            let lease = Lease { image: image.clone(), snapshots };
            state.leases.insert(key.to_owned(), lease.clone());
            lease
        };
        let made = self.make_writable(key, &lease);
        if made.is_err() {
            self.state().leases.remove(key);
            let _ = remove_tree(&self.layout.writable(key));
            let _ = self.leases.remove(key);
        }
        made.map(|()| self.describe(key, &lease))
    }

    /// The lease before the directories: a writable layer without a lease is removed at the start.
    /// Not synced: it has to outlive this process, and what a power cut takes is a container that
    /// has ended anyway.
    fn make_writable(&self, key: &str, lease: &Lease) -> Result<(), StoreError> {
        let dir = self.layout.writable(key);
        let top = lease.snapshots.last().map(|name| self.layout.layer(name));
        remove_tree(&dir).map_err(io_error("remove", &dir))?;
        self.leases.put(key, lease, Durability::Process)?;
        crash_point("lease-written");
        make_dirs(&dir, top.as_deref()).map_err(io_error("make the writable layer", &dir))
    }

    pub(crate) fn rootfs(&self, key: &str) -> Option<Rootfs> {
        let lease = self.state().leases.get(key).cloned()?;
        Some(self.describe(key, &lease))
    }

    fn describe(&self, key: &str, lease: &Lease) -> Rootfs {
        let dir = self.layout.writable(key);
        // A layer may occur twice in an image; overlayfs takes a directory only once. What the
        // upper one holds hides all of the lower one, so that only the upper one matters.
        let mut seen = HashSet::new();
        let names = lease.snapshots.iter().rev().filter(|name| seen.insert(*name));
        let mut lower: Vec<_> = names.map(|name| self.layout.layer(name)).collect();
        if lower.is_empty() {
            // An image without layers: overlayfs wants one directory all the same.
            lower.push(self.layout.empty());
        }
        Rootfs { lower, upper: dir.join("upper"), work: dir.join("work") }
    }

    pub(crate) fn remove_rootfs(&self, key: &str) -> Result<(), StoreError> {
        check_key(key)?;
        let dir = self.layout.writable(key);
        remove_tree(&dir).map_err(io_error("remove", &dir))?;
        crash_point("writable-removed");
        self.leases.remove(key)?;
        let lease = self.state().leases.remove(key);
        // Only where the image is gone can this have been the last use of its layers.
        if lease.is_some_and(|lease| !self.state().images.contains_key(&lease.image)) {
            self.collect();
        }
        Ok(())
    }
}

/// `upper` becomes the root directory of the container, so that it must look like the image's.
fn make_dirs(dir: &Path, top: Option<&Path>) -> io::Result<()> {
    let make = |path: &Path, mode| std::fs::DirBuilder::new().mode(mode).create(path);
    make(dir, 0o700)?;
    let upper = dir.join("upper");
    make(&upper, 0o755)?;
    make(&dir.join("work"), 0o700)?;
    let (mode, uid, gid) = match top {
        Some(top) => {
            let root = std::fs::metadata(top)?;
            (root.mode() & 0o7777, root.uid(), root.gid())
        }
        None => (0o755, 0, 0),
    };
    rustix::fs::chown(&upper, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    Ok(rustix::fs::chmod(&upper, Mode::from_raw_mode(mode))?)
}

fn check_key(key: &str) -> Result<(), StoreError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if (1..=128).contains(&key.len()) && key.bytes().all(plain) && !key.starts_with('.') {
        Ok(())
    } else {
        Err(StoreError::Key { key: key.chars().take(200).collect() })
    }
}
