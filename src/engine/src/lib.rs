//! Containers as people know them: a name, a writable layer that survives stop and start, networks,
//! volumes, restart policies.
//!
//! A container of this room is a record of its own. Each start makes a pod with one container of
//! [`orlop-lifecycle`]'s, its *attempt*, whose writable layer is the record's and outlives it. CRI never
//! shows these pods: a kubelet would take them for pods that should not be.
//!
//! [`Engine`] is the door. State is facts here, too: a [`Record`] says what happened, one total function
//! ([`state`]) derives what `ps` shows from it and from what lifecycle knows of the attempt.

mod attempt;
mod calls;
mod container;
mod engine;
mod error;
pub mod event;
mod exit;
pub mod files;
mod health;
mod index;
pub mod location;
mod merge;
mod names;
mod networks;
mod observe;
mod record;
pub mod spec;
mod state;
mod streams;
mod tail;
mod volumes;

pub use calls::{NewContainer, PortLine, Summary, Until, UpdateSpec};
pub use container::Container;
pub use engine::{Engine, Options};
pub use error::{Error, Result};
pub use event::{Event, EventLog};
pub use exit::status_of_start;
pub use location::{ExecLocation, Location};
pub use merge::{Merged, merge};
pub use networks::{EndpointShown, IpamConfig, IpamShown, NetworkDetail, NetworkRecord};
pub use observe::{Processes, Reading};
pub use record::{Attempt, Ended, Record};
pub use spec::ContainerSpec;
pub use state::{State, Status, state};
pub use tail::Tail;
pub use volumes::{VolumeDetail, VolumeRecord};
