//! A writable layer copied as it is, with overlayfs' marks.

use super::changes::names;
use orlop_sys::fs::{open_beneath, xattrs};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::fs::{fstat, readlinkat, statat};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Copies what lies below the directory `from` to below the empty directory `to`, but for what is empty at one of
/// `places`. Blocking.
pub fn clone_layer(from: &Path, to: &OwnedFd, places: &[PathBuf]) -> io::Result<()> {
    let from = orlop_sys::fs::open_dir(from)?;
    let mut cloner =
        Cloner { from: &from, to, places, names: HashMap::new(), directories: Vec::new() };
    cloner.run()
}

struct Cloner<'a> {
    from: &'a OwnedFd,
    to: &'a OwnedFd,
    places: &'a [PathBuf],
    /// Files with several names.
    names: HashMap<(u64, u64), PathBuf>,
    /// Their times change until all is copied.
    directories: Vec<(PathBuf, Stat)>,
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW);

impl Cloner<'_> {
    fn run(&mut self) -> io::Result<()> {
        let mut pending = vec![PathBuf::from(".")];
        while let Some(path) = pending.pop() {
            let dir = open_beneath(self.from.as_fd(), &path, DIRECTORY, Mode::empty())?;
            let target = open_beneath(self.to.as_fd(), &path, DIRECTORY, Mode::empty())?;
            for name in names(&dir)? {
                let stat = statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW)?;
                let below = path.strip_prefix(".").unwrap_or(&path).join(&name);
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    if self.is_place(&below, &stat) {
                        let inner = open_beneath(dir.as_fd(), &name, DIRECTORY, Mode::empty())?;
                        if names(&inner)?.is_empty() {
                            continue;
                        }
                    }
                    self.directory(&dir, &target, &name)?;
                    self.directories.push((below.clone(), stat));
                    pending.push(below);
                } else if !self.is_place(&below, &stat) {
                    self.other(&dir, &target, &name, &stat, below)?;
                }
            }
        }
        while let Some((path, stat)) = self.directories.pop() {
            let target = open_beneath(self.to.as_fd(), &path, DIRECTORY, Mode::empty())?;
            rustix::fs::futimens(&target, &times(&stat))?;
        }
        Ok(())
    }

    fn is_place(&self, path: &Path, stat: &Stat) -> bool {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let empty =
            kind == FileType::Directory || (kind == FileType::RegularFile && stat.st_size == 0);
        empty && self.places.iter().any(|place| place == path)
    }

    fn directory(&self, dir: &OwnedFd, target: &OwnedFd, name: &Path) -> io::Result<()> {
        let from = open_beneath(dir.as_fd(), name, DIRECTORY, Mode::empty())?;
        rustix::fs::mkdirat(target, name, Mode::RWXU)?;
        let to = open_beneath(target.as_fd(), name, DIRECTORY, Mode::empty())?;
        self.finish(&from, &to, &fstat(&from)?)
    }

    fn other(
        &mut self,
        dir: &OwnedFd,
        target: &OwnedFd,
        name: &Path,
        stat: &Stat,
        below: PathBuf,
    ) -> io::Result<()> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let whiteout = kind == FileType::CharacterDevice && stat.st_rdev == 0;
        if stat.st_nlink > 1 && !whiteout {
            let key = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.names.get(&key) {
                return Ok(rustix::fs::linkat(self.to, first, target, name, AtFlags::empty())?);
            }
            self.names.insert(key, below);
        }
        match kind {
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
                let from = open_beneath(dir.as_fd(), name, flags, Mode::empty())?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                let mode = Mode::RUSR | Mode::WUSR;
                let to = open_beneath(target.as_fd(), name, flags, mode)?;
                let mut content = File::from(from.try_clone()?);
                io::copy(&mut content, &mut File::from(to.try_clone()?))?;
                self.finish(&from, &to, stat)?;
                return Ok(rustix::fs::futimens(&to, &times(stat))?);
            }
            FileType::Symlink => {
                let link = readlinkat(dir, name, Vec::new())?;
                rustix::fs::symlinkat(link.as_c_str(), target, name)?;
            }
            FileType::CharacterDevice | FileType::BlockDevice | FileType::Fifo => {
                let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
                rustix::fs::mknodat(target, name, kind, mode, stat.st_rdev)?;
                if !whiteout {
                    let flags = OFlags::PATH | OFlags::NOFOLLOW;
                    let made = open_beneath(target.as_fd(), name, flags, Mode::empty())?;
                    rustix::fs::chmod(super::own_path(&made), mode)?;
                }
            }
            // A socket means nothing elsewhere.
            _ => return Ok(()),
        }
        let owner = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(target, name, Some(owner.0), Some(owner.1), flags)?;
        Ok(rustix::fs::utimensat(target, name, &times(stat), flags)?)
    }

    fn finish(&self, from: &OwnedFd, to: &OwnedFd, stat: &Stat) -> io::Result<()> {
        let owner = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        rustix::fs::fchown(to, Some(owner.0), Some(owner.1))?;
        rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
        for (name, value) in xattrs(from)? {
            if name == b"trusted.overlay.redirect" || name == b"trusted.overlay.metacopy" {
                return Err(io::Error::other(
                    "overlayfs has recorded a renamed directory or a changed owner in a way that a layer cannot have: set the module's parameters redirect_dir and metacopy to off",
                ));
            }
            // Other marks of overlayfs name inodes of the old place.
            let kept = !name.starts_with(b"trusted.overlay.")
                || name == b"trusted.overlay.opaque"
                || name == b"trusted.overlay.whiteouts";
            if kept && name != b"security.selinux" {
                rustix::fs::fsetxattr(to, name.as_slice(), &value, XattrFlags::empty())?;
            }
        }
        Ok(())
    }
}

fn times(stat: &Stat) -> Timestamps {
    let time = Timespec { tv_sec: stat.st_mtime as _, tv_nsec: stat.st_mtime_nsec as _ };
    Timestamps { last_access: time, last_modification: time }
}
