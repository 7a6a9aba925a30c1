//! A process that does nothing, for where one has to be.
#![expect(unsafe_code, reason = "clone3")]

use super::Pidfd;
use super::raw::{self, CloneArgs};
use super::spawn::clone_blocked;
use crate::error::{Error, Result};
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

/// A child that sleeps until this is dropped, which kills and reaps it, or until the thread that
/// made it ends. Its memory is a copy, made when it is written to, which it never is; it does not
/// share ours, because whom the kernel kills for memory takes all that share it along.
#[derive(Debug)]
pub(crate) struct Placeholder {
    pid: i32,
    pidfd: Pidfd,
}

impl Placeholder {
    pub(crate) fn new() -> Result<Self> {
        let failed = |errno| Error::new("clone3", "a process that holds a place", errno);
        let fd = AtomicI32::new(-1);
        let args = CloneArgs {
            // With the descriptors in common it keeps none open that we close.
            flags: (libc::CLONE_FILES | libc::CLONE_FS | libc::CLONE_PIDFD) as u64,
            pidfd: ptr::from_ref(&fd).expose_provenance() as u64,
            exit_signal: libc::SIGCHLD as u64,
            ..CloneArgs::default()
        };
        let parent = std::process::id() as usize;
        // Without a stack of its own the child has its copy of ours, where `sleep` stays for good.
        let pid = clone_blocked(&args, sleep, parent).map_err(|(_, errno)| failed(errno))?;
        // SAFETY: clone3 made this descriptor for us and wrote it here.
        let fd = unsafe { OwnedFd::from_raw_fd(fd.load(Ordering::Acquire)) };
        Ok(Self { pid, pidfd: Pidfd::from_fd(fd) })
    }

    /// Its number in our pid namespace.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }
}

impl Drop for Placeholder {
    fn drop(&mut self) {
        // It has ended where these fail.
        let _ = self.pidfd.send_signal(libc::SIGKILL);
        let _ = self.pidfd.wait();
    }
}

/// Sleeps for good. Every signal that can be is blocked, as it was when it was made.
extern "C" fn sleep(parent: usize) -> ! {
    let kill = libc::SIGKILL as usize;
    call(libc::SYS_prctl, [libc::PR_SET_PDEATHSIG as usize, kill, 0, 0, 0, 0]);
    // The parent may have ended before that.
    let orphan = call(libc::SYS_getppid, [0; 6]) as usize != parent;
    loop {
        call(if orphan { libc::SYS_exit } else { libc::SYS_ppoll }, [0; 6]);
    }
}

fn call(number: libc::c_long, args: [usize; 6]) -> isize {
    // SAFETY: the calls above take numbers only, or null pointers that they allow.
    unsafe { raw::syscall(number, args) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lives_until_it_is_dropped() {
        let placeholder = Placeholder::new().unwrap();
        let pid = placeholder.pid();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        assert!(stat.contains(&format!(" {} ", std::process::id())), "{stat}");
        assert_eq!(placeholder.pidfd.try_wait().unwrap(), None);
        drop(placeholder);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}
