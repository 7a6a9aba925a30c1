//! What a build tells while it runs.

use std::time::Duration;

/// A number for each step, in the order in which they begin.
pub type StepId = usize;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A step begins. `name` is what people call it: `[stage 2/5] RUN make`.
    Started {
        /// Which.
        id: StepId,
        /// Its name.
        name: String,
    },
    /// A process wrote something.
    Output {
        /// Of which step.
        id: StepId,
        /// As it came.
        data: Vec<u8>,
    },
    /// A step ended well.
    Done {
        /// Which.
        id: StepId,
        /// It was reused.
        cached: bool,
        /// How long it took.
        took: Duration,
    },
    /// Why a step was not reused (`--explain`).
    Missed {
        /// Which.
        id: StepId,
        /// In words.
        why: String,
    },
    /// A step failed.
    Failed {
        /// Which.
        id: StepId,
        /// In one line.
        error: String,
    },
    /// Something worth knowing that ends nothing.
    Warning {
        /// In one line.
        message: String,
    },
}

/// Takes events, from several threads.
pub trait Progress: Send + Sync {
    /// Takes one.
    fn event(&self, event: Event);
}

/// Takes them and says nothing.
pub struct Quiet;

impl Progress for Quiet {
    fn event(&self, _event: Event) {}
}
