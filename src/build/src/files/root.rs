//! A root that is being changed: directories are made and links are followed within it. Nobody
//! else changes it meanwhile.

use super::{FileError, at};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// Links that may be followed on the way to one path, as the kernel has it.
const LINKS: u32 = 40;

/// What directories get that are made because something goes below them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Implicit {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u32,
    /// Seconds since 1970.
    pub(crate) mtime: i64,
}

/// Where something is to be put: a directory and a name in it.
pub(crate) struct Place {
    pub(crate) dir: OwnedFd,
    pub(crate) name: OsString,
}

/// The root's descriptor.
pub(crate) struct Root(pub(crate) OwnedFd);

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Root {
    /// The directory at `path`, with all that is missing made.
    pub(crate) fn make_dirs(&self, path: &Path, made: &Implicit) -> Result<OwnedFd, FileError> {
        let mut walk = Walk::new(self.0.as_fd(), path)?;
        walk.run(path, Some(made), 0)?;
        walk.into_dir()
    }

    /// Directory and name for an entry at `path`, its parents made. Links are followed, also the
    /// last one: what it names is what gets replaced.
    pub(crate) fn place(&self, path: &Path, made: &Implicit) -> Result<Place, FileError> {
        let mut walk = Walk::new(self.0.as_fd(), path)?;
        loop {
            walk.run(path, Some(made), 1)?;
            let Some(name) = walk.queue.pop_front() else {
                return Err(FileError::refused(format!("{} is a directory", path.display())));
            };
            if name == ".." || name == "." {
                walk.queue.push_front(name);
                walk.run(path, Some(made), 0)?;
                return Err(FileError::refused(format!("{} is a directory", path.display())));
            }
            let link = rustix::fs::readlinkat(walk.top(), &name, Vec::new());
            match link {
                Ok(target) => walk.follow(path, target.as_bytes())?,
                Err(_) => return Ok(Place { dir: walk.into_dir()?, name }),
            }
        }
    }

    /// What is at `path`, links followed; nothing where there is none.
    pub(crate) fn stat(&self, path: &Path) -> Option<Stat> {
        let fd =
            orlop_sys::fs::open_in_root(self.0.as_fd(), clean(path), OFlags::PATH, Mode::empty());
        fd.ok().and_then(|fd| rustix::fs::fstat(fd).ok())
    }

    /// Whether `path` is a directory, links followed.
    pub(crate) fn is_dir(&self, path: &Path) -> bool {
        self.stat(path).is_some_and(|stat| is(&stat, FileType::Directory))
    }

    /// A small text file of the root; empty where there is none.
    pub(crate) fn text(&self, path: &str) -> Result<String, FileError> {
        const LIMIT: u64 = 16 << 20;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let fd = match orlop_sys::fs::open_in_root(self.0.as_fd(), path, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
            Err(error) => return Err(at("open", Path::new(path))(error)),
        };
        let stat = rustix::fs::fstat(&fd).map_err(at("read", Path::new(path)))?;
        if !is(&stat, FileType::RegularFile) {
            return Err(FileError::refused(format!("{path} of the root is not a regular file")));
        }
        let mut text = Vec::new();
        std::fs::File::from(fd)
            .take(LIMIT)
            .read_to_end(&mut text)
            .map_err(at("read", Path::new(path)))?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

fn clean(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new("/") } else { path }
}

pub(crate) fn is(stat: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(stat.st_mode) == kind
}

/// The entry itself, no link followed.
pub(crate) fn entry(dir: impl AsFd, name: &OsStr) -> Result<Option<Stat>, Errno> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sets the modification time, and the access time to the same.
pub(crate) fn set_mtime(
    dir: impl AsFd,
    name: &OsStr,
    seconds: i64,
    nanoseconds: i64,
) -> Result<(), Errno> {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)
}

/// Sets owner and mode of an entry that is no link; the mode last, since a new owner clears bits.
pub(crate) fn set_owner_mode(
    dir: impl AsFd,
    name: &OsStr,
    uid: u32,
    gid: u32,
    mode: u32,
) -> Result<(), Errno> {
    own(&dir, name, uid, gid)?;
    rustix::fs::chmodat(&dir, name, Mode::from_raw_mode(mode & 0o7777), AtFlags::empty())
}

/// Sets the owner of an entry, also of a link.
pub(crate) fn own(dir: impl AsFd, name: &OsStr, uid: u32, gid: u32) -> Result<(), Errno> {
    let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
}

/// A way through the root, one component at a time.
struct Walk<'a> {
    root: BorrowedFd<'a>,
    /// Directories from below the root to here.
    stack: Vec<OwnedFd>,
    queue: VecDeque<OsString>,
    links: u32,
}

impl<'a> Walk<'a> {
    fn new(root: BorrowedFd<'a>, path: &Path) -> Result<Self, FileError> {
        let mut walk = Self { root, stack: Vec::new(), queue: VecDeque::new(), links: 0 };
        walk.prepend(path.as_os_str().as_bytes());
        Ok(walk)
    }

    fn top(&self) -> BorrowedFd<'_> {
        self.stack.last().map_or(self.root, |fd| fd.as_fd())
    }

    fn into_dir(mut self) -> Result<OwnedFd, FileError> {
        match self.stack.pop() {
            Some(fd) => Ok(fd),
            None => self.root.try_clone_to_owned().map_err(at("open", Path::new("/"))),
        }
    }

    fn prepend(&mut self, path: &[u8]) {
        let parts =
            path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
        for part in parts.rev() {
            self.queue.push_front(OsString::from_vec(part.to_vec()));
        }
    }

    fn follow(&mut self, path: &Path, target: &[u8]) -> Result<(), FileError> {
        self.links += 1;
        if self.links > LINKS {
            return Err(at("follow the links of", path)(Errno::LOOP));
        }
        if target.starts_with(b"/") {
            self.stack.clear();
        }
        self.prepend(target);
        Ok(())
    }

    /// Goes on until `keep` components are left.
    fn run(&mut self, path: &Path, made: Option<&Implicit>, keep: usize) -> Result<(), FileError> {
        while self.queue.len() > keep {
            let Some(name) = self.queue.pop_front() else { break };
            if name == ".." {
                self.stack.pop();
                continue;
            }
            match rustix::fs::openat(self.top(), &name, DIRECTORY, Mode::empty()) {
                Ok(fd) => self.stack.push(fd),
                Err(Errno::NOENT) => {
                    let Some(made) = made else { return Err(at("open", path)(Errno::NOENT)) };
                    let fd =
                        make_dir(self.top(), &name, made).map_err(at("make directory", path))?;
                    self.stack.push(fd);
                }
                // A link, or no directory at all.
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    let target = rustix::fs::readlinkat(self.top(), &name, Vec::new())
                        .map_err(|_| at("enter", path)(Errno::NOTDIR))?;
                    self.follow(path, target.as_bytes())?;
                }
                Err(error) => return Err(at("open", path)(error)),
            }
        }
        Ok(())
    }
}

fn make_dir(dir: BorrowedFd<'_>, name: &OsStr, made: &Implicit) -> Result<OwnedFd, Errno> {
    rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o700))?;
    set_owner_mode(dir, name, made.uid, made.gid, made.mode)?;
    set_mtime(dir, name, made.mtime, 0)?;
    rustix::fs::openat(dir, name, DIRECTORY, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MADE: Implicit = Implicit { uid: 0, gid: 0, mode: 0o755, mtime: 1 };

    #[test]
    fn links_stay_within_the_root() {
        let temp = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let link = |target: &str, name: &str| {
            std::os::unix::fs::symlink(target, temp.path().join(name)).unwrap();
        };
        link(outside.path().to_str().unwrap(), "abs");
        link("../../../../..", "up");
        link("loop", "loop");
        link("made/here", "dangling");
        let root = Root(orlop_sys::fs::open_dir(temp.path()).unwrap());
        root.make_dirs(Path::new("/abs/x"), &MADE).unwrap();
        root.make_dirs(Path::new("up/y"), &MADE).unwrap();
        root.make_dirs(Path::new("dangling/z/../w"), &MADE).unwrap();
        assert!(root.make_dirs(Path::new("loop/q"), &MADE).is_err());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
        assert!(temp.path().join("y").is_dir() && temp.path().join("made/here/w").is_dir());
        let place = root.place(Path::new("dangling"), &MADE).unwrap();
        assert_eq!(place.name, "here");
        assert!(root.place(Path::new("made/.."), &MADE).is_err());
        std::fs::write(temp.path().join("file"), "x").unwrap();
        assert!(root.make_dirs(Path::new("file/q"), &MADE).is_err());
        assert_eq!(root.text("/file").unwrap(), "x");
        assert_eq!(root.text("/none").unwrap(), "");
    }
}
