//! From an image into a volume, by descriptors: an image's content leads nowhere else.

use crate::{Error, Result};
use orlop_sys::fs::{open_dir, open_in_root, xattrs};
use orlop_sys::mount::{Attributes, overlay};
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
    chmodat, chownat, fchmod, fchown, fsetxattr, fstat, futimens, linkat, mkdirat, mknodat, openat,
    readlinkat, statat, symlinkat, utimensat,
};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Directories within directories; an image may have any number.
const MAX_DEPTH: usize = 256;

/// The layers of an image, top first, as one directory.
pub(super) fn layers(lower: &[PathBuf]) -> Result<OwnedFd> {
    match lower {
        [] => Err(Error::Background("an image without layers".into())),
        [only] => open_dir(only).map_err(Error::io("opening", only)),
        // overlayfs shows at least two.
        [first, ..] => overlay(lower, None, &[], Attributes::READ_ONLY)
            .map_err(|error| Error::io("showing the layers of", first)(io::Error::from(error))),
    }
}

/// Copies what is at `target` of the image into `data`, unless there is something already.
pub(super) fn into_volume(root: &OwnedFd, target: &Path, data: &Path) -> Result<()> {
    let failed = || Error::io("copying the image's content into", data);
    let to = open_dir(data).map_err(failed())?;
    if !names(&to).map_err(failed())?.is_empty() {
        return Ok(());
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let from = match open_in_root(root.as_fd(), target, flags, Mode::empty()) {
        Ok(from) => from,
        // The image has nothing there, or a file, which is no content of a volume.
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Ok(());
        }
        Err(error) => return Err(failed()(error)),
    };
    Copy::default().directory(&from, &to, 0).map_err(failed())?;
    orlop_sys::fs::sync_fs(&to).map_err(failed())
}

fn names(dir: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    Ok(names)
}

#[derive(Default)]
struct Copy {
    /// Files with several names, by number, to where the first one went.
    links: HashMap<(u64, u64), (OwnedFd, CString)>,
}

impl Copy {
    fn directory(&mut self, from: &OwnedFd, to: &OwnedFd, depth: usize) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(io::Error::other("directories lie too deep within each other"));
        }
        for name in names(from)? {
            self.entry(from, to, &name, depth)?;
        }
        let stat = fstat(from)?;
        attributes(from, to, &stat)
    }

    fn entry(&mut self, from: &OwnedFd, to: &OwnedFd, name: &CStr, depth: usize) -> io::Result<()> {
        let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if stat.st_nlink > 1 && kind != FileType::Directory {
            let number = (stat.st_dev, stat.st_ino);
            if let Some((dir, first)) = self.links.get(&number) {
                return Ok(linkat(dir, first.as_c_str(), to, name, AtFlags::empty())?);
            }
            self.links.insert(number, (to.try_clone()?, name.to_owned()));
        }
        let beneath = OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match kind {
            FileType::Directory => {
                mkdirat(to, name, Mode::RWXU)?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | beneath;
                let below = openat(from, name, flags, Mode::empty())?;
                self.directory(&below, &openat(to, name, flags, Mode::empty())?, depth + 1)
            }
            FileType::RegularFile => {
                let source = openat(from, name, OFlags::RDONLY | beneath, Mode::empty())?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | beneath;
                let target = openat(to, name, flags, Mode::RUSR | Mode::WUSR)?;
                io::copy(
                    &mut File::from(source.try_clone()?),
                    &mut File::from(target.try_clone()?),
                )?;
                attributes(&source, &target, &stat)
            }
            FileType::Symlink => {
                let place = readlinkat(from, name, Vec::new())?;
                symlinkat(place.as_c_str(), to, name)?;
                special(to, name, &stat)
            }
            kind => {
                let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
                mknodat(to, name, kind, mode, stat.st_rdev)?;
                special(to, name, &stat)?;
                Ok(chmodat(to, name, mode, AtFlags::empty())?)
            }
        }
    }
}

/// Owner, mode, extended attributes and times of an open file or directory; in this order, as each may
/// change what comes after it.
fn attributes(from: &OwnedFd, to: &OwnedFd, stat: &Stat) -> io::Result<()> {
    fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    for (name, value) in xattrs(from)? {
        // What security modules and overlayfs say of a layer is not the content's.
        if name.starts_with(b"user.") || name == b"security.capability" {
            match fsetxattr(to, name.as_slice(), &value, XattrFlags::empty()) {
                Err(Errno::OPNOTSUPP) => {}
                other => other?,
            }
        }
    }
    Ok(futimens(to, &times(stat))?)
}

/// The same, as far as it goes, of what cannot be opened.
fn special(dir: &OwnedFd, name: &CStr, stat: &Stat) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(utimensat(dir, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn times(stat: &Stat) -> Timestamps {
    let time = |tv_sec, nanos| Timespec { tv_sec, tv_nsec: i64::try_from(nanos).unwrap_or(0) };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

    #[test]
    fn everything_is_copied_once() {
        let temp = tempfile::tempdir().unwrap();
        let (top, bottom) = (temp.path().join("top"), temp.path().join("bottom"));
        fs::create_dir_all(top.join("data")).unwrap();
        fs::create_dir_all(bottom.join("data/sub")).unwrap();
        fs::write(bottom.join("data/sub/file"), "below").unwrap();
        fs::write(top.join("data/file"), "content").unwrap();
        fs::hard_link(top.join("data/file"), top.join("data/again")).unwrap();
        symlink("/etc/passwd", top.join("data/link")).unwrap();
        chown(top.join("data"), Some(123), Some(456)).unwrap();
        chown(top.join("data/file"), Some(7), Some(8)).unwrap();
        fs::set_permissions(top.join("data/file"), fs::Permissions::from_mode(0o4751)).unwrap();
        let data = temp.path().join("volume");
        fs::create_dir(&data).unwrap();
        let root = layers(&[top, bottom]).unwrap();
        into_volume(&root, Path::new("/data"), &data).unwrap();
        let file = fs::metadata(data.join("file")).unwrap();
        assert_eq!((file.uid(), file.gid(), file.mode() & 0o7777), (7, 8, 0o4751));
        assert_eq!(fs::metadata(data.join("again")).unwrap().ino(), file.ino());
        assert_eq!(fs::read_link(data.join("link")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(fs::read_to_string(data.join("sub/file")).unwrap(), "below");
        let own = fs::metadata(&data).unwrap();
        assert_eq!((own.uid(), own.gid()), (123, 456));
        // A second time there is something, which stays.
        fs::write(data.join("file"), "mine").unwrap();
        into_volume(&root, Path::new("/data"), &data).unwrap();
        assert_eq!(fs::read_to_string(data.join("file")).unwrap(), "mine");
    }

    #[test]
    fn an_image_leads_nowhere_else() {
        let temp = tempfile::tempdir().unwrap();
        let (root, data) = (temp.path().join("root"), temp.path().join("volume"));
        fs::create_dir_all(root.join("inner/etc")).unwrap();
        fs::write(root.join("inner/etc/passwd"), "the image's").unwrap();
        fs::create_dir(&data).unwrap();
        symlink("/inner", root.join("a")).unwrap();
        symlink("../../../../../..", root.join("up")).unwrap();
        let root = layers(&[root]).unwrap();
        into_volume(&root, Path::new("/up/a/etc"), &data).unwrap();
        assert_eq!(fs::read_to_string(data.join("passwd")).unwrap(), "the image's");
        let other = temp.path().join("other");
        fs::create_dir(&other).unwrap();
        into_volume(&root, Path::new("/absent"), &other).unwrap();
        assert_eq!(fs::read_dir(&other).unwrap().count(), 0);
    }
}
