//! Process 1 of a pod that shares its process namespace: reaps, and ends when told to.

use orlop_sys::process::reap_until_terminated;

/// Runs until SIGTERM or SIGINT.
pub(super) fn run() -> ! {
    // The name in `ps`: what runs is no copy of the shim any more in any sense that matters.
    let _ = rustix::thread::set_name(c"orlop-init");
    reap_until_terminated();
    std::process::exit(0)
}
