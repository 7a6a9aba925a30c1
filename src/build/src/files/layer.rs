//! A finished layer: its directory gets times that do not depend on when it was made, and its
//! archive is written and hashed in one pass, always in the same order.

use super::content::names;
use super::root::{entry, is, set_mtime};
use super::{FileError, at};
use crate::key;
use orlop_image::Finished;
use orlop_model::Digest;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What a layer's archive is made from.
pub(crate) struct LayerSource<'a> {
    /// The layer's directory.
    pub(crate) upper: &'a OwnedFd,
    /// What is below it, as one tree; nothing for the first layer.
    pub(crate) below: Option<&'a OwnedFd>,
    /// Entries changed since then (seconds, nanoseconds) get `epoch` as their time.
    pub(crate) started: (i64, i64),
    /// Seconds since 1970.
    pub(crate) epoch: i64,
}

/// Counts and hashes what passes.
struct Counter<W> {
    inner: W,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> Write for Counter<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.hash.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Writes the archive to `out` and says what the layer is, above the chain `below`.
pub(crate) fn write<W: Write>(
    source: &LayerSource<'_>,
    below: Option<&Digest>,
    out: W,
) -> Result<Finished, FileError> {
    let counter = Counter { inner: out, hash: Sha256::new(), bytes: 0 };
    let mut archive = Archive {
        tar: tar::Builder::new(counter),
        source,
        links: HashMap::new(),
        entries: 0,
        adopted: 0,
    };
    let root = (source.upper.try_clone(), source.below.map(OwnedFd::try_clone).transpose());
    let failed = || at::<io::Error>("open", Path::new("/"));
    let (upper, lower) = (root.0.map_err(failed())?, root.1.map_err(failed())?);
    archive.directory(&upper, lower.as_ref(), Path::new(""))?;
    let counter = archive.tar.into_inner().map_err(at("write the archive of", Path::new("/")))?;
    let diff_id = Digest::from_sha256(&counter.hash.finalize().into());
    Ok(Finished {
        chain: key::chain(below, &diff_id),
        diff_id,
        size: counter.bytes,
        entries: archive.entries,
        adopted: archive.adopted,
    })
}

struct Archive<'a, W: Write> {
    tar: tar::Builder<Counter<W>>,
    source: &'a LayerSource<'a>,
    links: HashMap<u64, PathBuf>,
    entries: u64,
    adopted: u64,
}

/// The start of what is finished: after every time there is, so that no file is changed again.
pub(crate) const NEVER: (i64, i64) = (i64::MAX, 0);

/// Overlayfs' mark for a directory that hides what is below it.
const OPAQUE: &[u8] = b"trusted.overlay.opaque";

impl<W: Write> Archive<'_, W> {
    /// The entries of a directory, which may be below too.
    fn directory(
        &mut self,
        dir: &OwnedFd,
        below: Option<&OwnedFd>,
        path: &Path,
    ) -> Result<(), FileError> {
        for name in names(dir).map_err(at("read", path))? {
            let path = path.join(&name);
            let stat = rustix::fs::statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(at("look at", &path))?;
            let stat = self.settle(dir, &name, stat).map_err(at("change", &path))?;
            if is(&stat, FileType::CharacterDevice) && stat.st_rdev == 0 {
                self.whiteout(&path, &name)?;
                continue;
            }
            if name.as_bytes().starts_with(b".wh.") {
                return Err(FileError::refused(format!(
                    "/{}: names that begin with .wh. cannot be in a layer, where they stand for removed files",
                    path.display()
                )));
            }
            if is(&stat, FileType::Directory) {
                self.subdirectory(dir, below, &name, &stat, &path)?;
            } else {
                if below.is_some_and(|below| same_entry(dir, below, &name, &stat)) {
                    self.adopted += 1;
                } else {
                    self.other(dir, &name, &stat, &path)?;
                }
            }
        }
        Ok(())
    }

    /// A time within this step says only when it ran.
    fn settle(&self, dir: &OwnedFd, name: &OsStr, stat: Stat) -> Result<Stat, rustix::io::Errno> {
        if (stat.st_mtime, stat.st_mtime_nsec as i64) < self.source.started {
            return Ok(stat);
        }
        let whiteout = is(&stat, FileType::CharacterDevice) && stat.st_rdev == 0;
        if !whiteout {
            set_mtime(dir, name, self.source.epoch, 0)?;
        }
        rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
    }

    fn subdirectory(
        &mut self,
        dir: &OwnedFd,
        below: Option<&OwnedFd>,
        name: &OsStr,
        stat: &Stat,
        path: &Path,
    ) -> Result<(), FileError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let inner =
            rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(at("open", path))?;
        let attributes = orlop_sys::fs::xattrs(&inner).map_err(at("read", path))?;
        let opaque = attributes.iter().any(|(name, value)| name == OPAQUE && value == b"y");
        let old = below
            .filter(|_| !opaque)
            .and_then(|below| rustix::fs::openat(below, name, flags, Mode::empty()).ok());
        let same = old.as_ref().is_some_and(|old| unchanged(old, stat, &attributes));
        // Overlayfs copies every directory on the way to a change; the archive has only changes.
        if same {
            self.adopted += 1;
        } else {
            let mut named = path.as_os_str().to_owned();
            named.push("/");
            self.append(Path::new(&named), stat, tar::EntryType::Directory, &attributes, None)?;
        }
        let hid = below.is_some_and(|below| entry(below, name).is_ok_and(|found| found.is_some()));
        if opaque && hid {
            self.marker(&path.join(".wh..wh..opq"))?;
        }
        self.directory(&inner, old.as_ref(), path)?;
        if self.source.started == NEVER {
            return Ok(());
        }
        // Entries that were settled must not have changed the directory's own time.
        set_mtime(dir, name, stat.st_mtime, stat.st_mtime_nsec as i64).map_err(at("change", path))
    }

    fn other(
        &mut self,
        dir: &OwnedFd,
        name: &OsStr,
        stat: &Stat,
        path: &Path,
    ) -> Result<(), FileError> {
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&stat.st_ino).cloned() {
                return self.append_link(path, stat, tar::EntryType::Link, &first);
            }
            self.links.insert(stat.st_ino, path.to_owned());
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
                let fd = rustix::fs::openat(dir, name, flags, Mode::empty())
                    .map_err(at("open", path))?;
                let attributes = orlop_sys::fs::xattrs(&fd).map_err(at("read", path))?;
                let file = std::fs::File::from(fd);
                self.append(path, stat, tar::EntryType::Regular, &attributes, Some(file))
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(dir, name, Vec::new())
                    .map_err(at("read the link", path))?;
                let target = PathBuf::from(OsStr::from_bytes(target.as_bytes()));
                self.append_link(path, stat, tar::EntryType::Symlink, &target)
            }
            FileType::CharacterDevice => self.append(path, stat, tar::EntryType::Char, &[], None),
            FileType::BlockDevice => self.append(path, stat, tar::EntryType::Block, &[], None),
            FileType::Fifo => self.append(path, stat, tar::EntryType::Fifo, &[], None),
            // Sockets have no place in an archive.
            _ => Ok(()),
        }
    }

    fn whiteout(&mut self, path: &Path, name: &OsStr) -> Result<(), FileError> {
        let mut marker = std::ffi::OsString::from(".wh.");
        marker.push(name);
        self.marker(&path.with_file_name(marker))
    }

    fn marker(&mut self, path: &Path) -> Result<(), FileError> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o600);
        header.set_size(0);
        // A mark has no time of its own.
        header.set_mtime(0);
        self.entries += 1;
        self.tar.append_data(&mut header, path, io::empty()).map_err(at("archive", path))
    }

    fn header(&mut self, stat: &Stat, kind: tar::EntryType) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(stat.st_mode & 0o7777);
        header.set_uid(stat.st_uid.into());
        header.set_gid(stat.st_gid.into());
        header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
        header.set_size(0);
        self.entries += 1;
        header
    }

    /// Nanoseconds and extended attributes, which the old header has no place for.
    fn extensions(
        &mut self,
        stat: &Stat,
        attributes: &[(Vec<u8>, Vec<u8>)],
        path: &Path,
    ) -> Result<(), FileError> {
        let mut records: Vec<(String, Vec<u8>)> = Vec::new();
        if stat.st_mtime_nsec != 0 {
            let time = format!("{}.{:09}", stat.st_mtime, stat.st_mtime_nsec);
            let time = time.trim_end_matches('0').as_bytes().to_vec();
            records.push(("mtime".into(), time));
        }
        for (name, value) in attributes {
            if name.starts_with(b"trusted.overlay.") || name == b"security.selinux" {
                continue;
            }
            if let Ok(name) = std::str::from_utf8(name) {
                records.push((format!("SCHILY.xattr.{name}"), value.clone()));
            }
        }
        records.sort();
        let borrowed = records.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        if records.is_empty() {
            return Ok(());
        }
        self.tar.append_pax_extensions(borrowed).map_err(at("archive", path))
    }

    fn append(
        &mut self,
        path: &Path,
        stat: &Stat,
        kind: tar::EntryType,
        attributes: &[(Vec<u8>, Vec<u8>)],
        file: Option<std::fs::File>,
    ) -> Result<(), FileError> {
        self.extensions(stat, attributes, path)?;
        let mut header = self.header(stat, kind);
        if matches!(kind, tar::EntryType::Char | tar::EntryType::Block) {
            let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
            header.set_device_major(major).map_err(at("archive", path))?;
            header.set_device_minor(minor).map_err(at("archive", path))?;
        }
        let done = match file {
            Some(file) => {
                let size = stat.st_size as u64;
                header.set_size(size);
                // A file that shrank would leave the archive short: nothing changes it any more.
                self.tar.append_data(&mut header, path, io::Read::take(file, size))
            }
            None => self.tar.append_data(&mut header, path, io::empty()),
        };
        done.map_err(at("archive", path))
    }

    fn append_link(
        &mut self,
        path: &Path,
        stat: &Stat,
        kind: tar::EntryType,
        target: &Path,
    ) -> Result<(), FileError> {
        if kind == tar::EntryType::Symlink {
            self.extensions(stat, &[], path)?;
        }
        let mut header = self.header(stat, kind);
        self.tar.append_link(&mut header, path, target).map_err(at("archive", path))
    }
}

/// Whether a directory is what it was below.
fn unchanged(old: &OwnedFd, stat: &Stat, attributes: &[(Vec<u8>, Vec<u8>)]) -> bool {
    let own = |attributes: &[(Vec<u8>, Vec<u8>)]| {
        let mut own: Vec<_> = attributes
            .iter()
            .filter(|(name, _)| !name.starts_with(b"trusted.overlay."))
            .cloned()
            .collect();
        own.sort();
        own
    };
    let Ok(was) = rustix::fs::fstat(old.as_fd()) else { return false };
    let Ok(before) = orlop_sys::fs::xattrs(old) else { return false };
    (was.st_mode, was.st_uid, was.st_gid) == (stat.st_mode, stat.st_uid, stat.st_gid)
        && (was.st_mtime, was.st_mtime_nsec) == (stat.st_mtime, stat.st_mtime_nsec)
        && own(&before) == own(attributes)
}

/// Whether an entry that is no directory is below already, down to its last byte and its time.
fn same_entry(dir: &OwnedFd, below: &OwnedFd, name: &OsStr, stat: &Stat) -> bool {
    let Ok(Some(old)) = entry(below, name) else { return false };
    let facts = |stat: &Stat| {
        let owner = (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev);
        (owner, stat.st_size, stat.st_mtime, stat.st_mtime_nsec)
    };
    // Names that share a file must be in one layer.
    if facts(stat) != facts(&old) || stat.st_nlink > 1 || old.st_nlink > 1 {
        return false;
    }
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => {
            let target = |dir: &OwnedFd| rustix::fs::readlinkat(dir, name, Vec::new()).ok();
            target(dir).is_some_and(|own| Some(own) == target(below))
        }
        FileType::RegularFile => same_file(dir, below, name).unwrap_or(false),
        _ => true,
    }
}

fn same_file(dir: &OwnedFd, below: &OwnedFd, name: &OsStr) -> io::Result<bool> {
    let open = |dir: &OwnedFd| {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        rustix::fs::openat(dir, name, flags, Mode::empty()).map(std::fs::File::from)
    };
    let (mut own, mut old) = (open(dir)?, open(below)?);
    let mut attributes = (orlop_sys::fs::xattrs(&own)?, orlop_sys::fs::xattrs(&old)?);
    attributes.0.retain(|(name, _)| !name.starts_with(b"trusted.overlay."));
    attributes.1.retain(|(name, _)| !name.starts_with(b"trusted.overlay."));
    if attributes.0 != attributes.1 {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        let (own, old) = (fill(&mut own, &mut left)?, fill(&mut old, &mut right)?);
        if left[..own] != right[..old] {
            return Ok(false);
        }
        if own == 0 {
            return Ok(true);
        }
    }
}

fn fill(file: &mut std::fs::File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match io::Read::read(file, &mut buffer[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}
