//! The digest of what a source holds: names, kinds, modes, owners, attributes and bytes, but not
//! times.

use super::root::is;
use super::select::{Selected, Tree, join, shown};
use super::stat_index::StatIndex;
use super::{FileError, at};
use crate::ignore::IgnoreRules;
use crate::key::Hasher;
use orlop_model::Digest;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use sha2::Digest as _;
use std::ffi::OsString;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Walks sources.
pub(crate) struct Content<'a> {
    pub(crate) tree: &'a Tree,
    /// `--exclude`.
    pub(crate) exclude: &'a IgnoreRules,
    pub(crate) index: &'a StatIndex,
}

/// What decides whether an entry below a source is seen.
pub(crate) fn seen(
    hidden: &IgnoreRules,
    exclude: &IgnoreRules,
    in_tree: &str,
    in_source: &str,
    directory: bool,
) -> Seen {
    let by = |rules: &IgnoreRules, path: &str| match () {
        () if rules.is_empty() || !rules.hides(path) => Seen::Yes,
        () if directory && rules.may_show_below(path) => Seen::Through,
        () => Seen::No,
    };
    by(hidden, in_tree).min(by(exclude, in_source))
}

/// Whether an entry is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Seen {
    /// Not at all.
    No,
    /// A directory that is copied only if something in it is.
    Through,
    /// Yes.
    Yes,
}

impl Content<'_> {
    /// Adds a source to a digest.
    pub(crate) fn add(&self, selected: &Selected, hasher: &mut Hasher) -> Result<(), FileError> {
        hasher.field(selected.name()).field(selected.kept.as_deref().unwrap_or_default());
        if !selected.is_dir() {
            if seen(&IgnoreRules::default(), self.exclude, "", selected.name(), false) != Seen::No {
                self.file(&selected.fd, &selected.stat, &selected.path, hasher)?;
            }
            return Ok(());
        }
        self.attributes(&selected.stat, hasher);
        let dir = reopen(selected.fd.as_fd(), OFlags::DIRECTORY)
            .map_err(at("open", &shown(&selected.path)))?;
        self.directory(&dir, &selected.path, "", hasher).map(drop)
    }

    /// Adds the entries of a directory; says whether there were any.
    fn directory(
        &self,
        dir: &OwnedFd,
        in_tree: &str,
        in_source: &str,
        hasher: &mut Hasher,
    ) -> Result<bool, FileError> {
        let mut any = false;
        for name in names(dir).map_err(at("read", &shown(in_tree)))? {
            let text = name.to_string_lossy();
            let (tree_path, source_path) = (join(in_tree, &text), join(in_source, &text));
            let failed = |op| at::<rustix::io::Errno>(op, &shown(&tree_path));
            let stat = rustix::fs::statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(failed("look at"))?;
            let directory = is(&stat, FileType::Directory);
            let seen = seen(&self.tree.hidden, self.exclude, &tree_path, &source_path, directory);
            match seen {
                Seen::No => continue,
                _ if directory => {
                    let flags =
                        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let below = rustix::fs::openat(dir, &name, flags, Mode::empty())
                        .map_err(failed("open"))?;
                    let mut inner = Hasher::default();
                    let filled = self.directory(&below, &tree_path, &source_path, &mut inner)?;
                    if seen == Seen::Through && !filled {
                        continue;
                    }
                    hasher.field(name.as_bytes());
                    self.attributes(&stat, hasher);
                    hasher.field(inner.finish().as_str());
                }
                _ => {
                    hasher.field(name.as_bytes());
                    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let fd = rustix::fs::openat(dir, &name, flags, Mode::empty())
                        .map_err(failed("open"))?;
                    self.file(&fd, &stat, &tree_path, hasher)?;
                }
            }
            any = true;
        }
        Ok(any)
    }

    fn attributes(&self, stat: &Stat, hasher: &mut Hasher) {
        let (uid, gid) = if self.tree.owned { (stat.st_uid, stat.st_gid) } else { (0, 0) };
        hasher.number(stat.st_mode.into()).number(uid.into()).number(gid.into());
    }

    fn file(
        &self,
        fd: &OwnedFd,
        stat: &Stat,
        path: &str,
        hasher: &mut Hasher,
    ) -> Result<(), FileError> {
        self.attributes(stat, hasher);
        let failed = |op| at::<std::io::Error>(op, &shown(path));
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                hasher.number(stat.st_size as u64);
                hasher.field(self.bytes(fd, stat).map_err(failed("read"))?.as_str());
                for (name, value) in file_attributes(fd).map_err(failed("read"))? {
                    hasher.field(name).field(value);
                }
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(fd, "", Vec::new())
                    .map_err(|error| failed("read the link")(error.into()))?;
                hasher.field(target.as_bytes());
            }
            _ => {
                hasher.number(stat.st_rdev);
            }
        }
        Ok(())
    }

    /// The digest of a file's bytes, from the index where it is known.
    fn bytes(&self, fd: &OwnedFd, stat: &Stat) -> std::io::Result<Digest> {
        if let Some(known) = self.index.get(stat) {
            return Ok(known);
        }
        let mut file = std::fs::File::from(reopen(fd.as_fd(), OFlags::empty())?);
        let mut sha = sha2::Sha256::new();
        let mut buffer = vec![0; 256 << 10];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                n => sha.update(&buffer[..n]),
            }
        }
        let digest: [u8; 32] = sha.finalize().into();
        let after = rustix::fs::fstat(&file)?;
        if (after.st_ctime, after.st_ctime_nsec) == (stat.st_ctime, stat.st_ctime_nsec) {
            self.index.put(&after, &digest);
        }
        Ok(Digest::from_sha256(&digest))
    }
}

/// Extended attributes that are copied: the user's own, and file capabilities.
pub(crate) fn file_attributes(fd: impl AsFd) -> std::io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let readable = reopen(fd.as_fd(), OFlags::empty())?;
    let mut found = orlop_sys::fs::xattrs(&readable)?;
    found.retain(|(name, _)| name.starts_with(b"user.") || name == b"security.capability");
    found.sort();
    Ok(found)
}

/// A readable descriptor of what an `O_PATH` one names.
pub(crate) fn reopen(fd: BorrowedFd<'_>, flags: OFlags) -> std::io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | flags;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Names in a directory, sorted as bytes.
pub(crate) fn names(dir: &OwnedFd) -> std::io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name.to_vec()));
        }
    }
    names.sort();
    Ok(names)
}
