//! The room as a whole: against a real registry, and on the days when things go wrong.

mod archives;
mod bad_days;
mod crash;
mod credentials;
mod damage;
mod fake;
mod fetch;
mod inject;
mod mirrors;
mod names;
mod parallel;
mod parts;
mod pull;
mod registry;
mod signatures;
mod steps;

use crate::{ImageStore, Options, RegistryOptions};
use orlop_model::Reference;
use std::path::Path;
use std::time::Duration;

/// Options for tests: short pauses, the given root.
fn options(root: &Path) -> Options {
    Options {
        root: root.join("store"),
        registry: RegistryOptions {
            backoff: Duration::from_millis(1),
            retries: 3,
            // Not what this machine has.
            hosts_dirs: Vec::new(),
            ..RegistryOptions::default()
        },
        ..Options::default()
    }
}

fn open(root: &Path) -> ImageStore {
    ImageStore::open(options(root)).unwrap()
}

fn reference(text: &str) -> Reference {
    Reference::parse(text).unwrap()
}

/// Names of a directory's entries, sorted.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Nothing of any pull is left: no layer, no blob, nothing unfinished, no row.
fn assert_empty(root: &Path, store: &ImageStore) {
    let root = root.join("store");
    assert_eq!(names(&root.join("snapshots")), [""; 0]);
    assert_eq!(names(&root.join("content/ingest")), [""; 0]);
    assert_eq!(names(&root.join("content/blobs/sha256")), [""; 0]);
    assert!(store.list().is_empty());
    let usage = store.usage();
    assert_eq!((usage.bytes, usage.inodes), (0, 0));
}
