//! What a pull tells while it runs.

use orlop_model::Digest;
use std::sync::Arc;

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
    /// Unpacked and durable.
    Done,
}
