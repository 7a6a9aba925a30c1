//! Version, Status, RuntimeConfig: the node itself.

use crate::error::ApiError;
use crate::v1;
use crate::{Api, Handler};
use serde_json::json;
use std::collections::BTreeMap;

/// Version of the kubelet's own protocol beneath CRI; fixed since its first days.
const KUBE_API_VERSION: &str = "0.1.0";
const CRI_VERSION: &str = "v1";

pub(crate) async fn version(
    api: &Api,
    _: v1::VersionRequest,
) -> Result<v1::VersionResponse, ApiError> {
    // Clients take this answer as the sign that the others will work.
    api.engine()?;
    Ok(v1::VersionResponse {
        version: KUBE_API_VERSION.to_owned(),
        runtime_name: "orlop".to_owned(),
        runtime_version: api.node().version.clone(),
        runtime_api_version: CRI_VERSION.to_owned(),
    })
}

pub(crate) async fn status(
    api: &Api,
    request: v1::StatusRequest,
) -> Result<v1::StatusResponse, ApiError> {
    let state = api.engine()?.runtime.status();
    let condition = |kind: &str, ready, reason: &str, message: &str| v1::RuntimeCondition {
        r#type: kind.to_owned(),
        status: ready,
        reason: reason.to_owned(),
        message: message.to_owned(),
    };
    let (reason, message) = if state.runtime_ready {
        ("", "")
    } else {
        ("Recovering", "state of an earlier run is being recovered")
    };
    let conditions = vec![
        condition("RuntimeReady", state.runtime_ready, reason, message),
        condition(
            "NetworkReady",
            state.network_ready,
            &state.network_reason,
            &state.network_message,
        ),
    ];
    let able = api.node().abilities;
    Ok(v1::StatusResponse {
        status: Some(v1::RuntimeStatus { conditions }),
        info: if request.verbose { verbose(api) } else { BTreeMap::new() },
        runtime_handlers: handlers(api),
        features: Some(v1::RuntimeFeatures {
            supplemental_groups_policy: able.supplemental_groups,
            user_namespaces_host_network: able.user_namespaces_host_network,
        }),
    })
}

fn verbose(api: &Api) -> BTreeMap<String, String> {
    let node = api.node();
    BTreeMap::from([
        ("config".to_owned(), node.config.to_string()),
        ("version".to_owned(), json!({ "orlop": node.version, "cri": CRI_VERSION }).to_string()),
    ])
}

/// The empty name is the default handler, and comes first.
fn handlers(api: &Api) -> Vec<v1::RuntimeHandler> {
    let able = api.node().abilities;
    let built_in = Handler {
        name: String::new(),
        recursive_read_only: able.recursive_read_only,
        user_namespaces: able.user_namespaces,
    };
    std::iter::once(&built_in)
        .chain(&api.node().handlers)
        .map(|handler| v1::RuntimeHandler {
            name: handler.name.clone(),
            features: Some(v1::RuntimeHandlerFeatures {
                recursive_read_only_mounts: handler.recursive_read_only,
                user_namespaces: handler.user_namespaces,
            }),
        })
        .collect()
}

pub(crate) async fn runtime_config(
    api: &Api,
    _: v1::RuntimeConfigRequest,
) -> Result<v1::RuntimeConfigResponse, ApiError> {
    let driver = if api.node().abilities.systemd {
        v1::CgroupDriver::Systemd
    } else {
        v1::CgroupDriver::Cgroupfs
    };
    Ok(v1::RuntimeConfigResponse {
        linux: Some(v1::LinuxRuntimeConfiguration { cgroup_driver: driver.into() }),
    })
}

/// The pod network's range is only of use to templates of network configurations, which Orlop does
/// not have: accepted, since a client cannot know that.
pub(crate) async fn update_runtime_config(
    _: &Api,
    request: v1::UpdateRuntimeConfigRequest,
) -> Result<v1::UpdateRuntimeConfigResponse, ApiError> {
    let network = request.runtime_config.and_then(|config| config.network_config);
    tracing::debug!(
        pod_cidr = network.map(|network| network.pod_cidr),
        "runtime config accepted, not used"
    );
    Ok(v1::UpdateRuntimeConfigResponse {})
}
