//! Processes by descriptor: no reuse of a number can deceive us.

use crate::error::{Context, Error, Result};
use rustix::process::{PidfdFlags, Signal, WaitId, WaitIdOptions};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It returned this status (0 to 255).
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

impl Exit {
    /// The status as shells and CRI count it: a signal is 128 plus its number.
    pub fn status(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

/// A process by descriptor; readable (poll) when it has ended.
#[derive(Debug)]
pub struct Pidfd(OwnedFd);

impl Pidfd {
    /// Opens a running process by number. The caller must know that the number is still right
    /// (compare [`start_time`] afterwards).
    pub fn open(pid: i32) -> Result<Self> {
        let name = || format!("of process {pid}");
        let pid = rustix::process::Pid::from_raw(pid)
            .filter(|_| pid > 0)
            .ok_or_else(|| Error::new("pidfd_open", name(), libc::ESRCH))?;
        rustix::process::pidfd_open(pid, PidfdFlags::empty()).context("pidfd_open", name).map(Self)
    }

    /// Takes over a descriptor that clone3 or pidfd_open made.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Waits until the child has ended, and reaps it.
    pub fn wait(&self) -> Result<Exit> {
        loop {
            match rustix::process::waitid(WaitId::PidFd(self.0.as_fd()), WaitIdOptions::EXITED) {
                Ok(Some(status)) => return exit_of(&status),
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno).context("waitid", || "pidfd"),
            }
        }
    }

    /// Reaps the child if it has ended; `None` while it runs.
    pub fn try_wait(&self) -> Result<Option<Exit>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        rustix::process::waitid(WaitId::PidFd(self.0.as_fd()), options)
            .context("waitid", || "pidfd")?
            .map(|status| exit_of(&status))
            .transpose()
    }

    /// Sends a signal; `ESRCH` when it has ended.
    pub fn send_signal(&self, signal: i32) -> Result<()> {
        let object = || format!("signal {signal}");
        let signal = Signal::from_named_raw(signal)
            .or_else(|| real_time(signal))
            .ok_or_else(|| Error::new("pidfd_send_signal", object(), libc::EINVAL))?;
        rustix::process::pidfd_send_signal(&self.0, signal).context("pidfd_send_signal", object)
    }
}

/// The real-time signals, all of them: the container's libc may use numbers that ours keeps for itself.
#[expect(
    unsafe_code,
    reason = "rustix names signals that libc reserves only through an unsafe call"
)]
fn real_time(signal: i32) -> Option<Signal> {
    // SAFETY: we only send it; no handler of ours is involved.
    (32..=64).contains(&signal).then(|| unsafe { Signal::from_raw_unchecked(signal) })
}

fn exit_of(status: &rustix::process::WaitIdStatus) -> Result<Exit> {
    if let Some(code) = status.exit_status() {
        Ok(Exit::Code(code))
    } else if let Some(signal) = status.terminating_signal() {
        Ok(Exit::Signal(signal))
    } else {
        Err(Error::new("waitid", "pidfd: neither ended nor killed", libc::EIO))
    }
}

impl AsFd for Pidfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// When a process started, in clock ticks since boot (field 22 of `/proc/<pid>/stat`): with the
/// number and [`boot_id`] it names a process for good. `ESRCH` or `ENOENT` when there is none.
pub fn start_time(pid: i32) -> Result<u64> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read(&path).context("read", || path.as_str())?;
    parse_start_time(&stat).ok_or_else(|| Error::new("parse", path, libc::EIO))
}

fn parse_start_time(stat: &[u8]) -> Option<u64> {
    // The name (field 2) is in parentheses and may hold anything, also spaces and parentheses.
    let end = stat.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// The kernel's id of this boot.
pub fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    std::fs::read_to_string(path).map(|text| text.trim().to_owned()).context("read", || path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_time_survives_odd_names() {
        let stat = b"7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2";
        assert_eq!(parse_start_time(stat), Some(98765));
        assert_eq!(parse_start_time(b"7 (a"), None);
        assert_eq!(parse_start_time(b""), None);
        assert!(start_time(std::process::id() as i32).unwrap() > 0);
    }

    #[test]
    fn statuses() {
        assert_eq!(Exit::Code(3).status(), 3);
        assert_eq!(Exit::Signal(9).status(), 137);
    }
}
