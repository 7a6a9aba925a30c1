//! The states of a process, as one total function.

use crate::error::Refusal;
use orlop_task::protocol::Status;
use orlop_task::ttrpc::Code;

/// How a process stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Its stage is at work.
    Creating,
    /// It waits for Start. An exec has no process yet.
    Created,
    /// Its exec is under way.
    Starting,
    /// It runs.
    Running,
    /// It is frozen with its container.
    Paused,
    /// It has ended and is to be started again.
    Waiting,
    /// It has ended, or never got to run.
    Stopped,
    /// It is forgotten.
    Deleted,
}

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The stage is ready for the exec.
    Staged,
    /// Start was asked for.
    Start,
    /// The exec succeeded.
    Started,
    /// A signal is to be sent.
    Kill,
    /// Pause was asked for.
    Pause,
    /// Resume was asked for.
    Resume,
    /// It ended.
    Exit,
    /// It is to be started again.
    Again,
    /// It is being created once more.
    Rerun,
    /// Delete was asked for.
    Delete,
}

impl State {
    /// The state after `event`, or why that cannot be. `name` says whose state it is.
    pub(crate) fn after(self, event: Event, name: &str) -> Result<Self, Refusal> {
        use {Event as E, State as S};
        let refuse = |text: &str| Err(Refusal::precondition(format!("{name} {text}")));
        match (self, event) {
            (S::Creating, E::Staged) => Ok(S::Created),
            (S::Created, E::Start) => Ok(S::Starting),
            (S::Starting, E::Started) => Ok(S::Running),
            (S::Running, E::Pause) => Ok(S::Paused),
            (S::Paused, E::Resume) => Ok(S::Running),
            (S::Stopped, E::Again) => Ok(S::Waiting),
            (S::Waiting, E::Rerun) => Ok(S::Creating),
            (S::Waiting, E::Exit) => Ok(S::Stopped),
            (
                S::Creating | S::Created | S::Starting | S::Running | S::Paused | S::Stopped,
                E::Exit,
            ) => Ok(S::Stopped),
            (S::Creating | S::Created | S::Starting | S::Running | S::Paused, E::Kill) => Ok(self),
            (S::Created | S::Stopped, E::Delete) => Ok(S::Deleted),

            (S::Deleted, _) => Err(Refusal::not_found(format!("{name} does not exist"))),
            (S::Waiting, _) => refuse("has ended and waits to be started again"),
            (S::Stopped, E::Kill) => Err(Refusal::not_found(format!("{name} has already ended"))),
            (S::Stopped, _) => refuse("has already ended"),
            (S::Starting | S::Running | S::Paused, E::Start) => refuse("has been started before"),
            (S::Starting | S::Running | S::Paused, E::Delete) => {
                refuse("is running: kill it and wait for its end first")
            }
            (S::Paused, E::Pause) => refuse("is paused already"),
            (S::Running, E::Resume) => refuse("is not paused"),
            (S::Creating, _) => refuse("is still being created"),
            (S::Created | S::Starting, E::Pause | E::Resume) => refuse("is not running yet"),
            (_, E::Again | E::Rerun)
            | (S::Created | S::Starting | S::Running | S::Paused, E::Staged | E::Started) => Err(
                Refusal::new(Code::Internal, format!("{name} reported {event:?} while {self:?}")),
            ),
        }
    }

    /// As the Task service names it.
    pub(crate) fn status(self) -> Status {
        match self {
            // A container exists for its clients when Create has been answered.
            Self::Creating | Self::Created | Self::Starting => Status::Created,
            Self::Running | Self::Waiting => Status::Running,
            Self::Paused => Status::Paused,
            Self::Stopped | Self::Deleted => Status::Stopped,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 8] = [
        State::Creating,
        State::Created,
        State::Starting,
        State::Running,
        State::Paused,
        State::Waiting,
        State::Stopped,
        State::Deleted,
    ];

    #[test]
    fn table() {
        use {Event as E, State as S};
        for (state, event, want) in [
            (S::Creating, E::Staged, Ok(S::Created)),
            (S::Creating, E::Start, Err(Code::FailedPrecondition)),
            (S::Creating, E::Delete, Err(Code::FailedPrecondition)),
            (S::Creating, E::Kill, Ok(S::Creating)),
            (S::Created, E::Start, Ok(S::Starting)),
            (S::Created, E::Delete, Ok(S::Deleted)),
            (S::Created, E::Pause, Err(Code::FailedPrecondition)),
            (S::Starting, E::Started, Ok(S::Running)),
            (S::Starting, E::Start, Err(Code::FailedPrecondition)),
            (S::Running, E::Start, Err(Code::FailedPrecondition)),
            (S::Running, E::Delete, Err(Code::FailedPrecondition)),
            (S::Running, E::Pause, Ok(S::Paused)),
            (S::Paused, E::Resume, Ok(S::Running)),
            (S::Paused, E::Kill, Ok(S::Paused)),
            (S::Stopped, E::Again, Ok(S::Waiting)),
            (S::Waiting, E::Rerun, Ok(S::Creating)),
            (S::Waiting, E::Delete, Err(Code::FailedPrecondition)),
            (S::Running, E::Again, Err(Code::Internal)),
            (S::Stopped, E::Kill, Err(Code::NotFound)),
            (S::Stopped, E::Start, Err(Code::FailedPrecondition)),
            (S::Stopped, E::Delete, Ok(S::Deleted)),
            (S::Deleted, E::Delete, Err(Code::NotFound)),
        ] {
            assert_eq!(
                state.after(event, "x").map_err(|refusal| refusal.code),
                want,
                "{state:?} {event:?}"
            );
        }
    }

    #[test]
    fn every_state_but_the_last_can_end() {
        for state in STATES {
            assert_eq!(state.after(Event::Exit, "x").is_ok(), state != State::Deleted, "{state:?}");
        }
    }
}
