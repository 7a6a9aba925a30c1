//! The shim's heart: one container, the requests about it, and what happens to its processes.
//! Requests are in `service`; here is what the processes themselves make happen.

use crate::container::process::Process;
use crate::container::state::{Event, State};
use crate::container::{Container, KILLED, START_FAILED, record};
use crate::error::Refusal;
use crate::events::{Publisher, timestamp};
use crate::foreign::Foreign;
use crate::io::BUFFER;
use crate::poll::Poller;
use crate::rpc::{Reply, ReplyTo};
use crate::stage::{Progress, StageError, Step};
use orlop_model::{ExitStatus, Timestamp};
use orlop_sys::cgroup::Hierarchies;
use orlop_task::ExitRecord;
use orlop_task::protocol::events::{
    TaskCreate, TaskExecStarted, TaskExit, TaskIo, TaskOom, TaskStart,
};
use orlop_task::protocol::task::{CreateTaskResponse, DeleteResponse, StartResponse, WaitResponse};
use orlop_task::ttrpc::Code;
use prost::{Message, Name};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Instant;

/// How long a deletion waits for the reader of a FIFO, milliseconds.
const READER_GRACE: u64 = 2_000;

/// Everything but the connections.
#[derive(Debug)]
pub(crate) struct Shim {
    pub(crate) poller: Poller,
    /// The container's id; requests about another are refused.
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    /// Our own binary, sealed.
    pub(crate) self_exe: OwnedFd,
    pub(crate) hierarchies: Option<Hierarchies>,
    pub(crate) container: Option<Container>,
    publisher: Option<Publisher>,
    /// The shim that the container runs in, where that is not this one.
    pub(crate) foreign: Option<Foreign>,
    /// Answers on their way to the connections.
    pub(crate) replies: Vec<(ReplyTo, Reply)>,
    pub(crate) buffer: Vec<u8>,
    next_key: u32,
    /// Counts what is new about a supervised container, and who waits for more of it.
    pub(crate) news: u64,
    pub(crate) watchers: Vec<ReplyTo>,
    /// Time to end.
    pub(crate) quit: bool,
    born: Instant,
}

impl Shim {
    pub(crate) fn new(
        poller: Poller,
        id: String,
        bundle: PathBuf,
        self_exe: OwnedFd,
        publisher: Option<Publisher>,
        foreign: Option<Foreign>,
    ) -> Self {
        Self {
            poller,
            id,
            bundle,
            self_exe,
            hierarchies: None,
            container: None,
            publisher,
            foreign,
            replies: Vec::new(),
            buffer: vec![0; BUFFER],
            next_key: 0,
            news: 0,
            watchers: Vec::new(),
            quit: false,
            born: Instant::now(),
        }
    }

    pub(crate) fn key(&mut self) -> u32 {
        self.next_key += 1;
        self.next_key
    }

    pub(crate) fn answer(&mut self, to: ReplyTo, message: &impl Message) {
        self.replies.push((to, Ok(message.encode_to_vec())));
    }

    pub(crate) fn refuse(&mut self, to: ReplyTo, refusal: Refusal) {
        self.replies.push((to, Err(refusal)));
    }

    /// The container, if it is the one that a request names.
    pub(crate) fn container(&mut self, id: &str) -> Result<&mut Container, Refusal> {
        match &mut self.container {
            Some(container) if container.id == id => Ok(container),
            _ => Err(Refusal::not_found(format!("container {id} does not exist in this shim"))),
        }
    }

    pub(crate) fn publish<M: Message + Name>(
        &mut self,
        topic: &str,
        event: impl FnOnce(&Container) -> M,
    ) {
        if let (Some(publisher), Some(container)) = (&mut self.publisher, &self.container) {
            publisher.publish(&self.poller, topic, &event(container));
        }
    }

    pub(crate) fn publisher_ready(&mut self) {
        if let Some(publisher) = &mut self.publisher {
            publisher.ready(&self.poller, &mut self.buffer);
        }
    }

    /// Milliseconds since the shim started.
    pub(crate) fn clock(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn process(&mut self, key: u32) -> Option<&mut Process> {
        self.container.as_mut().and_then(|container| container.by_key(key))
    }

    /// A process on its way to exec has news.
    pub(crate) fn stage_ready(&mut self, key: u32) {
        loop {
            let Self { poller, container, .. } = self;
            let Some(process) = container.as_mut().and_then(|container| container.by_key(key))
            else {
                return;
            };
            let Some(staged) = &mut process.staged else { return };
            let progress = staged.advance();
            for warning in staged.warnings.drain(..) {
                crate::diagnostics::note(&warning);
            }
            if let (Some(console), Some(io)) = (staged.console.take(), &mut process.io)
                && let Err(refusal) = io.attach_console(poller, console)
            {
                crate::diagnostics::note(&refusal.message);
            }
            match progress {
                Ok(Progress::Pending) => return,
                Ok(Progress::Hooks) => {
                    if let Err(refusal) = self.run_runtime_hooks() {
                        self.start_failed(key, refusal);
                        return;
                    }
                }
                Ok(Progress::Ready) => self.staged(key),
                Ok(Progress::Running) => {
                    self.started(key);
                    return;
                }
                Err(error) => {
                    self.start_failed(key, stage_refusal(error));
                    return;
                }
            }
        }
    }

    /// Ready for the exec. A container waits for Start; an exec has been started already.
    pub(crate) fn staged(&mut self, key: u32) {
        let Some(process) = self.process(key) else { return };
        if process.state == State::Creating {
            let pid = process.pid;
            let pending = process.pending.take();
            if process.happen(Event::Staged).is_err() {
                return;
            }
            if self.is_rerun(key) {
                self.release_again(key);
                return;
            }
            if let Some(to) = pending {
                self.answer(to, &CreateTaskResponse { pid: pid.unsigned_abs() });
            }
            self.publish("/tasks/create", created_event);
        } else if let Some(Err(error)) = process.staged.as_mut().map(crate::stage::Staged::release)
        {
            self.start_failed(key, stage_refusal(error));
        }
    }

    /// The workload runs.
    pub(crate) fn started(&mut self, key: u32) {
        let Self { poller, container, .. } = self;
        let Some(process) = container.as_mut().and_then(|container| container.by_key(key)) else {
            return;
        };
        process.running(poller);
        if process.happen(Event::Started).is_err() {
            return;
        }
        process.started_at = Timestamp::now();
        if self.is_probe(key) {
            return;
        }
        let Some(process) = self.process(key) else { return };
        if process.exec_id.is_empty() {
            self.run_begun();
            self.run_late_hooks("running");
        }
        let Some(process) = self.process(key) else { return };
        let (pid, exec_id, pending) =
            (process.pid.unsigned_abs(), process.exec_id.clone(), process.pending.take());
        if let Some(to) = pending {
            self.answer(to, &StartResponse { pid });
        }
        if exec_id.is_empty() {
            self.publish("/tasks/start", |container| TaskStart {
                container_id: container.id.clone(),
                pid,
            });
        } else {
            self.publish("/tasks/exec-started", |container| TaskExecStarted {
                container_id: container.id.clone(),
                exec_id,
                pid,
            });
        }
    }

    /// It could not be created or started, and its process is gone.
    pub(crate) fn start_failed(&mut self, key: u32, refusal: Refusal) {
        let Self { poller, container, .. } = self;
        let Some(process) = container.as_mut().and_then(|container| container.by_key(key)) else {
            return;
        };
        let creating = process.state == State::Creating;
        process.ended(poller, START_FAILED);
        if self.is_probe(key) {
            self.probe_over(Some(refusal.message));
            return;
        }
        let creating = creating && !self.is_rerun(key);
        let Some(process) = self.process(key) else { return };
        let pending = process.pending.take();
        if self.is_rerun(key) {
            crate::diagnostics::note(&format!("started again: {}", refusal.message));
        }
        if creating {
            self.forget_container();
        } else {
            self.settle(key);
        }
        if let Some(to) = pending {
            self.refuse(to, refusal);
        }
    }

    /// Creation failed: as if it had never been asked for.
    fn forget_container(&mut self) {
        let Some(mut container) = self.container.take() else { return };
        if let Some(io) = &mut container.init.io {
            io.close(&self.poller);
        }
        if let Err(error) = container.cgroup.delete() {
            crate::diagnostics::note(&format!("container {}: {error}", container.id));
        }
    }

    /// A process may have ended.
    pub(crate) fn exit_ready(&mut self, key: u32) {
        // What it said before its end comes first: that the exec succeeded, or why not.
        self.stage_ready(key);
        let Self { poller, container, .. } = self;
        let Some(process) = container.as_mut().and_then(|container| container.by_key(key)) else {
            return;
        };
        let Some(exit) = process.reap(poller) else { return };
        self.after_end(key, exit);
    }

    /// A process has ended, and that is noted: tells everybody.
    pub(crate) fn after_end(&mut self, key: u32, exit: ExitStatus) {
        if self.is_probe(key) {
            self.probe_over(None);
            return;
        }
        let Some(process) = self.process(key) else { return };
        let pid = process.pid.unsigned_abs();
        let pending = process.pending.take();
        let name = process.name.clone();
        self.settle(key);
        if let Some(to) = pending {
            let text = format!("{name} ended with status {} before it was started", exit.code);
            self.refuse(to, Refusal::precondition(text));
        }
        self.publish_exit(key, pid, exit);
        self.finish_deletions();
    }

    /// After an end: output delivered, record written, waiters told.
    pub(crate) fn settle(&mut self, key: u32) {
        let Self { poller, container, buffer, .. } = self;
        let Some(container) = container.as_mut() else { return };
        let is_init = container.init.key == key;
        if is_init {
            if !container.owns_pid_namespace() {
                // Nobody else ends the execs and what they left behind.
                if let Err(error) = container.cgroup.kill_all() {
                    crate::diagnostics::note(&format!("container {}: {error}", container.id));
                }
            }
            container.memory_killed();
        }
        let Some(process) = container.by_key(key) else { return };
        if let Some(io) = &mut process.io {
            io.drain(poller, buffer);
            io.end_attachments(poller);
        }
        if is_init && self.starts_again() {
            self.answer_attachments();
        } else {
            self.end_for_good(key);
        }
    }

    /// A process has ended and is not started again.
    pub(crate) fn end_for_good(&mut self, key: u32) {
        let Some(container) = &mut self.container else { return };
        let is_init = container.init.key == key;
        let Some(process) = container.by_key(key) else { return };
        let waiters = std::mem::take(&mut process.waiters);
        let (pid, exit) = (process.pid, process.exit);
        let Some(exit) = exit else { return };
        if is_init {
            let record = ExitRecord {
                version: 1,
                pid,
                code: exit.code,
                exited_at: exit.at.0,
                oom_killed: container.oom_killed(),
            };
            if let Err(error) = record::write_exit(&container.bundle, &record) {
                crate::diagnostics::note(&format!(
                    "{}: exit.json: {error}",
                    container.bundle.display()
                ));
            }
        }
        for to in waiters {
            self.answer(to, &wait_response(exit));
        }
        self.answer_attachments();
    }

    fn publish_exit(&mut self, key: u32, pid: u32, exit: ExitStatus) {
        let oom = self
            .container
            .as_ref()
            .is_some_and(|container| container.init.key == key && container.oom_killed());
        if oom {
            self.publish("/tasks/oom", |container| TaskOom { container_id: container.id.clone() });
        }
        self.publish("/tasks/exit", |container| {
            let exec_id = container.execs.get(&key).map(|process| process.exec_id.clone());
            TaskExit {
                container_id: container.id.clone(),
                id: exec_id.unwrap_or_else(|| container.id.clone()),
                pid,
                exit_status: exit.code,
                exited_at: Some(timestamp(exit.at)),
            }
        });
    }

    /// The kernel may have killed for memory.
    pub(crate) fn oom_ready(&mut self) {
        if self.container.as_mut().is_some_and(Container::memory_killed) {
            self.publish("/tasks/oom", |container| TaskOom { container_id: container.id.clone() });
        }
    }

    /// Children of the container's processes that came to us to die. Our own are left to their pidfds.
    pub(crate) fn reap_orphans(&mut self) {
        use nix::sys::wait::{Id, WaitPidFlag, waitid};
        loop {
            let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
            let Some(pid) = waitid(Id::All, peek).ok().and_then(|dead| dead.pid()) else { return };
            // The processes of a foreign shim are not ours, even when they come to us to die.
            let container = self.container.as_ref().filter(|_| self.foreign.is_none());
            match container.and_then(|container| container.owner_of(pid.as_raw())) {
                Some(key) => {
                    self.exit_ready(key);
                    if self.process(key).is_some_and(|process| process.alive()) {
                        return;
                    }
                }
                None => {
                    // Somebody reaped it in between: as good.
                    let _ = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG);
                }
            }
        }
    }

    /// Output or input of a process.
    pub(crate) fn output_ready(&mut self, key: u32, stream: u8) {
        let Self { poller, container, buffer, .. } = self;
        let Some(process) = container.as_mut().and_then(|container| container.by_key(key)) else {
            return;
        };
        if let Some(io) = &mut process.io {
            io.output_ready(poller, stream, buffer);
        }
        let deleting = process.deleting.is_some();
        self.answer_attachments();
        if deleting {
            self.finish_deletions();
        }
    }

    pub(crate) fn input_ready(&mut self, key: u32) {
        let Self { poller, container, buffer, .. } = self;
        let Some(process) = container.as_mut().and_then(|container| container.by_key(key)) else {
            return;
        };
        let Some(io) = &mut process.io else { return };
        let had_input = io.has_input();
        io.input_ready(poller, buffer);
        if had_input && !io.has_input() && self.foreign.is_some() {
            self.foreign_input_ended(key);
        }
    }

    /// Asks for the deletion of a process that may be deleted as soon as it has ended and its
    /// output has been read.
    pub(crate) fn delete_later(&mut self, key: u32, to: ReplyTo) {
        let until = self.clock().saturating_add(READER_GRACE);
        if let Some(process) = self.process(key) {
            process.deleting = Some((to, until));
        }
        self.finish_deletions();
    }

    /// When the next deletion loses patience: milliseconds from now.
    pub(crate) fn patience(&self) -> Option<u64> {
        let now = self.clock();
        let all = self
            .container
            .iter()
            .flat_map(|container| std::iter::once(&container.init).chain(container.execs.values()));
        all.filter(|process| !process.alive())
            .filter_map(|process| process.deleting.map(|(_, until)| until.saturating_sub(now)))
            .chain(self.foreign_patience())
            .min()
    }

    /// Carries out the deletions that are due.
    pub(crate) fn finish_deletions(&mut self) {
        let now = self.clock();
        let Some(container) = &mut self.container else { return };
        let due = |process: &&mut Process| {
            let Some((_, until)) = process.deleting else { return false };
            !process.alive()
                && (now >= until
                    || !process.io.as_ref().is_some_and(crate::io::Io::waits_for_reader))
        };
        let execs: Vec<u32> =
            container.execs.values_mut().filter(due).map(|process| process.key).collect();
        let init = Some(&mut container.init).filter(due).is_some();
        for key in execs {
            let Some(mut process) =
                self.container.as_mut().and_then(|container| container.execs.remove(&key))
            else {
                continue;
            };
            if let Some(io) = &mut process.io {
                io.close(&self.poller);
            }
            self.foreign_forget(process.exec_id.clone());
            if let Some((to, _)) = process.deleting {
                self.answer(to, &delete_response(&process));
            }
        }
        if init && self.foreign_is_deleted() {
            self.delete_container();
        }
    }

    fn delete_container(&mut self) {
        let Some(container) = &mut self.container else { return };
        let Some((to, _)) = container.init.deleting.take() else { return };
        let removed = container.cgroup.kill_all().and_then(|()| container.cgroup.delete());
        if let Err(error) = removed {
            // The container stays, so that the deletion can be tried again.
            self.refuse(to, error.into());
            return;
        }
        self.run_late_hooks("stopped");
        self.publish("/tasks/delete", |container| orlop_task::protocol::events::TaskDelete {
            container_id: container.id.clone(),
            pid: container.init.pid.unsigned_abs(),
            exit_status: container.init.exit.map_or(0, |exit| exit.code),
            exited_at: container.init.exit.map(|exit| timestamp(exit.at)),
            id: String::new(),
        });
        self.tell_news();
        let Some(mut container) = self.container.take() else { return };
        for process in std::iter::once(&mut container.init).chain(container.execs.values_mut()) {
            if let Some(io) = &mut process.io {
                io.close(&self.poller);
            }
            let exit = process.exit.unwrap_or(ExitStatus { code: KILLED, at: Timestamp::now() });
            for waiter in process.waiters.drain(..) {
                self.replies.push((waiter, Ok(wait_response(exit).encode_to_vec())));
            }
            if let Some((waiter, _)) = process.deleting.take() {
                self.replies.push((waiter, Ok(delete_response(process).encode_to_vec())));
            }
        }
        let answer = delete_response(&container.init);
        self.answer(to, &answer);
        if container.options.exit_on_delete {
            self.leave();
        }
    }
}

pub(crate) fn wait_response(exit: ExitStatus) -> WaitResponse {
    WaitResponse { exit_status: exit.code, exited_at: Some(timestamp(exit.at)) }
}

fn delete_response(process: &Process) -> DeleteResponse {
    DeleteResponse {
        pid: process.pid.unsigned_abs(),
        exit_status: process.exit.map_or(0, |exit| exit.code),
        exited_at: process.exit.map(|exit| timestamp(exit.at)),
    }
}

fn created_event(container: &Container) -> TaskCreate {
    let paths = &container.init.paths;
    TaskCreate {
        container_id: container.id.clone(),
        bundle: container.bundle.to_string_lossy().into_owned(),
        rootfs: Vec::new(),
        io: Some(TaskIo {
            stdin: paths.stdin.clone(),
            stdout: paths.stdout.clone(),
            stderr: paths.stderr.clone(),
            terminal: paths.terminal,
        }),
        checkpoint: String::new(),
        pid: container.init.pid.unsigned_abs(),
    }
}

/// The code that tells whose fault it is: the spec's, the image's or host's state, or ours.
pub(crate) fn stage_refusal(error: StageError) -> Refusal {
    let code = match error.step {
        Step::Spec => Code::InvalidArgument,
        Step::Exec | Step::Cwd | Step::User | Step::Mount | Step::Rootfs | Step::Device => {
            Code::FailedPrecondition
        }
        _ => Code::Internal,
    };
    Refusal::new(code, error.message)
}
