//! A tar stream into a directory. Neither the archive nor, in a container, the directory is trusted:
//! every member's parent is resolved beneath the root, its own name is never followed.

use super::ids::Ids;
use orlop_sys::fs::{open_beneath, open_in_root};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use tar::{Archive, Entry, EntryType};

/// Where and how an archive is unpacked.
pub struct Unpacker<'a> {
    root: BorrowedFd<'a>,
    /// Links on the way to a member are followed within the root; else they are refused.
    follow: bool,
    /// Beneath the root.
    target: &'a Path,
    /// What the first component of every name becomes.
    rename: Option<(OsString, Option<OsString>)>,
    /// Who has what is made; `None`: whom the archive names.
    owner: Option<(u32, u32)>,
    ids: Ids,
    /// Device nodes are made, and bits that give rights to whoever executes a file are kept.
    trusting: bool,
}

/// Longest list of directories whose times are set in the end.
const MANY: usize = 1 << 20;

impl<'a> Unpacker<'a> {
    /// Into the directory `dir` of the host, for its user: what the archive says of owners, devices and
    /// set-user-id bits counts only with `keep`. No link is followed.
    pub fn on_host(dir: BorrowedFd<'a>, keep: bool) -> Self {
        let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Self {
            root: dir,
            follow: false,
            target: Path::new("."),
            rename: None,
            owner: (!keep).then_some(own),
            ids: Ids::default(),
            trusting: keep,
        }
    }

    /// Into the directory `target` of a container's root.
    pub(crate) fn in_container(
        root: BorrowedFd<'a>,
        target: &'a Path,
        ids: Ids,
        keep: bool,
    ) -> Self {
        let owner = (!keep).then_some((0, 0));
        Self { root, follow: true, target, rename: None, owner, ids, trusting: true }
    }

    /// Names that begin with the component `from` begin with `to` instead, or without it.
    #[must_use]
    pub fn renaming(mut self, from: &OsStr, to: Option<&OsStr>) -> Self {
        self.rename = Some((from.to_owned(), to.map(OsStr::to_owned)));
        self
    }

    /// Unpacks; the names of what was left out.
    pub fn unpack(&self, archive: impl Read) -> io::Result<Vec<PathBuf>> {
        let mut archive = Archive::new(archive);
        let (mut directories, mut left_out) = (Vec::new(), Vec::new());
        for member in archive.entries()? {
            let mut member = member?;
            let path = member.path()?.into_owned();
            let Some(place) = self.place(&path) else { continue };
            let failed = |error: io::Error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            };
            match self.member(&mut member, &place).map_err(failed)? {
                Made::Directory(mtime) if directories.len() < MANY => {
                    directories.push((place, mtime));
                }
                Made::Directory(_) | Made::Other => {}
                Made::Nothing => left_out.push(path),
            }
        }
        for (place, mtime) in directories.into_iter().rev() {
            // It may have been replaced by a later member, or by the container.
            if let Ok(dir) = self.open(&place, OFlags::RDONLY | OFlags::DIRECTORY) {
                let _ = rustix::fs::futimens(&dir, &times(mtime));
            }
        }
        Ok(left_out)
    }

    /// Where a member goes, beneath the target; `None`: it is the target itself.
    fn place(&self, path: &Path) -> Option<PathBuf> {
        let mut parts: Vec<&OsStr> = Vec::new();
        for component in path.components() {
            match component {
                Component::Normal(part) => parts.push(part),
                Component::ParentDir => drop(parts.pop()),
                _ => {}
            }
        }
        let mut place = PathBuf::new();
        if let (Some((from, to)), Some(first)) = (&self.rename, parts.first())
            && from == first
        {
            parts.remove(0);
            place.extend(to);
        }
        place.extend(parts);
        (!place.as_os_str().is_empty()).then_some(place)
    }

    /// Opens something beneath the target; its last name is not followed.
    fn open(&self, place: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::NOFOLLOW;
        let path = self.target.join(place);
        if self.follow {
            open_in_root(self.root, path, flags, Mode::empty())
        } else {
            open_beneath(self.root, path, flags, Mode::empty())
        }
    }

    /// A directory beneath the target, made where it is not there. Here a last link is followed where
    /// links are.
    fn directory(&self, place: &Path) -> io::Result<OwnedFd> {
        let path = self.target.join(place);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let opened = if self.follow {
            open_in_root(self.root, &path, flags, Mode::empty())
        } else {
            open_beneath(self.root, &path, flags, Mode::empty())
        };
        match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let (Some(parent), Some(name)) = (place.parent(), place.file_name()) else {
            return Err(Errno::NOENT.into());
        };
        let parent = self.directory(parent)?;
        match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => {
                let made =
                    open_beneath(parent.as_fd(), name, flags | OFlags::NOFOLLOW, Mode::empty())?;
                self.give(&made, self.owner.unwrap_or((0, 0)), 0o755)?;
                Ok(made)
            }
            // A link that leads nowhere, or somebody was faster.
            Err(Errno::EXIST) => {
                open_beneath(parent.as_fd(), name, flags | OFlags::NOFOLLOW, Mode::empty())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn member<R: Read>(&self, member: &mut Entry<'_, R>, place: &Path) -> io::Result<Made> {
        let kind = member.header().entry_type();
        if kind.is_pax_global_extensions() {
            return Ok(Made::Other);
        }
        let name = place.file_name().unwrap_or_default();
        let parent = self.directory(place.parent().unwrap_or(Path::new("")))?;
        let header = member.header().clone();
        let number = |id: io::Result<u64>| id.ok().and_then(|id| u32::try_from(id).ok());
        let named = (number(header.uid()).unwrap_or(0), number(header.gid()).unwrap_or(0));
        let owner = self.owner.unwrap_or(named);
        let bits = if self.trusting { 0o7777 } else { 0o1777 };
        let mode = header.mode()? & bits;
        let mtime = header.mtime().ok().and_then(|time| i64::try_from(time).ok()).unwrap_or(0);
        let device = matches!(kind, EntryType::Char | EntryType::Block);
        if device && !self.trusting {
            return Ok(Made::Nothing);
        }
        if kind == EntryType::Directory {
            return self.make_directory(&parent, name, place, (owner, mode, mtime));
        }
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let file = File::from(self.fresh(&parent, name)?);
                io::copy(member, &mut &file)?;
                self.give(&file, owner, mode)?;
                self.attributes(&file, member)?;
                rustix::fs::futimens(&file, &times(mtime))?;
            }
            EntryType::Symlink => {
                clear(&parent, name)?;
                let target = member.link_name_bytes().unwrap_or_default();
                rustix::fs::symlinkat(target.as_ref(), &parent, name)?;
                self.give_name(&parent, name, owner, mtime)?;
            }
            EntryType::Link => {
                let target = member.link_name_bytes().unwrap_or_default().into_owned();
                self.hard_link(&parent, name, Path::new(OsStr::from_bytes(&target)))?;
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                clear(&parent, name)?;
                let part = |part: io::Result<Option<u32>>| part.ok().flatten().unwrap_or(0);
                let number = (part(header.device_major()), part(header.device_minor()));
                let kind = match kind {
                    EntryType::Char => FileType::CharacterDevice,
                    EntryType::Block => FileType::BlockDevice,
                    _ => FileType::Fifo,
                };
                if kind == FileType::CharacterDevice && number == (0, 0) {
                    // Overlayfs would take it for the mark of a removed file.
                    return Ok(Made::Nothing);
                }
                let device = rustix::fs::makedev(number.0, number.1);
                // The mask of this process must not take anything away.
                rustix::fs::mknodat(&parent, name, kind, Mode::from_raw_mode(0o600), device)?;
                let made = open_beneath(
                    parent.as_fd(),
                    name,
                    OFlags::PATH | OFlags::NOFOLLOW,
                    Mode::empty(),
                )?;
                rustix::fs::chmod(super::own_path(&made), Mode::from_raw_mode(mode))?;
                self.give_name(&parent, name, owner, mtime)?;
            }
            _ => return Ok(Made::Nothing),
        }
        Ok(Made::Other)
    }

    fn make_directory(
        &self,
        parent: &OwnedFd,
        name: &OsStr,
        place: &Path,
        (owner, mode, mtime): ((u32, u32), u32, i64),
    ) -> io::Result<Made> {
        match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
            Ok(()) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
                let made = open_beneath(parent.as_fd(), name, flags, Mode::empty())?;
                self.give(&made, owner, mode)?;
                Ok(Made::Directory(mtime))
            }
            // What is there stays as it is, and gets more.
            Err(Errno::EXIST) => match self.directory(place) {
                Ok(_) => Ok(Made::Other),
                Err(_) => Err(io::Error::other("what is there is no directory: remove it first")),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// A new file in the place of whatever has the name; a file that is mounted there is emptied.
    fn fresh(&self, parent: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match clear(parent, name) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {
                let found = open_beneath(
                    parent.as_fd(),
                    name,
                    OFlags::PATH | OFlags::NOFOLLOW,
                    Mode::empty(),
                )?;
                let stat = rustix::fs::fstat(&found)?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                    return Err(error);
                }
                // The descriptor is the file's, whatever its name leads to by now.
                let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::CLOEXEC;
                return Ok(rustix::fs::open(super::own_path(&found), flags, Mode::empty())?);
            }
            Err(error) => return Err(error),
        }
        let flags = flags | OFlags::CREATE | OFlags::EXCL;
        Ok(rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))?)
    }

    fn hard_link(&self, parent: &OwnedFd, name: &OsStr, target: &Path) -> io::Result<()> {
        let Some(target) = self.place(target) else {
            return Err(io::Error::other("a hard link to the archive's root"));
        };
        let from = self.directory(target.parent().unwrap_or(Path::new("")))?;
        clear(parent, name)?;
        let to = target.file_name().unwrap_or_default();
        Ok(rustix::fs::linkat(&from, to, parent, name, AtFlags::empty())?)
    }

    /// Owner first: it takes set-user-id bits away.
    fn give(&self, fd: impl AsFd, owner: (u32, u32), mode: u32) -> io::Result<()> {
        let (uid, gid) = self.outside(owner)?;
        rustix::fs::fchown(&fd, Some(uid), Some(gid))?;
        Ok(rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode))?)
    }

    fn give_name(
        &self,
        parent: &OwnedFd,
        name: &OsStr,
        owner: (u32, u32),
        mtime: i64,
    ) -> io::Result<()> {
        let (uid, gid) = self.outside(owner)?;
        rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(rustix::fs::utimensat(parent, name, &times(mtime), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn outside(&self, (uid, gid): (u32, u32)) -> io::Result<(Uid, Gid)> {
        let Some((uid, gid)) = self.ids.outside(uid, gid) else {
            return Err(io::Error::other(format!(
                "the container's user namespace has no user {uid} or no group {gid}"
            )));
        };
        if uid == u32::MAX || gid == u32::MAX {
            return Err(io::Error::other("an owner that does not exist"));
        }
        Ok((Uid::from_raw(uid), Gid::from_raw(gid)))
    }

    fn attributes<R: Read>(&self, file: &File, member: &mut Entry<'_, R>) -> io::Result<()> {
        let Ok(Some(extensions)) = member.pax_extensions() else { return Ok(()) };
        for extension in extensions.flatten() {
            let Some(name) = extension.key_bytes().strip_prefix(b"SCHILY.xattr.") else { continue };
            let wanted =
                name.starts_with(b"user.") || (self.trusting && name == b"security.capability");
            if wanted {
                let value = extension.value_bytes();
                match rustix::fs::fsetxattr(file, name, value, XattrFlags::empty()) {
                    Ok(()) | Err(Errno::OPNOTSUPP) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }
}

/// What became of a member.
enum Made {
    /// A new directory, whose time is to be this.
    Directory(i64),
    Other,
    Nothing,
}

/// Removes what has the name, unless it is a directory.
fn clear(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR) => Err(io::Error::other("what is there is a directory: remove it first")),
        Err(error) => Err(error.into()),
    }
}

fn times(mtime: i64) -> Timestamps {
    let time = Timespec { tv_sec: mtime, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}
