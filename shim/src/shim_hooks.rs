//! When the shim runs a container's hooks. Nobody is served meanwhile: a hook is part of the creation, the
//! start or the deletion that waits for it.

use crate::error::Refusal;
use crate::hooks::{Hook, Hooked, await_end, run_all, run_each, state_file};
use crate::shim::{Shim, stage_refusal};
use crate::stage::{ExecRequest, StageError, Staged, Stdio, Step, spawn_exec};
use oci_spec::runtime::Process;
use std::os::fd::{AsFd, BorrowedFd};

impl Shim {
    /// The namespaces exist and the root is not entered: ours first, then the stage runs its own.
    pub(crate) fn run_runtime_hooks(&mut self) -> Result<(), Refusal> {
        let Some(container) = &mut self.container else { return Ok(()) };
        let (Some(hooked), Some(staged)) = (&container.hooked, &mut container.init.staged) else {
            return Ok(());
        };
        let state = hooked.state("creating", staged.child.pid);
        let done = run_all(&hooked.hooks.create_runtime, &state)
            .and_then(|()| serde_json::to_vec(&state).map_err(|error| error.to_string()));
        match done {
            Ok(state) => staged.hooks_done(&state).map_err(stage_refusal),
            Err(cause) => Err(abandon(staged, "createRuntime", &cause)),
        }
    }

    /// Start was asked for: hooks inside the container, as confined as its program.
    pub(crate) fn run_start_hooks(&mut self) -> Result<(), Refusal> {
        let Some(container) = &mut self.container else { return Ok(()) };
        let Some(hooked) = &container.hooked else { return Ok(()) };
        let Some(staged) = &mut container.init.staged else { return Ok(()) };
        let state = hooked.state("created", staged.child.pid);
        let state = serde_json::to_vec(&state).map_err(Refusal::internal)?;
        for hook in &hooked.hooks.start_container {
            let done = start_inside(hooked, hook, &state, |process, stdin| {
                let request = ExecRequest {
                    process,
                    spec: &container.spec,
                    init_pidfd: staged.child.pidfd.as_fd(),
                    init_pid: staged.child.pid,
                    stdio: Stdio::Fds([Some(stdin), None, None]),
                    cgroup: Some(&container.cgroup),
                    self_exe: self.self_exe.as_fd(),
                };
                spawn_exec(&request)
            });
            if let Err(cause) = done {
                let cause = format!("hook {}: {cause}", hook.path.display());
                return Err(abandon(staged, "startContainer", &cause));
            }
        }
        Ok(())
    }

    /// The program runs, or the container is deleted: what fails now is noted.
    pub(crate) fn run_late_hooks(&mut self, status: &str) {
        let Some(container) = &self.container else { return };
        let Some(hooked) = &container.hooked else { return };
        let (hooks, pid) = match status {
            "running" => (&hooked.hooks.poststart, container.init.pid),
            _ => (&hooked.hooks.poststop, 0),
        };
        for failure in run_each(hooks, &hooked.state(status, pid)) {
            crate::diagnostics::note(&format!("{}: {failure}", container.init.name));
        }
    }
}

fn abandon(staged: &mut Staged, kind: &str, cause: &str) -> Refusal {
    stage_refusal(staged.abandon(StageError::refuse(Step::Hook, kind, cause)))
}

/// Runs one hook as a further process of the container, and waits for its end.
fn start_inside(
    hooked: &Hooked,
    hook: &Hook,
    state: &[u8],
    spawn: impl FnOnce(&Process, BorrowedFd<'_>) -> Result<Staged, StageError>,
) -> Result<(), String> {
    let process = hooked.process(hook).ok_or("the spec has no process")?;
    let stdin = state_file(state).map_err(|error| error.to_string())?;
    let mut staged = spawn(&process, stdin.as_fd()).map_err(|error| error.message)?;
    let running =
        staged.wait_ready().and_then(|()| staged.release()).and_then(|()| staged.wait_running());
    running.map_err(|error| error.message)?;
    match await_end(&staged.child.pidfd, hook.timeout)? {
        0 => Ok(()),
        status => Err(format!("it ended with status {status}")),
    }
}
