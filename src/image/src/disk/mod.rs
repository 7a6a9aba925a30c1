//! The store's files: where they lie, how they come and go. What is true is decided by the order
//! of writing: data, then name, then row.
//!
//! ```text
//! content/blobs/sha256/<hex>      blobs as the registry served them
//! content/ingest/tmp-*            blobs on their way in
//! snapshots/<hex>/fs              an unpacked layer, for overlayfs
//! snapshots/<hex>/meta.json       its counts, written before the directory got its name
//! snapshots/tmp-*                 layers on their way in or out
//! writable/<key>/{upper,work}     a container's writable layer
//! leases/<key>.json               which layers that container needs
//! images.redb                     the index
//! lock, clean, epoch              who has the store; whether it was closed in order, how often
//! ```

mod check;
mod index;
mod layout;
mod sync;
mod tree;

pub(crate) use check::{count, difference, miscounted};
pub(crate) use index::{ImageRecord, Index};
pub(crate) use layout::{Layout, TempDir, TempFile, io_error};
pub(crate) use sync::Syncer;
pub(crate) use tree::remove_tree;

use serde::{Deserialize, Serialize};

/// What a layer's directory holds, sealed beside it. Also its entry in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerMeta {
    /// Format of this file.
    pub(crate) version: u32,
    /// Digest of the uncompressed archive.
    pub(crate) diff_id: orlop_model::Digest,
    /// Members of the archive.
    pub(crate) entries: u64,
    /// Bytes of all files.
    pub(crate) bytes: u64,
    /// Inodes.
    pub(crate) inodes: u64,
    /// Directories whose attributes were taken from the layers below: where there are any, the
    /// directory is only good above these layers, and is named by the chain instead of the layer.
    pub(crate) adopted: u64,
    /// Whether the archive describes its root, and with it the root of a container.
    pub(crate) root_described: bool,
    /// Whether it hides all layers below; overlayfs has to be told by leaving those out.
    pub(crate) opaque_root: bool,
    /// Which clean stop it came after; those after the last one are looked at after an unclean one.
    #[serde(default)]
    pub(crate) epoch: u64,
}

impl LayerMeta {
    pub(crate) const VERSION: u32 = 1;
}

/// A place where a test ends the process to see what a start after it finds.
#[cfg(test)]
pub(crate) fn crash_point(name: &str) {
    use std::sync::OnceLock;
    static AT: OnceLock<Option<String>> = OnceLock::new();
    if AT.get_or_init(|| std::env::var("ORLOP_TEST_CRASH_AT").ok()).as_deref() == Some(name) {
        std::process::abort();
    }
}

/// Nothing outside tests.
#[cfg(not(test))]
pub(crate) fn crash_point(_name: &str) {}
