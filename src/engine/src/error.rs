//! What can go wrong with containers, in words for whoever typed the command.

use orlop_lifecycle::ErrorKind;
use std::path::PathBuf;

/// Result of this room.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of an engine call.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such object.
    #[error("there is no {what} {name:?}")]
    NotFound {
        /// `container`, `network`, `volume`.
        what: &'static str,
        /// As asked for.
        name: String,
    },
    /// A prefix that several ids have.
    #[error("several containers have an id that begins with {prefix:?}: give more of it")]
    Ambiguous {
        /// As asked for.
        prefix: String,
    },
    /// The name is another one's.
    #[error(
        "the name {name:?} is taken by {what} {id}: remove or rename that one, or choose another name"
    )]
    NameTaken {
        /// `container`, `network`, `volume`.
        what: &'static str,
        /// The name.
        name: String,
        /// Who has it.
        id: String,
    },
    /// The object is in the wrong state for the call.
    #[error("{what} {name:?} {why}")]
    State {
        /// `container`, `network`, `volume`.
        what: &'static str,
        /// As people call it.
        name: String,
        /// What it is, and what to do.
        why: String,
    },
    /// Something that was asked for cannot be.
    #[error("{field} {value:?} is not valid: {why}")]
    Invalid {
        /// The flag, without dashes.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is wrong and what would be right.
        why: String,
    },
    /// The image is not here.
    #[error("image {image:?} is not present: pull it first")]
    ImageMissing {
        /// As asked for.
        image: String,
    },
    /// The program could not be started.
    #[error("container {name:?} could not be started: {message}")]
    Start {
        /// As people call it.
        name: String,
        /// From below.
        message: String,
        /// What a shell would say of it: 127 not found, 126 not executable, 125 anything else.
        exit_code: i32,
    },
    /// What sandboxes and containers are made of has failed.
    #[error("{}", .0.report())]
    Lifecycle(#[from] Box<orlop_lifecycle::Error>),
    /// The shim has.
    #[error(transparent)]
    Task(#[from] orlop_task::TaskError),
    /// The image store has.
    #[error(transparent)]
    Images(#[from] orlop_image::StoreError),
    /// The network has.
    #[error(transparent)]
    Network(#[from] orlop_network::NetworkError),
    /// A record cannot be kept.
    #[error("{error}{}", .error.source().map(|source| format!(": {source}")).unwrap_or_default())]
    Record {
        /// Why.
        #[from]
        error: orlop_store::StoreError,
    },
    /// A system call on a file has failed.
    #[error("{what} {path:?}: {source}")]
    Io {
        /// What was attempted.
        what: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Work in the background was cut off.
    #[error("background work ended without a result: {0}")]
    Background(String),
    /// The call is not there yet.
    #[error("{0} is not there yet")]
    Unimplemented(&'static str),
}

use std::error::Error as _;

impl From<orlop_lifecycle::Error> for Error {
    fn from(error: orlop_lifecycle::Error) -> Self {
        Self::Lifecycle(Box::new(error))
    }
}

impl Error {
    /// What a client can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } | Self::ImageMissing { .. } => ErrorKind::NotFound,
            Self::NameTaken { .. } => ErrorKind::AlreadyExists,
            Self::State { .. } => ErrorKind::FailedPrecondition,
            Self::Ambiguous { .. } | Self::Invalid { .. } => ErrorKind::InvalidArgument,
            Self::Start { .. } => ErrorKind::FailedPrecondition,
            Self::Lifecycle(error) => error.kind(),
            Self::Unimplemented(_) => ErrorKind::Unimplemented,
            Self::Task(_)
            | Self::Images(_)
            | Self::Network(_)
            | Self::Record { .. }
            | Self::Io { .. }
            | Self::Background(_) => ErrorKind::Internal,
        }
    }

    /// A path of a container that is not there, or not what was asked for.
    pub(crate) fn in_container(path: &str, error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::NotFound => {
                Self::NotFound { what: "path", name: path.chars().take(200).collect() }
            }
            _ => Self::Io { what: "copying", path: path.into(), source: error },
        }
    }

    /// For `map_err` of a file operation.
    pub fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }
}
