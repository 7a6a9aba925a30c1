//! Changes of the index, in one order for all: what waits is written together by whoever comes
//! first, so that many pulls that end at once share one sync of the disk. No lock is held over it.

use crate::disk::{ImageRecord, Index, crash_point};
use crate::inner::Inner;
use crate::state::{Known, State, full_name};
use crate::{Layer, StoreError};
use oci_spec::image::ImageConfiguration;
use orlop_model::{Digest, Reference};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What is to become of rows.
pub(crate) enum Change {
    /// An image whose content is in place; it takes its names from whoever has them.
    Put { record: ImageRecord, config: Box<ImageConfiguration> },
    /// An image goes, with all its names.
    Remove { id: Digest },
    /// A name goes; the image stays.
    Untag { name: String },
    /// An image gets a further name, which whoever had it loses.
    Tag { id: Digest, name: Reference },
}

/// What a change makes of rows and memory.
#[derive(Default)]
struct Plan {
    put: Vec<Known>,
    remove: Vec<Digest>,
}

/// The index and those who wait for it.
pub(crate) struct Rows {
    queue: Mutex<Queue>,
    changed: Condvar,
}

struct Queue {
    next: u64,
    waiting: VecDeque<(u64, Change)>,
    done: HashMap<u64, Result<bool, StoreError>>,
    /// With whoever writes; else here.
    index: Option<Index>,
}

impl Rows {
    pub(crate) fn new(index: Index) -> Self {
        let queue =
            Queue { next: 0, waiting: VecDeque::new(), done: HashMap::new(), index: Some(index) };
        Self { queue: Mutex::new(queue), changed: Condvar::new() }
    }

    /// Removes a row that describes nothing. Only while the store is opened.
    pub(crate) fn discard(&self, id: &Digest) -> Result<(), StoreError> {
        let queue = self.lock();
        let Some(index) = &queue.index else { return Ok(()) };
        index.change(&[], &[id]).map_err(index_error)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when the change is durable and seen in memory; `false` where there was nothing to
    /// change. Blocking.
    pub(crate) fn apply(&self, inner: &Inner, change: Change) -> Result<bool, StoreError> {
        let mut queue = self.lock();
        let ticket = queue.next;
        queue.next += 1;
        queue.waiting.push_back((ticket, change));
        loop {
            if let Some(result) = queue.done.remove(&ticket) {
                return result;
            }
            let Some(index) = queue.index.take() else {
                queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let batch = std::mem::take(&mut queue.waiting);
            drop(queue);
            Lead { rows: self, index: Some(index), batch, done: Vec::new() }.run(inner);
            queue = self.lock();
        }
    }
}

/// One round of writing. Whatever happens, the index goes back and everybody gets an answer.
struct Lead<'a> {
    rows: &'a Rows,
    index: Option<Index>,
    batch: VecDeque<(u64, Change)>,
    done: Vec<(u64, Result<bool, StoreError>)>,
}

impl Lead<'_> {
    fn run(mut self, inner: &Inner) {
        let (mut plan, mut members, mut touched) = (Plan::default(), Vec::new(), HashSet::new());
        let (mut later, mut puts) = (VecDeque::new(), false);
        while let Some((ticket, change)) = self.batch.pop_front() {
            let made = Plan::of(&change, &inner.state(), &inner.options.pinned);
            match made {
                Err(error) => self.done.push((ticket, Err(error))),
                Ok(None) if later.is_empty() => self.done.push((ticket, Ok(false))),
                // Two changes of one image or name are for two rounds: the second builds on the first.
                Ok(made)
                    if !later.is_empty() || made.as_ref().is_some_and(|m| m.meets(&touched)) =>
                {
                    later.push_back((ticket, change));
                }
                Ok(made) => {
                    let made = made.unwrap_or_default();
                    made.touch(&mut touched);
                    puts |= matches!(change, Change::Put { .. });
                    plan.put.extend(made.put);
                    plan.remove.extend(made.remove);
                    members.push(ticket);
                }
            }
        }
        self.batch = later;
        let written = self.write(inner, &plan, puts);
        if written.is_ok() {
            let mut state = inner.state();
            for id in &plan.remove {
                state.forget(id);
            }
            for known in plan.put {
                state.insert(known);
            }
        }
        for ticket in members {
            let result = match &written {
                Ok(()) => Ok(true),
                Err(error) => Err(again(error)),
            };
            self.done.push((ticket, result));
        }
    }

    /// Names durable, then rows.
    fn write(&self, inner: &Inner, plan: &Plan, puts: bool) -> Result<(), StoreError> {
        if plan.put.is_empty() && plan.remove.is_empty() {
            return Ok(());
        }
        if puts {
            let synced = inner.layout.sync_names();
            synced.map_err(crate::disk::io_error("sync the names in", &inner.layout.root))?;
            crash_point("names-synced");
        }
        let Some(index) = &self.index else { return Err(StoreError::Index("closed".into())) };
        let put: Vec<&ImageRecord> = plan.put.iter().map(|known| &known.record).collect();
        let remove: Vec<&Digest> = plan.remove.iter().collect();
        index.change(&put, &remove).map_err(index_error)?;
        crash_point(if puts { "row-written" } else { "row-removed" });
        Ok(())
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        let mut queue = self.rows.lock();
        queue.index = self.index.take();
        for change in std::mem::take(&mut self.batch).into_iter().rev() {
            queue.waiting.push_front(change);
        }
        queue.done.extend(std::mem::take(&mut self.done));
        drop(queue);
        self.rows.changed.notify_all();
    }
}

impl Plan {
    /// `None`: nothing to do.
    fn of(change: &Change, state: &State, pinned: &[String]) -> Result<Option<Self>, StoreError> {
        let plan = match change {
            Change::Put { record, config } => {
                let merged = merge(state, record.clone());
                let known = state.view(merged, (**config).clone(), pinned).ok_or_else(|| {
                    let id = &record.id;
                    StoreError::Index(format!("a layer of image {id} vanished during its pull"))
                })?;
                let mut put = losers(state, record, pinned);
                put.push(known);
                Self { put, remove: Vec::new() }
            }
            Change::Remove { id } => {
                if !state.images.contains_key(id) {
                    return Ok(None);
                }
                Self { put: Vec::new(), remove: vec![id.clone()] }
            }
            Change::Untag { name } => {
                let Some(known) = state.owner(name) else { return Ok(None) };
                let mut record = known.record.clone();
                record.tags.retain(|tag| tag != name);
                record.digests.retain(|digest| digest != name);
                let config = known.image.config.clone();
                Self {
                    put: state.view(record, config, pinned).into_iter().collect(),
                    remove: vec![],
                }
            }
            Change::Tag { id, name } => {
                let missing = || StoreError::NotFound { image: id.to_string() };
                let known = state.images.get(id).ok_or_else(missing)?;
                let name = full_name(name);
                if known.record.tags.contains(&name) {
                    return Ok(None);
                }
                let mut record = known.record.clone();
                record.tags.push(name);
                let mut put = losers(state, &record, pinned);
                put.extend(state.view(record, known.image.config.clone(), pinned));
                Self { put, remove: Vec::new() }
            }
        };
        Ok(Some(plan))
    }

    fn marks(&self) -> impl Iterator<Item = &str> {
        let names = self.put.iter().flat_map(|known| {
            let record = &known.record;
            record.tags.iter().chain(&record.digests).map(String::as_str)
        });
        let ids = self.put.iter().map(|known| known.record.id.as_str());
        names.chain(ids).chain(self.remove.iter().map(Digest::as_str))
    }

    fn meets(&self, touched: &HashSet<String>) -> bool {
        self.marks().any(|mark| touched.contains(mark))
    }

    fn touch(&self, touched: &mut HashSet<String>) {
        touched.extend(self.marks().map(str::to_owned));
    }
}

/// The same error for another one who waited.
fn again(error: &StoreError) -> StoreError {
    match error {
        StoreError::Io { op, path, source } => StoreError::Io {
            op,
            path: path.clone(),
            source: match source.raw_os_error() {
                Some(errno) => std::io::Error::from_raw_os_error(errno),
                None => std::io::Error::new(source.kind(), source.to_string()),
            },
        },
        other => StoreError::Index(other.to_string()),
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
    // The newest first: it is the one that goes out.
    let older = merged.manifests.into_iter().filter(|known| !new.manifests.contains(known));
    merged.manifests = new.manifests.iter().cloned().chain(older).collect();
    // A build that made the same image again has no blobs for its layers; what is here stays.
    let known = |layer: Layer| match old.layers.iter().find(|o| o.snapshot == layer.snapshot) {
        Some(old) if layer.blob == layer.diff_id => old.clone(),
        _ => layer,
    };
    merged.layers = new.layers.into_iter().map(known).collect();
    for signature in new.signatures {
        if !merged.signatures.contains(&signature) {
            merged.signatures.push(signature);
        }
    }
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
