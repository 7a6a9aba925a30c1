//! A copy of a program in memory that nobody can change any more.

use crate::error::Result;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Copies the file at `path` into an executable memory file and seals it against every change,
/// so that no container can reach the file on disk through `/proc/<pid>/exe`.
pub fn sealed_copy(_path: &Path) -> Result<OwnedFd> {
    todo!()
}
