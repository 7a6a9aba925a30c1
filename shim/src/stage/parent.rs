//! The shim's half: request, spawn, and the conversation with the child.

use super::control::{self, Message};
use super::error::{At, Result, StageError, Step};
use super::plan::{CgroupView, IdMaps, Plan};
use super::run::{CONTROL, PLAN};
use super::{foreign, made, translate, translate_mounts, treatment, wire};
use crate::hooks::Hook;
use oci_spec::runtime::{Process, Spec};
use orlop_sys::cgroup::Cgroup;
use orlop_sys::process::{Child, Command, Namespaces, Program};
use orlop_sys::{ns, seccomp};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
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
    /// The workload is the child of a built-in pid 1.
    pub(crate) reaper: bool,
    /// Hooks that run before its root is entered: some of ours ([`Progress::Hooks`]), then these.
    pub(crate) hooks: Option<&'a [Hook]>,
    /// Our own binary, sealed.
    pub(crate) self_exe: BorrowedFd<'a>,
}

/// A further process in a running container.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExecRequest<'a> {
    /// What to run.
    pub(crate) process: &'a Process,
    /// The container's spec, for its namespaces and its seccomp section.
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
    /// The namespaces and the root exist: it waits for [`Staged::hooks_done`].
    Hooks,
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
    ready: bool,
}

impl Staged {
    /// Reads what the child said, without blocking. After an error the child has been killed and reaped.
    pub(crate) fn advance(&mut self) -> Result<Progress> {
        loop {
            let message = match control::receive(self.control.as_fd()) {
                Ok(None) => return Ok(Progress::Pending),
                Ok(Some(message)) => message,
                Err(error) => return Err(self.bury(Some(error))),
            };
            match message {
                Message::Warning(text) => self.warnings.push(text),
                Message::Console(master) => self.console = Some(master),
                Message::Hooks => return Ok(Progress::Hooks),
                Message::Ready => {
                    self.ready = true;
                    return Ok(Progress::Ready);
                }
                Message::Failed(error) => return Err(self.bury(Some(error))),
                Message::End if self.ready => return Ok(Progress::Running),
                Message::End => return Err(self.bury(None)),
            }
        }
    }

    /// Waits until the process is ready for its exec.
    pub(crate) fn wait_ready(&mut self) -> Result<()> {
        self.wait(Progress::Ready)
    }

    /// Our hooks are through: its own follow, with the container's state.
    pub(crate) fn hooks_done(&mut self, state: &[u8]) -> Result<()> {
        control::send_state(self.control.as_fd(), state).map_err(|error| self.bury(Some(error)))
    }

    /// It shall not go on: kills and reaps it.
    pub(crate) fn abandon(&mut self, error: StageError) -> StageError {
        self.bury(Some(error))
    }

    /// Lets it exec. The result comes through [`Staged::advance`] or [`Staged::wait_running`].
    pub(crate) fn release(&mut self) -> Result<()> {
        control::send_go(self.control.as_fd()).map_err(|error| self.bury(Some(error)))
    }

    /// Waits until the workload runs, or for the reason why not.
    pub(crate) fn wait_running(&mut self) -> Result<()> {
        self.wait(Progress::Running)
    }

    fn wait(&mut self, wanted: Progress) -> Result<()> {
        loop {
            let progress = self.advance()?;
            if progress == wanted || progress == Progress::Running {
                return Ok(());
            }
            if progress == Progress::Pending {
                let mut polled = [PollFd::new(&self.control, PollFlags::IN)];
                match poll(&mut polled, None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(errno) => return Err(errno).at(Step::Lost, || "poll"),
                }
            }
        }
    }

    /// Kills and reaps the child; the error is what it said, or how it ended.
    fn bury(&mut self, said: Option<StageError>) -> StageError {
        // Without a word of its own, how it ended is all we know: do not kill it first.
        if said.is_some() {
            let _ = self.child.pidfd.send_signal(9);
        }
        let end = self.child.pidfd.wait();
        said.unwrap_or_else(|| match end {
            Ok(orlop_sys::process::Exit::Signal(9)) => {
                let cause = "killed before it was ready: the memory limit may be too low";
                StageError::refuse(Step::Lost, "process", cause)
            }
            Ok(exit) => StageError::refuse(
                Step::Lost,
                "process",
                format!("ended before it was ready: {exit:?}"),
            ),
            Err(error) => StageError::refuse(Step::Lost, "process", error.to_string()),
        })
    }
}

/// Starts a container up to its exec. Returns once the process exists; it is not ready yet.
/// On an error (here or later) the process has been killed and reaped, the cgroup is the caller's.
pub(crate) fn spawn_init(request: &InitRequest<'_>) -> Result<Staged> {
    let namespaces = translate::namespaces(request.spec)?;
    if !namespaces.all.contains(Namespaces::MOUNT) {
        return Err(StageError::refuse(
            Step::Namespace,
            "mount",
            "a container needs its own: add it to the namespaces",
        ));
    }
    treatment::refuse_unsupported(request.spec)?;
    let process = request.spec.process().as_ref();
    let views = request.cgroup.map(views).unwrap_or_default();
    let mut container = translate_mounts::container(
        request.spec,
        request.bundle,
        request.rootfs,
        request.init_only,
        &namespaces,
        views,
    )?;
    let foreign =
        foreign::prepare(&mut container, &namespaces, &id_maps(request.spec), request.bundle)?;
    container.hooks = request.hooks.map(<[Hook]>::to_vec);
    let mut plan = Plan {
        container: Some(container),
        init_only: request.init_only,
        reaper: request.reaper,
        terminal: terminal(&request.stdio),
        process: process.map(translate::process).transpose()?.unwrap_or_default(),
    };
    plan.process.treatment.personality = treatment::personality(request.spec)?;
    // These are for further processes only.
    plan.process.treatment.first_cpus = Vec::new();
    plan.process.treatment.cpus = Vec::new();
    let filter = filter(request.spec, &mut plan)?;
    // The owner of the others comes first.
    let mut joins: Vec<_> =
        foreign.userns.into_iter().map(|userns| (userns, Namespaces::USER)).collect();
    for (path, bits) in namespaces.join.iter().filter(|(_, bits)| *bits != Namespaces::USER) {
        let namespace = ns::open(path).at(Step::Namespace, || path.display().to_string())?;
        joins.push((namespace, *bits));
    }
    let common = Common {
        plan: &plan,
        filter: &filter,
        stdio: &request.stdio,
        cgroup: request.cgroup,
        self_exe: request.self_exe,
        oom_score_adj: process.and_then(Process::oom_score_adj),
        mounts: &foreign.mounts,
    };
    // A user namespace is there already; a cgroup namespace is made by the child, once it is where its
    // root shall be.
    let create = namespaces.create.without(Namespaces::CGROUP).without(Namespaces::USER);
    spawn(&common, create, &joins)
}

/// Starts a process in a running container, up to its exec, which [`Staged::release`] allows.
pub(crate) fn spawn_exec(request: &ExecRequest<'_>) -> Result<Staged> {
    let namespaces = translate::namespaces(request.spec)?;
    let mut plan = Plan {
        terminal: terminal(&request.stdio),
        process: translate::process(request.process)?,
        ..Plan::default()
    };
    plan.process.treatment.personality = treatment::personality(request.spec)?;
    let filter = filter(request.spec, &mut plan)?;
    let common = Common {
        plan: &plan,
        filter: &filter,
        stdio: &request.stdio,
        cgroup: request.cgroup,
        self_exe: request.self_exe,
        oom_score_adj: request.process.oom_score_adj(),
        mounts: &[],
    };
    let target = request.init_pidfd.try_clone_to_owned().at(Step::Spawn, || "pidfd")?;
    spawn(&common, Namespaces::default(), &[(target, namespaces.all)]).map_err(|error| {
        let gone = Errno::SRCH.raw_os_error();
        if error.step == Step::Namespace && error.errno == gone {
            let cause = "the container's first process has ended";
            return StageError {
                errno: gone,
                ..StageError::refuse(Step::Namespace, request.init_pid.to_string(), cause)
            };
        }
        error
    })
}

/// What both kinds of start have in common.
struct Common<'a> {
    plan: &'a Plan,
    filter: &'a [u8],
    stdio: &'a Stdio<'a>,
    cgroup: Option<&'a Cgroup>,
    self_exe: BorrowedFd<'a>,
    oom_score_adj: Option<i32>,
    /// Handed over by number.
    mounts: &'a [OwnedFd],
}

fn spawn(
    common: &Common<'_>,
    create: Namespaces,
    joins: &[(OwnedFd, Namespaces)],
) -> Result<Staged> {
    let request = wire::write(common.plan, common.filter)?;
    let (control, theirs) = control::pair()?;
    let tasks = match common.cgroup {
        Some(cgroup) => {
            cgroup.tasks_files().at(Step::Cgroup, || cgroup.path().display().to_string())?
        }
        None => Vec::new(),
    };
    let mut command = Command::new(Program::Fd(common.self_exe));
    command.args(["orlop-shim", "stage", &common.mounts.len().to_string()]).new_session();
    command.fd(CONTROL, theirs.as_fd()).fd(PLAN, request.as_fd());
    for (number, mount) in (made::FIRST..).zip(common.mounts) {
        command.fd(number, mount.as_fd());
    }
    if let Stdio::Fds(fds) = common.stdio {
        for (target, fd) in (0..).zip(fds) {
            if let Some(fd) = fd {
                command.fd(target, *fd);
            }
        }
    }
    for (fd, bits) in joins {
        command.join(fd.as_fd(), *bits);
    }
    for fd in &tasks {
        command.attach(fd.as_fd());
    }
    if let Some(directory) = common.cgroup.and_then(Cgroup::unified) {
        command.cgroup(directory);
    }
    command.namespaces(create);
    let child = command.spawn().map_err(|error| {
        use orlop_sys::process::SpawnStep;
        let step = match error.step {
            SpawnStep::Join => Step::Namespace,
            SpawnStep::Cgroup => Step::Cgroup,
            _ => Step::Spawn,
        };
        StageError { errno: error.errno, ..StageError::refuse(step, "process", error.to_string()) }
    })?;
    let warnings = oom_score(child.pid, common.oom_score_adj).into_iter().collect();
    Ok(Staged { child, control, console: None, warnings, ready: false })
}

/// Written from here: the shim may lower it where the container may not.
fn oom_score(pid: i32, score: Option<i32>) -> Option<String> {
    let score = score?;
    let error = std::fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string()).err()?;
    let reason = orlop_sys::error::reason(error.raw_os_error().unwrap_or(0));
    Some(format!("oom_score_adj {score}: {reason}: kept our own"))
}

fn terminal(stdio: &Stdio<'_>) -> Option<(u16, u16)> {
    match stdio {
        Stdio::Fds(_) => None,
        Stdio::Terminal { size } => Some(size.unwrap_or((0, 0))),
    }
}

/// Compiles the filter of the spec, if it has one.
fn filter(spec: &Spec, plan: &mut Plan) -> Result<Vec<u8>> {
    let Some(section) = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()) else {
        return Ok(Vec::new());
    };
    if plan.init_only {
        return Ok(Vec::new());
    }
    let program = seccomp::compile(section).map_err(|error| {
        StageError::refuse(Step::Security, "seccomp profile", error.to_string())
    })?;
    plan.process.seccomp = Some(program.flags);
    Ok(program.code)
}

fn id_maps(spec: &Spec) -> IdMaps {
    let linux = spec.linux().as_ref();
    IdMaps {
        uids: translate::id_maps(linux.and_then(|linux| linux.uid_mappings().as_deref())),
        gids: translate::id_maps(linux.and_then(|linux| linux.gid_mappings().as_deref())),
    }
}

fn views(cgroup: &Cgroup) -> Vec<CgroupView> {
    let view = |(name, links, host)| CgroupView { name, links, host, number: None };
    cgroup.views().into_iter().map(view).collect()
}
