//! One daemon for one set of directories.

use anyhow::Context;
use std::fs::{DirBuilder, File, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

/// The lock on the run directory; held as long as this lives.
#[derive(Debug)]
pub(crate) struct RunLock {
    _file: File,
}

/// Makes a directory of ours, 0700 also where it was there already.
pub(crate) fn own_dir(path: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .and_then(|()| std::fs::set_permissions(path, Permissions::from_mode(0o700)))
        .with_context(|| format!("directory {} cannot be made", path.display()))
}

impl RunLock {
    /// Takes the lock, or says which process has it.
    pub(crate) fn attempt(run: &Path) -> anyhow::Result<Result<Self, String>> {
        let path = run.join("lock");
        let locked = orlop_sys::fs::lock_file(&path)
            .with_context(|| format!("lock {} cannot be taken", path.display()))?;
        Ok(locked.map(|file| Self { _file: file }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let first = RunLock::attempt(dir.path()).unwrap().unwrap();
        let holder = RunLock::attempt(dir.path()).unwrap().unwrap_err();
        assert_eq!(holder, std::process::id().to_string());
        drop(first);
        RunLock::attempt(dir.path()).unwrap().unwrap();
    }

    #[test]
    fn directories_are_closed() {
        let dir = tempfile::tempdir().unwrap();
        let ours = dir.path().join("a/b");
        std::fs::create_dir_all(&ours).unwrap();
        std::fs::set_permissions(&ours, Permissions::from_mode(0o755)).unwrap();
        own_dir(&ours).unwrap();
        assert_eq!(std::fs::metadata(&ours).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
