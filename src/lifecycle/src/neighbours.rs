//! Errors of the rooms beneath, judged by what a client can do about them.

use crate::error::below;
use crate::{Error, ErrorKind};
use orlop_model::SandboxId;
use orlop_network::NetworkError;
use orlop_task::TaskError;
use orlop_task::ttrpc::Code;

/// An answer of a shim that is an error, with the shim's own judgement of its kind.
pub(crate) fn task_failed(what: &'static str, object: &str, error: TaskError) -> Error {
    let kind = match error.code() {
        Code::NotFound => ErrorKind::NotFound,
        Code::AlreadyExists => ErrorKind::AlreadyExists,
        Code::FailedPrecondition => ErrorKind::FailedPrecondition,
        Code::InvalidArgument => ErrorKind::InvalidArgument,
        Code::DeadlineExceeded => ErrorKind::DeadlineExceeded,
        Code::Unavailable => ErrorKind::Unavailable,
        Code::ResourceExhausted => ErrorKind::ResourceExhausted,
        Code::Unimplemented => ErrorKind::Unimplemented,
        _ => ErrorKind::Internal,
    };
    below(what, object, kind, error)
}

/// An error of the network room.
pub(crate) fn network_failed(
    what: &'static str,
    sandbox: &SandboxId,
    error: NetworkError,
) -> Error {
    let kind = match error {
        NetworkError::NotReady(_) | NetworkError::Cancelled => ErrorKind::Unavailable,
        NetworkError::Invalid(_) => ErrorKind::InvalidArgument,
        _ => ErrorKind::Internal,
    };
    below(what, format!("sandbox {sandbox}"), kind, error)
}
