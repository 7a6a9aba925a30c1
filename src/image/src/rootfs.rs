//! Writable layers of containers, and the leases that keep the layers below them.

use crate::disk::{crash_point, io_error, remove_tree};
use crate::inner::Inner;
use crate::state::Lease;
use crate::unpack::copy_attributes;
use crate::{Rootfs, StoreError};
use orlop_model::Digest;
use orlop_store::Durability;
use rustix::fs::Mode;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

impl Inner {
    pub(crate) fn create_rootfs(&self, image: &Digest, key: &str) -> Result<Rootfs, StoreError> {
        check_key(key)?;
        if let Some(rootfs) = self.rootfs(key) {
            return Ok(rootfs);
        }
        self.check_policy(image)?;
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
            self.accounts.close(key);
            let _ = remove_tree(&self.layout.writable(key));
            let _ = self.leases.remove(key);
        }
        made.map(|()| self.describe(key, &lease))
    }

    /// The policy may be younger than the image. Reads files of keys: without the lock.
    fn check_policy(&self, image: &Digest) -> Result<(), StoreError> {
        let policy = &self.options.policy;
        let record = self.state().images.get(image).map(|known| known.record.clone());
        let Some(record) = record.filter(|_| !policy.is_off()) else { return Ok(()) };
        policy
            .check_image(&record.tags, &record.digests, &record.manifests, &record.signatures)
            .map_err(|message| StoreError::SignatureValidationFailed {
                image: image.clone(),
                message,
            })
    }

    /// The lease before the directories: a writable layer without a lease is removed at the start.
    /// Not synced: it has to outlive this process, and what a power cut takes is a container that
    /// has ended anyway.
    fn make_writable(&self, key: &str, lease: &Lease) -> Result<(), StoreError> {
        let dir = self.layout.writable(key);
        let (_, root) = self.state().stack(&lease.snapshots);
        let root = root.map(|name| self.layout.layer(&name));
        remove_tree(&dir).map_err(io_error("remove", &dir))?;
        self.leases.put(key, lease, Durability::Process)?;
        crash_point("lease-written");
        let make = || self.make_dirs(key, &dir, root.as_deref());
        make().map_err(io_error("make the writable layer", &dir))
    }

    /// `upper` becomes the root directory of the container, so that it must look like the image's.
    fn make_dirs(&self, key: &str, dir: &Path, root: Option<&Path>) -> io::Result<()> {
        let make = |path: &Path, mode| std::fs::DirBuilder::new().mode(mode).create(path);
        make(dir, 0o700)?;
        self.accounts.open(key, &orlop_sys::fs::open_dir(dir)?);
        make(&dir.join("work"), 0o700)?;
        make(&dir.join("upper"), 0o755)?;
        let upper = orlop_sys::fs::open_dir(dir.join("upper"))?;
        // Whatever the umask says.
        rustix::fs::fchmod(&upper, Mode::from_raw_mode(0o755))?;
        match root {
            Some(root) => copy_attributes(orlop_sys::fs::open_dir(root)?.as_fd(), upper.as_fd()),
            None => Ok(()),
        }
    }

    pub(crate) fn rootfs(&self, key: &str) -> Option<Rootfs> {
        let lease = self.state().leases.get(key).cloned()?;
        Some(self.describe(key, &lease))
    }

    fn describe(&self, key: &str, lease: &Lease) -> Rootfs {
        let dir = self.layout.writable(key);
        let (stack, _) = self.state().stack(&lease.snapshots);
        let mut lower: Vec<_> = stack.iter().map(|name| self.layout.layer(name)).collect();
        if lower.is_empty() {
            // An image without layers: overlayfs wants one directory all the same.
            lower.push(self.layout.empty());
        }
        Rootfs { lower, upper: dir.join("upper"), work: dir.join("work") }
    }

    pub(crate) fn remove_rootfs(&self, key: &str) -> Result<(), StoreError> {
        check_key(key)?;
        self.accounts.close(key);
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

fn check_key(key: &str) -> Result<(), StoreError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if (1..=128).contains(&key.len()) && key.bytes().all(plain) && !key.starts_with('.') {
        Ok(())
    } else {
        Err(StoreError::Key { key: key.chars().take(200).collect() })
    }
}
