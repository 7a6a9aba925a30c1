//! What can go wrong with sandboxes and containers, and of what kind each thing is.

use orlop_model::{ContainerId, SandboxId};
use orlop_spec::SpecError;
use orlop_spec::request::SandboxMetadata;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Result of this room.
pub type Result<T> = std::result::Result<T, Error>;

/// What a client can do about an error; `api` maps each to one gRPC code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The object does not exist.
    NotFound,
    /// An object of that name lives.
    AlreadyExists,
    /// The object is in the wrong state for the call.
    FailedPrecondition,
    /// The request cannot be carried out on any node in this state of the world.
    InvalidArgument,
    /// A time limit of the request passed.
    DeadlineExceeded,
    /// Not now; the same request can succeed later.
    Unavailable,
    /// Something is full.
    ResourceExhausted,
    /// The call, or the asked for variant of it, is not there yet.
    Unimplemented,
    /// Anything else; details are in the chain.
    Internal,
}

type Source = Box<dyn std::error::Error + Send + Sync>;

/// An error of a lifecycle call.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operator's policy does not allow it; the message says all.
    #[error("{0}")]
    Policy(String),
    /// No such object.
    #[error("{what} {id:?} does not exist")]
    NotFound {
        /// `sandbox` or `container`.
        what: &'static str,
        /// As asked for.
        id: String,
    },
    /// A prefix that fits several ids.
    #[error("{what} id {id:?} is ambiguous: give more of it")]
    Ambiguous {
        /// `sandbox` or `container`.
        what: &'static str,
        /// As asked for.
        id: String,
    },
    /// The sandbox name is taken.
    #[error("pod sandbox {}/{} (uid {}, attempt {}) exists already as {id}: remove that one first, or use another attempt", .name.namespace, .name.name, .name.uid, .name.attempt)]
    SandboxExists {
        /// Its identity.
        name: Box<SandboxMetadata>,
        /// Who has the name.
        id: SandboxId,
    },
    /// The container name is taken in its sandbox.
    #[error(
        "container {name:?} (attempt {attempt}) exists already in sandbox {sandbox} as {id}: remove that one first, or use another attempt"
    )]
    ContainerExists {
        /// Its name.
        name: String,
        /// Its attempt.
        attempt: u32,
        /// Its sandbox.
        sandbox: SandboxId,
        /// Who has the name.
        id: ContainerId,
    },
    /// The sandbox cannot take containers.
    #[error("sandbox {id} is not ready: {why}")]
    SandboxNotReady {
        /// Which.
        id: SandboxId,
        /// Why.
        why: &'static str,
    },
    /// The container is in the wrong state.
    #[error("container {id} is {state}: {expected}")]
    WrongState {
        /// Which.
        id: ContainerId,
        /// Its state in CRI's word.
        state: &'static str,
        /// What the call needs.
        expected: &'static str,
    },
    /// The image was not pulled.
    #[error("image {image:?} is not present on this node: pull it first")]
    ImageMissing {
        /// As asked for.
        image: String,
    },
    /// An image that is to be a volume cannot be one. The kubelet knows it by its first word.
    #[error("ImageVolumeMountFailed: image {image:?}: {why}")]
    ImageVolume {
        /// As asked for.
        image: String,
        /// Why, and what to do.
        why: String,
    },
    /// A runtime handler that is not configured.
    #[error(
        "runtime handler {handler:?} is not known: use the default handler (leave it empty), or one of {known:?}"
    )]
    UnknownHandler {
        /// As asked for.
        handler: String,
        /// What exists.
        known: Vec<String>,
    },
    /// A field that only the state of the node shows to be wrong.
    #[error("{field} {value:?} is not valid: {why}")]
    Invalid {
        /// The request's field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is wrong and what would be right.
        why: String,
    },
    /// Request and image do not make a runnable container.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The container's program could not be started.
    #[error("container {id} could not be started: {message}")]
    Start {
        /// Which.
        id: ContainerId,
        /// From the shim.
        message: String,
    },
    /// A command in a container could not be started.
    #[error("command in container {id} could not be executed: {message}")]
    Exec {
        /// Which.
        id: ContainerId,
        /// From the shim.
        message: String,
    },
    /// The time limit of a command passed; it has been killed.
    #[error("command in container {id} timed out after {limit:?}")]
    ExecTimeout {
        /// Which.
        id: ContainerId,
        /// The limit.
        limit: Duration,
    },
    /// A container does not die.
    #[error(
        "container {id} still runs {after:?} after SIGKILL: its processes may be stuck in the kernel; try again"
    )]
    KillTimeout {
        /// Which.
        id: ContainerId,
        /// How long was waited.
        after: Duration,
    },
    /// The object's shim does not answer.
    #[error("shim of {id} does not answer: {why}")]
    ShimSilent {
        /// Of which object.
        id: String,
        /// How that was seen.
        why: String,
    },
    /// A container could not be checkpointed.
    #[error("container {id} could not be checkpointed: {why}")]
    Checkpoint {
        /// Which.
        id: ContainerId,
        /// Why, and what would help.
        why: String,
        /// Whether the node cannot, or it took too long.
        kind: ErrorKind,
    },
    /// Recovery has not finished.
    #[error("the runtime is still recovering its state: try again")]
    NotRecovered,
    /// Something beneath failed.
    #[error("{what} of {object} failed")]
    Below {
        /// What was done.
        what: &'static str,
        /// To which object.
        object: String,
        /// The kind, taken from the room that failed.
        kind: ErrorKind,
        /// Why.
        #[source]
        source: Source,
    },
    /// A file or directory of ours could not be made, read or removed.
    #[error("{what} {path:?} failed")]
    Io {
        /// What was attempted.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A request that another one like it carried out failed there.
    #[error(transparent)]
    Shared(Arc<Error>),
}

impl Error {
    /// What a client can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } | Self::ImageMissing { .. } | Self::UnknownHandler { .. } => {
                ErrorKind::NotFound
            }
            Self::SandboxExists { .. } | Self::ContainerExists { .. } => ErrorKind::AlreadyExists,
            Self::SandboxNotReady { .. }
            | Self::WrongState { .. }
            | Self::Policy(_)
            | Self::ImageVolume { .. } => ErrorKind::FailedPrecondition,
            Self::Ambiguous { .. } | Self::Invalid { .. } | Self::Spec(_) => {
                ErrorKind::InvalidArgument
            }
            Self::ExecTimeout { .. } | Self::KillTimeout { .. } => ErrorKind::DeadlineExceeded,
            Self::ShimSilent { .. } | Self::NotRecovered => ErrorKind::Unavailable,
            Self::Start { .. } | Self::Exec { .. } => ErrorKind::Internal,
            Self::Below { kind, .. } | Self::Checkpoint { kind, .. } => *kind,
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                ErrorKind::ResourceExhausted
            }
            Self::Io { .. } => ErrorKind::Internal,
            Self::Shared(error) => error.kind(),
        }
    }

    /// The message with its causes, each said once.
    pub fn report(&self) -> String {
        chain(self)
    }
}

/// An error of a room beneath, with what was being done to which object.
pub(crate) fn below(
    what: &'static str,
    object: impl Into<String>,
    kind: ErrorKind,
    source: impl Into<Source>,
) -> Error {
    Error::Below { what, object: object.into(), kind, source: source.into() }
}

/// For `map_err` on a system call.
pub(crate) fn io(
    what: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.into();
    move |source| Error::Io { what, path, source }
}

/// An error's message followed by those of its sources, leaving out what was already said.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let message = source.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        next = source.source();
    }
    text
}
