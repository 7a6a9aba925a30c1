//! Attributes of mounts that exist, by mount_setattr (Linux 5.12).
#![expect(unsafe_code, reason = "mount_setattr has no wrapper")]

use crate::error::{Error, Result};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// Attributes to set and to clear.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `MOUNT_ATTR_*` bits to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` bits to clear.
    pub clear: u64,
}

impl Attributes {
    /// No writing.
    pub const READ_ONLY: u64 = 0x1;
    /// set-user-ID bits and file capabilities have no effect.
    pub const NO_SUID: u64 = 0x2;
    /// Devices cannot be opened.
    pub const NO_DEV: u64 = 0x4;
    /// Programs cannot be executed.
    pub const NO_EXEC: u64 = 0x8;
    /// The bits that say when access times are written.
    pub const ATIME_MASK: u64 = 0x70;
    /// Access times are not written.
    pub const NO_ATIME: u64 = 0x10;
    /// Access times are written always.
    pub const STRICT_ATIME: u64 = 0x20;
    /// Access times of directories are not written.
    pub const NO_DIR_ATIME: u64 = 0x80;
    /// Symbolic links are not followed.
    pub const NO_SYMFOLLOW: u64 = 0x20_0000;
    const IDMAP: u64 = 0x10_0000;

    /// Only sets.
    pub fn set(bits: u64) -> Self {
        Self { set: bits, clear: 0 }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(self) -> bool {
        self.set == 0 && self.clear == 0
    }
}

/// How mounts below spread between namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Not at all.
    Private,
    /// From the host only.
    Slave,
    /// Both ways.
    Shared,
    /// Not at all, and it cannot be bound elsewhere.
    Unbindable,
}

#[repr(C)]
#[derive(Default)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

/// Changes the attributes of the mount that `mount` is the root of, `recursive` of all below too.
pub fn set_attributes(mount: impl AsFd, attributes: Attributes, recursive: bool) -> Result<()> {
    let Attributes { set, mut clear } = attributes;
    if (set | clear) & (Attributes::ATIME_MASK) != 0 {
        clear |= Attributes::ATIME_MASK;
    }
    setattr(mount.as_fd(), &MountAttr { set, clear, ..MountAttr::default() }, recursive)
}

/// Changes the propagation of a mount.
pub fn set_propagation(mount: impl AsFd, propagation: Propagation, recursive: bool) -> Result<()> {
    let propagation = match propagation {
        Propagation::Private => libc::MS_PRIVATE,
        Propagation::Slave => libc::MS_SLAVE,
        Propagation::Shared => libc::MS_SHARED,
        Propagation::Unbindable => libc::MS_UNBINDABLE,
    };
    setattr(mount.as_fd(), &MountAttr { propagation, ..MountAttr::default() }, recursive)
}

/// Maps the owners of a detached mount by the user namespace `userns`.
pub fn set_idmap(mount: impl AsFd, userns: impl AsFd, recursive: bool) -> Result<()> {
    let userns = userns.as_fd().as_raw_fd() as u64;
    setattr(
        mount.as_fd(),
        &MountAttr { set: Attributes::IDMAP, userns, ..MountAttr::default() },
        recursive,
    )
}

fn setattr(mount: BorrowedFd<'_>, attr: &MountAttr, recursive: bool) -> Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: an empty path, a descriptor that is borrowed, a struct of the size given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    };
    if result < 0 { Err(Error::last("mount_setattr", "by descriptor")) } else { Ok(()) }
}
