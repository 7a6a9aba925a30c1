//! Layers unpacked for real, into a temporary directory. They need root, as unpacking does.

mod attributes;
mod hostile;
mod layers;
mod random;

use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use orlop_sys::fs::open_dir;
use rustix::fs::{AtFlags, FileType};
use tempfile::TempDir;

use super::{Limits, UnpackError, Unpacked, unpack_layer};

/// Unpacks into a directory, which must exist.
fn unpack(archive: &[u8], dir: &Path) -> Result<Unpacked, UnpackError> {
    let limits = Limits { bytes: 64 << 20, ..Limits::default() };
    unpack_layer(archive, open_dir(dir).unwrap().as_fd(), &limits)
}

/// A tree as text: a line for every entry, sorted, with type, mode and what it holds.
fn tree(dir: &Path) -> String {
    let mut lines = Vec::new();
    walk(dir, Path::new(""), &mut lines);
    lines.sort();
    lines.join("\n")
}

fn walk(root: &Path, at: &Path, lines: &mut Vec<String>) {
    for entry in std::fs::read_dir(root.join(at)).unwrap() {
        let name = at.join(entry.unwrap().file_name());
        let path = root.join(&name);
        let fd = open_dir(root).unwrap();
        let stat = rustix::fs::statat(&fd, &name, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        let text = name.as_os_str().as_bytes().escape_ascii().to_string();
        let mode = stat.st_mode & 0o7777;
        let line = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                walk(root, &name, lines);
                let opaque = if opaque(&path) { " opaque" } else { "" };
                format!("{text}/ {mode:o}{opaque}")
            }
            FileType::RegularFile if stat.st_size < 100 => {
                format!("{text} {mode:o} {}", std::fs::read(&path).unwrap().escape_ascii())
            }
            FileType::RegularFile => format!("{text} {mode:o} size {}", stat.st_size),
            FileType::Symlink => {
                let target = std::fs::read_link(&path).unwrap();
                format!("{text} -> {}", target.as_os_str().as_bytes().escape_ascii())
            }
            FileType::CharacterDevice if stat.st_rdev == 0 => format!("{text} whiteout"),
            other => format!("{text} {mode:o} {other:?} {:x}", stat.st_rdev),
        };
        lines.push(line);
    }
}

fn opaque(dir: &Path) -> bool {
    let mut value = [0; 8];
    rustix::fs::lgetxattr(dir, "trusted.overlay.opaque", &mut value)
        .is_ok_and(|length| &value[..length] == b"y")
}

/// Unpacks into a fresh directory; the tree or the error, as text.
fn outcome(archive: &[u8]) -> Result<String, String> {
    let dir = TempDir::new().unwrap();
    unpack(archive, dir.path()).map_err(|error| error.to_string())?;
    Ok(tree(dir.path()))
}
