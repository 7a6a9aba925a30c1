//! A layer's tar stream becomes a directory for overlayfs. The stream is hostile: everything is
//! done by descriptors below the destination and no symbolic link is ever followed.

mod error;
mod limits;

use std::io::Read;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

pub use error::UnpackError;
pub use limits::Limits;

/// What a layer turned out to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Members of the archive that were applied (whiteouts included).
    pub entries: u64,
    /// Sum of the sizes of all regular files, in bytes as a reader of the files sees them.
    pub bytes: u64,
    /// Inodes made in the destination: hard links count once.
    pub inodes: u64,
    /// Directories that no member of the archive describes but that a member lies in, relative to
    /// the destination, parents before children. They were made 0755 root:root; see
    /// [`adopt_parents`].
    pub implicit_dirs: Vec<PathBuf>,
}

/// Unpacks the uncompressed tar stream of one layer into the empty directory `dest`.
/// Reads to the end of the stream, so that a digest computed over it is complete.
/// Nothing is durable yet when this returns: call [`sync_tree`].
pub fn unpack_layer(
    tar: impl Read,
    dest: BorrowedFd<'_>,
    limits: &Limits,
) -> Result<Unpacked, UnpackError> {
    let _ = (tar, dest, limits);
    todo!()
}

/// Gives the directories that the layer only implies (`Unpacked::implicit_dirs`) the mode, owner,
/// modification time and extended attributes that the same directory has in the layers below,
/// topmost first; overlayfs shows the attributes of the topmost directory, so that without this a
/// layer that only adds `/tmp/x` would change the mode of `/tmp`.
pub fn adopt_parents(
    layer: BorrowedFd<'_>,
    lower: &[BorrowedFd<'_>],
    implicit: &[PathBuf],
) -> Result<(), UnpackError> {
    let _ = (layer, lower, implicit);
    todo!()
}

/// Makes an unpacked tree durable: data and names.
pub fn sync_tree(dest: BorrowedFd<'_>) -> Result<(), UnpackError> {
    orlop_sys::fs::sync_fs(dest).map_err(|source| UnpackError::io("sync", ".", source))
}
