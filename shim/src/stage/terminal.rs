//! The terminal of a container: a pair from its own devpts, never a name that it controls.

use super::error::{At, Result, StageError, Step};
use super::tree::{Root, Want};
use orlop_sys::mount;
use rustix::fs::{
    FileType, Gid, Mode, OFlags, ResolveFlags, Uid, fchown, fstat, fstatfs, major, minor, openat2,
};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;

/// A pair: the master for the shim, the other end for the process.
pub(super) struct Pair {
    pub(super) master: OwnedFd,
    pub(super) peer: OwnedFd,
}

/// Opens a pair below `root` and gives it to `uid`.
pub(super) fn open(root: BorrowedFd<'_>, size: (u16, u16), uid: u32) -> Result<Pair> {
    let name = "/dev/pts/ptmx";
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let master = openat2(root, name, flags, Mode::empty(), resolve).at(Step::Terminal, || name)?;
    rustix::io::ioctl_fionbio(&master, false).at(Step::Terminal, || name)?;
    verify(&master, |device| (major(device), minor(device)) == (5, 2), name)?;
    unlockpt(&master).at(Step::Terminal, || name)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let peer = ioctl_tiocgptpeer(&master, flags).at(Step::Terminal, || name)?;
    verify(&peer, |device| (136..=143).contains(&major(device)), "terminal")?;
    let (ws_row, ws_col) = size;
    if size != (0, 0) {
        let size = Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&peer, size).at(Step::Terminal, || "window size")?;
    }
    fchown(&peer, Some(Uid::from_raw(uid)), None::<Gid>).at(Step::Terminal, || "owner")?;
    Ok(Pair { master, peer })
}

fn verify(fd: &OwnedFd, device: impl Fn(u64) -> bool, name: &str) -> Result<()> {
    let stat = fstat(fd).at(Step::Terminal, || name)?;
    let system = fstatfs(fd).at(Step::Terminal, || name)?;
    let terminal =
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && device(stat.st_rdev);
    if terminal && system.f_type == DEVPTS_SUPER_MAGIC {
        return Ok(());
    }
    Err(StageError::refuse(
        Step::Terminal,
        name,
        "it is not a terminal of the container's own devpts",
    ))
}

/// Shows the terminal as `/dev/console`.
pub(super) fn bind_console(root: &Root, peer: &OwnedFd) -> Result<()> {
    let path = Path::new("/dev/console");
    let target = root.target(path, Want::File, Step::Terminal)?;
    let tree = mount::clone_tree(peer, false).at(Step::Terminal, || "/dev/console")?;
    mount::attach(tree, target).at(Step::Terminal, || "/dev/console")
}

/// Makes it our controlling terminal and our standard descriptors.
pub(super) fn take(peer: &OwnedFd) -> Result<()> {
    rustix::process::ioctl_tiocsctty(peer).at(Step::Terminal, || "controlling terminal")?;
    rustix::stdio::dup2_stdin(peer).at(Step::Terminal, || "stdin")?;
    rustix::stdio::dup2_stdout(peer).at(Step::Terminal, || "stdout")?;
    rustix::stdio::dup2_stderr(peer).at(Step::Terminal, || "stderr")
}
