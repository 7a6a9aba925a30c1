//! Descriptors that a program is started with.

#![expect(unsafe_code, reason = "an inherited descriptor has only a number")]

use crate::error::{Error, Result};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Takes the descriptor that the parent passed as number 3, makes it close-on-exec, and closes
/// every higher one. To be called once, before the program opens anything of its own.
pub fn take_passed() -> Result<OwnedFd> {
    const NUMBER: i32 = 3;
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Err(Error::new("take descriptor", "3", libc::EBUSY));
    }
    // SAFETY: F_SETFD touches no memory; it fails when the number is not open.
    if unsafe { libc::fcntl(NUMBER, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
        return Err(Error::last("take descriptor", "3"));
    }
    // SAFETY: the number is open (fcntl said so), nothing else in this program has been given it
    // (TAKEN, and the caller has opened nothing yet), so this is its only owner.
    let fd = unsafe { OwnedFd::from_raw_fd(NUMBER) };
    let first = u32::try_from(fd.as_raw_fd()).unwrap_or(3) + 1;
    // SAFETY: closes numbers that nobody in this program owns: it has opened nothing yet.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0_u32) };
    if closed != 0 {
        return Err(Error::last("close_range", format!("from {first}")));
    }
    Ok(fd)
}
