//! Why a request to a shim failed.

use crate::ttrpc::Code;
use std::io;
use std::path::PathBuf;

/// Why talking to a shim, or starting one, failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// The shim answered with an error. `message` names the object and the cause.
    #[error("{message}")]
    Refused {
        /// The gRPC code of the answer.
        code: Code,
        /// What the shim says.
        message: String,
    },
    /// The connection ended before the answer came: the shim died or was killed.
    #[error("shim of container {id} has gone: its connection closed")]
    Gone {
        /// The container.
        id: String,
    },
    /// No connection could be made.
    #[error("shim of container {id} cannot be reached at {}: {source}", address.display())]
    Unreachable {
        /// The container.
        id: String,
        /// The socket.
        address: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The answer is not of the protocol.
    #[error("shim of container {id} sent an answer that does not parse: {reason}")]
    Malformed {
        /// The container.
        id: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The bundle lacks something or cannot be written.
    #[error("bundle {}: {source}", path.display())]
    Bundle {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The shim could not be started.
    #[error("shim of container {id} cannot be started: {reason}")]
    Launch {
        /// The container.
        id: String,
        /// Why.
        reason: String,
    },
}

impl TaskError {
    /// The gRPC code that describes this error best.
    pub fn code(&self) -> Code {
        match self {
            Self::Refused { code, .. } => *code,
            Self::Gone { .. } | Self::Unreachable { .. } => Code::Unavailable,
            Self::Malformed { .. } | Self::Bundle { .. } | Self::Launch { .. } => Code::Internal,
        }
    }

    /// Whether the shim does not know the container or process.
    pub fn is_not_found(&self) -> bool {
        self.code() == Code::NotFound
    }

    /// Whether the shim cannot be asked any more.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Gone { .. } | Self::Unreachable { .. })
    }
}
