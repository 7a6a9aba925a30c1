//! From facts to what `ps` and `inspect` show.

use crate::Record;
use orlop_lifecycle::{ContainerState, ContainerView};
use orlop_model::Timestamp;
use orlop_task::HealthRecord;
use serde::{Deserialize, Serialize};

/// How a container stands.
#[derive(Debug, Clone, PartialEq)]
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
    /// How often its restart policy has started it.
    pub restarts: u32,
    /// What was seen of its health; `None`: nobody looks.
    pub health: Option<HealthRecord>,
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
    // Between two runs what is known is how the last one ended.
    let last = view.runs.as_ref().filter(|runs| runs.waiting && !ended).and_then(|runs| runs.last);
    Status {
        state: match (ended, view.runs.as_ref().is_some_and(|runs| runs.waiting)) {
            (true, _) => State::Exited,
            (false, true) => State::Restarting,
            (false, false) => State::Running,
        },
        pid: view.pid.filter(|_| !ended).unwrap_or(0),
        exit_code: last.map_or(view.exit_code, |end| end.code.cast_signed()),
        started_at: view.started_at,
        finished_at: last.map_or(view.finished_at, |end| Timestamp(end.at)),
        oom: last.map_or(view.reason == "OOMKilled", |end| end.oom_killed),
        error: view.message.clone(),
        restarts: view.runs.as_ref().map_or(0, |runs| runs.restarts),
        health: view.health.clone(),
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
            restarts: last.restarts,
            health: None,
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
        restarts: 0,
        health: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::record;
    use crate::record::{Attempt, Ended};
    use orlop_model::SandboxId;

    fn ended(started_at: i64) -> Ended {
        let (started_at, finished_at) = (Timestamp(started_at), Timestamp(9));
        Ended { started_at, finished_at, exit_code: 3, oom: true, error: "e".into(), restarts: 0 }
    }

    #[test]
    fn of_records_without_a_living_attempt() {
        let mut facts = record("one");
        assert_eq!(state(&facts, None).state, State::Created);
        // A crash left an attempt of which nothing is there.
        let sandbox = SandboxId::parse("s1").unwrap();
        let attempt = Attempt { number: 1, sandbox, paused: true, ports: vec![], networks: vec![] };
        facts.attempt = Some(attempt);
        assert_eq!(state(&facts, None).state, State::Created, "not paused: nothing lives");
        facts.last = Some(ended(5));
        let status = state(&facts, None);
        assert_eq!((status.state, status.exit_code, status.oom), (State::Exited, 3, true));
        facts.last = Some(ended(0));
        let status = state(&facts, None);
        assert_eq!((status.state, status.error.as_str()), (State::Created, "e"), "never ran");
        facts.removing = true;
        assert_eq!(state(&facts, None).state, State::Removing);
    }
}
