//! Namespaces by descriptor.

use crate::error::{Context, Result};
use crate::process::Namespaces;
use rustix::fs::{Mode, OFlags};
use std::os::fd::OwnedFd;
use std::path::Path;

/// Opens a namespace file, as `/proc/<pid>/ns/net` or a pinned one.
pub fn open(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())
        .context("open namespace", || path.display().to_string())
}

/// Gives this thread a cgroup namespace with its present groups as the root.
pub fn unshare_cgroup() -> Result<()> {
    unshare(Namespaces::CGROUP)
}

/// Gives this thread an empty network namespace, which ends with the thread.
pub fn unshare_network() -> Result<()> {
    unshare(Namespaces::NET)
}

/// Gives this thread new namespaces.
#[expect(unsafe_code, reason = "unshare has effects that rustix calls unsafe")]
fn unshare(namespaces: Namespaces) -> Result<()> {
    // SAFETY: namespaces only; descriptors and file system state stay shared.
    let result = unsafe { libc::unshare(namespaces.0 as libc::c_int) };
    if result < 0 {
        return Err(crate::error::Error::last("unshare", format!("{:#x}", namespaces.0)));
    }
    Ok(())
}
