//! The child's side of a spawn: from clone to exec, on prepared data, with raw system calls only.
#![expect(unsafe_code, reason = "raw system calls between clone and exec")]

use super::raw::{self, CloneArgs};
use super::spawn::SpawnStep;
use libc::{c_char, c_int};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicIsize, Ordering};

/// All that the child needs, made by the parent and read only.
pub(super) struct Plan<'a> {
    /// File to execute when `exec_fd` is negative.
    pub(super) path: *const c_char,
    pub(super) exec_fd: c_int,
    pub(super) argv: *const *const c_char,
    pub(super) envp: *const *const c_char,
    /// Source and target; no source is the target of another.
    pub(super) dups: &'a [(c_int, c_int)],
    /// Descriptors below the highest target that are not a target.
    pub(super) holes: &'a [c_int],
    /// The first number above all targets.
    pub(super) above: c_int,
    pub(super) report: c_int,
    /// Where "the id maps are written" comes from; negative: none are.
    pub(super) mapped: c_int,
    pub(super) tasks: &'a [c_int],
    /// Descriptors and `CLONE_NEW*` bits.
    pub(super) joins: &'a [(c_int, c_int)],
    pub(super) directory: *const c_char,
    pub(super) session: bool,
    pub(super) death_signal: c_int,
    /// For the middle process: how to make the child, and where its number goes.
    pub(super) inner: CloneArgs,
    pub(super) pid: AtomicIsize,
    /// Where clone3 writes the child's pidfd.
    pub(super) pidfd: AtomicI32,
}

/// The child of a spawn that needs no process in the middle.
pub(super) extern "C" fn direct(plan: usize) -> ! {
    // SAFETY: `spawn` passes the address of a plan that it keeps until we are gone.
    let plan = unsafe { &*ptr::with_exposed_provenance::<Plan<'_>>(plan) };
    attach(plan);
    join(plan);
    finish(plan)
}

/// The process in the middle: joins what only children of a member get, makes the real child as
/// its sibling, and goes.
pub(super) extern "C" fn middle(address: usize) -> ! {
    // SAFETY: as in `direct`.
    let plan = unsafe { &*ptr::with_exposed_provenance::<Plan<'_>>(address) };
    attach(plan);
    join(plan);
    // SAFETY: the parent gave the inner arguments a stack of its own.
    let pid = unsafe { raw::clone3(&plan.inner, inner, address) };
    if pid < 0 {
        fail(plan, SpawnStep::Clone, pid);
    }
    plan.pid.store(pid, Ordering::Release);
    exit()
}

extern "C" fn inner(plan: usize) -> ! {
    // SAFETY: as in `direct`.
    finish(unsafe { &*ptr::with_exposed_provenance::<Plan<'_>>(plan) })
}

fn attach(plan: &Plan<'_>) {
    for &tasks in plan.tasks {
        check(
            plan,
            SpawnStep::Cgroup,
            call(libc::SYS_write, [tasks as usize, b"0".as_ptr().addr(), 1, 0, 0, 0]),
        );
    }
}

fn join(plan: &Plan<'_>) {
    for &(fd, namespaces) in plan.joins {
        check(
            plan,
            SpawnStep::Join,
            call(libc::SYS_setns, [fd as usize, namespaces as usize, 0, 0, 0, 0]),
        );
        // Our ids are nobody's there; what an exec leaves of our rights depends on being root.
        if namespaces & libc::CLONE_NEWUSER != 0 {
            become_root(plan);
        }
    }
}

fn finish(plan: &Plan<'_>) -> ! {
    if plan.mapped >= 0 {
        take_root(plan);
    }
    if plan.session {
        check(plan, SpawnStep::Setup, call(libc::SYS_setsid, [0; 6]));
    }
    if plan.death_signal != 0 {
        let args = [libc::PR_SET_PDEATHSIG as usize, plan.death_signal as usize, 0, 0, 0, 0];
        check(plan, SpawnStep::Setup, call(libc::SYS_prctl, args));
    }
    if !plan.directory.is_null() {
        check(
            plan,
            SpawnStep::Setup,
            call(libc::SYS_chdir, [plan.directory.addr(), 0, 0, 0, 0, 0]),
        );
    }
    descriptors(plan);
    signals();
    let result = if plan.exec_fd >= 0 {
        let args = [
            plan.exec_fd as usize,
            c"".as_ptr().addr(),
            plan.argv.addr(),
            plan.envp.addr(),
            libc::AT_EMPTY_PATH as usize,
            0,
        ];
        call(libc::SYS_execveat, args)
    } else {
        call(libc::SYS_execve, [plan.path.addr(), plan.argv.addr(), plan.envp.addr(), 0, 0, 0])
    };
    fail(plan, SpawnStep::Exec, result)
}

/// Waits for the id maps of our new user namespace, then becomes its root.
fn take_root(plan: &Plan<'_>) {
    let byte = 0_u8;
    let buffer = (&raw const byte).addr();
    let read = call(libc::SYS_read, [plan.mapped as usize, buffer, 1, 0, 0, 0]);
    if read != 1 {
        // The parent could not write the maps: it knows why.
        exit();
    }
    become_root(plan);
}

fn become_root(plan: &Plan<'_>) {
    check(plan, SpawnStep::Ids, call(libc::SYS_setresgid, [0; 6]));
    check(plan, SpawnStep::Ids, call(libc::SYS_setgroups, [0; 6]));
    check(plan, SpawnStep::Ids, call(libc::SYS_setresuid, [0; 6]));
}

fn descriptors(plan: &Plan<'_>) {
    for &(source, target) in plan.dups {
        check(
            plan,
            SpawnStep::Descriptors,
            call(libc::SYS_dup3, [source as usize, target as usize, 0, 0, 0, 0]),
        );
    }
    for &hole in plan.holes {
        call(libc::SYS_close, [hole as usize, 0, 0, 0, 0, 0]);
    }
    let cloexec = libc::CLOSE_RANGE_CLOEXEC as usize;
    let args = [plan.above as usize, u32::MAX as usize, cloexec, 0, 0, 0];
    check(plan, SpawnStep::Descriptors, call(libc::SYS_close_range, args));
}

/// Every signal back to its default and none blocked: an ignored SIGPIPE would pass an exec.
fn signals() {
    // The kernel's sigaction: handler, flags, restorer, mask; all zero is the default.
    let default = [0_usize; 4];
    for signal in 1..=64 {
        call(libc::SYS_rt_sigaction, [signal, default.as_ptr().addr(), 0, 8, 0, 0]);
    }
    let none = 0_u64;
    let args = [libc::SIG_SETMASK as usize, (&raw const none).addr(), 0, 8, 0, 0];
    call(libc::SYS_rt_sigprocmask, args);
}

fn check(plan: &Plan<'_>, step: SpawnStep, result: isize) {
    if result < 0 {
        fail(plan, step, result);
    }
}

fn fail(plan: &Plan<'_>, step: SpawnStep, result: isize) -> ! {
    let errno = (-result as i32).to_ne_bytes();
    let message = [step as u8, errno[0], errno[1], errno[2], errno[3]];
    call(libc::SYS_write, [plan.report as usize, message.as_ptr().addr(), message.len(), 0, 0, 0]);
    exit()
}

fn exit() -> ! {
    loop {
        call(libc::SYS_exit_group, [127, 0, 0, 0, 0, 0]);
    }
}

fn call(number: libc::c_long, args: [usize; 6]) -> isize {
    // SAFETY: every caller in this file passes descriptors, numbers, and addresses of prepared data.
    unsafe { raw::syscall(number, args) }
}
