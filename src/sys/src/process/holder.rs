//! Children without a program: one that only holds new namespaces, one that only writes files inside
//! namespaces that no thread of a larger program can enter.
#![expect(unsafe_code, reason = "clone3, raw system calls in the child")]

use super::Pidfd;
use super::raw::{self, CloneArgs};
use super::spawn::{IdMap, Namespaces, SpawnError, SpawnStep, clone_blocked, write_maps};
use super::stack::Stack;
use crate::error::{Context, Error, Result};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

/// Holds new namespaces, which a new user namespace with its id maps owns, until it is dropped. What
/// shall live longer is opened or pinned before.
#[derive(Debug)]
pub struct NamespaceHolder {
    pid: i32,
    pidfd: Pidfd,
    /// Its end ends the child, so that none outlives us, whatever kills us.
    _life: OwnedFd,
    /// The child's until it has ended.
    _stack: Stack,
    _plan: Box<HolderPlan>,
}

#[derive(Debug)]
struct HolderPlan {
    life: i32,
}

impl NamespaceHolder {
    /// Makes a user namespace with these maps, and `others`, which it owns.
    pub fn new(
        others: Namespaces,
        uids: &[IdMap],
        gids: &[IdMap],
    ) -> std::result::Result<Self, SpawnError> {
        Self::try_new(others, uids, gids).map_err(|(step, errno)| SpawnError {
            step,
            program: "a holder of namespaces".into(),
            errno,
        })
    }

    fn try_new(
        others: Namespaces,
        uids: &[IdMap],
        gids: &[IdMap],
    ) -> std::result::Result<Self, (SpawnStep, i32)> {
        let prepare = |errno: Errno| (SpawnStep::Prepare, errno.raw_os_error());
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(prepare)?;
        let stack = Stack::new().map_err(prepare)?;
        let plan = Box::new(HolderPlan { life: read.as_raw_fd() });
        let pidfd = AtomicI32::new(-1);
        let args = CloneArgs {
            flags: (libc::CLONE_VM | libc::CLONE_PIDFD) as u64 | others.with(Namespaces::USER).0,
            pidfd: ptr::from_ref(&pidfd).expose_provenance() as u64,
            exit_signal: libc::SIGCHLD as u64,
            stack: stack.bottom(),
            stack_size: Stack::SIZE,
            ..CloneArgs::default()
        };
        let address = ptr::from_ref(&*plan).expose_provenance();
        let pid = clone_blocked(&args, hold, address)?;
        // SAFETY: clone3 made this descriptor for us and wrote it here.
        let pidfd = Pidfd::from_fd(unsafe { OwnedFd::from_raw_fd(pidfd.load(Ordering::Acquire)) });
        let holder = Self { pid, pidfd, _life: write, _stack: stack, _plan: plan };
        write_maps(pid, uids, gids)?;
        Ok(holder)
    }

    /// The file of one of its namespaces, by its name in `/proc/<pid>/ns`: good for a bind mount.
    pub fn path(&self, kind: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/{kind}", self.pid))
    }

    /// One of its namespaces.
    pub fn open(&self, kind: &str) -> Result<OwnedFd> {
        crate::ns::open(&self.path(kind))
    }
}

impl Drop for NamespaceHolder {
    fn drop(&mut self) {
        // It shares our memory: the stack below it may go only when it has gone.
        let _ = self.pidfd.send_signal(libc::SIGKILL);
        let _ = self.pidfd.wait();
    }
}

extern "C" fn hold(plan: usize) -> ! {
    // SAFETY: the holder keeps the plan until we have ended.
    let life = unsafe { (*ptr::with_exposed_provenance::<HolderPlan>(plan)).life } as usize;
    // Nothing of ours stays open for our sake, the writing end of our own pipe least of all.
    call(libc::SYS_dup3, [life, 0, 0, 0, 0, 0]);
    call(libc::SYS_close_range, [1, u32::MAX as usize, 0, 0, 0, 0]);
    let byte = 0_u8;
    call(libc::SYS_read, [0, (&raw const byte).addr(), 1, 0, 0, 0]);
    exit()
}

/// What [`write_inside`] does, and how far it came.
struct WritePlan<'a> {
    joins: &'a [(i32, u64)],
    root: i32,
    files: &'a [(CString, Vec<u8>)],
    how: OpenHow,
    /// 0 for the joins, then the number of the file, counted from 1.
    at: AtomicI32,
    errno: AtomicI32,
}

/// `struct open_how` of openat2.
#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// Writes each value to its file below `root`, as root of the user namespace among `joins` (which comes
/// first) and inside all of them. Some kernel parameters can be written by nobody else. The paths
/// cross no link and no mount.
pub fn write_inside(
    joins: &[(BorrowedFd<'_>, Namespaces)],
    root: BorrowedFd<'_>,
    files: &[(CString, Vec<u8>)],
) -> Result<()> {
    let joins: Vec<(i32, u64)> = joins.iter().map(|(fd, bits)| (fd.as_raw_fd(), bits.0)).collect();
    let resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_XDEV;
    let plan = WritePlan {
        joins: &joins,
        root: root.as_raw_fd(),
        files,
        how: OpenHow { flags: libc::O_WRONLY as u64, mode: 0, resolve },
        at: AtomicI32::new(0),
        errno: AtomicI32::new(0),
    };
    let stack = Stack::new().context("mmap", || "a stack")?;
    let pidfd = AtomicI32::new(-1);
    let args = CloneArgs {
        flags: (libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD) as u64,
        pidfd: ptr::from_ref(&pidfd).expose_provenance() as u64,
        exit_signal: libc::SIGCHLD as u64,
        stack: stack.bottom(),
        stack_size: Stack::SIZE,
        ..CloneArgs::default()
    };
    let address = ptr::from_ref(&plan).expose_provenance();
    clone_blocked(&args, write, address)
        .map_err(|(_, errno)| Error::new("clone3", "a writer", errno))?;
    // SAFETY: clone3 made this descriptor for us and wrote it here.
    let child = Pidfd::from_fd(unsafe { OwnedFd::from_raw_fd(pidfd.load(Ordering::Acquire)) });
    child.wait()?;
    let at = usize::try_from(plan.at.load(Ordering::Acquire)).unwrap_or(0);
    match plan.errno.load(Ordering::Acquire) {
        0 => Ok(()),
        errno => Err(match at.checked_sub(1).and_then(|index| files.get(index)) {
            Some((path, _)) => Error::new("write", path.to_string_lossy(), errno),
            None => Error::new("setns", "the namespaces", errno),
        }),
    }
}

extern "C" fn write(plan: usize) -> ! {
    // SAFETY: the parent waits for us with the plan on its stack.
    let plan = unsafe { &*ptr::with_exposed_provenance::<WritePlan<'_>>(plan) };
    let check = |result: isize| {
        if result < 0 {
            plan.errno.store(-result as i32, Ordering::Release);
            exit();
        }
        result as usize
    };
    for &(fd, bits) in plan.joins {
        check(call(libc::SYS_setns, [fd as usize, bits as usize, 0, 0, 0, 0]));
    }
    check(call(libc::SYS_setresgid, [0; 6]));
    check(call(libc::SYS_setresuid, [0; 6]));
    for (path, value) in plan.files {
        plan.at.fetch_add(1, Ordering::AcqRel);
        let how = (&raw const plan.how).addr();
        let open = [plan.root as usize, path.as_ptr().addr(), how, size_of::<OpenHow>(), 0, 0];
        let fd = check(call(libc::SYS_openat2, open));
        check(call(libc::SYS_write, [fd, value.as_ptr().addr(), value.len(), 0, 0, 0]));
        call(libc::SYS_close, [fd, 0, 0, 0, 0, 0]);
    }
    exit()
}

fn exit() -> ! {
    loop {
        call(libc::SYS_exit_group, [0; 6]);
    }
}

fn call(number: libc::c_long, args: [usize; 6]) -> isize {
    // SAFETY: every caller in this file passes descriptors, numbers, and addresses of prepared data.
    unsafe { raw::syscall(number, args) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{Command, Exit, Program};
    use std::os::fd::AsFd;
    use std::path::Path;

    const MAP: [IdMap; 1] = [IdMap { inside: 0, outside: 100_000, count: 65536 }];

    fn held() -> NamespaceHolder {
        NamespaceHolder::new(Namespaces::IPC.with(Namespaces::UTS), &MAP, &MAP).unwrap()
    }

    #[test]
    fn namespaces_are_owned_by_the_user_namespace_and_outlive_the_holder() {
        let holder = held();
        let (user, ipc, uts) = (
            holder.open("user").unwrap(),
            holder.open("ipc").unwrap(),
            holder.open("uts").unwrap(),
        );
        drop(holder);
        let mut command = Command::new(Program::Path(Path::new("/bin/busybox")));
        // Naming the host needs the right over the owner of the uts namespace.
        command.args(["sh", "-c", "busybox hostname x && test $(busybox id -u) = 0"]);
        command.join(user.as_fd(), Namespaces::USER);
        command.join(ipc.as_fd(), Namespaces::IPC).join(uts.as_fd(), Namespaces::UTS);
        assert_eq!(command.spawn().unwrap().pidfd.wait().unwrap(), Exit::Code(0));
    }

    #[test]
    fn maps_that_overlap_are_refused_and_leave_no_process() {
        let twice = [MAP[0], MAP[0]];
        let error = NamespaceHolder::new(Namespaces::default(), &twice, &MAP).unwrap_err();
        assert_eq!((error.step, error.errno), (SpawnStep::Ids, libc::EINVAL));
    }

    #[test]
    fn parameters_are_written_as_root_of_the_namespaces() {
        let holder = held();
        let (user, ipc) = (holder.open("user").unwrap(), holder.open("ipc").unwrap());
        let joins = [(user.as_fd(), Namespaces::USER), (ipc.as_fd(), Namespaces::IPC)];
        let root = std::fs::File::open("/proc/sys").unwrap();
        let file = |path: &str, value: &str| (CString::new(path).unwrap(), value.into());
        let before = std::fs::read("/proc/sys/kernel/shmmni").unwrap();
        write_inside(&joins, root.as_fd(), &[file("kernel/shmmni", "77")]).unwrap();
        assert_eq!(std::fs::read("/proc/sys/kernel/shmmni").unwrap(), before);
        let mut command = Command::new(Program::Path(Path::new("/bin/busybox")));
        command.args(["sh", "-c", "test $(busybox cat /proc/sys/kernel/shmmni) = 77"]);
        command.join(user.as_fd(), Namespaces::USER).join(ipc.as_fd(), Namespaces::IPC);
        assert_eq!(command.spawn().unwrap().pidfd.wait().unwrap(), Exit::Code(0));
        let files = [file("kernel/shmmni", "78"), file("kernel/core_pattern", "|/x")];
        let error = write_inside(&joins, root.as_fd(), &files).unwrap_err();
        assert_eq!((error.object.as_str(), error.errno), ("kernel/core_pattern", libc::EACCES));
        let error = write_inside(&joins, root.as_fd(), &[file("../version", "")]).unwrap_err();
        assert_eq!(error.errno, libc::EXDEV);
    }
}
