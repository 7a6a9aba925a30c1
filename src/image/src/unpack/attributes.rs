//! What a member says about its owner, mode, times and extended attributes, checked.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::archive::{Kind, Member};
use super::error::UnpackError;
use super::limits::Limits;

/// Attributes that are set on a new inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// Permission bits with setuid, setgid and sticky.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds and nanoseconds of the modification time.
    pub(crate) mtime: (i64, u32),
    /// Names and values, already filtered by [`kept`].
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Attributes {
    /// A directory that no member describes.
    pub(crate) fn implicit() -> Self {
        Self { mode: 0o755, uid: 0, gid: 0, mtime: (0, 0), xattrs: Vec::new() }
    }

    /// Checks what a member says.
    pub(crate) fn of(member: &Member, limits: &Limits) -> Result<Self, UnpackError> {
        let refuse = |reason: String| UnpackError::refused(&member.path, reason);
        let id = |what: &str, id: i64| {
            // The highest number means "no change" to the kernel.
            u32::try_from(id)
                .ok()
                .filter(|id| *id != u32::MAX)
                .ok_or_else(|| refuse(format!("{what} {id} is not between 0 and 4294967294")))
        };
        let size: usize = member.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        if size > limits.xattr_bytes {
            let limit = limits.xattr_bytes as u64;
            return Err(UnpackError::Limit { what: "bytes of extended attributes", limit });
        }
        let mut xattrs = Vec::new();
        for (name, value) in &member.xattrs {
            if kept(name, member.kind) {
                check_capability(name, value).map_err(|reason| refuse(reason.to_owned()))?;
                xattrs.push((name.clone(), value.clone()));
            }
        }
        Ok(Self {
            // Masked to 12 bits: fits. Higher bits are the file type in some writers' headers.
            mode: (member.mode & 0o7777) as u32,
            uid: id("uid", member.uid)?,
            gid: id("gid", member.gid)?,
            mtime: member.mtime,
            xattrs,
        })
    }

    /// The modification time, also as access time, so that unpacking twice gives the same.
    pub(crate) fn times(&self) -> Timestamps {
        let time = Timespec { tv_sec: self.mtime.0, tv_nsec: i64::from(self.mtime.1) };
        Timestamps { last_access: time, last_modification: time }
    }

    pub(crate) fn owner(&self) -> (Option<Uid>, Option<Gid>) {
        (Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))
    }

    /// Sets everything on an open file or directory, in the order in which nothing undoes what
    /// was set before: a new owner clears setuid and file capabilities.
    pub(crate) fn apply(&self, fd: BorrowedFd<'_>) -> Result<(), (&'static str, Errno)> {
        let (uid, gid) = self.owner();
        rustix::fs::fchown(fd, uid, gid).map_err(|error| ("set the owner of", error))?;
        let mode = Mode::from_raw_mode(self.mode);
        rustix::fs::fchmod(fd, mode).map_err(|error| ("set the mode of", error))?;
        self.apply_xattrs(fd)?;
        self.apply_times(fd)
    }

    pub(crate) fn apply_times(&self, fd: BorrowedFd<'_>) -> Result<(), (&'static str, Errno)> {
        rustix::fs::futimens(fd, &self.times()).map_err(|error| ("set the time of", error))
    }

    pub(crate) fn apply_xattrs(&self, fd: impl AsFd) -> Result<(), (&'static str, Errno)> {
        for (name, value) in &self.xattrs {
            let set = rustix::fs::fsetxattr(&fd, name.as_slice(), value, XattrFlags::empty());
            ignore_unsupported(name, set)
                .map_err(|error| ("set an extended attribute of", error))?;
        }
        Ok(())
    }
}

/// A file system may lack user attributes or ACLs; losing a file capability must not be silent.
pub(crate) fn ignore_unsupported(name: &[u8], set: Result<(), Errno>) -> Result<(), Errno> {
    match set {
        Err(Errno::OPNOTSUPP) if name != CAPABILITY => Ok(()),
        other => other,
    }
}

/// The attribute that gives a program capabilities.
pub(crate) const CAPABILITY: &[u8] = b"security.capability";

/// Whether an attribute from an archive is set at all. Everything that gives orders to overlayfs
/// or to a security module on this host is dropped: those are not the image's to give.
fn kept(name: &[u8], kind: Kind) -> bool {
    if name.starts_with(b"user.") {
        // On anything but files and directories the kernel has no user attributes.
        let holds_user = matches!(kind, Kind::File | Kind::Directory);
        return holds_user && !name.starts_with(b"user.overlay.");
    }
    match name {
        CAPABILITY => kind == Kind::File,
        b"system.posix_acl_access" => kind != Kind::Symlink,
        b"system.posix_acl_default" => kind == Kind::Directory,
        _ => false,
    }
}

/// A file capability must have a form that the kernel knows: version 2 (20 bytes), or version 3
/// (24 bytes, with the root user of a user namespace).
fn check_capability(name: &[u8], value: &[u8]) -> Result<(), &'static str> {
    if name != CAPABILITY {
        return Ok(());
    }
    match (value.first_chunk::<4>().map(|magic| u32::from_le_bytes(*magic) >> 24), value.len()) {
        (Some(2), 20) | (Some(3), 24) => Ok(()),
        _ => Err("security.capability is neither of version 2 nor of version 3"),
    }
}
