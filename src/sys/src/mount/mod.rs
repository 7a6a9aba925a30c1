//! Mounts by descriptor (the mount API of Linux 5.2 and later).

use crate::error::Result;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

/// An overlay of `lowers` (top first), with a writable layer when `upper` has the directories of
/// the layer and of its work space. Returned detached: nothing is attached to any tree yet.
pub fn overlay<P: AsRef<Path>>(_lowers: &[P], _upper: Option<(&Path, &Path)>, _options: &[&str]) -> Result<OwnedFd> {
    todo!()
}

/// A detached copy of the mount at `source`, `recursive` with what is mounted below.
pub fn clone_tree(_source: BorrowedFd<'_>, _recursive: bool) -> Result<OwnedFd> {
    todo!()
}

/// Attaches the detached mount at the directory or file `target`.
pub fn attach(_mount: BorrowedFd<'_>, _target: BorrowedFd<'_>) -> Result<()> {
    todo!()
}

/// Takes the mount at `target` out of the tree, at once, whoever still uses it.
pub fn detach(_target: &Path) -> Result<()> {
    todo!()
}
