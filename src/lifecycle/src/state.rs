//! States, derived from facts.

/// State of a sandbox, in CRI's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum SandboxState {
    Ready,
    NotReady,
}

/// State of a container, in CRI's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum ContainerState {
    Created,
    Running,
    Exited,
    /// Its shim does not answer.
    Unknown,
}
