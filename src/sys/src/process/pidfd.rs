//! Processes by descriptor: no reuse of a number can deceive us.

use crate::error::Result;
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
    /// Opens a running process by number. The caller must know that the number is still right.
    pub fn open(_pid: i32) -> Result<Self> {
        todo!()
    }

    /// Takes over a descriptor that clone3 or pidfd_open made.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Waits until the child has ended, and reaps it.
    pub fn wait(&self) -> Result<Exit> {
        todo!()
    }

    /// Reaps the child if it has ended; `None` while it runs.
    pub fn try_wait(&self) -> Result<Option<Exit>> {
        todo!()
    }

    /// Sends a signal; `ESRCH` when it has ended.
    pub fn send_signal(&self, _signal: i32) -> Result<()> {
        todo!()
    }
}

impl AsFd for Pidfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// When a process started, in clock ticks since boot (field 22 of `/proc/<pid>/stat`): with the
/// number and [`boot_id`] it names a process for good. `ESRCH` or `ENOENT` when there is none.
pub fn start_time(_pid: i32) -> Result<u64> {
    todo!()
}

/// The kernel's id of this boot.
pub fn boot_id() -> Result<String> {
    todo!()
}
