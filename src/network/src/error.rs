//! What can go wrong between a sandbox and its network.

use crate::PluginError;
use std::path::PathBuf;

/// An error of the network room. Messages name the object, the cause, and the remedy where one exists.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// No network can be given to a pod now; host-network pods still run.
    #[error("network is not ready: {0}")]
    NotReady(String),
    /// The request names something that cannot be done (a sysctl that no namespace has, …).
    #[error("{0}")]
    Invalid(String),
    /// A plugin of the chain failed.
    #[error("network {network:?}: plugin {plugin:?}")]
    Plugin {
        /// Name of the network.
        network: String,
        /// Type of the plugin.
        plugin: String,
        /// Its own words.
        #[source]
        source: PluginError,
    },
    /// A system call on a path failed.
    #[error("{action} {path:?}")]
    Io {
        /// What was tried ("mount", "write").
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// A namespace operation failed.
    #[error("{action}")]
    Namespace {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// A blocking task was cancelled, as happens when the daemon stops.
    #[error("network operation was cancelled: the daemon is stopping")]
    Cancelled,
}
