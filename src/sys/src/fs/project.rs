//! Project quotas: the file system itself counts what lies in a directory.

use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// What new files in the directory belong to, too (`FS_XFLAG_PROJINHERIT`).
const INHERIT: u32 = 0x200;
/// `FS_IOC_FSGETXATTR` and `FS_IOC_FSSETXATTR`.
const GET: u32 = 0x801c_581f;
const SET: u32 = 0x401c_5820;
/// `QCMD(Q_GETQUOTA, PRJQUOTA)`.
const GET_QUOTA: libc::c_uint = 0x0080_0007 << 8 | 2;

/// `struct fsxattr` of `linux/fs.h`.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    padding: [u8; 8],
}

/// `struct if_dqblk` of `linux/quota.h`.
#[repr(C)]
#[derive(Default)]
struct Block {
    block_hard: u64,
    block_soft: u64,
    space: u64,
    inode_hard: u64,
    inode_soft: u64,
    inodes: u64,
    block_time: u64,
    inode_time: u64,
    valid: u32,
}

/// The project of a file or directory; 0 is none. Fails where the file system has no projects.
pub fn project(fd: impl AsFd) -> io::Result<u32> {
    Ok(attributes(fd)?.project)
}

#[expect(unsafe_code, reason = "an ioctl that no wrapper has")]
fn attributes(fd: impl AsFd) -> io::Result<Attributes> {
    let mut found = Attributes::default();
    let raw = fd.as_fd().as_raw_fd();
    // SAFETY: the kernel writes one `struct fsxattr`, which `Attributes` is, and keeps no pointer.
    if unsafe { libc::ioctl(raw, GET as _, &raw mut found) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(found)
}

/// Gives a directory to a project, with everything that will be made in it. Both directories of a
/// rename have to have the same project.
#[expect(unsafe_code, reason = "an ioctl that no wrapper has")]
pub fn set_project(fd: impl AsFd, project: u32) -> io::Result<()> {
    let mut changed = attributes(&fd)?;
    changed.flags |= INHERIT;
    changed.project = project;
    let raw = fd.as_fd().as_raw_fd();
    // SAFETY: the kernel reads one `struct fsxattr`, which `Attributes` is, and keeps no pointer.
    if unsafe { libc::ioctl(raw, SET as _, &raw const changed) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Bytes and inodes that a project has on the file system of `fd`; fails where they are not counted.
#[expect(unsafe_code, reason = "a system call that no wrapper has")]
pub fn project_usage(fd: impl AsFd, project: u32) -> io::Result<(u64, u64)> {
    let mut block = Block::default();
    // SAFETY: the kernel writes one `struct if_dqblk`, which `Block` is, and keeps no pointer.
    let result = unsafe {
        libc::syscall(
            libc::SYS_quotactl_fd,
            fd.as_fd().as_raw_fd(),
            GET_QUOTA,
            project,
            &raw mut block,
        )
    };
    match result {
        0 => Ok((block.space, block.inodes)),
        // Counted, and nothing there.
        _ if io::Error::last_os_error().raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {
            Ok((0, 0))
        }
        _ => Err(io::Error::last_os_error()),
    }
}
