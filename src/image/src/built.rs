//! What a builder puts into the store: layers made here instead of pulled, the images of them, and
//! the record of which step made which layer.

use crate::disk::{ImageRecord, LayerMeta, TempDir, io_error};
use crate::inner::Inner;
use crate::state::{full_name, stack_paths};
use crate::unpack::copy_attributes;
use crate::{ImageStore, Layer, StoreError};
use orlop_model::{Digest, Reference};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

/// A layer that is being made over others. Dropped without [`Draft::commit`], it is removed.
pub struct Draft {
    inner: Arc<Inner>,
    temp: TempDir,
    /// Names of the snapshots below, lowest first.
    below: Vec<Digest>,
    /// Seconds and nanoseconds.
    begun: (i64, i64),
}

/// What a finished layer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Digest of the layer's archive.
    pub diff_id: Digest,
    /// Name of the chain of layers up to this one.
    pub chain: Digest,
    /// Bytes of the archive.
    pub size: u64,
    /// Members of the archive.
    pub entries: u64,
    /// Directories that are in the tree only because something below them changed: the archive
    /// does not have them.
    pub adopted: u64,
}

/// Which layer a step of a build made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedStep {
    /// Format of this record.
    pub version: u32,
    /// Digest over all that the step's result depends on.
    pub key: Digest,
    /// The layer; `None` where the step changed nothing.
    pub layer: Layer,
    /// Snapshots below it, lowest first; without them it cannot be used.
    pub below: Vec<Digest>,
    /// The parts of the key, by name, to tell what differed.
    pub parts: Vec<(String, Digest)>,
    /// What the step is, to find the one that was made before.
    pub step: String,
    /// Seconds since 1970 when it was last used.
    pub used: u64,
}

impl CachedStep {
    /// Form of the record.
    pub const VERSION: u32 = 1;
}

impl Draft {
    /// The directory of the layer, with overlayfs' marks for what is removed.
    pub fn upper(&self) -> PathBuf {
        self.temp.path().join("fs")
    }

    /// The work directory of an overlay mount of the layer.
    pub fn work(&self) -> PathBuf {
        self.temp.path().join("work")
    }

    /// Directories of the layers below, top first; never empty.
    pub fn lower(&self) -> Vec<PathBuf> {
        stack_paths(&self.inner, &self.below).0
    }

    /// The layer over those below, writable, as a mount that is in no tree.
    pub fn mount(&self) -> io::Result<OwnedFd> {
        let (upper, work) = (self.upper(), self.work());
        let mounted = orlop_sys::mount::overlay(
            &self.lower(),
            Some((upper.as_path(), work.as_path())),
            &["index=off", "metacopy=off", "redirect_dir=off"],
            0,
        );
        mounted.map_err(|error| io::Error::other(error.to_string()))
    }

    /// When the draft was made, by the clock that its files are stamped with: seconds since 1970
    /// and nanoseconds.
    pub fn begun(&self) -> (i64, i64) {
        self.begun
    }

    /// Names of the snapshots below, lowest first.
    pub fn below(&self) -> &[Digest] {
        &self.below
    }

    /// Gives the layer its name. All mounts of it must be gone. The layer is held until
    /// [`ImageStore::release_layers`]; its data are durable with the next image or record.
    pub fn commit(self, finished: &Finished) -> Result<Layer, StoreError> {
        let path = self.temp.path().to_owned();
        let work = self.work();
        crate::disk::remove_tree(&work).map_err(io_error("remove", &work))?;
        let counts = crate::disk::count(&self.upper()).map_err(io_error("count", &path))?;
        let meta = LayerMeta {
            version: LayerMeta::VERSION,
            diff_id: finished.diff_id.clone(),
            entries: finished.entries,
            bytes: counts.bytes,
            inodes: counts.inodes,
            adopted: finished.adopted,
            root_described: false,
            opaque_root: false,
            epoch: self.inner.epoch,
        };
        // With directories of the layers below in it, the tree is good above these only.
        let name = if finished.adopted == 0 { &finished.diff_id } else { &finished.chain };
        self.inner.state().hold(std::slice::from_ref(name));
        self.temp.seal(&meta).map_err(io_error("seal", &path))?;
        let named = self.inner.commit_layer(self.temp, name, meta, None);
        if let Err(source) = named {
            self.inner.state().release(std::slice::from_ref(name));
            return Err(StoreError::Io { op: "name the layer", path, source });
        }
        Ok(Layer {
            diff_id: finished.diff_id.clone(),
            // The archive is written when someone asks for it; until then it is its own blob.
            blob: finished.diff_id.clone(),
            blob_size: finished.size,
            snapshot: name.clone(),
        })
    }
}

impl ImageStore {
    /// Begins a layer over these snapshots (lowest first). Blocking.
    pub fn draft(&self, below: &[Digest]) -> Result<Draft, StoreError> {
        let inner = self.shared();
        let failed = || io_error("make a layer in", &inner.layout.root);
        let (temp, upper) = inner.layout.incoming().map_err(|e| failed()(e))?;
        let work = temp.path().join("work");
        std::fs::DirBuilder::new().mode(0o700).create(&work).map_err(|e| failed()(e))?;
        // The upper directory is the root that everyone sees.
        if let Some(root) = stack_paths(inner, below).1 {
            let root = orlop_sys::fs::open_dir(root).map_err(|e| failed()(e))?;
            copy_attributes(root.as_fd(), upper.as_fd()).map_err(|e| failed()(e))?;
        }
        let stat = rustix::fs::stat(&work).map_err(|e| failed()(e.into()))?;
        let begun = (stat.st_ctime as i64, stat.st_ctime_nsec as i64);
        Ok(Draft { inner: inner.clone(), temp, below: below.to_vec(), begun })
    }

    /// The layers (lowest first) as one tree, read-only, as a mount that is in no tree.
    pub fn view(&self, snapshots: &[Digest]) -> io::Result<OwnedFd> {
        let (lower, _) = stack_paths(self.shared(), snapshots);
        let mounted = match lower.as_slice() {
            // Overlayfs wants two directories where it has nothing to write to.
            [only] => {
                return orlop_sys::fs::open_dir(only);
            }
            many => orlop_sys::mount::overlay::<PathBuf>(many, None, &[], 0),
        };
        mounted.map_err(|error| io::Error::other(error.to_string()))
    }

    /// Directories of these snapshots for an overlay mount, top first; never empty.
    pub fn lower(&self, snapshots: &[Digest]) -> Vec<PathBuf> {
        stack_paths(self.shared(), snapshots).0
    }

    /// Keeps garbage collection from these snapshots until they are released.
    pub fn hold_layers(&self, snapshots: &[Digest]) {
        self.shared().state().hold(snapshots);
    }

    /// Lets go of what was held.
    pub fn release_layers(&self, snapshots: &[Digest]) {
        self.shared().state().release(snapshots);
    }

    /// A blob of the store: a configuration, a manifest, a layer as it was pulled.
    pub fn open_blob(&self, digest: &Digest) -> io::Result<File> {
        File::open(self.shared().layout.blob(digest))
    }

    /// Makes an image of a configuration and layers that are in the store, under these names, which
    /// it takes from the images that have them. Blocking; everything is durable when it returns.
    pub fn commit_built(
        &self,
        config: &[u8],
        layers: Vec<Layer>,
        names: &[Reference],
    ) -> Result<Digest, StoreError> {
        let inner = self.shared();
        let id = crate::registry::sha256(config);
        let parsed = crate::registry::Config::parse(config, layers.len())
            .map_err(|error| StoreError::Index(format!("configuration of {id}: {error}")))?;
        let root = &inner.layout.root;
        let write = || {
            let (temp, mut file) = inner.layout.ingest()?;
            file.write_all(config)?;
            file.sync_data()?;
            inner.syncer.sync()?;
            io::Result::Ok(temp)
        };
        let temp = write().map_err(io_error("write the image to", root))?;
        let record = ImageRecord {
            version: ImageRecord::VERSION,
            id: id.clone(),
            tags: names.iter().map(full_name).collect(),
            digests: Vec::new(),
            layers,
            manifests: Vec::new(),
            signatures: Vec::new(),
        };
        inner.commit_image(vec![(temp, id.clone(), config.len() as u64)], record, &parsed)?;
        Ok(id)
    }

    /// The step with this key, if its layer is still here.
    pub fn cached_step(&self, key: &Digest) -> Option<CachedStep> {
        let state = self.shared().state();
        let step = state.steps.get(key)?;
        let whole = std::iter::once(&step.layer.snapshot).chain(&step.below);
        whole.into_iter().all(|name| state.layers.contains_key(name)).then(|| step.clone())
    }

    /// The step that was last made of what is called `step`, to tell what differs now.
    pub fn last_step(&self, step: &str) -> Option<CachedStep> {
        let state = self.shared().state();
        let same = state.steps.values().filter(|known| known.step == step);
        same.max_by_key(|known| known.used).cloned()
    }

    /// Remembers steps. Their layers are made durable first. Blocking.
    pub fn remember_steps(&self, steps: Vec<CachedStep>) -> Result<(), StoreError> {
        if steps.is_empty() {
            return Ok(());
        }
        let inner = self.shared();
        inner.syncer.sync().map_err(io_error("sync", &inner.layout.root))?;
        inner.layout.sync_names().map_err(io_error("sync", &inner.layout.root))?;
        inner.steps.change(&steps, &[])?;
        let known = steps.into_iter().map(|step| (step.key.clone(), step));
        inner.state().steps.extend(known);
        Ok(())
    }

    /// Notes that steps were used, where that was not noted within the last `grain` seconds.
    /// Blocking.
    pub fn touch_steps(&self, keys: &[Digest], now: u64, grain: u64) -> Result<(), StoreError> {
        let inner = self.shared();
        let mut old: Vec<CachedStep> = {
            let state = inner.state();
            let known = keys.iter().filter_map(|key| state.steps.get(key));
            known.filter(|step| step.used.saturating_add(grain) < now).cloned().collect()
        };
        if old.is_empty() {
            return Ok(());
        }
        for step in &mut old {
            step.used = now;
        }
        inner.steps.change(&old, &[])?;
        inner.state().steps.extend(old.into_iter().map(|step| (step.key.clone(), step)));
        Ok(())
    }

    /// Bytes of the layers that steps keep, each counted once.
    pub fn steps_bytes(&self) -> u64 {
        let state = self.shared().state();
        let names: std::collections::HashSet<&Digest> =
            state.steps.values().map(|step| &step.layer.snapshot).collect();
        names.into_iter().filter_map(|name| state.layers.get(name)).map(|meta| meta.bytes).sum()
    }

    /// Forgets the steps that were not used for longest until their layers take no more than
    /// `bytes`, and removes what nothing else needs. Returns how many were forgotten. Blocking.
    pub fn prune_steps(&self, bytes: u64) -> Result<usize, StoreError> {
        let inner = self.shared();
        let forgotten: Vec<Digest> = {
            let state = inner.state();
            let mut steps: Vec<_> = state.steps.values().collect();
            steps.sort_by_key(|step| std::cmp::Reverse(step.used));
            let mut seen = std::collections::HashSet::new();
            let mut total = 0u64;
            let over = |step: &&CachedStep| {
                if seen.insert(step.layer.snapshot.clone()) {
                    total += state.layers.get(&step.layer.snapshot).map_or(0, |meta| meta.bytes);
                }
                total > bytes || bytes == 0
            };
            steps.into_iter().filter(over).map(|step| step.key.clone()).collect()
        };
        let count = forgotten.len();
        inner.steps.change(&[], &forgotten)?;
        inner.state().steps.retain(|key, _| !forgotten.contains(key));
        inner.collect();
        Ok(count)
    }
}

/// Key of a step → [`CachedStep`] as JSON.
const STEPS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("steps");

/// The steps of builds on disk, beside the index of images: losing it costs reuse and nothing else.
pub(crate) struct StepIndex(Database);

impl StepIndex {
    /// Opens the index and reads it. One that cannot be read is made anew.
    pub(crate) fn open(root: &Path) -> Result<(Self, Vec<CachedStep>), StoreError> {
        let path = root.join("steps.redb");
        let text = |error: redb::Error| StoreError::Index(format!("{}: {error}", path.display()));
        match Self::try_open(&path) {
            Ok(opened) => Ok(opened),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the index of build steps is made anew");
                std::fs::remove_file(&path).map_err(|error| text(error.into()))?;
                Self::try_open(&path).map_err(text)
            }
        }
    }

    fn try_open(path: &Path) -> Result<(Self, Vec<CachedStep>), redb::Error> {
        let database = Database::builder().set_cache_size(1 << 20).create(path)?;
        let mut steps = Vec::new();
        let read = database.begin_read()?;
        match read.open_table(STEPS) {
            Err(redb::TableError::TableDoesNotExist(_)) => {}
            Err(error) => return Err(error.into()),
            Ok(table) => {
                for row in table.iter()? {
                    let step = serde_json::from_slice::<CachedStep>(row?.1.value());
                    // A row of another version costs its own reuse.
                    steps.extend(step.ok().filter(|step| step.version == CachedStep::VERSION));
                }
            }
        }
        drop(read);
        Ok((Self(database), steps))
    }

    /// Writes and removes steps in one durable change.
    fn change(&self, put: &[CachedStep], remove: &[Digest]) -> Result<(), StoreError> {
        let write = || {
            let transaction = self.0.begin_write()?;
            {
                let mut table = transaction.open_table(STEPS)?;
                for step in put {
                    let bytes = serde_json::to_vec(step).map_err(io::Error::other)?;
                    table.insert(step.key.as_str(), bytes.as_slice())?;
                }
                for key in remove {
                    table.remove(key.as_str())?;
                }
            }
            transaction.commit()?;
            Ok::<_, redb::Error>(())
        };
        write().map_err(|error| StoreError::Index(format!("steps of builds: {error}")))
    }
}
