//! Directories get their attributes last: contents change their times, a set-group-id bit or a
//! default ACL would be handed on to what is created in them.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use orlop_sys::fs::{open_beneath, xattrs};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, XattrFlags};
use rustix::io::Errno;

use super::attributes::{Attributes, ignore_unsupported};
use super::error::UnpackError;
use super::tree::{Tree, open_directory};

/// Overlayfs' mark for a directory that hides what lower layers have in it.
const OVERLAY_OPAQUE: &[u8] = b"trusted.overlay.opaque";

/// What is known of the directories when all is unpacked.
#[derive(Debug, Default)]
pub(crate) struct Finished {
    pub(crate) implicit: Vec<PathBuf>,
    pub(crate) root_described: bool,
    pub(crate) opaque_root: bool,
}

/// Sets the attributes of all directories.
pub(crate) fn finish(dest: BorrowedFd<'_>, tree: &Tree<'_>) -> Result<Finished, UnpackError> {
    let mut finished = Finished::default();
    let implicit = Attributes::implicit();
    for (path, directory) in tree.directories() {
        let attributes = directory.attributes.as_deref().unwrap_or(&implicit);
        let fd = open_directory(dest, path, OFlags::RDONLY)?;
        let failed = |(op, error): (&'static str, Errno)| UnpackError::io(op, path, error.into());
        if directory.opaque {
            rustix::fs::fsetxattr(&fd, OVERLAY_OPAQUE, b"y", XattrFlags::empty())
                .map_err(|error| failed(("mark as opaque", error)))?;
        }
        attributes.apply(fd.as_fd()).map_err(failed)?;
        match directory.attributes {
            _ if path.is_empty() => {
                finished.root_described = directory.attributes.is_some();
                finished.opaque_root = directory.opaque;
            }
            None => finished.implicit.push(PathBuf::from(OsStr::from_bytes(path))),
            Some(_) => {}
        }
    }
    Ok(finished)
}

/// Copies mode, owner, times and extended attributes (but not overlayfs' own) of one directory to
/// another.
pub fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let stat = rustix::fs::fstat(from)?;
    for (name, value) in xattrs(from)? {
        if name.starts_with(b"trusted.overlay.") || name == b"security.selinux" {
            continue;
        }
        let set = rustix::fs::fsetxattr(to, name.as_slice(), &value, XattrFlags::empty());
        ignore_unsupported(&name, set)?;
    }
    let attributes = Attributes {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        // Nanoseconds are below 10^9: they fit.
        mtime: (stat.st_mtime, stat.st_mtime_nsec as u32),
        xattrs: Vec::new(),
    };
    attributes.apply(to).map_err(|(_, error)| error.into())
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
    for path in implicit {
        let name = path.as_os_str().as_bytes();
        let failed = |source| UnpackError::io("adopt the attributes of", name, source);
        let to = open_directory(layer, name, OFlags::RDONLY)?;
        if is_opaque(to.as_fd()) {
            // A directory that replaces the one below does not look like it.
            continue;
        }
        for below in lower {
            match below_at(*below, path).map_err(failed)? {
                Below::Directory(from) => {
                    copy_attributes(from.as_fd(), to.as_fd()).map_err(failed)?;
                    break;
                }
                Below::Nothing => {}
                Below::Hidden => break,
            }
        }
    }
    Ok(())
}

/// What a lower layer has under a name.
enum Below {
    Directory(std::os::fd::OwnedFd),
    /// Layers further down show through.
    Nothing,
    /// They do not.
    Hidden,
}

fn below_at(layer: BorrowedFd<'_>, path: &std::path::Path) -> io::Result<Below> {
    let mut at = open_beneath(layer, ".", OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
    let mut hidden = false;
    for part in path.components() {
        let stat = match rustix::fs::statat(&at, part.as_os_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) if hidden => return Ok(Below::Hidden),
            Err(Errno::NOENT) => return Ok(Below::Nothing),
            Err(error) => return Err(error.into()),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Ok(Below::Hidden);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        at = open_beneath(at.as_fd(), part.as_os_str(), flags, Mode::empty())?;
        hidden |= is_opaque(at.as_fd());
    }
    Ok(Below::Directory(at))
}

fn is_opaque(directory: BorrowedFd<'_>) -> bool {
    let mut value = [0_u8; 1];
    rustix::fs::fgetxattr(directory, OVERLAY_OPAQUE, &mut value).is_ok_and(|_| value == *b"y")
}
