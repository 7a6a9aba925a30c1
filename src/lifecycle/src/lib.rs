//! Sandboxes and containers: one state machine each, supervision, recovery, stats, events.
//!
//! [`Runtime`] is the door: `api` calls it with validated requests and gets views, which are
//! snapshots of facts and of the state derived from them.

mod error;
mod event;
mod filter;
mod options;
mod runtime;
mod state;
mod view;

pub use error::{Error, ErrorKind, Result};
pub use event::{Event, EventKind};
pub use filter::{ContainerFilter, SandboxFilter};
pub use options::Options;
pub use runtime::{Recovered, Runtime, RuntimeStatus};
pub use state::{ContainerState, SandboxState};
pub use view::{ContainerView, ExecOutput, SandboxView};
