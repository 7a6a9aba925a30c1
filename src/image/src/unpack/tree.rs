//! The directories of the layer. The destination starts empty and nobody else writes to it, so
//! this table knows every directory there is, and a name that is not in it is not a directory.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::ops::Bound;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use orlop_sys::fs::open_beneath;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::attributes::Attributes;
use super::error::UnpackError;
use super::path::{LONGEST, join, split};
use super::writers::Writers;

/// Directories held open at once, for one layer.
const OPEN: usize = 128;

/// Steps in following one name through links of the archive; the kernel allows 40 links of up to
/// 4096 bytes each, no honest name comes near.
const STEPS: usize = 4096;

/// Symbolic links in one name, as the kernel counts.
const LINKS: usize = 40;

/// A directory of the layer.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    /// What its member says; `None` as long as no member describes it.
    pub(crate) attributes: Option<Box<Attributes>>,
    /// Hides what lower layers have in it.
    pub(crate) opaque: bool,
    fd: Option<Arc<OwnedFd>>,
}

/// The directories by path, the root under the empty one.
pub(crate) struct Tree<'dest> {
    dest: BorrowedFd<'dest>,
    directories: BTreeMap<Vec<u8>, Directory>,
    /// Paths whose descriptor is held, oldest first.
    open: VecDeque<Vec<u8>>,
    /// Paths with a whiteout in this layer: a directory made there is new, not merged.
    hidden: HashSet<Vec<u8>>,
}

impl<'dest> Tree<'dest> {
    pub(crate) fn new(dest: BorrowedFd<'dest>) -> Self {
        let directories = BTreeMap::from([(Vec::new(), Directory::default())]);
        Self { dest, directories, open: VecDeque::new(), hidden: HashSet::new() }
    }

    /// All directories, parents before children.
    pub(crate) fn directories(&self) -> impl Iterator<Item = (&[u8], &Directory)> {
        self.directories.iter().map(|(path, directory)| (path.as_slice(), directory))
    }

    pub(crate) fn get_mut(&mut self, path: &[u8]) -> Option<&mut Directory> {
        self.directories.get_mut(path)
    }

    pub(crate) fn hide(&mut self, path: &[u8]) {
        self.hidden.insert(path.to_vec());
    }

    /// The directory's descriptor, for creating in it.
    pub(crate) fn open(&mut self, path: &[u8]) -> Result<Arc<OwnedFd>, UnpackError> {
        let Some(directory) = self.directories.get_mut(path) else {
            return Err(UnpackError::io("open", path, Errno::NOENT.into()));
        };
        if let Some(fd) = &directory.fd {
            return Ok(Arc::clone(fd));
        }
        let fd = Arc::new(open_directory(self.dest, path, OFlags::PATH)?);
        directory.fd = Some(Arc::clone(&fd));
        self.open.push_back(path.to_vec());
        if self.open.len() > OPEN {
            let oldest = self.open.pop_front().unwrap_or_default();
            if let Some(directory) = self.directories.get_mut(&oldest) {
                directory.fd = None;
            }
        }
        Ok(fd)
    }

    /// The path of the directory that `components` name, following the links of this archive as
    /// a process with this root would. Missing directories are made; `None` if `create` is false
    /// and one is missing.
    pub(crate) fn resolve(
        &mut self,
        components: &[&[u8]],
        create: bool,
        writers: &mut Writers<'_>,
    ) -> Result<Option<Vec<u8>>, UnpackError> {
        let direct = components.join(&b'/');
        if self.directories.contains_key(&direct) {
            return Ok(Some(direct));
        }
        let refuse = |reason: String| UnpackError::refused(components.join(&b'/'), reason);
        let mut rest: VecDeque<Vec<u8>> = components.iter().map(|part| part.to_vec()).collect();
        let (mut at, mut links, mut steps) = (Vec::new(), 0, 0);
        while let Some(part) = rest.pop_front() {
            steps += 1;
            if steps > STEPS {
                return Err(refuse("its parents have too many components".to_owned()));
            }
            match part.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    at = split(&at).map_or_else(Vec::new, |(parent, _)| parent.to_vec());
                    continue;
                }
                _ => {}
            }
            let next = join(&at, &part);
            if next.len() > LONGEST {
                return Err(refuse("its parents make a name that is too long".to_owned()));
            }
            if self.directories.contains_key(&next) {
                at = next;
                continue;
            }
            match self.link(&at, &part, &next, writers)? {
                Found::Link(target) => {
                    links += 1;
                    if links > LINKS {
                        return Err(refuse("its parents have too many links".to_owned()));
                    }
                    if target.first() == Some(&b'/') {
                        at = Vec::new();
                    }
                    for part in target.split(|&byte| byte == b'/').rev() {
                        rest.push_front(part.to_vec());
                    }
                }
                Found::Nothing | Found::Whiteout if create => {
                    self.make(&next, writers)?;
                    at = next;
                }
                Found::Nothing | Found::Whiteout => return Ok(None),
                Found::Leaf => {
                    let parent = next.escape_ascii();
                    return Err(refuse(format!("its parent \"{parent}\" is not a directory")));
                }
            }
        }
        Ok(Some(at))
    }

    /// What a name is that is not a directory.
    fn link(
        &mut self,
        parent: &[u8],
        name: &[u8],
        path: &[u8],
        writers: &mut Writers<'_>,
    ) -> Result<Found, UnpackError> {
        writers.settle(path)?;
        let fd = self.open(parent)?;
        match rustix::fs::readlinkat(&fd, name, Vec::new()) {
            Ok(target) => Ok(Found::Link(target.into_bytes())),
            Err(Errno::NOENT) => Ok(Found::Nothing),
            Err(Errno::INVAL) if is_whiteout(&fd, name) => Ok(Found::Whiteout),
            Err(Errno::INVAL) => Ok(Found::Leaf),
            Err(error) => Err(UnpackError::io("read", path, error.into())),
        }
    }

    /// Makes sure that a directory is at `path`, whose parent exists. One that takes the place of
    /// something else of this layer, or of a whiteout, does not show what lower layers have there.
    pub(crate) fn make(
        &mut self,
        path: &[u8],
        writers: &mut Writers<'_>,
    ) -> Result<(), UnpackError> {
        if self.directories.contains_key(path) {
            return Ok(());
        }
        let Some((parent, name)) = split(path) else { return Ok(()) };
        writers.settle(path)?;
        let fd = self.open(parent)?;
        let make = || rustix::fs::mkdirat(&fd, name, Mode::from_raw_mode(0o700));
        let failed = |error: Errno| UnpackError::io("create directory", path, error.into());
        let mut opaque = self.hidden.contains(path);
        match make() {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                writers.unlink(&fd, name, path)?;
                make().map_err(failed)?;
                opaque = true;
            }
            Err(error) => return Err(failed(error)),
        }
        writers.count_inode();
        self.directories.insert(path.to_vec(), Directory { opaque, ..Directory::default() });
        Ok(())
    }

    /// Removes the directory at `path` with all that is in it, if there is one, to make place for
    /// something else.
    pub(crate) fn clear(
        &mut self,
        path: &[u8],
        writers: &mut Writers<'_>,
    ) -> Result<(), UnpackError> {
        if !self.directories.contains_key(path) {
            return Ok(());
        }
        writers.settle_all()?;
        // Children first: in the order of bytes every path sorts after its parent, but
        // "a/b" sorts after "a.b"; the range of all that start with "path/" has no gap.
        let mut below = path.to_vec();
        below.push(b'/');
        let mut end = path.to_vec();
        end.push(b'/' + 1);
        let range = (Bound::Included(below), Bound::Excluded(end));
        let mut doomed: Vec<Vec<u8>> =
            self.directories.range::<Vec<u8>, _>(range).map(|(path, _)| path.clone()).collect();
        doomed.insert(0, path.to_vec());
        for directory in doomed.iter().rev() {
            self.remove_one(directory, writers)?;
        }
        Ok(())
    }

    /// Removes a directory whose subdirectories are gone.
    fn remove_one(&mut self, path: &[u8], writers: &mut Writers<'_>) -> Result<(), UnpackError> {
        let failed = |error: Errno| UnpackError::io("remove", path, error.into());
        let fd = open_directory(self.dest, path, OFlags::RDONLY)?;
        let mut entries = rustix::fs::Dir::read_from(&fd).map_err(failed)?;
        while let Some(entry) = entries.read() {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                writers.unlink(&fd, name, path)?;
            }
        }
        let Some((parent, name)) = split(path) else { return Ok(()) };
        let fd = self.open(parent)?;
        rustix::fs::unlinkat(&fd, name, AtFlags::REMOVEDIR).map_err(failed)?;
        writers.uncount_inode();
        self.directories.remove(path);
        self.open.retain(|open| open != path);
        Ok(())
    }
}

/// What was found under a name that is not a directory.
enum Found {
    Nothing,
    Link(Vec<u8>),
    Whiteout,
    Leaf,
}

/// Whether a name is overlayfs' mark for "not here, whatever lower layers say".
pub(crate) fn is_whiteout(dir: &OwnedFd, name: &[u8]) -> bool {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
    })
}

/// Opens a directory of the layer by its canonical path; no component may be a link.
pub(crate) fn open_directory(
    dest: BorrowedFd<'_>,
    path: &[u8],
    access: OFlags,
) -> Result<OwnedFd, UnpackError> {
    use std::os::unix::ffi::OsStrExt as _;
    let name = if path.is_empty() { b"." } else { path };
    let flags = access | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    open_beneath(dest, std::ffi::OsStr::from_bytes(name), flags, Mode::empty())
        .map_err(|source| UnpackError::io("open directory", path, source))
}
