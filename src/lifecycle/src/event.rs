//! What happened to whom, for GetContainerEvents and for whoever else listens in process.

use orlop_model::{ContainerId, SandboxId, Timestamp};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum EventKind {
    Created,
    Started,
    Stopped,
    Deleted,
}

/// Something happened to a container, or to a sandbox when `container` is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Event {
    pub kind: EventKind,
    pub at: Timestamp,
    pub sandbox: SandboxId,
    pub container: Option<ContainerId>,
}
