//! What a container has changed of its image's files, from its writable layer.

use orlop_image::Rootfs;
use orlop_sys::fs::{open_beneath, open_dir, xattrs};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, statat};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// One path that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What became of it.
    pub kind: ChangeKind,
    /// Absolute in the container.
    pub path: String,
}

/// What became of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum ChangeKind {
    #[serde(rename = "A")]
    Added,
    #[serde(rename = "C")]
    Changed,
    #[serde(rename = "D")]
    Deleted,
}

/// What an entry of the layer is.
struct Found {
    kind: ChangeKind,
    /// It is there only so that something below it, or mounted on it, can be.
    bare: bool,
}

/// Compares a layer with what is below it. What is empty and lies at one of `places`, where the runtime
/// mounts, is none of the container's. Blocking.
pub(crate) fn changes(rootfs: &Rootfs, places: &[PathBuf]) -> io::Result<Vec<Change>> {
    let upper = open_dir(&rootfs.upper)?;
    let lower = below(rootfs)?;
    let mut found: BTreeMap<PathBuf, Found> = BTreeMap::new();
    let mut pending = vec![PathBuf::from(".")];
    while let Some(path) = pending.pop() {
        let Ok(dir) = opened(&upper, &path) else { continue };
        for name in names(&dir)? {
            let Ok(stat) = statat(&dir, name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            let below_path = path.strip_prefix(".").unwrap_or(&path).join(&name);
            let old = look(&lower, &below_path);
            if is(&stat, FileType::CharacterDevice) && stat.st_rdev == 0 {
                if old.is_some() {
                    found.insert(below_path, Found { kind: ChangeKind::Deleted, bare: false });
                }
                continue;
            }
            if is(&stat, FileType::Directory) {
                hidden_by(&upper, &lower, &below_path, old.as_ref(), &mut found)?;
                pending.push(below_path.clone());
            }
            let entry = compare(&stat, old.as_ref(), &below_path, places);
            found.insert(below_path, entry);
        }
    }
    Ok(listed(found))
}

fn compare(stat: &Stat, old: Option<&Stat>, path: &Path, places: &[PathBuf]) -> Found {
    let directory = is(stat, FileType::Directory);
    let place = places.iter().any(|place| place == path);
    match old {
        None => Found {
            kind: ChangeKind::Added,
            bare: place && (directory || (is(stat, FileType::RegularFile) && stat.st_size == 0)),
        },
        Some(old) => {
            let facts = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid);
            Found { kind: ChangeKind::Changed, bare: directory && facts(stat) == facts(old) }
        }
    }
}

/// What an opaque directory of the layer hides is deleted.
fn hidden_by(
    upper: &OwnedFd,
    lower: &OwnedFd,
    path: &Path,
    old: Option<&Stat>,
    found: &mut BTreeMap<PathBuf, Found>,
) -> io::Result<()> {
    if !old.is_some_and(|old| is(old, FileType::Directory)) {
        return Ok(());
    }
    let Ok(dir) = opened(upper, path) else { return Ok(()) };
    let attributes = xattrs(&dir).unwrap_or_default();
    let opaque =
        |(name, value): &(Vec<u8>, Vec<u8>)| name == b"trusted.overlay.opaque" && value == b"y";
    if !attributes.iter().any(opaque) {
        return Ok(());
    }
    let Ok(hidden) = opened(lower, path) else { return Ok(()) };
    for name in names(&hidden)? {
        if statat(&dir, name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW).is_err() {
            found.insert(path.join(name), Found { kind: ChangeKind::Deleted, bare: false });
        }
    }
    Ok(())
}

/// In the order of paths; what is bare only where something below it is listed.
fn listed(found: BTreeMap<PathBuf, Found>) -> Vec<Change> {
    let mut needed = std::collections::BTreeSet::new();
    let mut list = Vec::new();
    for (path, entry) in found.iter().rev() {
        if entry.bare && !needed.contains(path) {
            continue;
        }
        if let Some(parent) = path.parent() {
            needed.insert(parent.to_owned());
        }
        let path = Path::new("/").join(path).to_string_lossy().into_owned();
        list.push(Change { kind: entry.kind, path });
    }
    list.reverse();
    list
}

/// What is below the writable layer, as one tree.
pub(crate) fn below(rootfs: &Rootfs) -> io::Result<OwnedFd> {
    match rootfs.lower.as_slice() {
        // Overlayfs wants two directories where it has nothing to write to.
        [only] => open_dir(only),
        many => {
            let read_only = u64::from(rustix::mount::MountAttrFlags::MOUNT_ATTR_RDONLY.bits());
            orlop_sys::mount::overlay::<PathBuf>(many, None, &[], read_only)
                .map_err(io::Error::other)
        }
    }
}

fn is(stat: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(stat.st_mode) == kind
}

fn look(tree: &OwnedFd, path: &Path) -> Option<Stat> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW;
    let fd = open_beneath(tree.as_fd(), path, flags, Mode::empty()).ok()?;
    fstat(fd).ok()
}

fn opened(tree: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    open_beneath(tree.as_fd(), path, flags, Mode::empty())
}

pub(super) fn names(dir: &OwnedFd) -> io::Result<Vec<PathBuf>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            names.push(PathBuf::from(name));
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn added_changed_deleted() {
        let temp = tempfile::tempdir().unwrap();
        let (lower, upper) = (temp.path().join("lower"), temp.path().join("upper"));
        for dir in ["lower/etc", "lower/var/old", "lower/same", "upper/etc", "upper/new/deep"] {
            fs::create_dir_all(temp.path().join(dir)).unwrap();
        }
        for dir in ["upper/same", "upper/var", "upper/proc"] {
            fs::create_dir(temp.path().join(dir)).unwrap();
        }
        fs::write(lower.join("etc/passwd"), "a").unwrap();
        fs::write(lower.join("var/old/file"), "a").unwrap();
        fs::write(lower.join("gone"), "a").unwrap();
        fs::write(upper.join("etc/passwd"), "b").unwrap();
        fs::write(upper.join("etc/hosts"), "").unwrap();
        fs::write(upper.join("new/deep/file"), "").unwrap();
        for name in ["gone", "never"] {
            let (kind, mode) = (FileType::CharacterDevice, Mode::empty());
            rustix::fs::mknodat(rustix::fs::CWD, upper.join(name), kind, mode, 0).unwrap();
        }
        let opaque = upper.join("var");
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(&opaque, "trusted.overlay.opaque", b"y", flags).unwrap();
        let rootfs = Rootfs { lower: vec![lower], upper, work: temp.path().join("work") };
        let places = [PathBuf::from("etc/hosts"), PathBuf::from("proc")];
        let found: Vec<(ChangeKind, String)> = changes(&rootfs, &places)
            .unwrap()
            .into_iter()
            .map(|change| (change.kind, change.path))
            .collect();
        use ChangeKind::{Added, Changed, Deleted};
        let expected = [
            (Changed, "/etc"),
            (Changed, "/etc/passwd"),
            (Deleted, "/gone"),
            (Added, "/new"),
            (Added, "/new/deep"),
            (Added, "/new/deep/file"),
            (Changed, "/var"),
            (Deleted, "/var/old"),
        ];
        assert_eq!(found, expected.map(|(kind, path)| (kind, path.to_owned())));
    }
}
