//! The shim's half: request, spawn, and the conversation with the child.

use super::error::StageError;
use oci_spec::runtime::{Process, Spec};
use orlop_sys::cgroup::Cgroup;
use orlop_sys::process::Child;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

/// One mount of the root file system, as the Create request gives it.
#[derive(Debug, Clone)]
pub(crate) struct RootfsMount {
    /// `overlay` or `bind`.
    pub(crate) kind: String,
    /// The source of a bind.
    pub(crate) source: String,
    /// mount(8) options: `lowerdir=`, `upperdir=`, `workdir=`, `ro`, `volatile`, `index=off`, …
    pub(crate) options: Vec<String>,
}

/// What the process gets as 0, 1 and 2.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stdio<'a> {
    /// These; `None` is `/dev/null`.
    Fds([Option<BorrowedFd<'a>>; 3]),
    /// A new terminal of the container; its master comes back in [`Staged::console`].
    Terminal {
        /// Rows and columns.
        size: Option<(u16, u16)>,
    },
}

/// The start of a container.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InitRequest<'a> {
    /// The OCI spec.
    pub(crate) spec: &'a Spec,
    /// The bundle directory: relative paths of the spec start here.
    pub(crate) bundle: &'a Path,
    /// The root file system; empty when `root.path` is mounted already.
    pub(crate) rootfs: &'a [RootfsMount],
    /// Input and output.
    pub(crate) stdio: Stdio<'a>,
    /// Its control group, created with its limits.
    pub(crate) cgroup: Option<&'a Cgroup>,
    /// No workload: the built-in pid 1 that reaps, and ends on SIGTERM or SIGINT.
    pub(crate) init_only: bool,
    /// Our own binary, sealed.
    pub(crate) self_exe: BorrowedFd<'a>,
}

/// A further process in a running container.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExecRequest<'a> {
    /// What to run.
    pub(crate) process: &'a Process,
    /// The container's spec, for its seccomp section.
    pub(crate) spec: &'a Spec,
    /// The container's first process.
    pub(crate) init_pidfd: BorrowedFd<'a>,
    /// Its number.
    pub(crate) init_pid: i32,
    /// Input and output.
    pub(crate) stdio: Stdio<'a>,
    /// Its control group.
    pub(crate) cgroup: Option<&'a Cgroup>,
    /// Our own binary, sealed.
    pub(crate) self_exe: BorrowedFd<'a>,
}

/// How far a staged process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing new: wait until [`Staged::control`] is readable.
    Pending,
    /// Everything is done but the exec, which waits for [`Staged::release`].
    Ready,
    /// The workload runs.
    Running,
}

/// A process on its way.
#[derive(Debug)]
pub(crate) struct Staged {
    /// The process; its pidfd becomes readable when it ends.
    pub(crate) child: Child,
    /// The conversation: readable when [`Staged::advance`] has something to do.
    pub(crate) control: OwnedFd,
    /// The terminal's master, once ready.
    pub(crate) console: Option<OwnedFd>,
    /// What could not be done and did not matter enough to stop (limits that may not be raised, …).
    pub(crate) warnings: Vec<String>,
}

impl Staged {
    /// Reads what the child said, without blocking.
    pub(crate) fn advance(&mut self) -> Result<Progress, StageError> {
        todo!()
    }

    /// Waits until the process is ready for its exec.
    pub(crate) fn wait_ready(&mut self) -> Result<(), StageError> {
        todo!()
    }

    /// Lets it exec. The result comes through [`Staged::advance`] or [`Staged::wait_running`].
    pub(crate) fn release(&mut self) -> Result<(), StageError> {
        todo!()
    }

    /// Waits until the workload runs, or for the reason why not.
    pub(crate) fn wait_running(&mut self) -> Result<(), StageError> {
        todo!()
    }
}

/// Starts a container up to its exec. Returns once the process exists; it is not ready yet.
/// On an error (here or later) the process has been killed and reaped, the cgroup is the caller's.
pub(crate) fn spawn_init(_request: &InitRequest<'_>) -> Result<Staged, StageError> {
    todo!()
}

/// Starts a process in a running container, up to its exec, which [`Staged::release`] allows.
pub(crate) fn spawn_exec(_request: &ExecRequest<'_>) -> Result<Staged, StageError> {
    todo!()
}
