//! Calls to shims as spans: measured, and part of the trace of the call above.

use crate::protocol::ttrpc::KeyValue;
use std::sync::OnceLock;
use tracing::Span;

/// Gives the current span as W3C's `traceparent`, where it is traced.
type TraceContext = fn() -> Option<String>;

static CONTEXT: OnceLock<TraceContext> = OnceLock::new();

/// From now on every request to a shim carries what `context` gives in its metadata, as
/// `traceparent`. Only the first call counts.
pub fn set_trace_context(context: fn() -> Option<String>) {
    let _ = CONTEXT.set(context);
}

/// Metadata of a request.
pub(crate) fn metadata() -> Vec<KeyValue> {
    let parent = CONTEXT.get().and_then(|context| context());
    let entry = |value| KeyValue { key: "traceparent".to_owned(), value };
    parent.map(entry).into_iter().collect()
}

/// The span of a call. Calls that end when something else does have none.
pub(crate) fn span(method: &str) -> Span {
    macro_rules! spans {
        ($($name:literal),+) => {
            match method {
                $($name => tracing::error_span!(
                    target: "orlop::operation",
                    concat!("task.", $name),
                    outcome = tracing::field::Empty
                ),)+
                _ => Span::none(),
            }
        };
    }
    spans!(
        "Create",
        "Start",
        "Exec",
        "Kill",
        "Delete",
        "State",
        "Update",
        "Stats",
        "Pids",
        "Pause",
        "Resume",
        "Checkpoint",
        "Connect",
        "Shutdown",
        "ResizePty",
        "CloseIO",
        "ReopenLog",
        "Details"
    )
}
