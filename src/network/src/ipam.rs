//! Delegation to an IPAM plugin: `host-local` in process, any other executed.

use crate::version::{Version, from_json};
use crate::{Call, CniResult, PluginError, exec, hostlocal};
use serde_json::Value;

/// The type of the `ipam` object; empty where there is none.
pub(crate) fn kind<'a>(call: &Call<'a>) -> &'a str {
    call.config
        .get("ipam")
        .and_then(|ipam| ipam.get("type"))
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Whether an executed plugin of that name would be ours in process.
fn in_process(kind: &str) -> bool {
    kind == "host-local"
}

/// Reserves addresses.
pub(crate) fn add(call: &Call<'_>) -> Result<CniResult, PluginError> {
    let kind = kind(call);
    let result = if in_process(kind) {
        hostlocal::add(call)?
    } else {
        let version = Version::parse(call.cni_version).map_err(PluginError::config)?;
        let answer = exec::run(kind, "ADD", call)?;
        let answer = answer
            .ok_or_else(|| PluginError::new(format!("ipam plugin {kind:?} printed no result")))?;
        from_json(answer, version)?.0
    };
    if result.ips.is_empty() {
        del_quietly(call);
        return Err(PluginError::new(format!("ipam plugin {kind:?} gave no address")));
    }
    Ok(result)
}

/// Gives addresses back.
pub(crate) fn del(call: &Call<'_>) -> Result<(), PluginError> {
    match kind(call) {
        "" => Ok(()),
        kind if in_process(kind) => hostlocal::del(call),
        kind => exec::run(kind, "DEL", call).map(drop),
    }
}

/// Gives addresses back after a failure whose own error matters more.
pub(crate) fn del_quietly(call: &Call<'_>) {
    if let Err(error) = del(call) {
        tracing::warn!(container = call.container_id, %error, "addresses of a failed attachment were not given back");
    }
}

/// Checks that addresses are reserved.
pub(crate) fn check(call: &Call<'_>) -> Result<(), PluginError> {
    match kind(call) {
        "" => Ok(()),
        kind if in_process(kind) => hostlocal::check(call),
        kind => exec::run(kind, "CHECK", call).map(drop),
    }
}
