//! The requests: which service and method, what it does, what it answers.

use crate::container::process::Process;
use crate::container::state::{Event, State};
use crate::container::{Container, host_owner, load_spec, make_cgroup};
use crate::error::Refusal;
use crate::events::timestamp;
use crate::hooks::Hooked;
use crate::io::{Habits, Io, Paths};
use crate::rpc::ReplyTo;
use crate::shim::{Shim, stage_refusal, wait_response};
use crate::stage::{ExecRequest, InitRequest, RootfsMount, Stdio, spawn_exec, spawn_init};
use crate::supervise::Supervised;
use nix::errno::Errno;
use oci_spec::runtime::{LinuxResources, Spec};
use orlop_sys::cgroup::{Hierarchies, Layout};
use orlop_task::names::{EVENTS, SHIM, TASK_V2, TASK_V3, URL_CREATE_OPTIONS};
use orlop_task::protocol::events::{TaskExecAdded, TaskPaused, TaskResumed};
use orlop_task::protocol::shim::{
    CreateOptions, DetailsRequest, DetailsResponse, ReopenLogRequest, SuperviseRequest,
};
use orlop_task::protocol::task as rpc;
use orlop_task::protocol::ttrpc::Request;
use orlop_task::protocol::{Mount, ProcessInfo, Status};
use orlop_task::ttrpc::Code;
use prost::Message;
use prost_types::Any;
use std::os::fd::AsFd;
use std::path::PathBuf;

/// A method that answers later keeps its [`ReplyTo`] and returns `None`.
pub(crate) type Answer = Result<Option<Vec<u8>>, Refusal>;

impl Shim {
    /// Serves one request; its answer, now or later, goes through `replies`.
    pub(crate) fn serve(&mut self, to: ReplyTo, request: &Request) {
        let result = match request.service.as_str() {
            TASK_V3 | TASK_V2 => self.task(to, &request.method, &request.payload),
            SHIM => self.own(to, &request.method, &request.payload),
            EVENTS if self.foreign.is_some() => self.forward(&request.payload),
            other => Err(Refusal::new(
                Code::Unimplemented,
                format!("service {other:?} is not served here"),
            )),
        };
        match result {
            Ok(Some(bytes)) => self.replies.push((to, Ok(bytes))),
            Ok(None) => {}
            Err(refusal) => self.refuse(to, refusal),
        }
    }

    fn task(&mut self, to: ReplyTo, method: &str, payload: &[u8]) -> Answer {
        if self.foreign.is_some()
            && let Some(answer) = self.foreign_task(to, method, payload)?
        {
            return answer;
        }
        match method {
            "Create" => self.create(to, decode(payload)?),
            "Start" => self.start(to, &decode(payload)?),
            "Wait" => self.wait(to, &decode(payload)?),
            "State" => self.state(&decode(payload)?),
            "Kill" => self.kill(&decode(payload)?),
            "Exec" => self.exec(decode(payload)?),
            "Delete" => self.delete(to, &decode(payload)?),
            "Pids" => self.pids(&decode(payload)?),
            "Stats" => self.stats(&decode(payload)?),
            "Update" => self.update(decode(payload)?),
            "Pause" => self.freeze(&decode::<rpc::PauseRequest>(payload)?.id, true),
            "Resume" => self.freeze(&decode::<rpc::ResumeRequest>(payload)?.id, false),
            "ResizePty" => self.resize(&decode(payload)?),
            "CloseIO" => self.close_io(&decode(payload)?),
            "Connect" => self.connect(&decode(payload)?),
            "Shutdown" => self.shutdown(&decode(payload)?),
            "Checkpoint" => Err(Refusal::new(Code::Unimplemented, "checkpoints are not supported")),
            other => Err(Refusal::new(
                Code::Unimplemented,
                format!("the Task service has no method {other:?}"),
            )),
        }
    }

    fn own(&mut self, to: ReplyTo, method: &str, payload: &[u8]) -> Answer {
        match method {
            "ReopenLog" => {
                let request: ReopenLogRequest = decode(payload)?;
                let init = &mut self.container(&request.id)?.init;
                if !matches!(init.state, State::Running | State::Paused) {
                    return Err(Refusal::precondition(format!(
                        "{} is not running: its log stays as it is",
                        init.name
                    )));
                }
                let io = init.io.as_mut().ok_or_else(|| Refusal::internal("no I/O"))?;
                io.reopen_log()?;
                empty()
            }
            "Details" => self.details(&decode(payload)?),
            "Attach" => self.attach(to, &decode(payload)?),
            "Supervise" => self.supervise_anew(&decode::<SuperviseRequest>(payload)?.id),
            "Watch" => self.watch(to, &decode(payload)?),
            other => Err(Refusal::new(
                Code::Unimplemented,
                format!("the Shim service has no method {other:?}"),
            )),
        }
    }

    /// Refuses a creation that this shim cannot serve.
    pub(crate) fn check_create(&self, request: &rpc::CreateTaskRequest) -> Result<(), Refusal> {
        if let Some(container) = &self.container {
            let text = format!("this shim has container {} already", container.id);
            return Err(Refusal::new(Code::AlreadyExists, text));
        }
        if request.id != self.id {
            let text = format!("this shim is for container {}, not for {}", self.id, request.id);
            return Err(Refusal::invalid(text));
        }
        if !request.checkpoint.is_empty() {
            return Err(Refusal::new(Code::Unimplemented, "checkpoints are not supported"));
        }
        Ok(())
    }

    fn create(&mut self, to: ReplyTo, request: rpc::CreateTaskRequest) -> Answer {
        self.check_create(&request)?;
        let options = create_options(request.options.as_ref())?;
        let bundle = if request.bundle.is_empty() {
            self.bundle.clone()
        } else {
            PathBuf::from(&request.bundle)
        };
        let spec = load_spec(&bundle)?;
        let hooked = Hooked::of(&spec, &request.id, &bundle).map_err(Refusal::invalid)?;
        let rootfs: Vec<RootfsMount> = request.rootfs.into_iter().map(rootfs_mount).collect();
        let supervised = Supervised::of(&bundle, &rootfs)?;
        let key = self.key();
        let paths = Paths {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal,
        };
        let owner =
            spec.process().as_ref().map_or((0, 0), |process| host_owner(&spec, process.user()));
        let (io, ends) = Io::prepare(key, &paths, habits(&options), owner)?;
        if self.hierarchies.is_none() {
            self.hierarchies = Some(Hierarchies::detect()?);
        }
        let Some(hierarchies) = &self.hierarchies else {
            return Err(Refusal::internal("no control groups"));
        };
        let mut cgroup = make_cgroup(hierarchies, &spec, &request.id)?;
        let staged = spawn_init(&InitRequest {
            spec: &spec,
            bundle: &bundle,
            rootfs: &rootfs,
            stdio: stdio(&spec, paths.terminal, &ends),
            cgroup: Some(&cgroup),
            init_only: options.init,
            reaper: options.reaper,
            hooks: hooked.as_ref().and_then(|hooked| hooked.hooks.before_entry()),
            self_exe: self.self_exe.as_fd(),
        });
        // Where that failed nothing keeps systemd from ending the group.
        cgroup.inhabited();
        let staged = match staged {
            Ok(staged) => staged,
            Err(error) => {
                if let Err(error) = cgroup.delete() {
                    crate::diagnostics::note(&error.to_string());
                }
                return Err(stage_refusal(error));
            }
        };
        let mut init = Process::new(
            key,
            format!("container {}", request.id),
            String::new(),
            paths,
            State::Creating,
        );
        init.pending = Some(to);
        let mut container = Container::new(request.id, bundle, options, spec, cgroup, init);
        container.hooked = hooked;
        container.supervised = supervised;
        if let Err(refusal) = container.init.adopt(&self.poller, staged, io) {
            // The process is reaped as an orphan.
            container.cgroup.kill_all()?;
            container.cgroup.delete()?;
            return Err(refusal);
        }
        container.watch_memory(&self.poller);
        self.container = Some(container);
        Ok(None)
    }

    fn start(&mut self, to: ReplyTo, request: &rpc::StartRequest) -> Answer {
        if request.exec_id.is_empty() {
            let init = &mut self.container(&request.id)?.init;
            init.happen(Event::Start)?;
            init.pending = Some(to);
            let key = init.key;
            if let Err(refusal) = self.run_start_hooks() {
                self.start_failed(key, refusal);
                return Ok(None);
            }
            let init = &mut self.container(&request.id)?.init;
            if let Some(Err(error)) = init.staged.as_mut().map(crate::stage::Staged::release) {
                self.start_failed(key, stage_refusal(error));
            }
            return Ok(None);
        }
        self.start_exec(to, request)
    }

    fn start_exec(&mut self, to: ReplyTo, request: &rpc::StartRequest) -> Answer {
        self.container(&request.id)?;
        let Self { poller, container: Some(container), self_exe, .. } = self else {
            return Err(Refusal::internal("the container has gone"));
        };
        let key = container.by_exec_id(&request.exec_id)?.key;
        let Container { init, execs, spec, cgroup, options, .. } = container;
        let Some(exec) = execs.get_mut(&key) else {
            return Err(Refusal::internal("the exec has gone"));
        };
        exec.state.after(Event::Start, &exec.name)?;
        let Some(init_pidfd) =
            init.pidfd().filter(|_| matches!(init.state, State::Created | State::Running))
        else {
            return Err(Refusal::precondition(format!("{} is not running", init.name)));
        };
        let Some(process) = exec.exec.take() else {
            return Err(Refusal::internal("the exec has no process"));
        };
        let prepared =
            Io::prepare(key, &exec.paths, exec_habits(options), host_owner(spec, process.user()));
        let staged = prepared.and_then(|(io, ends)| {
            let request = ExecRequest {
                process: &process,
                spec,
                init_pidfd: init_pidfd.as_fd(),
                init_pid: init.pid,
                stdio: if exec.paths.terminal {
                    terminal(process.console_size())
                } else {
                    Stdio::Fds(ends.borrow())
                },
                cgroup: Some(cgroup),
                self_exe: self_exe.as_fd(),
            };
            spawn_exec(&request).map(|staged| (staged, io)).map_err(stage_refusal)
        });
        exec.happen(Event::Start)?;
        match staged {
            Ok((staged, io)) => {
                exec.pending = Some(to);
                exec.adopt(poller, staged, io)?;
                Ok(None)
            }
            Err(refusal) => {
                exec.ended(poller, crate::container::START_FAILED);
                self.settle(key);
                Err(refusal)
            }
        }
    }

    fn wait(&mut self, to: ReplyTo, request: &rpc::WaitRequest) -> Answer {
        let process = self.container(&request.id)?.by_exec_id(&request.exec_id)?;
        match process.exit {
            Some(exit) => reply(&wait_response(exit)),
            None => {
                process.waiters.push(to);
                Ok(None)
            }
        }
    }

    fn state(&mut self, request: &rpc::StateRequest) -> Answer {
        let container = self.container(&request.id)?;
        let bundle = container.bundle.to_string_lossy().into_owned();
        let again = container.runs_again() && request.exec_id.is_empty();
        let process = container.by_exec_id(&request.exec_id)?;
        let paths = &process.paths;
        let status = match process.state {
            // On its way to another run.
            State::Creating | State::Created | State::Starting if again => Status::Running,
            state => state.status(),
        };
        reply(&rpc::StateResponse {
            id: request.id.clone(),
            bundle,
            pid: process.pid.unsigned_abs(),
            status: status as i32,
            stdin: paths.stdin.clone(),
            stdout: paths.stdout.clone(),
            stderr: paths.stderr.clone(),
            terminal: paths.terminal,
            exit_status: process.exit.map_or(0, |exit| exit.code),
            exited_at: process.exit.map(|exit| timestamp(exit.at)),
            exec_id: request.exec_id.clone(),
        })
    }

    fn kill(&mut self, request: &rpc::KillRequest) -> Answer {
        if request.signal > 64 {
            return Err(Refusal::invalid(format!("signal {} does not exist", request.signal)));
        }
        let mut request = request.clone();
        if request.exec_id.is_empty() && self.end_asked(&mut request)? {
            return empty();
        }
        let container = self.container(&request.id)?;
        if request.all && request.exec_id.is_empty() {
            container.signal_all(request.signal)?;
            return empty();
        }
        let process = container.by_exec_id(&request.exec_id)?;
        process.state.after(Event::Kill, &process.name)?;
        if request.all {
            process.signal_group(request.signal)?;
        } else {
            process.signal(request.signal)?;
        }
        empty()
    }

    fn exec(&mut self, request: rpc::ExecProcessRequest) -> Answer {
        let key = self.key();
        let container = self.container(&request.id)?;
        if request.exec_id.is_empty() {
            return Err(Refusal::invalid("exec_id is empty: give the process a name"));
        }
        if container.by_exec_id(&request.exec_id).is_ok() {
            let text =
                format!("exec {} of container {} exists already", request.exec_id, request.id);
            return Err(Refusal::new(Code::AlreadyExists, text));
        }
        if !matches!(container.init.state, State::Created | State::Running) {
            return Err(Refusal::precondition(format!("{} is not running", container.init.name)));
        }
        let spec =
            request.spec.ok_or_else(|| Refusal::invalid("spec is empty: give an OCI process"))?;
        let process = serde_json::from_slice(&spec.value).map_err(|error| {
            Refusal::invalid(format!("spec of exec {}: {error}", request.exec_id))
        })?;
        let paths = Paths {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal,
        };
        let name = format!("exec {}", request.exec_id);
        let exec_id = request.exec_id.clone();
        let mut exec = Process::new(key, name, request.exec_id, paths, State::Created);
        exec.exec = Some(Box::new(process));
        container.execs.insert(key, exec);
        self.publish("/tasks/exec-added", |container| TaskExecAdded {
            container_id: container.id.clone(),
            exec_id,
        });
        empty()
    }

    fn delete(&mut self, to: ReplyTo, request: &rpc::DeleteRequest) -> Answer {
        let process = self.container(&request.id)?.by_exec_id(&request.exec_id)?;
        process.state.after(Event::Delete, &process.name)?;
        if process.deleting.is_some() {
            return Err(Refusal::new(
                Code::Aborted,
                format!("{} is being deleted already", process.name),
            ));
        }
        let key = process.key;
        if process.alive() {
            // Created and never started: nothing of the workload ran.
            let signalled = process.signal(9);
            let ended = match &self.foreign {
                Some(_) => self.foreign_end(&request.id),
                None => signalled,
            };
            match ended {
                Err(refusal) if refusal.code != Code::NotFound => return Err(refusal),
                _ => {}
            }
        }
        self.delete_later(key, to);
        Ok(None)
    }

    fn pids(&mut self, request: &rpc::PidsRequest) -> Answer {
        let pids = self.container(&request.id)?.cgroup.procs()?;
        let processes = pids
            .into_iter()
            .map(|pid| ProcessInfo { pid: pid.unsigned_abs(), info: None })
            .collect();
        reply(&rpc::PidsResponse { processes })
    }

    fn stats(&mut self, request: &rpc::StatsRequest) -> Answer {
        let layout = self.hierarchies.as_ref().map_or(Layout::V1, |all| all.layout);
        let stats = self.container(&request.id)?.metrics(layout)?;
        reply(&rpc::StatsResponse { stats: Some(stats) })
    }

    fn update(&mut self, request: rpc::UpdateTaskRequest) -> Answer {
        let container = self.container(&request.id)?;
        let any = request
            .resources
            .ok_or_else(|| Refusal::invalid("resources is empty: give OCI Linux resources"))?;
        let resources: LinuxResources = serde_json::from_slice(&any.value)
            .map_err(|error| Refusal::invalid(format!("resources: {error}")))?;
        container.cgroup.update(&resources).map_err(limit_refused)?;
        empty()
    }

    fn freeze(&mut self, id: &str, frozen: bool) -> Answer {
        self.container(id)?.freeze(frozen)?;
        self.hold_health(frozen);
        if frozen {
            self.publish("/tasks/paused", |container| TaskPaused {
                container_id: container.id.clone(),
            });
        } else {
            self.publish("/tasks/resumed", |container| TaskResumed {
                container_id: container.id.clone(),
            });
        }
        empty()
    }

    fn resize(&mut self, request: &rpc::ResizePtyRequest) -> Answer {
        let process = self.container(&request.id)?.by_exec_id(&request.exec_id)?;
        match &process.io {
            Some(io) => io.resize(request.width, request.height)?,
            None => return Err(Refusal::precondition(format!("{} is not running", process.name))),
        }
        empty()
    }

    fn close_io(&mut self, request: &rpc::CloseIoRequest) -> Answer {
        self.container(&request.id)?;
        let Self { poller, container: Some(container), buffer, .. } = self else {
            return Err(Refusal::internal("the container has gone"));
        };
        let process = container.by_exec_id(&request.exec_id)?;
        let key = process.key;
        if let (true, Some(io)) = (request.stdin, &mut process.io) {
            io.close_stdin(poller, buffer);
            if !io.has_input() && self.foreign.is_some() {
                self.foreign_input_ended(key);
            }
        }
        empty()
    }

    fn connect(&mut self, request: &rpc::ConnectRequest) -> Answer {
        let task_pid = match &self.container {
            Some(container) if request.id.is_empty() || container.id == request.id => {
                container.init.pid
            }
            _ => 0,
        };
        reply(&rpc::ConnectResponse {
            shim_pid: std::process::id(),
            task_pid: task_pid.unsigned_abs(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }

    fn shutdown(&mut self, request: &rpc::ShutdownRequest) -> Answer {
        if let Some(container) = self.container.as_ref().filter(|_| request.now) {
            // Nobody would be left to take care of it.
            container.cgroup.kill_all()?;
            container.cgroup.delete()?;
        }
        if request.now && self.container.is_some() {
            self.clear_foreign();
            self.quit = true;
        } else if self.container.is_none() {
            self.leave();
        }
        empty()
    }

    fn details(&mut self, request: &DetailsRequest) -> Answer {
        let container = self.container(&request.id)?;
        let init = &container.init;
        reply(&DetailsResponse {
            oom_killed: container.oom_killed(),
            log_bytes_dropped: init.io.as_ref().map_or(0, Io::dropped),
            started_at: init.started_at.0,
            exited_at: init.exit.map_or(0, |exit| exit.at.0),
            exec_ids: container.execs.values().map(|exec| exec.exec_id.clone()).collect(),
        })
    }
}

/// How the container's own process is treated.
pub(crate) fn habits(options: &CreateOptions) -> Habits {
    Habits {
        max_line: options.max_log_line,
        attachable: options.attachable,
        keep_stdin: options.attachable && !options.stdin_once,
    }
}

/// How an exec is treated: it has the flows that it is given.
pub(crate) fn exec_habits(options: &CreateOptions) -> Habits {
    Habits { max_line: options.max_log_line, ..Habits::default() }
}

/// Whether it is the limit that is wrong, or the moment, or the host.
fn limit_refused(error: orlop_sys::error::Error) -> Refusal {
    let code = match Errno::from_raw(error.errno) {
        Errno::EINVAL | Errno::ERANGE => Code::InvalidArgument,
        Errno::EBUSY | Errno::ENOTSUP | Errno::ENOSPC => Code::FailedPrecondition,
        _ => Code::Internal,
    };
    Refusal::new(code, error.to_string())
}

pub(crate) fn decode<M: Message + Default>(payload: &[u8]) -> Result<M, Refusal> {
    M::decode(payload).map_err(|error| Refusal::invalid(format!("request does not parse: {error}")))
}

fn reply(message: &impl Message) -> Answer {
    Ok(Some(message.encode_to_vec()))
}

/// google.protobuf.Empty.
pub(crate) fn empty() -> Answer {
    Ok(Some(Vec::new()))
}

pub(crate) fn create_options(any: Option<&Any>) -> Result<CreateOptions, Refusal> {
    match any {
        // Another runtime's options, such as runc's, say nothing to us.
        Some(any) if any.type_url.rsplit('/').next() == Some(URL_CREATE_OPTIONS) => {
            decode(&any.value)
        }
        _ => Ok(CreateOptions::default()),
    }
}

fn rootfs_mount(mount: Mount) -> RootfsMount {
    RootfsMount { kind: mount.r#type, source: mount.source, options: mount.options }
}

pub(crate) fn stdio<'a>(
    spec: &Spec,
    is_terminal: bool,
    ends: &'a crate::io::ChildEnds,
) -> Stdio<'a> {
    if is_terminal {
        terminal(spec.process().as_ref().and_then(oci_spec::runtime::Process::console_size))
    } else {
        Stdio::Fds(ends.borrow())
    }
}

fn terminal<'a>(size: Option<oci_spec::runtime::Box>) -> Stdio<'a> {
    let side = |n: u64| u16::try_from(n).unwrap_or(u16::MAX);
    Stdio::Terminal { size: size.map(|size| (side(size.height()), side(size.width()))) }
}
