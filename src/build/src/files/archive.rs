//! Archives that `ADD` unpacks: tar, plain or compressed, known by their content.

use super::content::reopen;
use super::root::{Implicit, Root, entry, is, own, set_mtime, set_owner_mode};
use super::select::shown;
use super::{FileError, at};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, XattrFlags};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Bytes that an archive may unpack to: beyond any image, below any disk's patience.
const LIMIT: u64 = 1 << 40;

/// A reader of the archive's tar, if the file is one.
pub(crate) fn open(fd: &OwnedFd) -> io::Result<Option<Box<dyn Read>>> {
    let mut file = File::from(reopen(fd.as_fd(), OFlags::empty())?);
    sniff(&mut file)
}

/// As [`open`], of a file that is open for reading.
pub(crate) fn sniff(file: &mut File) -> io::Result<Option<Box<dyn Read>>> {
    let mut head = [0; 6];
    let got = read_up_to(file, &mut head)?;
    file.rewind()?;
    let head = &head[..got];
    let plain = || file.try_clone();
    let decoded: Box<dyn Read> = if head.starts_with(&[0x1f, 0x8b]) {
        Box::new(flate2::read::MultiGzDecoder::new(BufReader::new(plain()?)))
    } else if head.starts_with(b"BZh") {
        Box::new(bzip2::read::MultiBzDecoder::new(BufReader::new(plain()?)))
    } else if head.starts_with(&[0xfd, b'7', b'z', b'X', b'Z', 0]) {
        Box::new(lzma_rust2::XzReader::new(BufReader::new(plain()?), true))
    } else if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Box::new(zstd::Decoder::new(plain()?)?)
    } else {
        Box::new(BufReader::new(plain()?))
    };
    // A compressed file that holds no tar is a file like any other.
    let mut decoded = decoded;
    let mut first = vec![0; 512];
    match read_up_to(&mut decoded, &mut first) {
        Ok(512) if is_tar(&first) => {
            Ok(Some(Box::new(io::Cursor::new(first).chain(decoded).take(LIMIT))))
        }
        _ => {
            file.rewind()?;
            Ok(None)
        }
    }
}

fn read_up_to(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

/// Whether a block is the header of a tar: its checksum is right.
fn is_tar(block: &[u8]) -> bool {
    let sum: u32 = block
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
        .sum();
    let text = std::str::from_utf8(&block[148..156]).unwrap_or_default();
    let text = text.trim_matches(['\0', ' ']);
    block.iter().any(|byte| *byte != 0) && u32::from_str_radix(text, 8).is_ok_and(|own| own == sum)
}

/// Unpacks into the directory `target` of the root.
pub(crate) fn unpack(
    root: &Root,
    target: &Path,
    archive: Box<dyn Read>,
    implicit: &Implicit,
    owner: Option<(u32, u32)>,
) -> Result<(), FileError> {
    root.make_dirs(target, implicit)?;
    let failed = |op| at::<io::Error>(op, target);
    let mut archive = tar::Archive::new(archive);
    let mut directories = Vec::new();
    for member in archive.entries().map_err(failed("read the archive for"))? {
        let mut member = member.map_err(failed("read the archive for"))?;
        let Some(path) = inside(&member.path().map_err(failed("read the archive for"))?) else {
            // The archive's root must not change the directory that it is unpacked into.
            continue;
        };
        let full = target.join(&path);
        let unpacker = Unpacker { root, target, implicit, owner, full: &full };
        if let Some(later) = unpacker.member(&mut member)? {
            directories.push(later);
        }
    }
    for (dir, name, mtime, path) in directories.into_iter().rev() {
        // It may have been replaced by a later member.
        if entry(&dir, OsStr::from_bytes(&name)).is_ok_and(|found| found.is_some()) {
            set_mtime(&dir, OsStr::from_bytes(&name), mtime, 0).map_err(at("change", &path))?;
        }
    }
    Ok(())
}

/// The path of a member below the archive's root; `None` for the root itself.
fn inside(path: &Path) -> Option<PathBuf> {
    let mut inside = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => inside.push(part),
            Component::ParentDir => drop(inside.pop()),
            _ => {}
        }
    }
    (!inside.as_os_str().is_empty()).then_some(inside)
}

/// A directory whose time is set when all is unpacked: where it is, its name, the time, its path.
type Later = (OwnedFd, Vec<u8>, i64, PathBuf);

struct Unpacker<'a> {
    root: &'a Root,
    target: &'a Path,
    implicit: &'a Implicit,
    owner: Option<(u32, u32)>,
    full: &'a Path,
}

impl Unpacker<'_> {
    fn member<R: Read>(&self, member: &mut tar::Entry<'_, R>) -> Result<Option<Later>, FileError> {
        let io_failed = |op| at::<io::Error>(op, self.full);
        let failed = |op| at::<rustix::io::Errno>(op, self.full);
        let kind = member.header().entry_type();
        if kind.is_pax_global_extensions() {
            return Ok(None);
        }
        let parent = self.full.parent().unwrap_or(Path::new("/"));
        let name = self.full.file_name().unwrap_or_default();
        let dir = self.root.make_dirs(parent, self.implicit)?;
        let found = entry(&dir, name).map_err(failed("look at"))?;
        let is_dir = found.as_ref().is_some_and(|found| is(found, FileType::Directory));
        match found {
            Some(_) if is_dir && kind == tar::EntryType::Directory => {}
            // A link to a directory stands for it, as with any other file of the root.
            Some(found)
                if kind == tar::EntryType::Directory
                    && is(&found, FileType::Symlink)
                    && self.root.is_dir(self.full) =>
            {
                return Ok(None);
            }
            Some(_) => remove(&dir, name).map_err(failed("replace"))?,
            None => {}
        }
        let header = member.header().clone();
        let mode = header.mode().map_err(io_failed("read the archive for"))? & 0o7777;
        let ids = (header.uid(), header.gid());
        let number =
            |id: io::Result<u64>| id.ok().and_then(|id| u32::try_from(id).ok()).unwrap_or(0);
        let (uid, gid) = self.owner.unwrap_or((number(ids.0), number(ids.1)));
        let mtime = header.mtime().ok().and_then(|time| i64::try_from(time).ok()).unwrap_or(0);
        match kind {
            tar::EntryType::Directory => {
                if !is_dir {
                    rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o700))
                        .map_err(failed("make directory"))?;
                }
                set_owner_mode(&dir, name, uid, gid, mode).map_err(failed("change"))?;
                return Ok(Some((dir, name.as_bytes().to_vec(), mtime, self.full.to_owned())));
            }
            tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
                self.file(&dir, name, member, (uid, gid))?;
                set_owner_mode(&dir, name, uid, gid, mode).map_err(failed("change"))?;
                self.extended(&dir, name, member)?;
            }
            tar::EntryType::Symlink => {
                let link = member.link_name_bytes().unwrap_or_default();
                rustix::fs::symlinkat(link.as_ref(), &dir, name)
                    .map_err(failed("make the link"))?;
                own(&dir, name, uid, gid).map_err(failed("change"))?;
            }
            tar::EntryType::Link => {
                self.hard_link(&dir, name, member)?;
                return Ok(None);
            }
            tar::EntryType::Char | tar::EntryType::Block | tar::EntryType::Fifo => {
                let kind = match kind {
                    tar::EntryType::Char => FileType::CharacterDevice,
                    tar::EntryType::Block => FileType::BlockDevice,
                    _ => FileType::Fifo,
                };
                let part = |part: io::Result<Option<u32>>| part.ok().flatten().unwrap_or(0);
                let (major, minor) = (part(header.device_major()), part(header.device_minor()));
                let device = rustix::fs::makedev(major, minor);
                if kind == FileType::CharacterDevice && device == 0 {
                    return Err(FileError::refused(format!(
                        "{}: a character device 0:0 stands for a removed file",
                        self.full.display()
                    )));
                }
                let flags = Mode::from_raw_mode(0o600);
                rustix::fs::mknodat(&dir, name, kind, flags, device)
                    .map_err(failed("make the device"))?;
                set_owner_mode(&dir, name, uid, gid, mode).map_err(failed("change"))?;
            }
            _ => return Ok(None),
        }
        set_mtime(&dir, name, mtime, 0).map_err(failed("change"))?;
        Ok(None)
    }

    fn file<R: Read>(
        &self,
        dir: &OwnedFd,
        name: &OsStr,
        member: &mut tar::Entry<'_, R>,
        (uid, gid): (u32, u32),
    ) -> Result<(), FileError> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o600))
            .map_err(at("make", self.full))?;
        own(dir, name, uid, gid).map_err(at("change", self.full))?;
        io::copy(member, &mut File::from(fd)).map_err(at("write", self.full))?;
        Ok(())
    }

    fn extended<R: Read>(
        &self,
        dir: &OwnedFd,
        name: &OsStr,
        member: &mut tar::Entry<'_, R>,
    ) -> Result<(), FileError> {
        let Ok(Some(extensions)) = member.pax_extensions() else { return Ok(()) };
        for extension in extensions.flatten() {
            let Some(attribute) = extension.key_bytes().strip_prefix(b"SCHILY.xattr.") else {
                continue;
            };
            if !(attribute.starts_with(b"user.") || attribute == b"security.capability") {
                continue;
            }
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = rustix::fs::openat(dir, name, flags, Mode::empty())
                .map_err(at("open", self.full))?;
            rustix::fs::fsetxattr(&fd, attribute, extension.value_bytes(), XattrFlags::empty())
                .map_err(at("set an attribute of", self.full))?;
        }
        Ok(())
    }

    fn hard_link<R: Read>(
        &self,
        dir: &OwnedFd,
        name: &OsStr,
        member: &tar::Entry<'_, R>,
    ) -> Result<(), FileError> {
        let target = member.link_name_bytes().unwrap_or_default();
        let Some(inside) = inside(Path::new(OsStr::from_bytes(&target))) else {
            return Err(FileError::refused(format!(
                "{}: a hard link to the archive's root",
                self.full.display()
            )));
        };
        let path = self.target.join(inside);
        let parent = path.parent().unwrap_or(Path::new("/"));
        let from = self.root.make_dirs(parent, self.implicit)?;
        let to = path.file_name().unwrap_or_default();
        rustix::fs::linkat(&from, to, dir, name, AtFlags::empty()).map_err(at("link", self.full))
    }
}

/// Removes an entry with everything below it.
pub(crate) fn remove(dir: &OwnedFd, name: &OsStr) -> Result<(), rustix::io::Errno> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Err(rustix::io::Errno::ISDIR | rustix::io::Errno::PERM) => {}
        other => return other,
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inner = rustix::fs::openat(dir, name, flags, Mode::empty())?;
    let below = super::content::names(&inner).map_err(|_| rustix::io::Errno::IO)?;
    for below in below {
        remove(&inner, &below)?;
    }
    rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)
}

/// The path of a source for messages.
pub(crate) fn named(path: &str) -> PathBuf {
    shown(path)
}
