//! One table: what went wrong to the gRPC code that tells the client so.

use crate::validate::Invalid;
use orlop_image::{ArchiveError, PullError, PullErrorKind, StoreError};
use orlop_lifecycle::ErrorKind;
use tonic::{Code, Status};

/// Anything that a call can fail with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error("{}", .0.report())]
    Lifecycle(Box<orlop_lifecycle::Error>),
    #[error(transparent)]
    Pull(Box<PullError>),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Engine(#[from] orlop_engine::Error),
    #[error("{message}")]
    Configuration { message: String },
    #[error("{message}")]
    Stream { message: String },
    #[error("server is not initialized yet")]
    NotReady,
    #[error(transparent)]
    Busy(#[from] orlop_streaming::TooManyWaiting),
    #[error(
        "the list has {bytes} bytes, more than the 16 MiB that a message may have: use the Stream call of this list, or a filter"
    )]
    TooLarge { bytes: usize },
}

impl From<orlop_lifecycle::Error> for ApiError {
    fn from(error: orlop_lifecycle::Error) -> Self {
        Self::Lifecycle(Box::new(error))
    }
}

impl From<PullError> for ApiError {
    fn from(error: PullError) -> Self {
        Self::Pull(Box::new(error))
    }
}

impl ApiError {
    /// The table.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Invalid(
                Invalid::Missing { .. } | Invalid::Value { .. } | Invalid::Image { .. },
            ) => Code::InvalidArgument,
            Self::Invalid(Invalid::Unsupported { .. }) => Code::Unimplemented,
            Self::Lifecycle(error) => of_kind(error.kind()),
            Self::Engine(error) => of_kind(error.kind()),
            Self::Pull(error) => of_pull(&error.kind),
            Self::Store(error) => of_store(error),
            Self::Archive(error) => of_archive(error),
            Self::Configuration { .. } => Code::FailedPrecondition,
            Self::Stream { .. } => Code::Internal,
            Self::Busy(_) => Code::ResourceExhausted,
            Self::NotReady => Code::Unavailable,
            Self::TooLarge { .. } => Code::ResourceExhausted,
        }
    }
}

fn of_kind(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::FailedPrecondition => Code::FailedPrecondition,
        ErrorKind::InvalidArgument => Code::InvalidArgument,
        ErrorKind::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::ResourceExhausted => Code::ResourceExhausted,
        ErrorKind::Unimplemented => Code::Unimplemented,
        ErrorKind::Internal => Code::Internal,
    }
}

fn of_pull(kind: &PullErrorKind) -> Code {
    match kind {
        PullErrorKind::NotFound { .. } | PullErrorKind::NoPlatform { .. } => Code::NotFound,
        PullErrorKind::Unauthorized { .. } => Code::Unauthenticated,
        PullErrorKind::Forbidden { .. } => Code::PermissionDenied,
        PullErrorKind::RateLimited { .. } | PullErrorKind::NoSpace { .. } => {
            Code::ResourceExhausted
        }
        // The kubelet looks for these words at the start of the text, and only
        // where the code is Unknown does it see the text alone.
        PullErrorKind::RegistryUnavailable { .. }
        | PullErrorKind::SignatureValidationFailed { .. } => Code::Unknown,
        PullErrorKind::Blocked { .. } => Code::PermissionDenied,
        PullErrorKind::Credentials { .. } => Code::Unauthenticated,
        PullErrorKind::Tls { .. } => Code::Unavailable,
        PullErrorKind::DigestMismatch { .. }
        | PullErrorKind::DiffIdMismatch { .. }
        | PullErrorKind::SizeMismatch { .. }
        | PullErrorKind::Layer { .. } => Code::DataLoss,
        PullErrorKind::TooLarge { .. }
        | PullErrorKind::UnsupportedMediaType { .. }
        | PullErrorKind::Malformed { .. }
        | PullErrorKind::Configuration { .. } => Code::FailedPrecondition,
        PullErrorKind::Cancelled => Code::Cancelled,
        _ => Code::Internal,
    }
}

fn of_store(error: &StoreError) -> Code {
    match error {
        StoreError::NotFound { .. } => Code::NotFound,
        StoreError::Key { .. } => Code::InvalidArgument,
        StoreError::SignatureValidationFailed { .. } => Code::Unknown,
        StoreError::Locked { .. } => Code::Unavailable,
        StoreError::InUse { .. } => Code::FailedPrecondition,
        StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
            Code::ResourceExhausted
        }
        _ => Code::Internal,
    }
}

fn of_archive(error: &ArchiveError) -> Code {
    match error {
        ArchiveError::Malformed(_) | ArchiveError::Stream { .. } => Code::InvalidArgument,
        ArchiveError::Image { kind, .. } => of_pull(kind),
        ArchiveError::Incomplete { .. } => Code::FailedPrecondition,
        ArchiveError::Store(error) => of_store(error),
        _ => Code::Internal,
    }
}

/// Metadata of a failed start: what a shell would say of it, 125 to 127.
pub const EXIT_CODE: &str = "orlop-exit-code";

/// The reply of a call; a failure is logged here and nowhere else.
pub(crate) fn answer<T>(
    call: &'static str,
    result: Result<T, ApiError>,
) -> Result<tonic::Response<T>, Status> {
    match result {
        Ok(reply) => Ok(tonic::Response::new(reply)),
        Err(error) => {
            let (code, text) = (error.code(), error.to_string());
            match code {
                Code::Internal | Code::DataLoss | Code::Unknown => {
                    tracing::error!(call, ?code, "{text}")
                }
                Code::NotFound | Code::Unimplemented => tracing::debug!(call, ?code, "{text}"),
                _ => tracing::info!(call, ?code, "{text}"),
            }
            let mut status = Status::new(code, text);
            if let ApiError::Engine(orlop_engine::Error::Start { exit_code, .. }) = &error {
                status.metadata_mut().insert(EXIT_CODE, (*exit_code).into());
            }
            Err(status)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orlop_model::Reference;

    #[test]
    fn the_kubelet_sees_that_a_registry_is_away() {
        let reference = Reference::parse("r.io/a").unwrap();
        let kind = PullErrorKind::RegistryUnavailable { message: "connection refused".into() };
        let error = ApiError::from(PullError { reference, kind });
        assert_eq!(error.code(), Code::Unknown);
        assert!(error.to_string().starts_with("RegistryUnavailable"), "{error}");
    }

    #[test]
    fn the_kubelet_sees_that_a_signature_is_missing() {
        let reference = Reference::parse("r.io/a").unwrap();
        let kind = PullErrorKind::SignatureValidationFailed { message: "no signature".into() };
        let error = ApiError::from(PullError { reference, kind });
        assert_eq!(error.code(), Code::Unknown);
        assert!(error.to_string().starts_with("SignatureValidationFailed: "), "{error}");
    }

    #[test]
    fn kinds() {
        let unsupported =
            Invalid::Unsupported { field: "f".into(), value: "v".into(), remedy: "r".into() };
        for (error, code) in [
            (ApiError::from(unsupported), Code::Unimplemented),
            (
                ApiError::from(Invalid::Missing { field: "f".into(), remedy: "r".into() }),
                Code::InvalidArgument,
            ),
            (ApiError::NotReady, Code::Unavailable),
            (ApiError::from(orlop_lifecycle::Error::NotRecovered), Code::Unavailable),
            (ApiError::from(StoreError::NotFound { image: "a".into() }), Code::NotFound),
        ] {
            assert_eq!(error.code(), code, "{error}");
        }
    }
}
