//! Sandboxes and containers: one state machine each, supervision, recovery, stats, events.
//!
//! [`Runtime`] is the door: `api` calls it with validated requests and gets views, which are
//! snapshots of facts and of the state derived from them.
//!
//! - State is facts: a record holds what happened, one total function derives the state.
//! - Memory changes after disk. An object has a record from the moment it is whole, and loses it
//!   last: whatever has no record is half made, or half removed, and recovery removes it.
//! - Calls that change something run in tasks of their own: a client that goes away changes nothing.
//! - Locks are per object; none is held by lists and status, which read memory.

mod apparmor;
mod cdi;
mod container;
mod context;
mod error;
mod event;
mod filter;
mod handler;
mod host;
mod index;
mod kept;
mod neighbours;
mod options;
mod records;
mod recover;
mod runtime;
mod sandbox;
mod selinux;
mod session;
mod spans;
mod state;
pub mod stats;
#[cfg(test)]
mod test_support;
mod view;

pub use container::{set_default_seccomp, user_table};
pub use error::{Error, ErrorKind, Result};
pub use event::{Event, EventKind};
pub use filter::{ContainerFilter, SandboxFilter};
pub use host::host_features;
pub use options::{ForeignHandler, Options};
pub use orlop_task::{Flows, Session, SessionEnd};
pub use recover::Recovered;
pub use runtime::{Runtime, RuntimeStatus};
pub use state::{ContainerState, SandboxState};
pub use view::{ContainerView, ExecOutput, SandboxView};
