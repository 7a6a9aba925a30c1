//! The plugin `firewall`.

use crate::{Call, CniResult, Plugin, PluginError};

/// The plugin `firewall`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Firewall;

impl Plugin for Firewall {
    fn kind(&self) -> &'static str {
        "firewall"
    }

    fn add(&self, call: &Call<'_>) -> Result<CniResult, PluginError> {
        call.prev_result.cloned().ok_or_else(|| {
            PluginError::config(
                "firewall has no prevResult: it must follow the plugin that makes the interface",
            )
        })
    }

    fn del(&self, _call: &Call<'_>) -> Result<(), PluginError> {
        Ok(())
    }

    fn check(&self, _call: &Call<'_>) -> Result<(), PluginError> {
        Ok(())
    }
}
