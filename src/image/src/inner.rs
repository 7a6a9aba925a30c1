//! The store's insides: opening and healing, and every change that must reach the disk in order.

use crate::disk::{ImageRecord, Index, LayerMeta, Layout, Syncer, TempDir, TempFile, crash_point};
use crate::pull::{LayerJobs, PullJobs};
use crate::registry::{Config, Http, sha256};
use crate::state::{Known, Lease, State};
use crate::{Options, StoreError};
use orlop_model::Digest;
use orlop_store::RecordDir;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Semaphore;

pub(crate) struct Inner {
    pub(crate) options: Options,
    pub(crate) layout: Arc<Layout>,
    pub(crate) syncer: Syncer,
    pub(crate) http: Arc<Http>,
    /// Layers that are worked on at once.
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) pulls: PullJobs,
    pub(crate) layer_jobs: LayerJobs,
    pub(crate) leases: RecordDir<Lease>,
    state: Mutex<State>,
    /// Whoever changes names on disk or rows has this; taken before `state`, on blocking threads
    /// only.
    writer: Mutex<Index>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    pub(crate) fn open(options: Options) -> Result<Self, StoreError> {
        let layout = Arc::new(Layout::open(&options.root)?);
        let clean =
            layout.take_clean_mark().map_err(crate::disk::io_error("read", &layout.root))?;
        if !clean {
            tracing::info!(root = %layout.root.display(), "the store was not closed in order; checking it");
        }
        layout.remove_leftovers();
        let (index, records, rebuilt) = Index::open(&layout.index())?;
        let leases = RecordDir::open(&layout.leases())?;
        let held = load_leases(&leases, &layout)?;
        let mut state = State::found(layout.layers(), layout.blobs(), held);
        let lost = load_images(&mut state, records, &layout, &options.pinned);
        index
            .change(&[], &lost.iter().collect::<Vec<_>>())
            .map_err(|e| StoreError::Index(e.to_string()))?;
        let inner = Self {
            syncer: Syncer::new(layout.clone()),
            http: Arc::new(Http::new(options.registry.clone())),
            slots: Arc::new(Semaphore::new(options.concurrent_layers.max(1))),
            pulls: PullJobs::default(),
            layer_jobs: LayerJobs::default(),
            leases,
            state: Mutex::new(state),
            writer: Mutex::new(index),
            layout,
            options,
        };
        // With a new index nothing seems needed: the next pulls find their layers here instead of
        // fetching them, and the first removal of an image cleans up.
        if !rebuilt {
            inner.collect();
        }
        Ok(inner)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Gives a finished layer and its blob their names. Their data must be durable. What is here
    /// already wins: its content is the same.
    pub(crate) fn commit_layer(
        &self,
        layer: TempDir,
        name: &Digest,
        meta: LayerMeta,
        blob: Option<(TempFile, Digest, u64)>,
    ) -> io::Result<()> {
        crash_point("layer-synced");
        let writer = lock(&self.writer);
        if let Some((file, digest, size)) = blob {
            self.name_blob(file, digest, size)?;
        }
        crash_point("blob-named");
        let known = self.state().layers.contains_key(name);
        if !known {
            self.layout.name_layer(layer, name)?;
            self.state().layers.insert(name.clone(), meta);
        }
        drop(writer);
        crash_point("layer-named");
        Ok(())
    }

    fn name_blob(&self, file: TempFile, digest: Digest, size: u64) -> io::Result<()> {
        let known = self.state().blobs.contains_key(&digest);
        if !known {
            self.layout.name_blob(file, &digest)?;
            self.state().blobs.insert(digest, size);
        }
        Ok(())
    }

    /// Removes a blob that is not what its name says, so that it is fetched again.
    pub(crate) fn forget_blob(&self, digest: &Digest) -> io::Result<()> {
        let _writer = lock(&self.writer);
        self.state().blobs.remove(digest);
        match std::fs::remove_file(self.layout.blob(digest)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The last step of a pull: names of blobs, names durable, row, memory. Tags move here from
    /// the images that had them.
    pub(crate) fn commit_image(
        &self,
        blobs: Vec<(TempFile, Digest, u64)>,
        record: ImageRecord,
        config: &Config,
    ) -> Result<(), StoreError> {
        let io = |op| crate::disk::io_error(op, &self.layout.root);
        let writer = lock(&self.writer);
        for (file, digest, size) in blobs {
            self.name_blob(file, digest, size).map_err(io("name a blob in"))?;
        }
        crash_point("blobs-named");
        self.layout.sync_names().map_err(io("sync the names in"))?;
        crash_point("names-synced");
        let (changed, lost) = {
            let state = self.state();
            let lost = || {
                StoreError::Index(format!(
                    "a layer of image {} vanished during its pull",
                    record.id
                ))
            };
            let config_of_known = config.image.clone();
            let merged = merge(&state, record.clone());
            let known =
                state.view(merged, config_of_known, &self.options.pinned).ok_or_else(lost)?;
            (known, losers(&state, &record, &self.options.pinned))
        };
        let rows: Vec<&ImageRecord> =
            std::iter::once(&changed).chain(&lost).map(|known| &known.record).collect();
        writer.change(&rows, &[]).map_err(index_error)?;
        crash_point("row-written");
        let mut state = self.state();
        for known in lost.into_iter().chain([changed]) {
            state.insert(known);
        }
        Ok(())
    }

    /// Removes an image's row and names. `false` where there is none.
    pub(crate) fn remove_image(&self, name_or_id: &str) -> Result<bool, StoreError> {
        {
            let writer = lock(&self.writer);
            let id = self.state().find(name_or_id).map(|known| known.record.id.clone());
            let Some(id) = id else { return Ok(false) };
            writer.change(&[], &[&id]).map_err(index_error)?;
            crash_point("row-removed");
            self.state().forget(&id);
        }
        self.collect();
        Ok(true)
    }

    /// Removes the layers and blobs that nothing refers to. They lose their names at once and
    /// their content after the lock is gone.
    pub(crate) fn collect(&self) {
        let mut retired = Vec::new();
        {
            let _writer = lock(&self.writer);
            let garbage = self.state().take_garbage();
            for name in &garbage.layers {
                match self.layout.retire(name) {
                    Ok(layer) => retired.push(layer),
                    Err(error) => {
                        tracing::warn!(layer = %name, %error, "an unneeded layer cannot be removed")
                    }
                }
            }
            for digest in &garbage.blobs {
                if let Err(error) = std::fs::remove_file(self.layout.blob(digest)) {
                    tracing::warn!(blob = %digest, %error, "an unneeded blob cannot be removed");
                }
            }
        }
        crash_point("garbage-retired");
        drop(retired);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(error) = self.layout.mark_clean() {
            tracing::warn!(%error, "the store is closed, but cannot be marked so; the next start checks it");
        }
    }
}

fn index_error(error: redb::Error) -> StoreError {
    match error {
        redb::Error::Io(source) => {
            StoreError::Io { op: "write", path: "images.redb".into(), source }
        }
        other => StoreError::Index(other.to_string()),
    }
}

/// The row of an image that may be here under other names already.
fn merge(state: &State, new: ImageRecord) -> ImageRecord {
    let Some(Known { record: old, .. }) = state.images.get(&new.id) else { return new };
    let mut merged = old.clone();
    let add = |to: &mut Vec<String>, from: Vec<String>| {
        for name in from {
            if !to.contains(&name) {
                to.push(name);
            }
        }
    };
    add(&mut merged.tags, new.tags);
    add(&mut merged.digests, new.digests);
    for digest in new.manifests {
        if !merged.manifests.contains(&digest) {
            merged.manifests.push(digest);
        }
    }
    merged.layers = new.layers;
    merged
}

/// Other images without the names that `new` takes over.
fn losers(state: &State, new: &ImageRecord, pinned: &[String]) -> Vec<Known> {
    let takes = |name: &String| new.tags.contains(name) || new.digests.contains(name);
    let mut changed = Vec::new();
    for known in state.images.values().filter(|known| known.record.id != new.id) {
        if !known.record.tags.iter().chain(&known.record.digests).any(takes) {
            continue;
        }
        let mut record = known.record.clone();
        record.tags.retain(|name| !takes(name));
        record.digests.retain(|name| !takes(name));
        changed.extend(state.view(record, known.image.config.clone(), pinned));
    }
    changed
}

/// Leases whose writable layer is there, and the reverse: the rest is removed.
fn load_leases(
    records: &RecordDir<Lease>,
    layout: &Layout,
) -> Result<std::collections::HashMap<String, Lease>, StoreError> {
    let loaded = records.load_all()?;
    for bad in &loaded.bad {
        tracing::warn!(lease = bad.name, why = bad.why, moved_to = %bad.moved_to.display(), "a lease cannot be read");
    }
    let mut leases: std::collections::HashMap<_, _> = loaded.records.into_iter().collect();
    // What a lease that cannot be read stands for may be in use by a running container.
    let unreadable = |key: &str| loaded.bad.iter().any(|bad| bad.name == key);
    for key in layout.writables() {
        if !leases.contains_key(&key)
            && !unreadable(&key)
            && let Err(error) = crate::disk::remove_tree(&layout.writable(&key))
        {
            tracing::warn!(key, %error, "a writable layer without a lease cannot be removed");
        }
    }
    let gone: Vec<String> =
        leases.keys().filter(|key| !layout.writable(key).is_dir()).cloned().collect();
    for key in gone {
        leases.remove(&key);
        records.remove(&key)?;
    }
    Ok(leases)
}

/// Fills in the images whose content is whole; gives back those that have to be pulled again.
fn load_images(
    state: &mut State,
    records: Vec<ImageRecord>,
    layout: &Layout,
    pinned: &[String],
) -> Vec<Digest> {
    let mut lost = Vec::new();
    for record in records {
        let id = record.id.clone();
        let layers = record.layers.len();
        let read = std::fs::read(layout.blob(&id)).map_err(|error| error.to_string());
        let config = read.and_then(|bytes| {
            // It decides what runs, and as whom: damage on the disk must not change that.
            let actual = sha256(&bytes);
            if actual != id {
                return Err(format!("its configuration on disk has the digest {actual}"));
            }
            Config::parse(&bytes, layers).map_err(|kind| kind.to_string())
        });
        let known = config.and_then(|config| {
            state.view(record, config.image, pinned).ok_or_else(|| "a layer is missing".to_owned())
        });
        match known {
            Ok(known) => state.insert(known),
            Err(why) => {
                tracing::warn!(image = %id, why, "the image is not whole and is dropped; pull it again");
                lost.push(id);
            }
        }
    }
    lost
}
