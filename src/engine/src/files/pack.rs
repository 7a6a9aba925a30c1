//! A tree as a tar stream. Somebody may change the tree meanwhile, and may mean harm: nothing is opened
//! by a path that leaves it, no link is followed, and nothing but regular files and directories is
//! opened at all. Sockets are left out: they mean nothing elsewhere.

use super::ids::Ids;
use orlop_sys::fs::{open_beneath, open_beneath_here, xattrs};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, readlinkat, statat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use tar::{Builder, EntryType, Header};

/// What is packed, and how.
pub struct Packer<W: Write> {
    archive: Builder<W>,
    ids: Ids,
    /// Leave out what is mounted in the tree: its place stays, empty.
    one_mount: bool,
    /// Files with several names: the first of them.
    names: HashMap<(u64, u64), PathBuf>,
}

/// File systems that hold nothing but views of the kernel; they are in no archive.
const VIEWS: [i64; 9] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x27_e0eb,   // cgroup
    0x6367_7270, // cgroup2
    0x1cd1,      // devpts
    0x1980_0202, // mqueue
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
];

impl<W: Write> Packer<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Self {
            archive: Builder::new(out),
            ids: Ids::default(),
            one_mount: false,
            names: HashMap::new(),
        }
    }

    pub(crate) fn with(out: W, ids: Ids, one_mount: bool) -> Self {
        Self { ids, one_mount, ..Self::new(out) }
    }

    /// Packs what `found` (opened with `O_PATH`) is, as `name`, with all below it.
    pub fn add(&mut self, found: &OwnedFd, name: &Path) -> io::Result<()> {
        let stat = fstat(found)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => self.tree(found, name),
            FileType::RegularFile => {
                // The descriptor is the file's, whatever its name leads to by now.
                let path = format!("/proc/self/fd/{}", found.as_raw_fd());
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let file = rustix::fs::open(path, flags, Mode::empty())?;
                self.file(file, name)
            }
            FileType::Symlink => {
                let target = readlinkat(found, "", Vec::new())?;
                self.link(&stat, name, OsStr::from_bytes(target.to_bytes()))
            }
            kind => self.special(&stat, kind, name),
        }
    }

    /// Ends the archive.
    pub fn finish(self) -> io::Result<W> {
        let mut out = self.archive.into_inner()?;
        out.flush()?;
        Ok(out)
    }

    fn tree(&mut self, top: &OwnedFd, name: &Path) -> io::Result<()> {
        // Directories that are still to be listed, below `top`.
        let mut pending = vec![PathBuf::from(".")];
        while let Some(path) = pending.pop() {
            let shown = if path == Path::new(".") { name.to_owned() } else { name.join(&path) };
            let Some(dir) = self.open(top, &path, OFlags::DIRECTORY)? else {
                if self.one_mount {
                    self.mounted(top, &path, &shown)?;
                }
                continue;
            };
            let stat = fstat(&dir)?;
            let attributes = xattrs(&dir).unwrap_or_default();
            let mut header = self.header(&stat, EntryType::Directory);
            self.append(&mut header, &shown, &attributes, io::empty())?;
            if is_view(&dir) {
                continue;
            }
            let before = pending.len();
            for entry in Dir::read_from(&dir)? {
                let entry = entry?;
                let entry = OsStr::from_bytes(entry.file_name().to_bytes());
                if entry != "." && entry != ".." {
                    self.entry(top, &dir, &path.join(entry), name, &mut pending)?;
                }
            }
            // As they lie in the directory, whatever the order of listing.
            if let Some(found) = pending.get_mut(before..) {
                found.sort_by(|a, b| b.cmp(a));
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        top: &OwnedFd,
        dir: &OwnedFd,
        path: &Path,
        name: &Path,
        pending: &mut Vec<PathBuf>,
    ) -> io::Result<()> {
        let own = path.file_name().unwrap_or_default();
        // Removed meanwhile.
        let Ok(stat) = statat(dir, own, AtFlags::SYMLINK_NOFOLLOW) else { return Ok(()) };
        let path_in = path.strip_prefix(".").unwrap_or(path);
        let shown = name.join(path_in);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => pending.push(path_in.to_owned()),
            FileType::RegularFile => match self.open(top, path_in, OFlags::empty())? {
                Some(fd) => self.file(fd, &shown)?,
                None if self.one_mount => self.mounted(top, path_in, &shown)?,
                None => {}
            },
            FileType::Symlink => {
                let Ok(target) = readlinkat(dir, own, Vec::new()) else { return Ok(()) };
                self.link(&stat, &shown, OsStr::from_bytes(target.to_bytes()))?;
            }
            kind => self.special(&stat, kind, &shown)?,
        }
        Ok(())
    }

    /// Opens below `top`; `None`: it has gone, is something else by now, or is another mount.
    fn open(&self, top: &OwnedFd, path: &Path, flags: OFlags) -> io::Result<Option<OwnedFd>> {
        let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let opened = if self.one_mount {
            open_beneath_here(top.as_fd(), path, flags)
        } else {
            open_beneath(top.as_fd(), path, flags, Mode::empty())
        };
        match opened {
            Ok(fd) => Ok(Some(fd)),
            Err(error) => match error.raw_os_error().map(Errno::from_raw_os_error) {
                Some(Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::NXIO | Errno::XDEV) => {
                    Ok(None)
                }
                _ => Err(error),
            },
        }
    }

    /// The place of another mount, empty.
    fn mounted(&mut self, top: &OwnedFd, path: &Path, shown: &Path) -> io::Result<()> {
        let Ok(fd) =
            open_beneath(top.as_fd(), path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())
        else {
            return Ok(());
        };
        let mut stat = fstat(&fd)?;
        stat.st_size = 0;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => EntryType::Directory,
            _ => EntryType::Regular,
        };
        let mut header = self.header(&stat, kind);
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
        self.append(&mut header, shown, &[], io::empty())
    }

    fn file(&mut self, fd: OwnedFd, shown: &Path) -> io::Result<()> {
        let stat = fstat(&fd)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(());
        }
        if stat.st_nlink > 1 {
            let key = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.names.get(&key) {
                let mut header = self.header(&stat, EntryType::Link);
                return self.archive.append_link(&mut header, shown, first);
            }
            self.names.insert(key, shown.to_owned());
        }
        let attributes = xattrs(&fd).unwrap_or_default();
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let mut header = self.header(&stat, EntryType::Regular);
        header.set_size(size);
        // Of a file that shrinks meanwhile the rest is zeros, as the header has promised its size.
        let content = File::from(fd).chain(io::repeat(0)).take(size);
        self.append(&mut header, shown, &attributes, content)
    }

    fn link(&mut self, stat: &Stat, shown: &Path, target: &OsStr) -> io::Result<()> {
        let mut header = self.header(stat, EntryType::Symlink);
        self.archive.append_link(&mut header, shown, target)
    }

    fn special(&mut self, stat: &Stat, kind: FileType, shown: &Path) -> io::Result<()> {
        let kind = match kind {
            FileType::CharacterDevice => EntryType::Char,
            FileType::BlockDevice => EntryType::Block,
            FileType::Fifo => EntryType::Fifo,
            _ => return Ok(()),
        };
        let mut header = self.header(stat, kind);
        if kind != EntryType::Fifo {
            header.set_device_major(rustix::fs::major(stat.st_rdev))?;
            header.set_device_minor(rustix::fs::minor(stat.st_rdev))?;
        }
        self.append(&mut header, shown, &[], io::empty())
    }

    fn header(&self, stat: &Stat, kind: EntryType) -> Header {
        let mut header = Header::new_gnu();
        let (uid, gid) = self.ids.inside(stat.st_uid, stat.st_gid);
        header.set_entry_type(kind);
        header.set_mode(stat.st_mode & 0o7777);
        header.set_uid(uid.into());
        header.set_gid(gid.into());
        header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
        header.set_size(0);
        header
    }

    fn append(
        &mut self,
        header: &mut Header,
        shown: &Path,
        attributes: &[(Vec<u8>, Vec<u8>)],
        content: impl Read,
    ) -> io::Result<()> {
        let kept = |name: &[u8]| name.starts_with(b"user.") || name == b"security.capability";
        let records: Vec<(String, &[u8])> = attributes
            .iter()
            .filter(|(name, _)| kept(name))
            .filter_map(|(name, value)| {
                let name = std::str::from_utf8(name).ok()?;
                Some((format!("SCHILY.xattr.{name}"), value.as_slice()))
            })
            .collect();
        if !records.is_empty() {
            let records = records.iter().map(|(name, value)| (name.as_str(), *value));
            self.archive.append_pax_extensions(records)?;
        }
        self.archive.append_data(header, shown, content)
    }
}

/// Whether a directory is in a file system that is a view of the kernel.
fn is_view(dir: &OwnedFd) -> bool {
    #[allow(clippy::unnecessary_cast, reason = "its type differs between architectures")]
    let kind = rustix::fs::fstatfs(dir).map_or(0, |found| found.f_type as i64);
    VIEWS.contains(&kind)
}
