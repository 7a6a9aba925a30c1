//! Containers as people know them: a name, a writable layer that survives stop and start, networks,
//! volumes, restart policies.
//!
//! A container of this room is a record of its own. Each start makes a pod with one container of
//! [`orlop-lifecycle`]'s, its *attempt*, whose writable layer is the record's and outlives it. CRI never
//! shows these pods: a kubelet would take them for pods that should not be.

pub mod event;
pub mod location;
pub mod spec;

pub use event::{Event, EventLog};
pub use location::{ExecLocation, Location};
pub use spec::ContainerSpec;
