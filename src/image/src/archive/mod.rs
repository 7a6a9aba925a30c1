//! Images as files: OCI layouts and Docker archives, in and out, as streams.

mod export;
mod import;
mod spool;

pub(crate) use export::{export, manifest_of};
pub(crate) use import::import;

use crate::{PullErrorKind, StoreError};
use orlop_model::Digest;

/// An image that came with an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Its id.
    pub id: Digest,
    /// The names that it got.
    pub names: Vec<String>,
}

/// Why an archive could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// It is no archive of images, or a damaged one.
    #[error("the archive is not valid: {0}")]
    Malformed(String),
    /// An image in it is refused.
    #[error("image {image}: {kind}")]
    Image {
        /// Its name or digest.
        image: String,
        /// Why.
        kind: Box<PullErrorKind>,
    },
    /// Content that the image needs is not in the store.
    #[error(
        "image {image} cannot be written: its content {blob} is not in the store; remove the image and pull it again"
    )]
    Incomplete {
        /// Its id.
        image: Digest,
        /// What is not here.
        blob: Digest,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The stream failed.
    #[error("{op}: {source}")]
    Stream {
        /// Reading or writing.
        op: &'static str,
        /// Why.
        source: std::io::Error,
    },
}
