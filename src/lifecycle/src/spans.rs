//! The sandbox and the container in every line of the log.
//!
//! Whoever makes the span of a call (the daemon's `call`) leaves the fields `sandbox` and
//! `container` empty; they are filled in here once it is known which objects the call is about. Work
//! that outlives its call has a span of its own.

use crate::container::Container;
use orlop_model::SandboxId;
use tracing::Span;

/// The current call is about this sandbox.
pub(crate) fn about_sandbox(id: &SandboxId) {
    Span::current().record("sandbox", id.as_str());
}

/// The current call is about this container.
pub(crate) fn about_container(container: &Container) {
    about_sandbox(&container.sandbox);
    Span::current().record("container", container.id.as_str());
}

/// For what is done about a sandbox without a call.
pub(crate) fn of_sandbox(id: &SandboxId) -> Span {
    tracing::error_span!(parent: None, "pod", sandbox = id.as_str())
}

/// For what is done about a container without a call.
pub(crate) fn of_container(container: &Container) -> Span {
    let (sandbox, container) = (container.sandbox.as_str(), container.id.as_str());
    tracing::error_span!(parent: None, "container", sandbox, container)
}
