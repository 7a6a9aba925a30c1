//! One process: the container's first, or an exec.

use super::state::{Event, State};
use crate::error::Refusal;
use crate::io::{Io, Paths};
use crate::poll::{Poller, Token};
use crate::rpc::ReplyTo;
use crate::stage::Staged;
use orlop_model::{ExitStatus, Timestamp};
use orlop_sys::process::{Child, Exit, Pidfd};

/// How it was asked for and how it stands.
#[derive(Debug)]
pub(crate) struct Process {
    /// In tokens.
    pub(crate) key: u32,
    /// For people: `container x` or `exec y`.
    pub(crate) name: String,
    /// Empty for the container's first process.
    pub(crate) exec_id: String,
    pub(crate) state: State,
    pub(crate) paths: Paths,
    pub(crate) io: Option<Io>,
    /// The conversation with it while it is on its way to exec.
    pub(crate) staged: Option<Staged>,
    /// The process once it runs.
    pub(crate) child: Option<Child>,
    /// What an exec is to run, until it is started.
    pub(crate) exec: Option<Box<oci_spec::runtime::Process>>,
    pub(crate) pid: i32,
    pub(crate) exit: Option<ExitStatus>,
    /// A foreign shim told its end; until when its last output is waited for (milliseconds, monotonic).
    pub(crate) ending: Option<(ExitStatus, u64)>,
    pub(crate) started_at: Timestamp,
    /// Who waits for Create or Start.
    pub(crate) pending: Option<ReplyTo>,
    /// Who waits for its end.
    pub(crate) waiters: Vec<ReplyTo>,
    /// Who waits for its deletion, and until when at most (milliseconds, monotonic).
    pub(crate) deleting: Option<(ReplyTo, u64)>,
}

impl Process {
    pub(crate) fn new(key: u32, name: String, exec_id: String, paths: Paths, state: State) -> Self {
        Self {
            key,
            name,
            exec_id,
            state,
            paths,
            io: None,
            staged: None,
            child: None,
            exec: None,
            pid: 0,
            exit: None,
            ending: None,
            started_at: Timestamp::ZERO,
            pending: None,
            waiters: Vec::new(),
            deleting: None,
        }
    }

    /// Goes to the state after `event`, or says why that cannot be.
    pub(crate) fn happen(&mut self, event: Event) -> Result<(), Refusal> {
        self.state = self.state.after(event, &self.name)?;
        Ok(())
    }

    /// Takes the process that a stage has made, and serves it.
    pub(crate) fn adopt(&mut self, poller: &Poller, staged: Staged, io: Io) -> Result<(), Refusal> {
        self.pid = staged.child.pid;
        poller.readable(&staged.child.pidfd, Token::Exit(self.key)).map_err(Refusal::internal)?;
        poller.readable(&staged.control, Token::Stage(self.key)).map_err(Refusal::internal)?;
        io.register(poller)?;
        self.staged = Some(staged);
        self.io = Some(io);
        Ok(())
    }

    /// Its workload runs: the conversation is over.
    pub(crate) fn running(&mut self, poller: &Poller) {
        if let Some(staged) = self.staged.take() {
            poller.forget(&staged.control);
            self.child = Some(staged.child);
        }
    }

    /// Its descriptor, while it has not been reaped.
    pub(crate) fn pidfd(&self) -> Option<&Pidfd> {
        match (&self.child, &self.staged) {
            (Some(child), _) => Some(&child.pidfd),
            (None, Some(staged)) => Some(&staged.child.pidfd),
            (None, None) => None,
        }
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: u32) -> Result<(), Refusal> {
        let signal = i32::try_from(signal).unwrap_or(0);
        let Some(pidfd) = self.pidfd() else {
            return Err(Refusal::precondition(format!("{} has no process yet", self.name)));
        };
        pidfd.send_signal(signal).map_err(|error| {
            if error.errno == rustix::io::Errno::SRCH.raw_os_error() {
                Refusal::not_found(format!("{} has already ended", self.name))
            } else {
                error.into()
            }
        })
    }

    /// Sends a signal to its process group, which it leads: every process here begins a session. The
    /// group's number is good for as long as its leader has not been reaped, which only we do.
    pub(crate) fn signal_group(&self, signal: u32) -> Result<(), Refusal> {
        let group = rustix::process::Pid::from_raw(self.pid).filter(|_| self.alive());
        let Some(group) = group else {
            return Err(Refusal::not_found(format!("{} has already ended", self.name)));
        };
        let named = i32::try_from(signal).ok().and_then(rustix::process::Signal::from_named_raw);
        let Some(signal) = named else { return self.signal(signal) };
        rustix::process::kill_process_group(group, signal).map_err(Refusal::internal)
    }

    /// Reaps it if it has ended; `Some` when that is news.
    pub(crate) fn reap(&mut self, poller: &Poller) -> Option<ExitStatus> {
        let code = match self.pidfd()?.try_wait() {
            Ok(None) => return None,
            Ok(Some(exit)) => exit_code(exit),
            // Reaped by its stage, which had killed it.
            Err(_) => super::START_FAILED,
        };
        Some(self.ended(poller, code))
    }

    /// Notes the end, whoever learned it.
    pub(crate) fn ended(&mut self, poller: &Poller, code: u32) -> ExitStatus {
        self.ended_as(poller, ExitStatus { code, at: Timestamp::now() })
    }

    /// Notes the end at a time that somebody else tells.
    pub(crate) fn ended_as(&mut self, poller: &Poller, exit: ExitStatus) -> ExitStatus {
        if let Some(pidfd) = self.pidfd() {
            poller.forget(pidfd);
        }
        if let Some(staged) = self.staged.take() {
            poller.forget(&staged.control);
        }
        self.child = None;
        self.exit = Some(exit);
        // Every state but Deleted knows an end, and what is deleted is not here any more.
        let _ = self.happen(Event::Exit);
        exit
    }

    /// Whether it lives, in whatever stage.
    pub(crate) fn alive(&self) -> bool {
        self.exit.is_none() && self.pid != 0
    }
}

fn exit_code(exit: Exit) -> u32 {
    u32::try_from(exit.status()).unwrap_or(super::START_FAILED)
}
