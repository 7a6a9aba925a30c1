//! Steps that make layers: reused by their key, or made once for all builds that need them.

use super::graph::Outcome;
use super::{Build, BuildError, Event, StepId};
use crate::Lines;
use crate::files::layer::{self, LayerSource};
use crate::key::{self, Key};
use orlop_image::{CachedStep, Draft, ImageStore, Layer, StoreError};
use orlop_model::Digest;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Steps that run now, and those that are not on the disk yet.
#[derive(Default)]
pub(crate) struct Steps {
    running: Mutex<HashSet<Digest>>,
    ended: Condvar,
    fresh: Mutex<HashMap<Digest, CachedStep>>,
    /// Those that were reused since the last flush.
    reused: Mutex<HashSet<Digest>>,
}

/// Seconds within which a step is not noted as used a second time: a build that reuses everything
/// writes nothing.
const GRAIN: u64 = 3600;

impl Steps {
    /// Waits until nobody makes this step, then makes it ours.
    fn claim<'a>(&'a self, key: &Digest) -> Claim<'a> {
        let mut running = lock(&self.running);
        while running.contains(key) {
            running = self.ended.wait(running).unwrap_or_else(PoisonError::into_inner);
        }
        running.insert(key.clone());
        Claim { steps: self, key: key.clone() }
    }

    fn known(&self, key: &Digest, store: &ImageStore) -> Option<CachedStep> {
        lock(&self.fresh).get(key).cloned().or_else(|| store.cached_step(key))
    }

    /// Writes what is new.
    pub(crate) fn flush(&self, store: &ImageStore) -> Result<(), StoreError> {
        let fresh: Vec<CachedStep> = lock(&self.fresh).values().cloned().collect();
        let snapshots: Vec<Digest> = fresh.iter().map(|step| step.layer.snapshot.clone()).collect();
        let keys: Vec<Digest> = fresh.iter().map(|step| step.key.clone()).collect();
        store.remember_steps(fresh)?;
        // From here on the records keep the layers.
        store.release_layers(&snapshots);
        lock(&self.fresh).retain(|key, _| !keys.contains(key));
        let reused: Vec<Digest> = lock(&self.reused).drain().collect();
        store.touch_steps(&reused, now(), GRAIN)
    }
}

struct Claim<'a> {
    steps: &'a Steps,
    key: Digest,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        lock(&self.steps.running).remove(&self.key);
        self.steps.ended.notify_all();
    }
}

/// How many processes may run at once.
pub(crate) struct Slots {
    free: Mutex<usize>,
    freed: Condvar,
}

impl Slots {
    pub(crate) fn new(count: usize) -> Self {
        Self { free: Mutex::new(count), freed: Condvar::new() }
    }

    pub(crate) fn take(&self) -> Slot<'_> {
        let mut free = lock(&self.free);
        while *free == 0 {
            free = self.freed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= 1;
        Slot(self)
    }
}

/// One of them.
pub(crate) struct Slot<'a>(&'a Slots);

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        *lock(&self.0.free) += 1;
        self.0.freed.notify_one();
    }
}

/// Numbers of steps, and how many were reused and made.
#[derive(Default)]
pub(crate) struct Counter {
    next: AtomicUsize,
    pub(crate) reused: AtomicUsize,
    pub(crate) made: AtomicUsize,
}

/// A step that makes a layer.
pub(crate) struct LayerStep<'s> {
    pub(crate) lines: Lines,
    /// What people call it.
    pub(crate) name: String,
    pub(crate) key: Key,
    /// Its layer does not depend on what is below (`--link`).
    pub(crate) linked: bool,
    /// Nothing may be reused.
    pub(crate) fresh: bool,
    /// Fills the layer.
    pub(crate) make: &'s mut dyn FnMut(&Draft, StepId) -> Result<(), BuildError>,
}

impl Build<'_> {
    pub(crate) fn begin(&self, name: &str) -> StepId {
        let id = self.counter.next.fetch_add(1, Ordering::Relaxed);
        self.progress.event(Event::Started { id, name: name.to_owned() });
        id
    }

    /// Reuses or makes the layer and puts it on the stage.
    pub(crate) fn layer(&self, stage: &mut Outcome, step: LayerStep<'_>) -> Result<(), BuildError> {
        if self.cancel.is_cancelled() {
            return Err(BuildError::Cancelled);
        }
        let started = Instant::now();
        let id = self.begin(&step.name);
        let lines = step.lines;
        let result = self.reuse_or_make(stage, step, id);
        match &result {
            Ok((_, cached)) => {
                let count = if *cached { &self.counter.reused } else { &self.counter.made };
                count.fetch_add(1, Ordering::Relaxed);
                self.progress.event(Event::Done { id, cached: *cached, took: started.elapsed() });
            }
            Err(error) => {
                self.progress.event(Event::Failed { id, error: error.to_string() });
            }
        }
        let (layer, _) = result.map_err(|error| match error {
            BuildError::Other(message) => BuildError::at(lines, message),
            other => other,
        })?;
        stage.chain = Some(key::chain(stage.chain.as_ref(), &layer.diff_id));
        stage.layers.push(layer);
        Ok(())
    }

    fn reuse_or_make(
        &self,
        stage: &Outcome,
        step: LayerStep<'_>,
        id: StepId,
    ) -> Result<(Layer, bool), BuildError> {
        let store = &self.engine.store;
        let digest = step.key.digest();
        let _claim = self.engine.steps.claim(&digest);
        let known = self.engine.steps.known(&digest, store);
        let usable = |known: &CachedStep| step.linked || known.below == stage.snapshots();
        if !step.fresh
            && let Some(known) = known.filter(usable)
        {
            lock(&self.engine.steps.reused).insert(digest);
            return Ok((known.layer, true));
        }
        let called = format!("{}: {}", self.request.dockerfile_name, step.name);
        if self.request.explain {
            self.explain(id, &step, &called);
        }
        let below = if step.linked { Vec::new() } else { stage.snapshots() };
        let failed = |error: StoreError| BuildError::at(step.lines, error);
        let draft = store.draft(&below).map_err(failed)?;
        (step.make)(&draft, id)?;
        let chain = stage.chain.as_ref().filter(|_| !step.linked);
        let layer = self.commit(draft, chain, step.lines)?;
        let cached = CachedStep {
            version: CachedStep::VERSION,
            key: digest.clone(),
            layer: layer.clone(),
            below,
            parts: step.key.parts,
            step: called,
            used: now(),
        };
        lock(&self.engine.steps.fresh).insert(digest, cached);
        Ok((layer, false))
    }

    fn commit(
        &self,
        draft: Draft,
        chain: Option<&Digest>,
        lines: Lines,
    ) -> Result<Layer, BuildError> {
        let failed = |error: std::io::Error| BuildError::at(lines, error);
        let upper = orlop_sys::fs::open_dir(draft.upper()).map_err(failed)?;
        let below = match draft.below() {
            [] => None,
            below => Some(self.engine.store.view(below).map_err(failed)?),
        };
        let source = LayerSource {
            upper: &upper,
            below: below.as_ref(),
            // When the draft was begun, by the clock that files are stamped with.
            started: draft.begun(),
            epoch: self.epoch,
        };
        let finished = layer::write(&source, chain, std::io::sink())
            .map_err(|error| BuildError::file(lines, error, None))?;
        drop(below);
        draft.commit(&finished).map_err(|error| BuildError::at(lines, error))
    }

    fn explain(&self, id: StepId, step: &LayerStep<'_>, called: &str) {
        let why = match self.engine.store.last_step(called) {
            _ if step.fresh => "reuse is switched off for it".to_owned(),
            None => "it was never made here before".to_owned(),
            Some(last) => match step.key.differences(&last.parts) {
                differ if differ.is_empty() => "the layers below it have changed".to_owned(),
                differ => format!("different since the last time: {}", differ.join(", ")),
            },
        };
        self.progress.event(Event::Missed { id, why });
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}
