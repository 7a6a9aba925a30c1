//! The prepared spawn.
#![expect(unsafe_code, reason = "clone3")]

use super::Pidfd;
use super::child::{self, Plan};
use super::prepare::{Descriptors, Pipes, Step, Strings, prepare};
use super::raw::{self, CloneArgs};
use super::stack::Stack;
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

/// What to execute.
#[derive(Debug, Clone, Copy)]
pub enum Program<'a> {
    /// A file by path; no search.
    Path(&'a Path),
    /// An open file, such as a sealed copy.
    Fd(BorrowedFd<'a>),
}

/// Namespaces, as `CLONE_NEW*` bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Namespaces(pub u64);

impl Namespaces {
    /// Mounts.
    pub const MOUNT: Self = Self(libc::CLONE_NEWNS as u64);
    /// Processes.
    pub const PID: Self = Self(libc::CLONE_NEWPID as u64);
    /// Network.
    pub const NET: Self = Self(libc::CLONE_NEWNET as u64);
    /// System V IPC and POSIX message queues.
    pub const IPC: Self = Self(libc::CLONE_NEWIPC as u64);
    /// Host name.
    pub const UTS: Self = Self(libc::CLONE_NEWUTS as u64);
    /// Users.
    pub const USER: Self = Self(libc::CLONE_NEWUSER as u64);
    /// Control groups.
    pub const CGROUP: Self = Self(libc::CLONE_NEWCGROUP as u64);

    /// Whether all of `other` are in it.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This without `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// One line of `uid_map` or `gid_map`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdMap {
    /// First id inside.
    pub inside: u32,
    /// First id outside, in the namespace of the parent.
    pub outside: u32,
    /// How many ids.
    pub count: u32,
}

/// A process to create.
#[derive(Debug, Clone)]
pub struct Command<'a> {
    pub(super) program: Program<'a>,
    pub(super) args: Vec<Vec<u8>>,
    pub(super) env: Vec<Vec<u8>>,
    pub(super) fds: Vec<(i32, BorrowedFd<'a>)>,
    pub(super) directory: Option<Vec<u8>>,
    pub(super) session: bool,
    pub(super) death_signal: i32,
    create: Namespaces,
    pub(super) joins: Vec<(BorrowedFd<'a>, Namespaces)>,
    cgroup: Option<BorrowedFd<'a>>,
    pub(super) tasks: Vec<BorrowedFd<'a>>,
    pub(super) maps: Option<(Vec<IdMap>, Vec<IdMap>)>,
}

/// A process that was created.
#[derive(Debug)]
pub struct Child {
    /// Its number in our pid namespace.
    pub pid: i32,
    /// Its descriptor: poll, wait, signal.
    pub pidfd: Pidfd,
}

/// Where a spawn failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum SpawnStep {
    /// Preparing in the parent.
    Prepare = 0,
    /// clone3.
    Clone = 1,
    /// Joining a namespace.
    Join = 2,
    /// Joining a cgroup.
    Cgroup = 3,
    /// Writing the id maps, or taking the ids.
    Ids = 4,
    /// Arranging the descriptors.
    Descriptors = 5,
    /// A new session, the working directory, the death signal.
    Setup = 6,
    /// The exec.
    Exec = 7,
}

impl SpawnStep {
    fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Clone,
            2 => Self::Join,
            3 => Self::Cgroup,
            4 => Self::Ids,
            5 => Self::Descriptors,
            6 => Self::Setup,
            7 => Self::Exec,
            _ => Self::Prepare,
        }
    }

    fn describe(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Clone => "clone3",
            Self::Join => "join a namespace",
            Self::Cgroup => "join the cgroup",
            Self::Ids => "map user ids",
            Self::Descriptors => "arrange descriptors",
            Self::Setup => "set session and directory",
            Self::Exec => "exec",
        }
    }
}

/// A process that could not be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpawnError {
    /// Where it failed.
    pub step: SpawnStep,
    /// The program.
    pub program: String,
    /// The kernel's error number.
    pub errno: i32,
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "start {}: {}: {}",
            self.program,
            self.step.describe(),
            crate::error::reason(self.errno)
        )
    }
}

impl std::error::Error for SpawnError {}

impl<'a> Command<'a> {
    /// A process with no arguments (not even its own name), an empty environment, `/dev/null` as
    /// descriptors 0 to 2, and nothing else inherited.
    pub fn new(program: Program<'a>) -> Self {
        Self {
            program,
            args: Vec::new(),
            env: Vec::new(),
            fds: Vec::new(),
            directory: None,
            session: false,
            death_signal: 0,
            create: Namespaces::default(),
            joins: Vec::new(),
            cgroup: None,
            tasks: Vec::new(),
            maps: None,
        }
    }

    /// Adds an argument; the first is the program's own name.
    pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.args.push(arg.as_ref().as_bytes().to_vec());
        self
    }

    /// Adds arguments.
    pub fn args<S: AsRef<OsStr>>(&mut self, args: impl IntoIterator<Item = S>) -> &mut Self {
        for arg in args {
            self.arg(arg);
        }
        self
    }

    /// Adds an environment variable. Nothing of our own environment is inherited.
    pub fn env(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        let mut entry = name.as_ref().as_bytes().to_vec();
        entry.push(b'=');
        entry.extend_from_slice(value.as_ref().as_bytes());
        self.env.push(entry);
        self
    }

    /// Gives the child descriptor `source` as number `target`.
    pub fn fd(&mut self, target: i32, source: BorrowedFd<'a>) -> &mut Self {
        self.fds.retain(|(number, _)| *number != target);
        self.fds.push((target, source));
        self
    }

    /// The working directory; ours when not set.
    pub fn current_dir(&mut self, dir: &Path) -> &mut Self {
        self.directory = Some(dir.as_os_str().as_bytes().to_vec());
        self
    }

    /// A session of its own.
    pub fn new_session(&mut self) -> &mut Self {
        self.session = true;
        self
    }

    /// A signal for the child when the thread that spawned it ends. From a thread pool that is
    /// rarely what one wants.
    pub fn death_signal(&mut self, signal: i32) -> &mut Self {
        self.death_signal = signal;
        self
    }

    /// Creates namespaces for the child.
    pub fn namespaces(&mut self, namespaces: Namespaces) -> &mut Self {
        self.create = namespaces;
        self
    }

    /// Joins namespaces first: `fd` of a namespace or a pidfd, with the `CLONE_NEW*` bits to join.
    /// The child is born inside them, the caller stays where it is. In a user namespace, which has to
    /// come before what it owns, the child becomes root.
    pub fn join(&mut self, fd: BorrowedFd<'a>, namespaces: Namespaces) -> &mut Self {
        self.joins.push((fd, namespaces));
        self
    }

    /// Is born in this cgroup2 directory (CLONE_INTO_CGROUP).
    pub fn cgroup(&mut self, dir: BorrowedFd<'a>) -> &mut Self {
        self.cgroup = Some(dir);
        self
    }

    /// Joins a cgroup v1 by writing itself into this open `tasks` file.
    pub fn attach(&mut self, tasks: BorrowedFd<'a>) -> &mut Self {
        self.tasks.push(tasks);
        self
    }

    /// Maps of the new user namespace, written by the parent before the exec; the child becomes
    /// root inside.
    pub fn id_maps(&mut self, uids: &[IdMap], gids: &[IdMap]) -> &mut Self {
        self.maps = Some((uids.to_vec(), gids.to_vec()));
        self
    }

    /// Creates the process; returns when it has executed the program, or why it did not.
    pub fn spawn(&self) -> Result<Child, SpawnError> {
        self.try_spawn().map_err(|(step, errno)| SpawnError { step, program: self.name(), errno })
    }

    fn name(&self) -> String {
        match (self.program, self.args.first()) {
            (Program::Path(path), _) => path.display().to_string(),
            (Program::Fd(_), Some(name)) => String::from_utf8_lossy(name).into_owned(),
            (Program::Fd(_), None) => "an open file".to_owned(),
        }
    }

    fn try_spawn(&self) -> Step<Child> {
        let strings = Strings::new(self)?;
        let (descriptors, pipes) = Descriptors::new(self)?;
        // Whoever is born after a setns needs a process in the middle that did the setns; and the
        // owner of a namespace to join must be joined before a user namespace of our own exists.
        let after = self.joins.iter().fold(self.create, |all, (_, bits)| all.with(*bits));
        let middle = self.joins.iter().any(|(_, bits)| bits.contains(Namespaces::PID))
            || !self.joins.is_empty() && after.contains(Namespaces::USER);
        let stack = Stack::new().map_err(prepare)?;
        let mut args = CloneArgs {
            flags: (libc::CLONE_VM | libc::CLONE_PIDFD) as u64 | self.create.0,
            exit_signal: libc::SIGCHLD as u64,
            stack: stack.bottom(),
            stack_size: Stack::SIZE,
            ..CloneArgs::default()
        };
        if self.maps.is_none() {
            args.flags |= libc::CLONE_VFORK as u64;
        }
        let mut plan = strings.plan(&descriptors, &pipes, self);
        args.pidfd = ptr::from_ref(&plan.pidfd).expose_provenance() as u64;
        let pid = if middle {
            plan.inner =
                CloneArgs { flags: args.flags | libc::CLONE_PARENT as u64, exit_signal: 0, ..args };
            self.clone_middle(&plan, &pipes)?
        } else {
            self.enter_cgroup(&mut args);
            clone_blocked(&args, child::direct, ptr::from_ref(&plan).expose_provenance())?
        };
        // SAFETY: clone3 made this descriptor for us and wrote it here.
        let fd = unsafe { OwnedFd::from_raw_fd(plan.pidfd.load(Ordering::Acquire)) };
        let child = Child { pid, pidfd: Pidfd::from_fd(fd) };
        let result = self.supervise(child, pipes);
        // Without CLONE_VFORK the child ran beside us until now, on this stack and this plan.
        std::hint::black_box(&plan);
        drop((strings, descriptors, stack));
        result
    }

    /// Two clones: a process in the middle joins namespaces and makes the child as our own.
    fn clone_middle(&self, plan: &Plan<'_>, pipes: &Pipes) -> Step<i32> {
        let stack = Stack::new().map_err(prepare)?;
        let fd = AtomicI32::new(-1);
        let mut args = CloneArgs {
            flags: (libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES | libc::CLONE_PIDFD)
                as u64,
            pidfd: ptr::from_ref(&fd).expose_provenance() as u64,
            exit_signal: libc::SIGCHLD as u64,
            stack: stack.bottom(),
            stack_size: Stack::SIZE,
            ..CloneArgs::default()
        };
        self.enter_cgroup(&mut args);
        clone_blocked(&args, child::middle, ptr::from_ref(plan).expose_provenance())?;
        // SAFETY: clone3 made this descriptor for us and wrote it here.
        let middle = Pidfd::from_fd(unsafe { OwnedFd::from_raw_fd(fd.load(Ordering::Acquire)) });
        middle.wait().map_err(|error| (SpawnStep::Clone, error.errno))?;
        match plan.pid.load(Ordering::Acquire) as i32 {
            pid if pid > 0 => Ok(pid),
            // It reported before it ended, so this read does not block.
            _ => {
                Err(read_report(pipes.report.0.as_fd()).unwrap_or((SpawnStep::Clone, libc::ECHILD)))
            }
        }
    }

    fn enter_cgroup(&self, args: &mut CloneArgs) {
        if let Some(dir) = self.cgroup {
            args.flags |= 0x2_0000_0000; // CLONE_INTO_CGROUP; libc's constant overflows its type on some targets
            args.cgroup = dir.as_raw_fd() as u64;
        }
    }

    /// Writes the maps where there are some, and waits for the exec or the report of a failure.
    fn supervise(&self, child: Child, pipes: Pipes) -> Step<Child> {
        // Only the child holds the other end now: the exec or its death closes it.
        let (report, other) = pipes.report;
        drop(other);
        let written = match (&self.maps, pipes.mapped) {
            (Some((uids, gids)), Some((_, pipe))) => {
                write_maps(child.pid, uids, gids).and_then(|()| {
                    let written = rustix::io::write(&pipe, b"1");
                    written.map(drop).map_err(|errno| (SpawnStep::Ids, errno.raw_os_error()))
                })
            }
            _ => Ok(()),
        };
        let Some(failure) = written.err().or_else(|| read_report(report.as_fd())) else {
            return Ok(child);
        };
        // It has ended or does now, killed or for want of its maps: reaping does not take long.
        let _ = child.pidfd.send_signal(libc::SIGKILL);
        let _ = child.pidfd.wait();
        Err(failure)
    }
}

/// clone3 with every signal blocked: a handler must not run in a child that shares our memory. The
/// caller keeps the stack and what `plan` is the address of until the child has executed or ended.
pub(super) fn clone_blocked(
    args: &CloneArgs,
    entry: extern "C" fn(usize) -> !,
    plan: usize,
) -> Step<i32> {
    let all = [u64::MAX];
    let mut before = [0_u64];
    let how = libc::SIG_SETMASK as usize;
    let size = size_of::<u64>();
    // SAFETY: both addresses name eight bytes of ours; the raw call also covers the signals that libc hides.
    unsafe {
        raw::syscall(
            libc::SYS_rt_sigprocmask,
            [how, all.as_ptr().addr(), before.as_mut_ptr().addr(), size, 0, 0],
        )
    };
    // SAFETY: stack and plan outlive the child's use of them: every caller waits for its exec or end.
    let pid = unsafe { raw::clone3(args, entry, plan) };
    // SAFETY: as above.
    unsafe { raw::syscall(libc::SYS_rt_sigprocmask, [how, before.as_ptr().addr(), 0, size, 0, 0]) };
    if pid < 0 { Err((SpawnStep::Clone, -pid as i32)) } else { Ok(pid as i32) }
}

fn read_report(fd: BorrowedFd<'_>) -> Option<(SpawnStep, i32)> {
    let mut message = [0_u8; 5];
    loop {
        match rustix::io::read(fd, &mut message) {
            Ok(5) => {
                let [step, errno @ ..] = message;
                return Some((SpawnStep::from_byte(step), i32::from_ne_bytes(errno)));
            }
            Err(Errno::INTR) => {}
            Ok(_) | Err(_) => return None,
        }
    }
}

pub(super) fn write_maps(pid: i32, uids: &[IdMap], gids: &[IdMap]) -> Step<()> {
    for (file, maps) in [("gid_map", gids), ("uid_map", uids)] {
        let lines: String = maps
            .iter()
            .map(|map| format!("{} {} {}\n", map.inside, map.outside, map.count))
            .collect();
        std::fs::write(format!("/proc/{pid}/{file}"), lines)
            .map_err(|error| (SpawnStep::Ids, error.raw_os_error().unwrap_or(libc::EIO)))?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "spawn_tests.rs"]
mod tests;
