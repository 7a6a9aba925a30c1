//! The store: every door of the room.

use crate::inner::Inner;
use crate::{Auth, Image, Options, Progress, PullError, Rootfs, StoreError, Usage, UserDatabase};
use orlop_model::{Digest, Reference};
use std::sync::Arc;

/// Images of a node. Cheap to clone; all clones are one store.
#[derive(Clone)]
pub struct ImageStore(Arc<Inner>);

impl ImageStore {
    #[cfg(test)]
    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.0
    }

    /// Opens the store, makes it where there is none, removes what an interrupted pull left and
    /// heals the index. Blocking. Fails with [`StoreError::Locked`] while another process has it.
    pub fn open(options: Options) -> Result<Self, StoreError> {
        Inner::open(options).map(|inner| Self(Arc::new(inner)))
    }

    /// Pulls an image and returns its id; at once where the registry says that it is already here.
    /// Dropping the future stops the pull unless another one shares it. Needs a tokio runtime.
    pub async fn pull(
        &self,
        reference: &Reference,
        auth: Option<Auth>,
        progress: Option<Progress>,
    ) -> Result<Digest, PullError> {
        crate::pull::pull(&self.0, reference, auth, progress).await
    }

    /// All images, from memory.
    pub fn list(&self) -> Vec<Arc<Image>> {
        self.0.state().images.values().map(|known| known.image.clone()).collect()
    }

    /// One image by id (`sha256:…` or hex), unique prefix of the hex id, or any reference.
    pub fn get(&self, name_or_id: &str) -> Option<Arc<Image>> {
        self.0.state().find(name_or_id).map(|known| known.image.clone())
    }

    /// Removes every name of the image and what nothing else needs; layers that containers use
    /// stay until their roots are removed. Removing what is absent is fine.
    pub async fn remove(&self, name_or_id: &str) -> Result<(), StoreError> {
        let (inner, name) = (self.0.clone(), name_or_id.to_owned());
        let done = tokio::task::spawn_blocking(move || inner.remove_image(&name)).await;
        done.unwrap_or_else(|error| Err(StoreError::Index(error.to_string()))).map(drop)
    }

    /// What the store takes, from counters.
    pub fn usage(&self) -> Usage {
        let state = self.0.state();
        let (mut bytes, mut inodes) = (0, 0);
        for meta in state.layers.values() {
            bytes += meta.bytes;
            // The layer's own directory and its counts beside it.
            inodes += meta.inodes + 2;
        }
        bytes += state.blobs.values().sum::<u64>();
        inodes += state.blobs.len() as u64;
        Usage { mountpoint: self.0.layout.root.clone(), bytes, inodes }
    }

    /// Makes the writable layer `key` (a container id) over the image and holds the image's layers
    /// until [`Self::remove_rootfs`]. The same key again gives the same root. Blocking, no fsync.
    pub fn create_rootfs(&self, image: &Digest, key: &str) -> Result<Rootfs, StoreError> {
        self.0.create_rootfs(image, key)
    }

    /// The root made for `key`.
    pub fn rootfs(&self, key: &str) -> Option<Rootfs> {
        self.0.rootfs(key)
    }

    /// All keys that have a root, for the caller's clean-up after a crash.
    pub fn rootfs_keys(&self) -> Vec<String> {
        self.0.state().leases.keys().cloned().collect()
    }

    /// Removes the writable layer of `key` and lets go of the layers. Fine where there is none.
    /// Blocking.
    pub fn remove_rootfs(&self, key: &str) -> Result<(), StoreError> {
        self.0.remove_rootfs(key)
    }

    /// Users and groups of the image. Blocking the first time, then from memory.
    pub fn user_database(&self, image: &Digest) -> Result<Arc<UserDatabase>, StoreError> {
        self.0.user_database(image)
    }
}
