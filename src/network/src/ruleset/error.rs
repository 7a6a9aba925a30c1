//! What can go wrong with our tables.

use crate::PluginError;
use orlop_sys::nft::NftError;

/// An error of a ruleset.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RulesetError {
    /// nftables itself.
    #[error(transparent)]
    Nft(#[from] NftError),
    /// Something that only one may have belongs to somebody else.
    #[error("{what} is taken by sandbox {holder}")]
    Taken {
        /// What was asked for, such as `host port 80/tcp`.
        what: String,
        /// Whose it is.
        holder: String,
    },
    /// The names do not fit in a comment.
    #[error("container id, interface and network name take more than {limit} bytes: {comment:?}")]
    LongName {
        /// They, as they would be written.
        comment: String,
        /// Most bytes.
        limit: usize,
    },
    /// Somebody else changes the ruleset faster than we can.
    #[error("nftables: the ruleset changed under every one of {attempts} attempts to {what}")]
    Unsettled {
        /// What was tried.
        what: &'static str,
        /// How often.
        attempts: u32,
    },
}

impl From<RulesetError> for PluginError {
    fn from(error: RulesetError) -> Self {
        let code = match &error {
            RulesetError::Nft(_) => PluginError::IO,
            RulesetError::Unsettled { .. } => PluginError::TRY_AGAIN,
            RulesetError::Taken { .. } | RulesetError::LongName { .. } => PluginError::OTHER,
        };
        Self { code, msg: error.to_string(), details: String::new() }
    }
}
