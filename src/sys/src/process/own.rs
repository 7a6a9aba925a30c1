//! Things that a freshly executed, single-threaded program does to itself.
#![expect(unsafe_code, reason = "descriptors by number, keyctl, signal waiting")]

use crate::error::{Error, Result};
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers that were taken over already.
static TAKEN: AtomicU64 = AtomicU64::new(0);

/// Takes over a descriptor that our parent put at `number` (3 to 63), once, and makes it close-on-exec.
pub fn inherited(number: i32) -> Result<OwnedFd> {
    let name = || format!("descriptor {number}");
    if !(3..64).contains(&number) {
        return Err(Error::new("inherit", name(), libc::EBADF));
    }
    let bit = 1 << number;
    if TAKEN.fetch_or(bit, Ordering::Relaxed) & bit != 0 {
        return Err(Error::new("inherit", name(), libc::EBUSY));
    }
    // SAFETY: no memory is involved; an unused number gives EBADF.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(Error::last("inherit", name()));
    }
    // SAFETY: it is open, and the table above gives it away only once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Marks every descriptor from `first` on close-on-exec.
pub fn close_on_exec_from(first: u32) -> Result<()> {
    // SAFETY: no memory is involved, and no descriptor is closed before an exec.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result < 0 { Err(Error::last("close_range", format!("from {first}"))) } else { Ok(()) }
}

/// Leaves the session keyring of our ancestors for a new one.
pub fn new_session_keyring() -> Result<()> {
    const JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, 0_usize) };
    if result < 0 { Err(Error::last("keyctl", "session keyring")) } else { Ok(()) }
}

/// Blocks what [`reap_until_terminated`] waits for; until then a process 1 ignores them.
pub fn block_termination() {
    let set = termination();
    // SAFETY: `set` is initialized; no old mask is asked for.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
}

/// Reaps every child that ends, and returns on SIGTERM or SIGINT. For a process 1, which inherits
/// orphans; the signals must be blocked before the first child can exist ([`block_termination`]).
pub fn reap_until_terminated() {
    block_termination();
    let set = termination();
    loop {
        // SAFETY: `set` is initialized; nothing is asked to be written.
        let signal = unsafe { libc::sigwaitinfo(&raw const set, std::ptr::null_mut()) };
        match signal {
            libc::SIGCHLD => reap(),
            libc::SIGTERM | libc::SIGINT => return,
            _ => {}
        }
    }
}

fn reap() {
    // One signal may stand for many ends.
    // SAFETY: no status is asked for.
    while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
}

fn termination() -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: it writes the set that it is given.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: initialized by the call above.
    let mut set = unsafe { set.assume_init() };
    for signal in [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT] {
        // SAFETY: an initialized set and a signal that exists.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    set
}
