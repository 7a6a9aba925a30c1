//! From facts to what `ps` and `inspect` show.

use crate::Record;
use orlop_lifecycle::{ContainerState, ContainerView};
use orlop_model::Timestamp;
use serde::{Deserialize, Serialize};

/// How a container stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// In one word.
    pub state: State,
    /// Process id of its process 1 on the host; 0: it does not run.
    pub pid: u32,
    /// Of the last run; 0 before any.
    pub exit_code: i32,
    /// When the last run began; zero: there was none.
    pub started_at: Timestamp,
    /// When it ended; zero: it has not.
    pub finished_at: Timestamp,
    /// It ended for want of memory.
    pub oom: bool,
    /// Why it could not be started; else empty.
    pub error: String,
}

/// The words that people know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Created,
    Running,
    Paused,
    Restarting,
    Removing,
    Exited,
}

impl State {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
            Self::Exited => "exited",
        }
    }

    /// Whether it has a process.
    pub fn lives(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Restarting)
    }
}

/// Derives it, from the record and from what lifecycle has of the attempt. Total: whatever a crash has
/// left has a state.
pub fn state(record: &Record, attempt: Option<&ContainerView>) -> Status {
    let mut status = match (&record.attempt, attempt) {
        (Some(_), Some(view)) if view.started_at.0 != 0 => of_view(view),
        (Some(_), Some(view)) if view.state == ContainerState::Exited => never_ran(view),
        _ => of_past(record),
    };
    if status.state == State::Running && record.attempt.as_ref().is_some_and(|now| now.paused) {
        status.state = State::Paused;
    }
    if record.removing && !status.state.lives() {
        status.state = State::Removing;
    }
    status
}

fn of_view(view: &ContainerView) -> Status {
    let ended = view.state == ContainerState::Exited;
    Status {
        state: if ended { State::Exited } else { State::Running },
        pid: view.pid.filter(|_| !ended).unwrap_or(0),
        exit_code: view.exit_code,
        started_at: view.started_at,
        finished_at: view.finished_at,
        oom: view.reason == "OOMKilled",
        error: view.message.clone(),
    }
}

/// Its program could not be executed, or the attempt was given up before.
fn never_ran(view: &ContainerView) -> Status {
    Status {
        state: State::Created,
        exit_code: view.exit_code,
        error: view.message.clone(),
        ..nothing(State::Created)
    }
}

fn of_past(record: &Record) -> Status {
    match &record.last {
        None => nothing(State::Created),
        Some(last) => Status {
            state: if last.started_at.0 == 0 { State::Created } else { State::Exited },
            pid: 0,
            exit_code: last.exit_code,
            started_at: last.started_at,
            finished_at: last.finished_at,
            oom: last.oom,
            error: last.error.clone(),
        },
    }
}

fn nothing(state: State) -> Status {
    Status {
        state,
        pid: 0,
        exit_code: 0,
        started_at: Timestamp(0),
        finished_at: Timestamp(0),
        oom: false,
        error: String::new(),
    }
}
