//! Mounts by descriptor (the mount API of Linux 5.2 and later).
//!
//! A mount is made detached, gets its attributes while nobody sees it, and is then attached at a
//! descriptor: no path is resolved twice and no half-configured mount is ever visible.

mod attributes;
mod filesystem;
mod idmapped;
mod table;

pub use attributes::{Attributes, Propagation, set_attributes, set_idmap, set_propagation};
pub use filesystem::{Filesystem, overlay};
pub use idmapped::{Layers, Mapping, idmapped_overlay};
pub use table::{MountEntry, mount_table};

use crate::error::{Context, Result};
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// A detached copy of the mount at `source`, `recursive` with what is mounted below. The mount must
/// be in our own mount namespace.
pub fn clone_tree(source: impl AsFd, recursive: bool) -> Result<OwnedFd> {
    rustix::mount::open_tree(source, c"", tree_flags(recursive) | OpenTreeFlags::AT_EMPTY_PATH)
        .context("open_tree", || "by descriptor")
}

/// [`clone_tree`] of what is at `path` now; symbolic links are followed.
pub fn clone_path(path: &Path, recursive: bool) -> Result<OwnedFd> {
    rustix::mount::open_tree(CWD, path, tree_flags(recursive))
        .context("open_tree", || path.display().to_string())
}

fn tree_flags(recursive: bool) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive { flags | OpenTreeFlags::AT_RECURSIVE } else { flags }
}

/// Attaches the detached mount at the directory or file `target`.
pub fn attach(mount: impl AsFd, target: impl AsFd) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, c"", target, c"", flags)
        .context("move_mount", || "by descriptor")
}

/// Attaches the detached mount at a path that we own, such as a directory under `/run/orlop`.
pub fn attach_path(mount: impl AsFd, target: &Path) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(mount, c"", CWD, target, flags)
        .context("move_mount", || target.display().to_string())
}

/// Takes the mount at `target` out of the tree, at once, whoever still uses it.
pub fn detach(target: &Path) -> Result<()> {
    rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
        .context("umount", || target.display().to_string())
}

/// Makes the mount that `root` is the root of our root directory, and drops the old one with all
/// that is mounted in it.
pub fn pivot(root: impl AsFd) -> Result<()> {
    rustix::process::fchdir(root).context("fchdir", || "to the new root")?;
    // The old root is stacked on the new one, and is what "." then unmounts.
    rustix::process::pivot_root(c".", c".").context("pivot_root", || ".")?;
    rustix::mount::unmount(c".", UnmountFlags::DETACH).context("umount", || "of the old root")?;
    rustix::process::chdir(c"/").context("chdir", || "/")
}
