//! What happened to whom, for GetContainerEvents and for whoever else listens in process.

use crate::{ContainerView, SandboxView};
use orlop_model::{ContainerId, SandboxId, Timestamp};
use std::sync::Arc;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum EventKind {
    Created,
    Started,
    Stopped,
    Deleted,
    /// One run of a container has ended, and another will follow. Only people's containers have that.
    RunEnded,
    /// That one has begun.
    RunStarted,
    /// A container's health is another.
    Health,
}

/// Something happened to a container, or to a sandbox when `container` is `None`. The pod and its
/// containers are as they were right after it.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct Event {
    pub kind: EventKind,
    pub at: Timestamp,
    pub sandbox: SandboxId,
    pub container: Option<ContainerId>,
    /// Of a sandbox that was removed: its last state. `None` only where a container outlived it.
    pub pod: Option<Arc<SandboxView>>,
    pub containers: Vec<Arc<ContainerView>>,
}
