//! The configuration of `portmap`.

use crate::PluginError;
use serde::Deserialize;
use serde_json::Value;

/// What of the configuration has a meaning here.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Config {
    /// Whether connections that would not find back get the host's address.
    snat: Option<bool>,
    /// Whether all connections through a host port get it.
    #[serde(default)]
    pub(super) masq_all: bool,
    #[serde(default, rename = "conditionsV4")]
    conditions_v4: Option<Vec<String>>,
    #[serde(default, rename = "conditionsV6")]
    conditions_v6: Option<Vec<String>>,
}

impl Config {
    /// Reads the plugin's object of the configuration list.
    pub(super) fn read(value: &Value) -> Result<Self, PluginError> {
        let config = Self::deserialize(value)
            .map_err(|error| PluginError::config(format!("portmap: {error}")))?;
        for (name, conditions) in
            [("conditionsV4", &config.conditions_v4), ("conditionsV6", &config.conditions_v6)]
        {
            if conditions.as_ref().is_some_and(|conditions| !conditions.is_empty()) {
                return Err(PluginError::config(format!(
                    "portmap: {name} holds arguments of iptables, and host ports are nftables here: remove it, or restrict a port by its hostIP"
                )));
            }
        }
        Ok(config)
    }

    /// Whether a return path is made.
    pub(super) fn snat(&self) -> bool {
        self.snat.unwrap_or(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaults_and_refusals() {
        let read = |value| Config::read(&value);
        let plain =
            read(json!({"type": "portmap", "backend": "iptables", "markMasqBit": 5})).unwrap();
        assert!(plain.snat() && !plain.masq_all);
        assert!(read(json!({"snat": null})).unwrap().snat());
        assert!(!read(json!({"snat": false})).unwrap().snat());
        assert!(read(json!({"masqAll": true, "conditionsV4": []})).unwrap().masq_all);
        let error = read(json!({"conditionsV6": ["-s", "fd00::/8"]})).unwrap_err();
        assert!(error.msg.starts_with("portmap: conditionsV6"), "{error}");
        assert_eq!(error.code, PluginError::INVALID_CONFIG);
        let error = read(json!({"snat": "yes"})).unwrap_err();
        assert!(error.msg.contains("expected a boolean"), "{error}");
    }
}
