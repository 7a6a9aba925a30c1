//! The store: every door of the room.

use crate::{Auth, Image, Options, Progress, PullError, Rootfs, StoreError, Usage, UserDatabase};
use orlop_model::{Digest, Reference};
use std::sync::Arc;

/// Images of a node. Cheap to clone; all clones are one store.
#[derive(Clone)]
pub struct ImageStore(Arc<Inner>);

struct Inner {
    #[expect(dead_code)]
    options: Options,
}

#[expect(clippy::todo, clippy::unused_async, reason = "signatures first")]
impl ImageStore {
    /// Opens the store, makes it where there is none, removes what an interrupted pull left and
    /// heals the index. Blocking. Fails with [`StoreError::Locked`] while another process has it.
    pub fn open(options: Options) -> Result<Self, StoreError> {
        let _ = Self(Arc::new(Inner { options }));
        todo!()
    }

    /// Pulls an image and returns its id; at once where the registry says that it is already here.
    /// Dropping the future stops the pull unless another one shares it.
    pub async fn pull(
        &self,
        reference: &Reference,
        auth: Option<Auth>,
        progress: Option<Progress>,
    ) -> Result<Digest, PullError> {
        let _ = (&self.0, reference, auth, progress);
        todo!()
    }

    /// All images, from memory.
    pub fn list(&self) -> Vec<Arc<Image>> {
        todo!()
    }

    /// One image by id (`sha256:…` or hex), unique prefix of the hex id, or any reference.
    pub fn get(&self, name_or_id: &str) -> Option<Arc<Image>> {
        let _ = name_or_id;
        todo!()
    }

    /// Removes every name of the image and what nothing else needs; layers that containers use
    /// stay until their roots are removed. Removing what is absent is fine.
    pub async fn remove(&self, name_or_id: &str) -> Result<(), StoreError> {
        let _ = name_or_id;
        todo!()
    }

    /// What the store takes, from counters.
    pub fn usage(&self) -> Usage {
        todo!()
    }

    /// Makes the writable layer `key` (a container id) over the image and holds the image's layers
    /// until [`Self::remove_rootfs`]. The same key again gives the same root. Blocking, no fsync.
    pub fn create_rootfs(&self, image: &Digest, key: &str) -> Result<Rootfs, StoreError> {
        let _ = (image, key);
        todo!()
    }

    /// The root made for `key`.
    pub fn rootfs(&self, key: &str) -> Option<Rootfs> {
        let _ = key;
        todo!()
    }

    /// All keys that have a root, for the caller's clean-up after a crash.
    pub fn rootfs_keys(&self) -> Vec<String> {
        todo!()
    }

    /// Removes the writable layer of `key` and lets go of the layers. Fine where there is none.
    /// Blocking.
    pub fn remove_rootfs(&self, key: &str) -> Result<(), StoreError> {
        let _ = key;
        todo!()
    }

    /// Users and groups of the image. Blocking the first time, then from memory.
    pub fn user_database(&self, image: &Digest) -> Result<Arc<UserDatabase>, StoreError> {
        let _ = image;
        todo!()
    }
}
