//! A process 1 for a program that was not made to be one: reaps orphans and passes signals on.
#![expect(unsafe_code, reason = "fork, signal masks and waiting in a single-threaded program")]

use crate::error::{Error, Result};
use rustix::termios::tcsetpgrp;
use std::mem::MaybeUninit;

/// Splits a freshly executed, single-threaded process 1 in two. Returns in a child, which is to execute
/// the program. The process itself never returns: it reaps, passes every signal on to the child, and ends
/// when the child does, with its status, or 128 and the number of the signal that ended it.
///
/// The child has a process group of its own, which is the foreground one where standard input is a
/// terminal, so that what is typed reaches it once.
pub fn stay_behind() -> Result<()> {
    let (all, mut before) = (all_signals(), MaybeUninit::uninit());
    // SAFETY: both sets are valid; the old mask is written.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const all, before.as_mut_ptr()) };
    // SAFETY: this process has one thread, so that the child is as good as the parent.
    match unsafe { libc::fork() } {
        -1 => Err(Error::last("fork", "the program of an init")),
        0 => {
            // What fails here costs only job control.
            let _ = rustix::process::setpgid(None, None);
            let _ = tcsetpgrp(rustix::stdio::stdin(), rustix::process::getpid());
            // SAFETY: written above.
            let before = unsafe { before.assume_init() };
            // SAFETY: an initialized set; no old mask is asked for.
            unsafe {
                libc::sigprocmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut())
            };
            Ok(())
        }
        child => attend(child, &all),
    }
}

fn attend(child: i32, all: &libc::sigset_t) -> ! {
    // Whoever started us sees by the end of these that the program runs.
    // SAFETY: no memory is involved; nothing here uses a descriptor any more.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
    let _ = rustix::thread::set_name(c"orlop-init");
    loop {
        // SAFETY: `all` is initialized; nothing is asked to be written.
        let signal = unsafe { libc::sigwaitinfo(all, std::ptr::null_mut()) };
        match signal {
            libc::SIGCHLD => {
                if let Some(code) = reap(child) {
                    std::process::exit(code);
                }
            }
            // The terminal's own, to the group that reads or writes in the background.
            libc::SIGTTIN | libc::SIGTTOU => {}
            signal if signal > 0 => {
                // SAFETY: no memory is involved. The child is not reaped yet, so the number is its.
                unsafe { libc::kill(child, signal) };
            }
            _ => {}
        }
    }
}

/// The exit status of `child` once it has ended; every other end is only noted.
fn reap(child: i32) -> Option<i32> {
    let mut code = None;
    loop {
        let mut status = 0;
        // SAFETY: the status is written.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        if pid <= 0 {
            return code;
        }
        if pid == child {
            code = Some(match libc::WIFSIGNALED(status) {
                true => 128 + libc::WTERMSIG(status),
                false => libc::WEXITSTATUS(status),
            });
        }
    }
}

fn all_signals() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: it writes the set that it is given.
    unsafe { libc::sigfillset(set.as_mut_ptr()) };
    // SAFETY: initialized by the call above.
    unsafe { set.assume_init() }
}
