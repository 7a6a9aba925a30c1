//! What can go wrong between a reference and an unpacked image, each cause told apart.

use orlop_model::{Digest, Reference};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a pull failed: which image and what happened. Prints as one line.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", self.line())]
pub struct PullError {
    /// What was to be pulled.
    pub reference: Reference,
    /// What happened.
    pub kind: PullErrorKind,
}

impl PullErrorKind {
    /// One word for it, of a small set: for metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "NotFound",
            Self::Unauthorized { .. } => "Unauthorized",
            Self::Forbidden { .. } => "Forbidden",
            Self::RateLimited { .. } => "RateLimited",
            Self::RegistryUnavailable { .. } => "RegistryUnavailable",
            Self::Tls { .. } => "Tls",
            Self::DigestMismatch { .. }
            | Self::DiffIdMismatch { .. }
            | Self::SizeMismatch { .. }
            | Self::Layer { .. } => "Damaged",
            Self::NoPlatform { .. } => "NoPlatform",
            Self::NoSpace { .. } => "NoSpace",
            Self::Cancelled => "Cancelled",
            _ => "Other",
        }
    }
}

/// The causes that callers tell apart. Each `message` is the registry's own, cut and printable.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PullErrorKind {
    /// 404: no such repository, tag, manifest or blob.
    #[error("not found in the registry: {message}")]
    NotFound {
        /// The registry's words.
        message: String,
    },
    /// 401 after all that could be proved was proved.
    #[error("the registry asks for other credentials: {message}; check the pull secret")]
    Unauthorized {
        /// The registry's words.
        message: String,
    },
    /// 403.
    #[error("the registry denies access: {message}; check the rights of the pull secret")]
    Forbidden {
        /// The registry's words.
        message: String,
    },
    /// 429.
    #[error("the registry limits the rate of requests: {message}{}", retry_text(*.retry_after))]
    RateLimited {
        /// The registry's words.
        message: String,
        /// When it allows another attempt, where it said so.
        retry_after: Option<Duration>,
    },
    /// Any other status of a reply.
    #[error("the registry refuses with status {status}: {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The registry's words.
        message: String,
    },
    /// No address, no connection, a cut that could not be resumed, or a 5xx.
    #[error("the registry does not answer: {message}")]
    RegistryUnavailable {
        /// What was tried and what happened.
        message: String,
    },
    /// The registry's certificate is not trusted.
    #[error("the registry's certificate is not accepted: {message}")]
    Tls {
        /// Unknown authority, expired, or made for another name.
        message: String,
    },
    /// Content that is not what its digest says.
    #[error("digest mismatch of {object}: expected {expected}, got {actual}")]
    DigestMismatch {
        /// Manifest, config or layer.
        object: &'static str,
        /// As asked for.
        expected: Digest,
        /// As computed.
        actual: Digest,
    },
    /// A layer that unpacks to something other than the configuration says.
    #[error(
        "layer {blob} does not hold what the image configuration says: expected diffID {expected}, got {actual}"
    )]
    DiffIdMismatch {
        /// The layer's blob.
        blob: Digest,
        /// From the configuration.
        expected: Digest,
        /// As computed.
        actual: Digest,
    },
    /// Content longer or shorter than its descriptor says.
    #[error("size mismatch of {object} {digest}: expected {expected} bytes, got {actual}")]
    SizeMismatch {
        /// Manifest, config or layer.
        object: &'static str,
        /// What was fetched.
        digest: Digest,
        /// From the descriptor.
        expected: u64,
        /// Received (at least).
        actual: u64,
    },
    /// The image does not exist for this platform.
    #[error("no manifest for platform {wanted}; the image has {}", list(.available))]
    NoPlatform {
        /// This node's.
        wanted: String,
        /// What the list offers.
        available: Vec<String>,
    },
    /// Something is larger than it may be.
    #[error("{what} is too large: {size} with a limit of {limit}")]
    TooLarge {
        /// Manifest, config, number of layers, …
        what: String,
        /// Found (at least).
        size: u64,
        /// Allowed.
        limit: u64,
    },
    /// A format that is not taken.
    #[error("media type {media_type:?} of {object} is not supported{hint}")]
    UnsupportedMediaType {
        /// Manifest, config or layer.
        object: &'static str,
        /// As declared.
        media_type: String,
        /// What to do about it, with its separator, or empty.
        hint: &'static str,
    },
    /// A document that breaks its format or says two things at once.
    #[error("{object} is not valid: {message}")]
    Malformed {
        /// Manifest, config, challenge, …
        object: &'static str,
        /// Which rule it breaks.
        message: String,
    },
    /// A layer's archive is damaged or tries what is not allowed.
    #[error("layer {blob} cannot be unpacked: {message}")]
    Layer {
        /// The layer's blob.
        blob: Digest,
        /// What is wrong with it.
        message: String,
    },
    /// A file of the operator's, about registries or credentials, cannot be used.
    #[error("configuration file {}: {message}", .file.display())]
    Configuration {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The operator does not allow the registry.
    #[error("registry {prefix} is blocked in {}", .file.display())]
    Blocked {
        /// The prefix that is blocked.
        prefix: String,
        /// Where it says so.
        file: PathBuf,
    },
    /// The policy does not allow the image.
    #[error("{message}")]
    SignatureValidationFailed {
        /// What is missing.
        message: String,
    },
    /// Credentials could not be obtained.
    #[error("no credentials: {message}")]
    Credentials {
        /// From where, and what happened.
        message: String,
    },
    /// The disk is full; what was written has been removed.
    #[error("no space left for the image at {}: {free} bytes are free of which {needed} or more are needed; what was written has been removed", .path.display())]
    NoSpace {
        /// Directory of the store.
        path: PathBuf,
        /// Bytes free after cleaning.
        free: u64,
        /// Bytes that the image needs at least.
        needed: u64,
    },
    /// A file that is no part of an image cannot be had by HTTP.
    #[error("{message}")]
    Fetch {
        /// From where, and what happened.
        message: String,
    },
    /// The store's own files failed.
    #[error("image store: {message}")]
    Store {
        /// Operation, path and cause.
        message: String,
    },
    /// Everyone who waited for the pull went away.
    #[error("the pull was abandoned")]
    Cancelled,
}

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has the store open.
    #[error("image store {} is in use by process {pid}; stop it or choose another root", .path.display())]
    Locked {
        /// Directory of the store.
        path: PathBuf,
        /// Who holds it, as written in the lock file.
        pid: String,
    },
    /// A container that can be started again was made from it.
    #[error("image {image} is used by container {container}: remove that one first")]
    InUse {
        /// As asked for.
        image: String,
        /// The container's id.
        container: String,
    },
    /// No such image.
    #[error("image {image} is not present; pull it first")]
    NotFound {
        /// As asked for.
        image: String,
    },
    /// The policy does not allow the image to run.
    #[error("SignatureValidationFailed: image {image}: {message}")]
    SignatureValidationFailed {
        /// Its id.
        image: Digest,
        /// What is missing.
        message: String,
    },
    /// A key that cannot be a directory name.
    #[error(
        "container key {key:?} is not valid: expected 1 to 128 letters, digits, '-', '_' and '.'"
    )]
    Key {
        /// As given.
        key: String,
    },
    /// A system call failed.
    #[error("{op} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        op: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The index failed.
    #[error("image index: {0}")]
    Index(String),
    /// A lease could not be read or written.
    #[error(transparent)]
    Record(#[from] orlop_store::StoreError),
}

impl PullErrorKind {
    /// The same with something added to the registry's words.
    pub(crate) fn with_note(mut self, note: &str) -> Self {
        if let Self::NotFound { message }
        | Self::Unauthorized { message }
        | Self::Forbidden { message }
        | Self::RateLimited { message, .. }
        | Self::Refused { message, .. }
        | Self::RegistryUnavailable { message }
        | Self::Tls { message } = &mut self
        {
            message.push_str(&format!(" ({note})"));
        }
        self
    }
}

impl PullError {
    /// CRI asks that the kubelet finds these words at the start.
    fn line(&self) -> String {
        let prefix = match self.kind {
            PullErrorKind::RegistryUnavailable { .. } => "RegistryUnavailable: ",
            PullErrorKind::SignatureValidationFailed { .. } => "SignatureValidationFailed: ",
            _ => "",
        };
        format!("{prefix}pull {}: {}", self.reference, self.kind)
    }
}

fn retry_text(after: Option<Duration>) -> String {
    after.map_or_else(String::new, |after| format!("; try again in {} s", after.as_secs()))
}

fn list(available: &[String]) -> String {
    if available.is_empty() { "none".into() } else { available.join(", ") }
}
