//! What can be wrong with a layer, or with the disk it goes to.

use std::io;

/// Why a layer was not unpacked. Names are printed escaped: they come from the archive.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The stream could not be read (network, inflating, digest check of the caller's reader).
    #[error("read layer archive: {0}")]
    Read(#[source] io::Error),
    /// The archive breaks the format.
    #[error("layer archive is damaged at byte {offset}: {reason}")]
    Format {
        /// Position in the uncompressed stream.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// The archive asks for more than a [`super::Limits`] allows.
    #[error("layer archive exceeds the limit of {limit} {what}")]
    Limit {
        /// The quantity that is bounded.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// A member tries something that no honest image needs.
    #[error("layer member \"{name}\" is refused: {reason}")]
    Refused {
        /// The member's name, escaped.
        name: String,
        /// Why.
        reason: String,
    },
    /// A system call on the destination failed.
    #[error("unpack: {op} \"{name}\": {source}")]
    Io {
        /// What was tried.
        op: &'static str,
        /// The member's name, escaped.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl UnpackError {
    pub(crate) fn refused(name: impl AsRef<[u8]>, reason: impl Into<String>) -> Self {
        Self::Refused { name: name.as_ref().escape_ascii().to_string(), reason: reason.into() }
    }

    pub(crate) fn io(op: &'static str, name: impl AsRef<[u8]>, source: io::Error) -> Self {
        Self::Io { op, name: name.as_ref().escape_ascii().to_string(), source }
    }
}
