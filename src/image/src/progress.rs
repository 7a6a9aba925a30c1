//! What a pull tells while it runs.

use orlop_model::Digest;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// Called by the pull for every change; must return at once.
pub type Progress = Arc<dyn Fn(ProgressEvent) + Send + Sync>;

/// One change of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProgressEvent {
    /// The manifest is known: how many layers and compressed bytes there are.
    Resolved {
        /// Config digest.
        image: Digest,
        /// Layers of the image.
        layers: usize,
        /// Sum of their compressed sizes in bytes.
        bytes: u64,
    },
    /// A layer moved on.
    Layer {
        /// Digest of its blob.
        blob: Digest,
        /// What it does now.
        state: LayerState,
    },
}

/// Where a layer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerState {
    /// Was in the store before.
    Present,
    /// So many compressed bytes have been fetched and unpacked.
    Fetching {
        /// Bytes so far.
        done: u64,
        /// Bytes of the blob.
        total: u64,
    },
    /// So many bytes have been sent to a registry.
    Sending {
        /// Bytes so far.
        done: u64,
        /// Bytes of the blob.
        total: u64,
    },
    /// Unpacked and durable, or where it was sent to.
    Done,
}

/// A pull that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningPull {
    /// What is pulled.
    pub reference: String,
    /// When it started.
    pub since: SystemTime,
    /// Layers of the image; 0 until its manifest is known.
    pub layers: usize,
    /// Layers that are unpacked and durable.
    pub layers_done: usize,
    /// Compressed bytes of the image.
    pub bytes: u64,
    /// How many of them have been fetched.
    pub bytes_done: u64,
}

/// All running pulls, for those who want to look.
#[derive(Default)]
pub(crate) struct Running(Mutex<BTreeMap<u64, Arc<Mutex<Tracked>>>>);

struct Tracked {
    pull: RunningPull,
    /// Bytes by layer.
    fetched: BTreeMap<Digest, u64>,
    /// The last event about the whole and about each layer, for those who come later.
    head: Option<ProgressEvent>,
    layers: BTreeMap<Digest, ProgressEvent>,
    /// Those who joined the pull.
    followers: Vec<Progress>,
}

/// Follows one pull; it is off the list when this is dropped.
pub(crate) struct Track<'a> {
    running: &'a Running,
    key: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Running {
    pub(crate) fn list(&self) -> Vec<RunningPull> {
        lock(&self.0).values().map(|tracked| lock(tracked).pull.clone()).collect()
    }

    /// Tells somebody who joined a running pull what happened so far, and from now on.
    pub(crate) fn follow(&self, reference: &str, progress: Progress) {
        let all = lock(&self.0);
        let Some(tracked) = all.values().rfind(|one| lock(one).pull.reference == reference) else {
            return;
        };
        let mut tracked = lock(tracked);
        tracked
            .head
            .iter()
            .chain(tracked.layers.values())
            .for_each(|event| progress(event.clone()));
        tracked.followers.push(progress);
    }

    /// Puts a pull on the list; the listener keeps its numbers.
    pub(crate) fn track(&self, reference: String) -> (Track<'_>, Progress) {
        let pull = RunningPull {
            reference,
            since: SystemTime::now(),
            layers: 0,
            layers_done: 0,
            bytes: 0,
            bytes_done: 0,
        };
        let tracked = Tracked {
            pull,
            fetched: BTreeMap::new(),
            head: None,
            layers: BTreeMap::new(),
            followers: Vec::new(),
        };
        let tracked = Arc::new(Mutex::new(tracked));
        let mut all = lock(&self.0);
        let key = all.last_key_value().map_or(0, |(last, _)| last + 1);
        all.insert(key, tracked.clone());
        let listener: Progress = Arc::new(move |event| lock(&tracked).note(event));
        (Track { running: self, key }, listener)
    }
}

impl Drop for Track<'_> {
    fn drop(&mut self) {
        lock(&self.running.0).remove(&self.key);
    }
}

impl Tracked {
    fn note(&mut self, event: ProgressEvent) {
        self.followers.iter().for_each(|follower| follower(event.clone()));
        match &event {
            ProgressEvent::Resolved { .. } => self.head = Some(event.clone()),
            ProgressEvent::Layer { blob, .. } => {
                self.layers.insert(blob.clone(), event.clone());
            }
        }
        match event {
            ProgressEvent::Resolved { layers, bytes, .. } => {
                (self.pull.layers, self.pull.bytes) = (layers, bytes);
            }
            ProgressEvent::Layer { state: LayerState::Done | LayerState::Present, .. } => {
                self.pull.layers_done += 1;
            }
            ProgressEvent::Layer {
                blob,
                state: LayerState::Fetching { done, .. } | LayerState::Sending { done, .. },
            } => {
                self.fetched.insert(blob, done);
                self.pull.bytes_done = self.fetched.values().sum();
            }
        }
    }
}
