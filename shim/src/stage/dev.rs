//! `/dev`: nodes, links and the terminal.

use super::error::{At, Result, StageError, Step};
use super::plan::{Container, Device};
use super::tree::{Root, Want};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, Uid, chmodat, chownat, makedev, mknodat, statat, symlinkat,
};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::Path;

/// The nodes that every container has: name, major, minor.
const NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// The links that every container has: what they say, name.
const LINKS: [(&str, &str); 6] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("/proc/kcore", "core"),
    ("pts/ptmx", "ptmx"),
];

/// The nodes that every container has, owned by root.
pub(super) fn nodes() -> impl Iterator<Item = Device> {
    NODES.into_iter().map(|(name, major, minor)| {
        let path = Path::new("/dev").join(name);
        Device { path, kind: 'c', major, minor, mode: 0o666, uid: 0, gid: 0 }
    })
}

/// Fills `/dev`, which is no link. In a user namespace no nodes can be made: the shim has made them.
pub(super) fn populate(container: &Container, root: &Root) -> Result<()> {
    let dev = root.plain_directory(Path::new("/dev"), Step::Device)?;
    if !container.user_namespace {
        for device in nodes() {
            let name = device.path.file_name().unwrap_or_default();
            node(&device, &dev, Path::new(name))?;
        }
    }
    for (target, name) in LINKS {
        match symlinkat(target, &dev, name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => {
                return Err(StageError::kernel(
                    Step::Device,
                    format!("/dev/{name}"),
                    errno.raw_os_error(),
                ));
            }
        }
    }
    for device in &container.devices {
        let parent = device.path.parent().unwrap_or(Path::new("/"));
        let name = device.path.file_name().ok_or_else(|| {
            StageError::refuse(Step::Device, device.path.display().to_string(), "it needs a name")
        })?;
        let dir = if parent == Path::new("/dev") {
            None
        } else {
            Some(root.target(parent, Want::Directory, Step::Device)?)
        };
        node(device, dir.as_ref().unwrap_or(&dev), Path::new(name))?;
    }
    Ok(())
}

fn node(device: &Device, dir: &OwnedFd, name: &Path) -> Result<()> {
    let object = || device.path.display().to_string();
    let kind = match device.kind {
        'b' => FileType::BlockDevice,
        'p' => FileType::Fifo,
        _ => FileType::CharacterDevice,
    };
    let number = if device.kind == 'p' { 0 } else { makedev(device.major, device.minor) };
    // The umask is 0 here: the mode is exact.
    match mknodat(dir, name, kind, Mode::from_raw_mode(device.mode & 0o7777), number) {
        Ok(()) => {}
        Err(Errno::EXIST) => return existing(device, dir, name, kind, number),
        Err(errno) => return Err(StageError::kernel(Step::Device, object(), errno.raw_os_error())),
    }
    if (device.uid, device.gid) != (0, 0) {
        let owner = (Some(Uid::from_raw(device.uid)), Some(Gid::from_raw(device.gid)));
        chownat(dir, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW).at(Step::Device, object)?;
    }
    Ok(())
}

/// A node that the spec names again, or that the image brought: right, or an error.
fn existing(
    device: &Device,
    dir: &OwnedFd,
    name: &Path,
    kind: FileType,
    number: u64,
) -> Result<()> {
    let object = || device.path.display().to_string();
    let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).at(Step::Device, object)?;
    if FileType::from_raw_mode(stat.st_mode) != kind || stat.st_rdev != number {
        return Err(StageError::refuse(Step::Device, object(), "something else is there already"));
    }
    let owner = (Some(Uid::from_raw(device.uid)), Some(Gid::from_raw(device.gid)));
    chownat(dir, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW).at(Step::Device, object)?;
    // It is no link, and only we are in this namespace.
    chmodat(dir, name, Mode::from_raw_mode(device.mode & 0o7777), AtFlags::empty())
        .at(Step::Device, object)
}
