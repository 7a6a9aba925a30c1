//! The store: every door of the room.

use crate::inner::Inner;
use crate::registry::Session;
use crate::rows::Change;
use crate::state::full_name;
use crate::{
    ArchiveError, Auth, Image, Imported, NameError, Options, Progress, PullError, Report, Rootfs,
    RunningPull, StoreError, Usage, UserDatabase, WritableUsage,
};
use orlop_model::{Digest, Reference};
use std::sync::Arc;

/// Images of a node. Cheap to clone; all clones are one store.
#[derive(Clone)]
pub struct ImageStore(Arc<Inner>);

/// Begins the keys of layers that are started from again and again: their image must stay.
const KEPT: &str = "engine-";

impl ImageStore {
    pub(crate) fn of(inner: Arc<Inner>) -> Self {
        Self(inner)
    }

    pub(crate) fn shared(&self) -> &Arc<Inner> {
        &self.0
    }

    #[cfg(test)]
    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.0
    }

    /// Opens the store, makes it where there is none, removes what an interrupted pull left and
    /// heals the index. Blocking. Fails with [`StoreError::Locked`] while another process has it.
    pub fn open(options: Options) -> Result<Self, StoreError> {
        Inner::open(options).map(|inner| Self(Arc::new(inner)))
    }

    /// The full references that a name may stand for, to be tried in order: one, unless
    /// `registries.conf` says otherwise about names without a registry. Reads that file.
    pub fn names(&self, text: &str) -> Result<Vec<Reference>, NameError> {
        self.0.names(text)
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
        self.0.find(name_or_id)
    }

    /// Removes every name of the image and what nothing else needs; layers that containers use
    /// stay until their roots are removed. Removing what is absent is fine.
    pub async fn remove(&self, name_or_id: &str) -> Result<(), StoreError> {
        let (inner, name) = (self.0.clone(), name_or_id.to_owned());
        let done = tokio::task::spawn_blocking(move || inner.remove_image(&name)).await;
        done.unwrap_or_else(|error| Err(StoreError::Index(error.to_string()))).map(drop)
    }

    /// Writes the file at an address to `out`, with the certificates and proxies of registries.
    /// `None`: it is still what `known` says, and nothing was written.
    pub async fn fetch(
        &self,
        address: &str,
        known: &crate::Validators,
        out: &mut (dyn std::io::Write + Send),
    ) -> Result<Option<crate::Validators>, crate::PullErrorKind> {
        self.0.http.fetch(address, known, out).await
    }

    /// Sends an image to a registry under the name `target`, and returns the digest of its manifest.
    /// What the registry has already is not sent again.
    pub async fn push(
        &self,
        name_or_id: &str,
        target: &Reference,
        auth: Option<Auth>,
        progress: Option<Progress>,
    ) -> Result<Digest, PullError> {
        let pushed = crate::push::push(&self.0, name_or_id, target, auth, progress).await;
        pushed.map_err(|kind| PullError { reference: target.clone(), kind })
    }

    /// Asks the registry of a reference whether it takes credentials.
    pub async fn login(&self, registry: &Reference, auth: Auth) -> Result<(), PullError> {
        let session = Session::open(self.0.http.clone(), registry, Some(auth)).await;
        let asked = match session {
            Ok(session) => session.greet().await,
            Err(kind) => Err(kind),
        };
        asked.map_err(|kind| PullError { reference: registry.clone(), kind })
    }

    /// Gives an image a further name.
    pub async fn tag(&self, name_or_id: &str, name: Reference) -> Result<(), StoreError> {
        let missing = || StoreError::NotFound { image: name_or_id.to_owned() };
        let id = self.get(name_or_id).ok_or_else(missing)?.id.clone();
        self.change(Change::Tag { id, name }).await.map(drop)
    }

    /// Takes a name from an image; the image goes with its last one. An id, or what is no name of
    /// it, removes the image with all names. Gives what was removed.
    pub async fn untag(&self, name_or_id: &str) -> Result<bool, StoreError> {
        let Some(image) = self.get(name_or_id) else { return Ok(false) };
        let name = Reference::parse(name_or_id).map(|r| full_name(&r)).unwrap_or_default();
        let names = image.repo_tags.iter().chain(&image.repo_digests);
        let last = image.repo_tags.len() <= 1;
        if names.clone().any(|known| *known == name) && !(last && image.repo_tags.contains(&name)) {
            return self.change(Change::Untag { name }).await;
        }
        let used = {
            let state = self.0.state();
            let of = |(_, lease): &(&String, &crate::state::Lease)| lease.image == image.id;
            state
                .leases
                .iter()
                .filter(of)
                .find_map(|(key, _)| key.strip_prefix(KEPT).map(str::to_owned))
        };
        if let Some(container) = used {
            return Err(StoreError::InUse { image: name_or_id.to_owned(), container });
        }
        self.remove(image.id.as_str()).await.map(|()| true)
    }

    async fn change(&self, change: Change) -> Result<bool, StoreError> {
        let inner = self.0.clone();
        let done = tokio::task::spawn_blocking(move || inner.rows.apply(&inner, change)).await;
        done.unwrap_or_else(|error| Err(StoreError::Index(error.to_string())))
    }

    /// Removes images that no container uses, that are not pinned and that `fits` is true of: those
    /// without a tag, or with `all` every one. Gives their ids and the bytes that were freed.
    pub async fn prune(
        &self,
        all: bool,
        fits: impl Fn(&Image) -> bool,
    ) -> Result<(Vec<Digest>, u64), StoreError> {
        let before = self.usage().bytes;
        let unused: Vec<Digest> = {
            let state = self.0.state();
            let used = |id: &Digest| state.leases.values().any(|lease| lease.image == *id);
            let prunable = |image: &Image| {
                !image.pinned
                    && (all || image.repo_tags.is_empty())
                    && !used(&image.id)
                    && fits(image)
            };
            let images = state.images.values().map(|known| &known.image);
            images.filter(|image| prunable(image)).map(|image| image.id.clone()).collect()
        };
        for id in &unused {
            self.remove(id.as_str()).await?;
        }
        Ok((unused, before.saturating_sub(self.usage().bytes)))
    }

    /// Reads images from an archive: an OCI layout or what `docker save` writes, plain or
    /// compressed. With `names`, its only image gets these instead of its own. Blocking.
    pub fn import(
        &self,
        source: impl std::io::Read,
        names: &[Reference],
    ) -> Result<Vec<Imported>, ArchiveError> {
        let imported = crate::archive::import(&self.0, source, names);
        if imported.is_err() {
            // What came before the failure belongs to nothing.
            self.0.collect();
        }
        imported
    }

    /// Writes images into an archive that is an OCI layout and can be read by `docker load`.
    /// Blocking.
    pub fn export(
        &self,
        names: &[String],
        target: impl std::io::Write,
    ) -> Result<(), ArchiveError> {
        crate::archive::export(&self.0, names, target)
    }

    /// Pulls that run, oldest first.
    pub fn pulls(&self) -> Vec<RunningPull> {
        self.0.running.list()
    }

    /// Checks blobs and unpacked layers against their digests, and with `repair` puts right what
    /// nobody uses. As slow as unpacking everything again.
    pub async fn verify(&self, repair: bool) -> Result<Report, StoreError> {
        let inner = self.0.clone();
        let done = tokio::task::spawn_blocking(move || inner.verify(repair)).await;
        done.unwrap_or_else(|error| Err(StoreError::Index(error.to_string())))
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

    /// What the writable layer of `key` takes, as of the time in it; `None`: not known yet, or no
    /// such layer. Takes microseconds, whatever is in the layer: it is not walked in this call.
    pub fn writable_usage(&self, key: &str) -> Option<WritableUsage> {
        let known = self.0.state().leases.contains_key(key);
        known.then(|| self.0.accounts.usage(key, &self.0.layout.writable(key)))?
    }

    /// The directory of the store, which lies on the file system that writable layers are on.
    pub fn root(&self) -> &std::path::Path {
        &self.0.layout.root
    }

    /// Users and groups of the image. Blocking the first time, then from memory.
    pub fn user_database(&self, image: &Digest) -> Result<Arc<UserDatabase>, StoreError> {
        self.0.user_database(image)
    }
}
