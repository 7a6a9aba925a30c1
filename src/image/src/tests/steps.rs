//! What is remembered of the steps of builds.

use super::open;
use crate::registry::sha256;
use crate::{CachedStep, Finished, ImageStore};

/// A step with a layer of its own, last used at that second.
fn step(store: &ImageStore, name: &str, used: u64) -> CachedStep {
    let draft = store.draft(&[]).unwrap();
    std::fs::write(draft.upper().join(name), vec![7; 64 << 10]).unwrap();
    let (diff_id, chain) = (sha256(name.as_bytes()), sha256(format!("on {name}").as_bytes()));
    let finished = Finished { diff_id, chain, size: 64 << 10, entries: 1, adopted: 0 };
    CachedStep {
        version: CachedStep::VERSION,
        key: sha256(format!("key of {name}").as_bytes()),
        layer: draft.commit(&finished).unwrap(),
        below: Vec::new(),
        parts: Vec::new(),
        step: name.to_owned(),
        used,
    }
}

#[test]
fn what_was_used_last_stays_longest() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path());
    let (old, new) = (step(&store, "old", 100), step(&store, "new", 200));
    let layers = [old.layer.snapshot.clone(), new.layer.snapshot.clone()];
    store.remember_steps(vec![old.clone(), new.clone()]).unwrap();
    store.release_layers(&layers);
    let both = store.steps_bytes();
    assert!(both >= 2 * (64 << 10), "{both}");

    // Within the grain nothing is written; after it the use counts, also for the next process.
    store.touch_steps(std::slice::from_ref(&old.key), 3000, 3600).unwrap();
    assert_eq!(store.cached_step(&old.key).unwrap().used, 100);
    store.touch_steps(std::slice::from_ref(&old.key), 5000, 3600).unwrap();
    drop(store);
    let store = open(temp.path());
    assert_eq!(store.cached_step(&old.key).unwrap().used, 5000);

    assert_eq!(store.prune_steps(both).unwrap(), 0);
    assert_eq!(store.prune_steps(both - 1).unwrap(), 1);
    assert!(store.cached_step(&old.key).is_some() && store.cached_step(&new.key).is_none());
    assert_eq!(super::names(&temp.path().join("store/snapshots")).len(), 1);
    assert_eq!(store.prune_steps(0).unwrap(), 1);
    assert_eq!(super::names(&temp.path().join("store/snapshots")).len(), 0);
}
