//! What can go wrong with the kernel's nftables.

use std::io;

/// An error of [`super::Nft`].
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// The kernel has no nftables.
    #[error(
        "the kernel has no nf_tables ({0}): load the module nf_tables or use a kernel with CONFIG_NF_TABLES"
    )]
    Unavailable(#[source] io::Error),
    /// The socket failed.
    #[error("nftables netlink socket: {action}: {source}")]
    Socket {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The kernel refused a change or a question.
    #[error("nftables: {operation} {object}: {source}{}", if detail.is_empty() { String::new() } else { format!(" ({detail})") })]
    Refused {
        /// What was tried, such as `add rule to`.
        operation: &'static str,
        /// Table and object.
        object: String,
        /// The kernel's error.
        source: io::Error,
        /// The kernel's own words, where it has any, or ours.
        detail: String,
    },
    /// The kernel's answer has an unexpected form.
    #[error("nftables: the kernel's answer is not understood: {what}")]
    Malformed {
        /// The part in question.
        what: &'static str,
    },
    /// The ruleset kept changing while it was read.
    #[error("nftables: the ruleset changed while it was read, {attempts} times in a row")]
    Unsettled {
        /// How often it was tried.
        attempts: u32,
    },
}

impl NftError {
    /// The kernel's error number where it refused something.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// What the request names does not exist.
    pub fn is_absent(&self) -> bool {
        self.errno() == Some(libc::ENOENT)
    }

    /// What should be made exists already, with the same or with other contents.
    pub fn is_present(&self) -> bool {
        matches!(self.errno(), Some(libc::EEXIST | libc::EBUSY))
    }

    /// The ruleset changed since the generation that the batch depends on.
    pub fn is_stale(&self) -> bool {
        // The kernel's internal ERESTART, which libc does not name everywhere.
        self.errno() == Some(85)
    }
}

/// Our words for errors that the kernel leaves without any.
pub(super) fn hint(operation: &str, errno: i32) -> &'static str {
    match (operation, errno) {
        ("add rule to", libc::ENOENT) => {
            "a set or chain that it names does not exist, or this kernel lacks an expression"
        }
        ("add chain", libc::ENOENT | libc::EOPNOTSUPP) => "this kernel lacks the chain type",
        (_, libc::EPERM | libc::EACCES) => "CAP_NET_ADMIN is needed in the namespace",
        (_, 85) => "the ruleset changed meanwhile",
        _ => "",
    }
}
