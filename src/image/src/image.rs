//! Images and what containers get of them.

use oci_spec::image::ImageConfiguration;
use orlop_model::Digest;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One image in the store, as of the moment it was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// Digest of the image configuration; the same content from two registries has the same id.
    pub id: Digest,
    /// Full names with a tag, `docker.io/library/nginx:1.27`, oldest first.
    pub repo_tags: Vec<String>,
    /// Full names with the digest of the manifest (or list) that was pulled.
    pub repo_digests: Vec<String>,
    /// Bytes of configuration and unpacked layers together; never 0.
    pub size: u64,
    /// The image configuration, checked for size and form.
    pub config: ImageConfiguration,
    /// Layers, lowest first.
    pub layers: Vec<Layer>,
    /// Whether the kubelet's garbage collection must leave it.
    pub pinned: bool,
}

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Digest of the uncompressed archive.
    pub diff_id: Digest,
    /// Digest of the blob it was pulled as.
    pub blob: Digest,
    /// Bytes of the blob.
    pub blob_size: u64,
    /// Name of its directory among the snapshots.
    pub snapshot: Digest,
}

/// The directories of a container's root, for an overlay mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rootfs {
    /// Read-only layers, top first.
    pub lower: Vec<PathBuf>,
    /// The writable layer.
    pub upper: PathBuf,
    /// Work directory beside it.
    pub work: PathBuf,
}

/// What the store takes on disk: unpacked layers and blobs, from counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// The directory of the store.
    pub mountpoint: PathBuf,
    /// Bytes used.
    pub bytes: u64,
    /// Inodes used.
    pub inodes: u64,
}
