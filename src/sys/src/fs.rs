//! Files by descriptor: resolution that cannot leave a directory, writing that is whole or absent,
//! and making data durable.

mod lock;
mod project;

pub use lock::lock_file;
pub use project::{project, project_usage, set_project};

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Mode of a file made by [`atomic_write`]: only its owner reads and writes it.
const PRIVATE: u32 = 0o600;

/// Opens `path` below `dir`. Fails with `ELOOP` when any component, the last included, is a
/// symbolic link and with `EXDEV` when the path is absolute or leaves `dir` through `..`.
/// The descriptor is close-on-exec.
pub fn open_beneath(
    dir: BorrowedFd<'_>,
    path: impl AsRef<Path>,
    flags: OFlags,
    mode: Mode,
) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    resolved(dir, path.as_ref(), flags, mode, resolve)
}

/// As [`open_beneath`], and fails with `EXDEV` also where the way leads into another mount than that
/// of `dir`.
pub fn open_beneath_here(
    dir: BorrowedFd<'_>,
    path: impl AsRef<Path>,
    flags: OFlags,
) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    resolved(dir, path.as_ref(), flags, Mode::empty(), resolve)
}

/// Opens `path` as if `dir` were `/`: absolute names, absolute symbolic links and `..` are taken
/// relative to `dir` and cannot leave it. Magic links (`/proc/self/fd/3`) are refused.
/// The descriptor is close-on-exec.
pub fn open_in_root(
    dir: BorrowedFd<'_>,
    path: impl AsRef<Path>,
    flags: OFlags,
    mode: Mode,
) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    resolved(dir, path.as_ref(), flags, mode, resolve)
}

/// `openat2`, repeated when the kernel saw a rename on the way and could not prove the result
/// (`EAGAIN`) or a signal came in.
fn resolved(
    dir: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    mode: Mode,
    resolve: ResolveFlags,
) -> io::Result<OwnedFd> {
    const ATTEMPTS: u32 = 128;
    let mut tried = 0;
    loop {
        tried += 1;
        match rustix::fs::openat2(dir, path, flags | OFlags::CLOEXEC, mode, resolve) {
            Err(Errno::AGAIN | Errno::INTR) if tried < ATTEMPTS => {}
            other => return Ok(other?),
        }
    }
}

/// Opens a directory by path, the way in to everything here. Follows symbolic links: for paths
/// that the operator configured, never for a path inside a container.
pub fn open_dir(path: impl AsRef<Path>) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path.as_ref(), flags, Mode::empty())?)
}

/// Writes the file `name` in `dir` so that a reader sees the old content or the new content,
/// never a part: into a temporary name, then a rename. With `durable` the content is on the disk
/// before the name and the name is on the disk when the call returns; without it a power cut may
/// lose the write. The file gets mode 0600.
pub fn atomic_write(
    dir: BorrowedFd<'_>,
    name: impl AsRef<OsStr>,
    bytes: &[u8],
    durable: bool,
) -> io::Result<()> {
    let name = plain_name(name.as_ref())?;
    let (temporary, file) = temporary_file(dir, name)?;
    let written = write_and_rename(dir, &temporary, file, name, bytes, durable);
    if written.is_err() {
        // The error that matters is the first one; a leftover temporary file is harmless.
        let _ = rustix::fs::unlinkat(dir, temporary.as_str(), AtFlags::empty());
    }
    written
}

/// One path component that names an entry of a directory.
fn plain_name(name: &OsStr) -> io::Result<&OsStr> {
    let bytes = name.as_encoded_bytes();
    let plain = !bytes.is_empty()
        && bytes != b"."
        && bytes != b".."
        && !bytes.iter().any(|byte| matches!(byte, b'/' | 0));
    if plain { Ok(name) } else { Err(Errno::INVAL.into()) }
}

/// Creates a file with a name that no other writer of this or another process uses.
/// It does not depend on `name`, which may already have the longest length allowed.
fn temporary_file(dir: BorrowedFd<'_>, _name: &OsStr) -> io::Result<(String, File)> {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    loop {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let temporary = format!(".tmp-{}-{number}", std::process::id());
        match rustix::fs::openat(dir, temporary.as_str(), flags, Mode::from_raw_mode(PRIVATE)) {
            Ok(file) => return Ok((temporary, File::from(file))),
            // Left by a process that had the same pid and died half way.
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn write_and_rename(
    dir: BorrowedFd<'_>,
    temporary: &str,
    mut file: File,
    name: &OsStr,
    bytes: &[u8],
    durable: bool,
) -> io::Result<()> {
    file.write_all(bytes)?;
    if durable {
        file.sync_data()?;
    }
    rustix::fs::renameat(dir, temporary, dir, name)?;
    if durable {
        sync_dir(dir)?;
    }
    Ok(())
}

/// Makes the names in a directory durable.
pub fn sync_dir(dir: BorrowedFd<'_>) -> io::Result<()> {
    // `dir` may be an O_PATH descriptor, which fsync refuses.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let readable = rustix::fs::openat(dir, c".", flags, Mode::empty())?;
    Ok(rustix::fs::fsync(readable)?)
}

/// Makes everything durable that was written to the file system of `fd`, also by others.
pub fn sync_fs(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::syncfs(fd)?)
}

/// Sets an extended attribute of the entry `name` of `dir`, also of a symbolic link or a device,
/// which cannot be opened without following or waking it. `name` is one component.
pub fn set_xattr_at(
    dir: impl AsFd,
    name: &[u8],
    attribute: &[u8],
    value: &[u8],
) -> rustix::io::Result<()> {
    let path = entry_path(dir.as_fd(), name)?;
    rustix::fs::lsetxattr(path, attribute, value, rustix::fs::XattrFlags::empty())
}

/// A path for the calls that have no form with a directory descriptor: the magic link leads to the
/// directory itself, and the last component is not followed by the `l...` calls.
fn entry_path(dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<Vec<u8>> {
    let name = plain_name(OsStr::from_bytes(name)).map_err(|_| Errno::INVAL)?;
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.as_bytes());
    Ok(path)
}

/// The extended attributes of an open file or directory: names and values.
pub fn xattrs(fd: impl AsFd) -> rustix::io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    /// The kernel's own bound of a list and of a value.
    const MOST: usize = 64 * 1024;
    let mut list = Vec::with_capacity(MOST);
    match rustix::fs::flistxattr(&fd, rustix::buffer::spare_capacity(&mut list)) {
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for name in list.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let mut value = Vec::with_capacity(MOST);
        match rustix::fs::fgetxattr(&fd, name, rustix::buffer::spare_capacity(&mut value)) {
            // Removed meanwhile, or listed by a security module that does not give it out.
            Err(Errno::NODATA | Errno::OPNOTSUPP) => continue,
            other => other?,
        };
        found.push((name.to_vec(), value));
    }
    Ok(found)
}

/// The mode bits that new files of this process do not get. Read, not set and set back: other
/// threads create files meanwhile. All bits if the kernel does not say.
pub fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok()).unwrap_or(0o777)
}

/// Begins to write the data of a file to the disk and does not wait for it.
#[expect(unsafe_code, reason = "rustix has no sync_file_range")]
pub fn begin_writeback(file: impl AsFd) -> io::Result<()> {
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: takes numbers only, and `fd` is open as long as `file` is borrowed.
    match unsafe { libc::sync_file_range(fd, 0, 0, libc::SYNC_FILE_RANGE_WRITE) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests;
