//! The shim as keeper of a container that runs in a shim of another maker: it answers as for a container
//! of its own, owns input, output, log and exit status, and asks the foreign shim for the rest.

use crate::container::process::Process;
use crate::container::state::{Event, State};
use crate::container::{Container, KILLED, cgroup_path, load_spec, record};
use crate::error::Refusal;
use crate::foreign::{Deletion, Purpose};
use crate::io::{Io, Paths};
use crate::rpc::ReplyTo;
use crate::service::{Answer, create_options, decode, empty, exec_habits, habits};
use crate::shim::Shim;
use orlop_model::{ExitStatus, Timestamp};
use orlop_sys::cgroup::{Cgroup, Hierarchies};
use orlop_sys::process::Pidfd;
use orlop_task::names::URL_PROCESS;
use orlop_task::protocol::events::TaskOom;
use orlop_task::protocol::forward::ForwardRequest;
use orlop_task::protocol::task as rpc;
use orlop_task::{Bundle, ShimRecord, clear_foreign};
use prost::Message;
use prost_types::Any;
use std::path::{Path, PathBuf};

/// How long the end of a process waits for its last output to come through the foreign shim, when
/// something that the process left behind may hold its pipes, milliseconds.
const LAST_WORDS: u64 = 1_000;
/// How long a foreign shim may take to end, milliseconds.
const LEAVING: u64 = 5_000;
/// A sandbox's keeper gets the memory kills of the whole pod, and leaves word with this name.
const OOM_MARK: &str = "oom";

impl Shim {
    /// Serves what the foreign shim has to do; `None`: the request is ours to serve.
    pub(crate) fn foreign_task(
        &mut self,
        to: ReplyTo,
        method: &str,
        payload: &[u8],
    ) -> Result<Option<Answer>, Refusal> {
        Ok(Some(match method {
            "Create" => self.foreign_create(to, decode(payload)?),
            "Start" => self.foreign_start(to, &decode(payload)?),
            "Kill" => self.foreign_kill(to, &decode(payload)?),
            "Pause" => self.foreign_freeze(to, &decode::<rpc::PauseRequest>(payload)?.id, true),
            "Resume" => self.foreign_freeze(to, &decode::<rpc::ResumeRequest>(payload)?.id, false),
            "Pids" | "Stats" | "Update" | "ResizePty" | "Checkpoint" => {
                self.pass(to, method, payload.to_vec())
            }
            _ => return Ok(None),
        }))
    }

    fn pass(&mut self, to: ReplyTo, method: &str, payload: Vec<u8>) -> Answer {
        let id = self.id.clone();
        self.container(&id)?;
        let Self { poller, foreign: Some(foreign), .. } = self else { return Ok(None) };
        foreign.call_raw(poller, method, payload, Purpose::Pass(to))?;
        Ok(None)
    }

    /// Asks the foreign shim for something; refused where it has gone.
    pub(crate) fn ask(
        &mut self,
        method: &str,
        request: &impl Message,
        purpose: Purpose,
    ) -> Result<(), Refusal> {
        match &mut self.foreign {
            Some(foreign) => foreign.call(&self.poller, method, request, purpose),
            None => Err(Refusal::internal("there is no foreign shim")),
        }
    }

    fn foreign_create(&mut self, to: ReplyTo, request: rpc::CreateTaskRequest) -> Answer {
        self.check_create(&request)?;
        let options = create_options(request.options.as_ref())?;
        let bundle = Bundle::new(&self.bundle);
        let spec = load_spec(&self.bundle)?;
        let hierarchies = Hierarchies::detect()?;
        let key = self.key();
        let paths = Paths {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal,
        };
        let Self { poller, foreign: Some(foreign), .. } = self else { return Ok(None) };
        foreign.begin(poller, &bundle)?;
        let (io, theirs) = Io::prepare_fifos(key, &paths, habits(&options), &self.bundle)?;
        io.register(poller)?;
        // Made before the foreign runtime finds it, so that no memory kill is missed; one that has
        // groups of its own leaves it empty.
        let cgroup = Cgroup::create(&hierarchies, &cgroup_path(&spec, &request.id), None)?;
        let name = format!("container {}", request.id);
        let mut init = Process::new(key, name, String::new(), paths, State::Creating);
        init.pending = Some(to);
        init.io = Some(io);
        let options_of_runtime = foreign.runtime.options.as_ref().map(|options| Any {
            type_url: options.type_url.clone(),
            value: options.value.clone(),
        });
        let create = rpc::CreateTaskRequest {
            id: request.id.clone(),
            bundle: bundle.foreign_dir().to_string_lossy().into_owned(),
            rootfs: request.rootfs,
            terminal: theirs.terminal,
            stdin: theirs.stdin,
            stdout: theirs.stdout,
            stderr: theirs.stderr,
            checkpoint: String::new(),
            parent_checkpoint: String::new(),
            options: options_of_runtime,
        };
        let mut container =
            Container::new(request.id, self.bundle.clone(), options, spec, cgroup, init);
        container.watch_memory(poller);
        self.container = Some(container);
        // Which process it is must be known also where it fails to create.
        self.foreign_connect();
        self.ask_or_fail("Create", &create, Purpose::Created(key), key);
        Ok(None)
    }

    fn foreign_start(&mut self, to: ReplyTo, request: &rpc::StartRequest) -> Answer {
        let bundle = self.bundle.clone();
        let container = self.container(&request.id)?;
        let habits = exec_habits(&container.options);
        let alive = matches!(container.init.state, State::Created | State::Running);
        let init_name = container.init.name.clone();
        let process = container.by_exec_id(&request.exec_id)?;
        let key = process.key;
        process.state.after(Event::Start, &process.name)?;
        if request.exec_id.is_empty() {
            process.happen(Event::Start)?;
            process.pending = Some(to);
            self.ask_or_fail("Start", request, Purpose::Started(key), key);
            return Ok(None);
        }
        if !alive {
            return Err(Refusal::precondition(format!("{init_name} is not running")));
        }
        let spec = process.exec.take().ok_or_else(|| Refusal::internal("no process"))?;
        let value = serde_json::to_vec(&spec).map_err(Refusal::internal)?;
        let (io, theirs) = Io::prepare_fifos(key, &process.paths, habits, &bundle)?;
        process.happen(Event::Start)?;
        process.pending = Some(to);
        let Self { poller, container: Some(container), .. } = self else { return Ok(None) };
        io.register(poller)?;
        container.by_exec_id(&request.exec_id)?.io = Some(io);
        let exec = rpc::ExecProcessRequest {
            id: request.id.clone(),
            exec_id: request.exec_id.clone(),
            terminal: theirs.terminal,
            stdin: theirs.stdin,
            stdout: theirs.stdout,
            stderr: theirs.stderr,
            spec: Some(Any { type_url: URL_PROCESS.to_owned(), value }),
        };
        self.ask_or_fail("Exec", &exec, Purpose::Added(key), key);
        Ok(None)
    }

    fn ask_or_fail(&mut self, method: &str, request: &impl Message, purpose: Purpose, key: u32) {
        if let Err(refusal) = self.ask(method, request, purpose) {
            self.start_failed(key, refusal);
        }
    }

    fn foreign_kill(&mut self, to: ReplyTo, request: &rpc::KillRequest) -> Answer {
        let process = self.container(&request.id)?.by_exec_id(&request.exec_id)?;
        process.state.after(Event::Kill, &process.name)?;
        if process.ending.is_some() {
            return Err(Refusal::not_found(format!("{} has already ended", process.name)));
        }
        self.ask("Kill", request, Purpose::Pass(to))?;
        Ok(None)
    }

    /// Kills what was created and never started, for its deletion.
    pub(crate) fn foreign_end(&mut self, id: &str) -> Result<(), Refusal> {
        let request =
            rpc::KillRequest { id: id.to_owned(), exec_id: String::new(), signal: 9, all: true };
        self.ask("Kill", &request, Purpose::Nothing)
    }

    fn foreign_freeze(&mut self, to: ReplyTo, id: &str, frozen: bool) -> Answer {
        let event = if frozen { Event::Pause } else { Event::Resume };
        let init = &self.container(id)?.init;
        init.state.after(event, &init.name)?;
        let id = id.to_owned();
        let purpose = Purpose::Frozen(to, frozen);
        if frozen {
            self.ask("Pause", &rpc::PauseRequest { id }, purpose)?;
        } else {
            self.ask("Resume", &rpc::ResumeRequest { id }, purpose)?;
        }
        Ok(None)
    }

    /// The input of a process has ended: the foreign shim holds its FIFO open until it is told.
    pub(crate) fn foreign_input_ended(&mut self, key: u32) {
        let Some(exec_id) = self.exec_id(key) else { return };
        let request = rpc::CloseIoRequest { id: self.id.clone(), exec_id, stdin: true };
        // It may have ended with its process.
        let _ = self.ask("CloseIO", &request, Purpose::Nothing);
    }

    fn exec_id(&mut self, key: u32) -> Option<String> {
        let container = self.container.as_mut()?;
        container.by_key(key).map(|process| process.exec_id.clone())
    }

    /// The foreign shim has said something, or gone.
    pub(crate) fn foreign_ready(&mut self) {
        let Self { poller, foreign: Some(foreign), buffer, .. } = self else { return };
        let (answers, ended) = foreign.receive(poller, buffer);
        for (purpose, answer) in answers {
            self.foreign_answer(purpose, answer);
        }
        if ended {
            self.foreign_lost();
        }
        self.finish_exits();
    }

    /// The foreign shim complains.
    pub(crate) fn foreign_log_ready(&mut self) {
        if let Some(foreign) = &mut self.foreign {
            foreign.log_ready(&mut self.buffer);
        }
    }

    fn foreign_answer(&mut self, purpose: Purpose, answer: Result<Vec<u8>, Refusal>) {
        match (purpose, answer) {
            (Purpose::Created(key), Ok(bytes)) => self.foreign_created(key, &bytes),
            (Purpose::Added(key), Ok(_)) => {
                let Some(exec_id) = self.exec_id(key) else { return };
                let request = rpc::StartRequest { id: self.id.clone(), exec_id };
                self.ask_or_fail("Start", &request, Purpose::Started(key), key);
            }
            (Purpose::Started(key), Ok(bytes)) => self.foreign_started(key, &bytes),
            (Purpose::Created(key) | Purpose::Added(key) | Purpose::Started(key), Err(refusal)) => {
                self.start_failed(key, refusal);
            }
            (Purpose::Waited(key), answer) => self.foreign_ended(key, answer.as_deref().ok()),
            (Purpose::Deleted, answer) => self.foreign_deleted(answer.err()),
            (Purpose::Frozen(to, frozen), Ok(_)) => {
                if let Some(container) = &mut self.container {
                    container.frozen(frozen);
                }
                self.replies.push((to, Ok(Vec::new())));
            }
            (Purpose::Frozen(to, _), Err(refusal)) => self.refuse(to, refusal),
            (Purpose::Connected, Ok(bytes)) => self.foreign_connected(&bytes),
            (Purpose::ShutDown, _) => {
                // A shim of its own ends with its connection.
                self.quit |= self.foreign.as_ref().is_none_or(|foreign| foreign.runtime.shared);
            }
            (Purpose::Pass(to), answer) => self.replies.push((to, answer)),
            (Purpose::Connected, Err(_)) | (Purpose::Nothing, _) => {}
        }
    }

    fn foreign_created(&mut self, key: u32, bytes: &[u8]) {
        let pid = rpc::CreateTaskResponse::decode(bytes).map_or(0, |answer| answer.pid);
        if let Some(process) = self.container.as_mut().and_then(|all| all.by_key(key)) {
            process.pid = i32::try_from(pid).unwrap_or(0);
        }
        self.staged(key);
        let request = rpc::WaitRequest { id: self.id.clone(), exec_id: String::new() };
        // When the connection breaks, all that live are ended.
        let _ = self.ask("Wait", &request, Purpose::Waited(key));
        if self.foreign.as_ref().is_some_and(|foreign| foreign.pid == 0) {
            // Some do not tell before they have a container.
            self.foreign_connect();
        }
    }

    fn foreign_connect(&mut self) {
        let request = rpc::ConnectRequest { id: self.id.clone() };
        let _ = self.ask("Connect", &request, Purpose::Connected);
    }

    fn foreign_started(&mut self, key: u32, bytes: &[u8]) {
        let pid = rpc::StartResponse::decode(bytes).map_or(0, |answer| answer.pid);
        let Some(process) = self.container.as_mut().and_then(|all| all.by_key(key)) else { return };
        process.pid = i32::try_from(pid).unwrap_or(0);
        let exec_id = process.exec_id.clone();
        self.started(key);
        if !exec_id.is_empty() {
            let request = rpc::WaitRequest { id: self.id.clone(), exec_id };
            let _ = self.ask("Wait", &request, Purpose::Waited(key));
        }
    }

    /// Which process the foreign shim is, for whoever must clear away after us.
    fn foreign_connected(&mut self, bytes: &[u8]) {
        let shim_pid = rpc::ConnectResponse::decode(bytes).map_or(0, |answer| answer.shim_pid);
        let pid = i32::try_from(shim_pid).unwrap_or(0);
        let Some(foreign) = self.foreign.as_mut().filter(|foreign| !foreign.runtime.shared) else {
            return;
        };
        let Ok(start_time) = orlop_sys::process::start_time(pid) else { return };
        foreign.pid = pid;
        let shim = ShimRecord { version: 1, id: self.id.clone(), pid, start_time };
        let dir = Bundle::new(&self.bundle).foreign_dir();
        if let Err(error) = record::write_foreign(&dir, &shim) {
            crate::diagnostics::note(&format!("{}: shim.json: {error}", dir.display()));
        }
    }

    /// A process has ended; `bytes` say how, if the foreign shim knew it.
    fn foreign_ended(&mut self, key: u32, bytes: Option<&[u8]>) {
        let until = self.clock().saturating_add(LAST_WORDS);
        let answer = bytes.and_then(|bytes| rpc::WaitResponse::decode(bytes).ok());
        let exit = answer.map_or(ExitStatus { code: KILLED, at: Timestamp::now() }, |answer| {
            let at = answer.exited_at.map_or_else(Timestamp::now, |at| {
                Timestamp(at.seconds.saturating_mul(1_000_000_000) + i64::from(at.nanos))
            });
            ExitStatus { code: answer.exit_status, at }
        });
        if let Some(process) = self.container.as_mut().and_then(|all| all.by_key(key)) {
            process.ending.get_or_insert((exit, until));
        }
    }

    /// Tells the ends of processes whose last words are through.
    pub(crate) fn finish_exits(&mut self) {
        let now = self.clock();
        let Some(container) = &mut self.container else { return };
        let all = std::iter::once(&mut container.init).chain(container.execs.values_mut());
        let due: Vec<(u32, ExitStatus)> = all
            .filter(|process| {
                // What is being started gets its answer first.
                process.exit.is_none()
                    && !matches!(process.state, State::Creating | State::Starting)
            })
            .filter_map(|process| {
                let (exit, until) = process.ending?;
                let open = process.io.as_ref().is_some_and(Io::has_output);
                (now >= until || !open).then_some((process.key, exit))
            })
            .collect();
        for (key, exit) in due {
            self.end_with(key, exit);
        }
    }

    fn end_with(&mut self, key: u32, exit: ExitStatus) {
        let Self { poller, container: Some(container), .. } = self else { return };
        if container.init.key == key && self.bundle.join("foreign").join(OOM_MARK).exists() {
            container.note_oom();
        }
        let Some(process) = container.by_key(key) else { return };
        process.ended_as(poller, exit);
        self.after_end(key, exit);
    }

    fn foreign_deleted(&mut self, error: Option<Refusal>) {
        let Some(foreign) = &mut self.foreign else { return };
        match error.filter(|refusal| refusal.code != orlop_task::ttrpc::Code::NotFound) {
            None => {
                foreign.deletion = Deletion::Done;
                // By this file it is known that there is something to clear away.
                let config = Bundle::new(&self.bundle).foreign_dir().join("config.json");
                let _ = std::fs::remove_file(config);
            }
            Some(refusal) => {
                foreign.deletion = Deletion::NotAsked;
                let waiting = self.container.as_mut().and_then(|all| all.init.deleting.take());
                if let Some((to, _)) = waiting {
                    self.refuse(to, refusal);
                }
            }
        }
        self.finish_deletions();
    }

    /// Whether the foreign shim has deleted the container; asks it to when it was not asked yet.
    pub(crate) fn foreign_is_deleted(&mut self) -> bool {
        let Some(foreign) = &mut self.foreign else { return true };
        if foreign.deletion == Deletion::NotAsked {
            foreign.deletion = Deletion::Asked;
            let request = rpc::DeleteRequest { id: self.id.clone(), exec_id: String::new() };
            if self.ask("Delete", &request, Purpose::Deleted).is_err() {
                self.clear_foreign();
            }
        }
        self.foreign.as_ref().is_none_or(|foreign| foreign.deletion == Deletion::Done)
    }

    /// Lets the foreign shim forget an exec.
    pub(crate) fn foreign_forget(&mut self, exec_id: String) {
        if self.foreign.is_some() {
            let request = rpc::DeleteRequest { id: self.id.clone(), exec_id };
            // One that was never started is not known there.
            let _ = self.ask("Delete", &request, Purpose::Nothing);
        }
    }

    /// Takes away by force what the foreign shim left. Nobody is served meanwhile.
    pub(crate) fn clear_foreign(&mut self) {
        let Some(foreign) = &mut self.foreign else { return };
        foreign.deletion = Deletion::Done;
        if let Err(error) = clear_foreign(&Bundle::new(&self.bundle)) {
            crate::diagnostics::note(&error.to_string());
        }
    }

    /// The foreign shim has gone. As with any shim, its container goes with it.
    fn foreign_lost(&mut self) {
        let Some(foreign) = &mut self.foreign else { return };
        let forsaken = foreign.forsaken();
        if foreign.leaving.is_some() {
            self.quit = true;
            return;
        }
        let name = format!("the shim of runtime handler {:?} has gone", foreign.runtime.handler);
        crate::diagnostics::note(&name);
        self.clear_foreign();
        let gone = || Refusal::new(orlop_task::ttrpc::Code::Unavailable, name.clone());
        for purpose in forsaken {
            if purpose != Purpose::Deleted {
                self.foreign_answer(purpose, Err(gone()));
            }
        }
        let Some(container) = &mut self.container else { return };
        let all = std::iter::once(&mut container.init).chain(container.execs.values_mut());
        for process in all.filter(|process| process.alive()) {
            let exit = ExitStatus { code: KILLED, at: Timestamp::now() };
            process.ending.get_or_insert((exit, 0));
        }
        self.finish_exits();
        self.finish_deletions();
    }

    /// Ends: at once, or when the foreign shim has done so.
    pub(crate) fn leave(&mut self) {
        let until = self.clock().saturating_add(LEAVING);
        match &mut self.foreign {
            Some(foreign) if foreign.is_connected() => {
                if foreign.leaving.is_none() {
                    foreign.leaving = Some(until);
                    let request = rpc::ShutdownRequest { id: self.id.clone(), now: false };
                    self.quit |= self.ask("Shutdown", &request, Purpose::ShutDown).is_err();
                }
            }
            _ => self.quit = true,
        }
    }

    /// Ends when the foreign shim takes too long to do so.
    pub(crate) fn leave_if_late(&mut self) {
        let now = self.clock();
        let Some(foreign) = &self.foreign else { return };
        if foreign.leaving.is_some_and(|until| now >= until) {
            if let Ok(pidfd) = Pidfd::open(foreign.pid) {
                // It has no container any more, and does not end.
                let _ = pidfd.send_signal(9);
            }
            self.quit = true;
        }
    }

    /// When we next lose patience with the foreign shim or an output: milliseconds from now.
    pub(crate) fn foreign_patience(&self) -> Option<u64> {
        let now = self.clock();
        let leaving = self.foreign.as_ref().and_then(|foreign| foreign.leaving);
        let endings = self.container.iter().flat_map(|container| {
            let all = std::iter::once(&container.init).chain(container.execs.values());
            all.filter(|process| process.exit.is_none()).filter_map(|process| process.ending)
        });
        endings.map(|(_, until)| until).chain(leaving).map(|until| until.saturating_sub(now)).min()
    }

    /// An event of the foreign shim, which may serve the whole pod.
    pub(crate) fn forward(&mut self, payload: &[u8]) -> Answer {
        let request: ForwardRequest = decode(payload)?;
        let event = request.envelope.and_then(|envelope| envelope.event);
        let Some(event) = event.filter(|event| event.type_url.ends_with("TaskOOM")) else {
            return empty();
        };
        let killed: TaskOom = decode(&event.value)?;
        if killed.container_id == self.id {
            if let Some(container) = &mut self.container {
                container.note_oom();
            }
        } else if let Some(sibling) = sibling(&self.bundle, &killed.container_id) {
            // Its own keeper reads that when the container ends.
            let _ = std::fs::write(sibling.join("foreign").join(OOM_MARK), "");
        }
        empty()
    }
}

/// The bundle of another container, if `id` is no more than a name.
fn sibling(bundle: &Path, id: &str) -> Option<PathBuf> {
    let plain = !id.is_empty() && !id.contains('/') && id != "." && id != "..";
    plain.then(|| bundle.parent().map(|all| all.join(id))).flatten()
}
