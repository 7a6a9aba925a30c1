//! What the shim leaves in the bundle for a daemon that comes later.

use orlop_task::{ExitRecord, ShimRecord};
use serde::Serialize;
use std::io;
use std::path::Path;

/// Writes `exit.json`: how the first process ended.
pub(crate) fn write_exit(bundle: &Path, record: &ExitRecord) -> io::Result<()> {
    write(bundle, "exit.json", record)
}

/// Writes `shim.json`: which process we are.
pub(crate) fn write_shim(bundle: &Path, id: &str) -> io::Result<()> {
    let pid = i32::try_from(std::process::id()).unwrap_or(0);
    let start_time = orlop_sys::process::start_time(pid)?;
    write(bundle, "shim.json", &ShimRecord { version: 1, id: id.to_owned(), pid, start_time })
}

/// Writes the same of a foreign shim into its own bundle.
pub(crate) fn write_foreign(dir: &Path, record: &ShimRecord) -> io::Result<()> {
    write(dir, "shim.json", record)
}

/// By rename, so that a reader finds all or nothing; not synced, as the bundle does not outlive a boot.
fn write(bundle: &Path, name: &str, record: &impl Serialize) -> io::Result<()> {
    let bytes = serde_json::to_vec(record)?;
    let temporary = bundle.join(format!(".{name}.new"));
    std::fs::write(&temporary, bytes)?;
    std::fs::rename(&temporary, bundle.join(name))
}
