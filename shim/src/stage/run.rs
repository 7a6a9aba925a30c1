//! The child's half: from a fresh exec of ourselves to the workload's.

use super::control;
use super::error::{At, Result, StageError, Step};
use super::launch::Launch;
use super::made::Made;
use super::plan::{Container, Plan, Process};
use super::tree::Root;
use super::{cgroups, cwd, identity, init, mask, mounts, null, procfs, rootfs, terminal, wire};
use orlop_sys::process::{inherited, stay_behind};
use rustix::fs::{Mode, OFlags};
use rustix::process::DumpableBehavior;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Number of the control socket.
pub(super) const CONTROL: i32 = 3;
/// Number of the plan.
pub(super) const PLAN: i32 = 4;

/// Runs the stage; does not return.
pub(super) fn run(handed_over: usize) -> ! {
    // First of all: nobody may look into us once we are in the container's namespaces.
    let hidden = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let Ok(control) = inherited(CONTROL) else { std::process::exit(70) };
    let started =
        hidden.at(Step::Security, || "dumpable").and_then(|()| start(control.as_fd(), handed_over));
    let error = match started {
        Ok(Some((launch, false))) => launch.exec(),
        Ok(Some((launch, true))) => match stay_behind() {
            Ok(()) => launch.exec(),
            Err(error) => StageError::refuse(Step::Spawn, "the init's child", error.to_string()),
        },
        Ok(None) => {
            // To the shim the end of the stream means that the workload runs.
            drop(control);
            init::run();
        }
        Err(error) => error,
    };
    control::send_failure(control.as_fd(), &error);
    std::process::exit(71)
}

/// Everything up to the exec.
fn start(control: BorrowedFd<'_>, handed_over: usize) -> Result<Option<(Launch, bool)>> {
    let plan = inherited(PLAN).at(Step::Spawn, || "plan")?;
    let made = Made::inherited(handed_over);
    let (plan, filter) = wire::read(plan)?;
    super::treatment::begin(&plan.process.treatment)?;
    // Modes in the plan are exact; the workload's own mask comes later.
    rustix::process::umask(Mode::empty());
    let launch = if plan.init_only {
        // A request to end that comes before the loop must wait for it.
        orlop_sys::process::block_termination();
        None
    } else {
        Some(Launch::new(&plan.process)?)
    };
    let terminal = match &plan.container {
        Some(container) => set_up(&plan, container, made, control)?,
        None => match plan.terminal {
            Some(size) => {
                let root = rustix::fs::open(c"/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
                    .at(Step::Terminal, || "/")?;
                Some(terminal::open(root.as_fd(), size, plan.process.uid)?)
            }
            None => None,
        },
    };
    if let Some(pair) = terminal {
        control::send_console(control, &pair.master)?;
        terminal::take(&pair.peer)?;
    }
    if !plan.init_only {
        null::replace()?;
    }
    // Before a filter, which may not know this call.
    orlop_sys::process::close_on_exec_from(3).at(Step::Security, || "descriptors")?;
    let (warnings, filter) = finish(&plan.process, &filter)?;
    for warning in warnings {
        control::send_warning(control, &warning)?;
    }
    let reaper = plan.reaper;
    drop(plan);
    control::send_ready(control)?;
    control::wait_go(control)?;
    if let Some(filter) = &filter {
        identity::install(filter)?;
    }
    Ok(launch.map(|launch| (launch, reaper)))
}

/// The container's own world.
fn set_up(
    plan: &Plan,
    container: &Container,
    mut made: Made,
    control: BorrowedFd<'_>,
) -> Result<Option<terminal::Pair>> {
    if container.cgroup_namespace {
        orlop_sys::ns::unshare_cgroup().at(Step::Namespace, || "cgroup")?;
    }
    let sources = mounts::open_sources(container, &mut made)?;
    let cgroups = cgroups::open(container, &mut made)?;
    let null = mounts::host_null()?;
    rootfs::make_private()?;
    let root: Root = rootfs::mount_root(&container.rootfs, &mut made)?;
    drop(made);
    mounts::mount_all(container, &root, sources, cgroups)?;
    let terminal = match plan.terminal {
        Some(size) => Some(console(&root, size, plan.process.uid)?),
        None => None,
    };
    procfs::set_sysctls(&container.sysctls)?;
    mask::read_only(container, &root)?;
    mask::hide(container, &root, &null)?;
    if let Some(hooks) = &container.hooks {
        let state = control::wait_hooks(control)?;
        crate::hooks::run_with(hooks, &state)
            .map_err(|cause| StageError::refuse(Step::Hook, "createContainer", cause))?;
    }
    rootfs::move_in(container, &root)?;
    if let Some(name) = &container.hostname {
        rustix::system::sethostname(name.as_bytes())
            .at(Step::Namespace, || format!("host name {name}"))?;
    }
    if let Some(name) = &container.domainname {
        rustix::system::setdomainname(name.as_bytes())
            .at(Step::Namespace, || format!("domain name {name}"))?;
    }
    Ok(terminal)
}

fn console(root: &Root, size: (u16, u16), uid: u32) -> Result<terminal::Pair> {
    let pair = terminal::open(root.fd(), size, uid)?;
    terminal::bind_console(root, &pair.peer)?;
    Ok(pair)
}

/// The process itself. The working directory is made as root and entered as the user, unless only
/// root can get there.
fn finish(process: &Process, filter: &[u8]) -> Result<identity::Assumed> {
    // The container's keys are its own; without the key service there is nothing to separate.
    let _ = orlop_sys::process::new_session_keyring();
    let directory: OwnedFd = cwd::open(&process.cwd)?;
    identity::assume(process, filter, &directory)
}
