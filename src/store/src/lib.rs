//! Records on disk: versioned, written atomically, migrated; one bad record harms one object.
//!
//! A [`RecordDir`] is a directory with one JSON file per object, `<name>.json`, in an envelope that
//! says what it is:
//!
//! ```json
//! {"version": 1, "kind": "container", "data": {}}
//! ```
//!
//! A record is written to a temporary name and renamed, so that a reader, or the next process after
//! a crash of this one, sees the old record or the new one and never a part of either.

mod dir;
mod envelope;

pub use dir::{BadRecord, Durability, Loaded, RecordDir};
pub use envelope::{Migration, Record};

use std::io;
use std::path::PathBuf;

/// Why a record could not be written, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A system call failed.
    #[error("{what} {path:?} failed")]
    Io {
        /// What was attempted.
        what: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The record cannot be expressed as JSON.
    #[error("record {name:?} cannot be written as JSON")]
    Encode {
        /// Name of the record.
        name: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A record's name would not be a plain file name.
    #[error(
        "record name {name:?} is not valid: use letters, digits, '-', '_' and '.', not starting with '.'"
    )]
    Name {
        /// What was given.
        name: String,
    },
}
