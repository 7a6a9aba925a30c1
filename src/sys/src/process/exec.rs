//! The last step of a stage: becoming the workload.
#![expect(unsafe_code, reason = "execve")]

use libc::c_char;
use std::ffi::{CStr, CString};
use std::ptr;

/// Replaces this program; returns only the error number of the refusal.
pub fn exec(path: &CStr, args: &[CString], env: &[CString]) -> i32 {
    let pointers = |strings: &[CString]| -> Vec<*const c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
    };
    let (argv, envp) = (pointers(args), pointers(env));
    // Rust's start ignores SIGPIPE, and what is ignored stays so across an exec.
    // SAFETY: no handler of ours is involved.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    // SAFETY: all strings end with a NUL and both lists with a null pointer.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    // SAFETY: as above.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    errno
}
