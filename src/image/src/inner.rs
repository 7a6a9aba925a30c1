//! The store's insides: opening and healing, and every change that must reach the disk in order.

use crate::built::StepIndex;
use crate::disk::{ImageRecord, Index, LayerMeta, Layout, Syncer, TempDir, TempFile, crash_point};
use crate::hosts::{Registries, ShortName};
use crate::progress::Running;
use crate::pull::{LayerJobs, PullJobs};
use crate::registry::{Config, Http, sha256};
use crate::rows::{Change, Rows};
use crate::state::{Known, Lease, State};
use crate::writable::Accounts;
use crate::{Image, NameError, Options, StoreError};
use orlop_model::{Digest, Reference};
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
    pub(crate) running: Running,
    pub(crate) leases: RecordDir<Lease>,
    pub(crate) accounts: Accounts,
    state: Mutex<State>,
    /// `registries.conf` as it was when last read.
    registries: Mutex<Option<Registries>>,
    /// Whoever changes names of layers and blobs on disk has this, for some renames and never over a
    /// sync; taken before `state`, on blocking threads only.
    names: Mutex<()>,
    pub(crate) rows: Rows,
    /// What builds made.
    pub(crate) steps: StepIndex,
    /// Who can write the archives of what builds made.
    pub(crate) writer: std::sync::OnceLock<crate::LayerWriter>,
    /// What new layers are sealed with: how often the store was opened after a clean stop.
    pub(crate) epoch: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    pub(crate) fn open(options: Options) -> Result<Self, StoreError> {
        let layout = Arc::new(Layout::open(&options.root)?);
        let clean =
            layout.take_clean_mark().map_err(crate::disk::io_error("read", &layout.root))?;
        layout.remove_leftovers();
        let new = !layout.index().exists();
        let (index, records, rebuilt) = Index::open(&layout.index())?;
        let leases = RecordDir::open(&layout.leases())?;
        let held = load_leases(&leases, &layout)?;
        let mut state = State::found(layout.layers(), layout.blobs(), held);
        let (steps, known) = StepIndex::open(&layout.root)?;
        state.steps = known.into_iter().map(|step| (step.key.clone(), step)).collect();
        let last = layout.epoch();
        let epoch = if clean { last.saturating_add(1) } else { last };
        if clean {
            layout.set_epoch(epoch).map_err(crate::disk::io_error("write", &layout.root))?;
        }
        let conf = options.registry.registries_conf.as_deref();
        // One that cannot be read is told with the first pull.
        let registries = conf.and_then(|file| Registries::load(file).ok());
        let inner = Self {
            syncer: Syncer::new(layout.clone()),
            http: Arc::new(Http::new(options.registry.clone())),
            slots: Arc::new(Semaphore::new(options.concurrent_layers.max(1))),
            pulls: PullJobs::default(),
            layer_jobs: LayerJobs::default(),
            running: Running::default(),
            leases,
            epoch,
            accounts: Accounts::default(),
            state: Mutex::new(state),
            registries: Mutex::new(registries),
            names: Mutex::new(()),
            rows: Rows::new(index),
            steps,
            writer: std::sync::OnceLock::new(),
            layout,
            options,
        };
        if !clean && !new {
            let root = inner.layout.root.display();
            tracing::info!(%root, "the store was not closed in order; checking it");
            inner.check_recent(last, &records);
        }
        inner.complete_images(&records);
        inner.load_images(records)?;
        // With a new index nothing seems needed: the next pulls find their layers here instead of
        // fetching them, and the first removal of an image cleans up.
        if !rebuilt {
            inner.collect();
        }
        Ok(inner)
    }

    /// Fills in the images whose content is whole; the rows of the others go.
    fn load_images(&self, records: Vec<ImageRecord>) -> Result<(), StoreError> {
        for record in records {
            let id = record.id.clone();
            let known = self.load(record);
            match known {
                Ok(known) => self.state().insert(known),
                Err(why) => {
                    tracing::warn!(image = %id, why, "the image is not whole and is dropped; pull it again");
                    self.rows.discard(&id)?;
                }
            }
        }
        Ok(())
    }

    fn load(&self, record: ImageRecord) -> Result<Known, String> {
        let read = std::fs::read(self.layout.blob(&record.id)).map_err(|error| error.to_string());
        let bytes = read?;
        // It decides what runs, and as whom: damage on the disk must not change that.
        let actual = sha256(&bytes);
        if actual != record.id {
            return Err(format!("its configuration on disk has the digest {actual}"));
        }
        let config = Config::parse(&bytes, record.layers.len()).map_err(|kind| kind.to_string())?;
        let view = self.state().view(record, config.image, &self.options.pinned);
        view.ok_or_else(|| "a layer is missing".to_owned())
    }

    /// What a name may stand for; reads `registries.conf` where there is one.
    pub(crate) fn names(&self, text: &str) -> Result<Vec<Reference>, NameError> {
        let names = match &self.options.registry.registries_conf {
            None => ShortName::No,
            Some(file) => {
                let conf =
                    Registries::load(file).map_err(|kind| NameError::File(Box::new(kind)))?;
                let names = conf.short_name(text);
                *lock(&self.registries) = Some(conf);
                names?
            }
        };
        let names = match names {
            ShortName::No => vec![text.to_owned()],
            ShortName::Names(names) => names,
        };
        names.iter().map(|name| Ok(Reference::parse(name)?)).collect()
    }

    /// An image by what people call it. No file is read for it.
    pub(crate) fn find(&self, text: &str) -> Option<Arc<Image>> {
        let names = match &*lock(&self.registries) {
            Some(conf) => conf.short_name(text).unwrap_or(ShortName::No),
            None => ShortName::No,
        };
        let state = self.state();
        let by = |name: &str| state.find(name).map(|known| known.image.clone());
        match names {
            ShortName::No => by(text),
            ShortName::Names(names) => names.iter().find_map(|name| by(name)).or_else(|| by(text)),
        }
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
        let names = lock(&self.names);
        if let Some((file, digest, size)) = blob {
            self.name_blob(file, digest, size)?;
        }
        crash_point("blob-named");
        let known = self.state().layers.contains_key(name);
        if !known {
            self.layout.name_layer(layer, name)?;
            self.state().layers.insert(name.clone(), meta);
        }
        drop(names);
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

    /// Gives a blob its name. Its data must be durable.
    pub(crate) fn keep_blob(&self, file: TempFile, digest: Digest, size: u64) -> io::Result<()> {
        let _names = lock(&self.names);
        self.name_blob(file, digest, size)
    }

    /// Removes a blob that is not what its name says, so that it is fetched again.
    pub(crate) fn forget_blob(&self, digest: &Digest) -> io::Result<()> {
        let _names = lock(&self.names);
        self.state().blobs.remove(digest);
        match std::fs::remove_file(self.layout.blob(digest)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Takes a layer's name away and removes it. Nothing may use it.
    pub(crate) fn forget_layer(&self, name: &Digest) -> io::Result<()> {
        let retired = {
            let _names = lock(&self.names);
            let retired = self.layout.retire(name)?;
            self.state().layers.remove(name);
            retired
        };
        drop(retired);
        Ok(())
    }

    /// The last step of a pull: names of blobs, names durable, row, memory. Tags move here from
    /// the images that had them.
    pub(crate) fn commit_image(
        &self,
        blobs: Vec<(TempFile, Digest, u64)>,
        record: ImageRecord,
        config: &Config,
    ) -> Result<(), StoreError> {
        {
            let _names = lock(&self.names);
            for (file, digest, size) in blobs {
                let named = self.name_blob(file, digest, size);
                named.map_err(crate::disk::io_error("name a blob in", &self.layout.root))?;
            }
        }
        crash_point("blobs-named");
        let config = Box::new(config.image.clone());
        self.rows.apply(self, Change::Put { record, config }).map(drop)
    }

    /// Removes an image's row and names. `false` where there is none.
    pub(crate) fn remove_image(&self, name_or_id: &str) -> Result<bool, StoreError> {
        let Some(id) = self.find(name_or_id).map(|image| image.id.clone()) else {
            return Ok(false);
        };
        let removed = self.rows.apply(self, Change::Remove { id })?;
        self.collect();
        Ok(removed)
    }

    /// Removes the layers and blobs that nothing refers to. They lose their names at once and
    /// their content after the lock is gone.
    pub(crate) fn collect(&self) {
        let mut retired = Vec::new();
        {
            let _names = lock(&self.names);
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
        self.accounts.end();
        if let Err(error) = self.layout.mark_clean() {
            tracing::warn!(%error, "the store is closed, but cannot be marked so; the next start checks it");
        }
    }
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
