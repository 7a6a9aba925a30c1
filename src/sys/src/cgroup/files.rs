//! Reading and writing the small files of a group.

use crate::error::{Context, Error, Result};
use rustix::fs::{Mode, OFlags};
use std::path::Path;

/// Writes `value` in one call, as the kernel parses it.
pub(super) fn write(dir: &Path, file: &str, value: &str) -> Result<()> {
    let path = dir.join(file);
    let name = || format!("{} ({value})", path.display());
    let fd = rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .context("write", name)?;
    rustix::io::write(&fd, value.as_bytes()).map(drop).context("write", name)
}

pub(super) fn read(dir: &Path, file: &str) -> Result<String> {
    let path = dir.join(file);
    std::fs::read_to_string(&path).context("read", || path.display().to_string())
}

/// A file with one number; `max` is `u64::MAX`.
pub(super) fn number(dir: &Path, file: &str) -> Option<u64> {
    let text = read(dir, file).ok()?;
    let text = text.trim();
    if text == "max" { Some(u64::MAX) } else { text.parse().ok() }
}

/// The number after `key ` in a file of such lines.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// A limit that the spec asks for and this host has no controller for.
pub(super) fn no_controller(controller: &str) -> Error {
    Error::new(
        "limit",
        format!("{controller}: the host has no such cgroup controller"),
        libc::ENOTSUP,
    )
}
