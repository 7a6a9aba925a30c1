//! Paths inside the container's root: always by descriptor, never out of it.

use super::error::{At, Result, StageError, Step};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

/// The root of a container, before or after it became ours.
#[derive(Debug)]
pub(super) struct Root(OwnedFd);

/// What must be at the end of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    Directory,
    File,
}

impl Root {
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Opens what is at `path`; links are followed inside the root, magic links refused.
    pub(super) fn open(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        resolve(self.fd(), path, flags, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
    }

    /// Opens a directory of which no component may be a symbolic link, made if it is missing.
    pub(super) fn plain_directory(&self, path: &Path, step: Step) -> Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let strict = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
        let name = || path.display().to_string();
        match resolve(self.fd(), path, flags, strict) {
            Err(Errno::NOENT) => {
                self.create(path, Want::Directory, step)?;
                resolve(self.fd(), path, flags, strict).map_err(|errno| refusal(step, path, errno))
            }
            Err(errno @ (Errno::LOOP | Errno::NOTDIR)) => Err(refusal(step, path, errno)),
            other => other.at(step, name),
        }
    }

    /// Opens the target of a mount (`O_PATH`), made if it is missing.
    pub(super) fn target(&self, path: &Path, want: Want, step: Step) -> Result<OwnedFd> {
        match self.open(path, OFlags::PATH) {
            Err(Errno::NOENT) => self.create(path, want, step),
            other => other.at(step, || path.display().to_string()),
        }
    }

    /// Makes `path` and what leads to it. A dangling link on the way is followed as a shell would:
    /// its target is made, inside the root.
    fn create(&self, path: &Path, want: Want, step: Step) -> Result<OwnedFd> {
        const LINKS: u32 = 40;
        let name = || path.display().to_string();
        let mut wanted = components(path);
        for _ in 0..LINKS {
            match self.create_once(&wanted, want).at(step, name)? {
                Created::Done(fd) => return Ok(fd),
                Created::Link(rest) => wanted = rest,
            }
        }
        Err(StageError::kernel(step, path.display().to_string(), Errno::LOOP.raw_os_error()))
    }

    fn create_once(&self, wanted: &[OsString], want: Want) -> rustix::io::Result<Created> {
        // The longest part that exists, found from the end: usually all but the last name.
        let mut existing = wanted.len();
        let mut parent = loop {
            let prefix: PathBuf = wanted.iter().take(existing).collect();
            let prefix = if existing == 0 { PathBuf::from(".") } else { prefix };
            match self.open(&prefix, OFlags::PATH) {
                Err(Errno::NOENT) if existing > 0 => existing -= 1,
                other => break other?,
            }
        };
        // Nothing can be made in procfs, and what looks like a link there may be a magic one.
        if existing < wanted.len() && on_procfs(&parent)? {
            return Err(Errno::LOOP);
        }
        for (index, part) in wanted.iter().enumerate().skip(existing) {
            if part == ".." {
                return Err(Errno::NOENT);
            }
            let last = index + 1 == wanted.len();
            let made = if last && want == Want::File {
                let mode = Mode::from_raw_mode(0o644);
                rustix::fs::mknodat(&parent, part, FileType::RegularFile, mode, 0)
            } else {
                rustix::fs::mkdirat(&parent, part, Mode::from_raw_mode(0o755))
            };
            match made {
                Ok(()) => {}
                Err(Errno::EXIST) => {
                    let stat = rustix::fs::statat(&parent, part, AtFlags::SYMLINK_NOFOLLOW)?;
                    if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
                        return Ok(Created::Link(follow(&parent, wanted, index)?));
                    }
                }
                Err(errno) => return Err(errno),
            }
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            parent = rustix::fs::openat(&parent, part, flags, Mode::empty())?;
        }
        Ok(Created::Done(parent))
    }
}

fn on_procfs(fd: &OwnedFd) -> rustix::io::Result<bool> {
    const PROC_SUPER_MAGIC: i64 = 0x9fa0;
    rustix::fs::fstatfs(fd).map(|system| system.f_type == PROC_SUPER_MAGIC)
}

enum Created {
    Done(OwnedFd),
    /// A dangling link: try this instead.
    Link(Vec<OsString>),
}

/// The path with the link at `index` replaced by what it says.
fn follow(
    parent: &OwnedFd,
    wanted: &[OsString],
    index: usize,
) -> rustix::io::Result<Vec<OsString>> {
    use std::os::unix::ffi::OsStrExt;
    let part = wanted.get(index).ok_or(Errno::NOENT)?;
    let link = rustix::fs::readlinkat(parent, part, Vec::new())?;
    let link = Path::new(OsStr::from_bytes(link.to_bytes()));
    let before = if link.is_absolute() { &[] } else { wanted.get(..index).unwrap_or_default() };
    let after = wanted.get(index + 1..).unwrap_or_default();
    Ok(before.iter().cloned().chain(components(link)).chain(after.iter().cloned()).collect())
}

fn components(path: &Path) -> Vec<OsString> {
    let name = |component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(name).collect()
}

fn refusal(step: Step, path: &Path, errno: Errno) -> StageError {
    let cause = match errno {
        Errno::LOOP => "it is, or lies behind, a symbolic link in the image: make it a directory",
        Errno::NOTDIR => "it is not a directory in the image: make it one",
        _ => return StageError::kernel(step, path.display().to_string(), errno.raw_os_error()),
    };
    let refused = StageError::refuse(step, path.display().to_string(), cause);
    StageError { errno: errno.raw_os_error(), ..refused }
}

/// openat2, tried again when the kernel could not prove the result because of a rename on the way.
pub(super) fn resolve(
    dir: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    how: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    for _ in 0..128 {
        match openat2(dir, path, flags | OFlags::CLOEXEC, Mode::empty(), how) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}
