//! A directory of records.

use crate::{Record, StoreError};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

/// Whether a write waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Survives the end of the process; a power cut may lose it.
    Process,
    /// Survives a power cut: the file and its directory are synced.
    Power,
}

/// A file that is no record; it has been moved aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRecord {
    /// The record's name: its file's name without `.json`.
    pub name: String,
    /// Where the file is now; its old place if it could not be moved.
    pub moved_to: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

/// What [`RecordDir::load_all`] found.
#[derive(Debug)]
pub struct Loaded<T> {
    /// Good records with their names, in the order of the names.
    pub records: Vec<(String, T)>,
    /// Files that are none.
    pub bad: Vec<BadRecord>,
}

/// One JSON file per object of type `T`. Calls block on the disk.
pub struct RecordDir<T> {
    path: PathBuf,
    kind: PhantomData<fn() -> T>,
}

impl<T: Record> RecordDir<T> {
    /// Opens a directory, making it (mode 0700) where it does not exist.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let _ = path;
        todo!()
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a record, replacing the one of that name.
    pub fn put(&self, name: &str, record: &T, durability: Durability) -> Result<(), StoreError> {
        let _ = (name, record, durability, &self.kind);
        todo!()
    }

    /// Reads one record; `None`: there is none.
    pub fn get(&self, name: &str) -> Result<Option<T>, StoreError> {
        let _ = name;
        todo!()
    }

    /// Removes a record; that there is none is no error.
    pub fn remove(&self, name: &str) -> Result<(), StoreError> {
        let _ = name;
        todo!()
    }

    /// Reads all records. Files that are none are moved to `bad/` beneath the directory, so that
    /// they are reported once and can be looked at.
    pub fn load_all(&self) -> Result<Loaded<T>, StoreError> {
        todo!()
    }
}
