//! Calls on pod sandboxes.

use crate::Api;
use crate::batches::{Replies, fits, in_batches as batches};
use crate::error::ApiError;
use crate::v1;
use crate::validate::{self, Invalid, SandboxRequest};
use crate::view;
use orlop_lifecycle::{ContainerFilter, SandboxFilter, SandboxState, SandboxView};
use orlop_model::Timestamp;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) async fn run(
    api: &Api,
    request: v1::RunPodSandboxRequest,
) -> Result<v1::RunPodSandboxResponse, ApiError> {
    let engine = api.engine()?;
    let config = validate::sandbox(SandboxRequest {
        config: request.config.as_ref(),
        runtime_handler: &request.runtime_handler,
        able: api.node().abilities,
    })?;
    drop(request);
    let id = engine.runtime.run_sandbox(config).await?;
    Ok(v1::RunPodSandboxResponse { pod_sandbox_id: id.to_string() })
}

pub(crate) async fn stop(
    api: &Api,
    request: v1::StopPodSandboxRequest,
) -> Result<v1::StopPodSandboxResponse, ApiError> {
    api.engine()?.runtime.stop_sandbox(required(&request.pod_sandbox_id)?).await?;
    Ok(v1::StopPodSandboxResponse {})
}

pub(crate) async fn remove(
    api: &Api,
    request: v1::RemovePodSandboxRequest,
) -> Result<v1::RemovePodSandboxResponse, ApiError> {
    api.engine()?.runtime.remove_sandbox(required(&request.pod_sandbox_id)?).await?;
    Ok(v1::RemovePodSandboxResponse {})
}

/// An empty id would fit every object as a prefix.
fn required(id: &str) -> Result<&str, Invalid> {
    crate::containers::required_id("pod_sandbox_id", id)
}

pub(crate) async fn status(
    api: &Api,
    request: v1::PodSandboxStatusRequest,
) -> Result<v1::PodSandboxStatusResponse, ApiError> {
    let runtime = &api.engine()?.runtime;
    let sandbox = runtime.sandbox(required(&request.pod_sandbox_id)?)?;
    let filter = ContainerFilter { sandbox: Some(sandbox.id.to_string()), ..Default::default() };
    let containers = runtime.containers(&filter)?;
    Ok(v1::PodSandboxStatusResponse {
        status: Some(view::sandbox_status(&sandbox)),
        info: if request.verbose { verbose(&sandbox) } else { BTreeMap::new() },
        containers_statuses: containers
            .iter()
            .map(|container| view::container_status(container))
            .collect(),
        timestamp: Timestamp::now().0,
    })
}

fn verbose(sandbox: &SandboxView) -> BTreeMap<String, String> {
    let info = json!({
        "pid": sandbox.init_pid.unwrap_or(0),
        "netns": sandbox.netns,
        "cgroupParent": sandbox.cgroup_parent,
        "runtimeHandler": sandbox.config.runtime_handler,
        "config": &*sandbox.config,
        "overhead": sandbox.overhead,
        "resources": sandbox.resources,
    });
    BTreeMap::from([("info".to_owned(), info.to_string())])
}

pub(crate) async fn list(
    api: &Api,
    request: v1::ListPodSandboxRequest,
) -> Result<v1::ListPodSandboxResponse, ApiError> {
    let items = select(api, request.filter)?;
    fits(v1::ListPodSandboxResponse {
        items: items.iter().map(|view| view::sandbox_item(view)).collect(),
    })
}

pub(crate) async fn stream(
    api: &Api,
    request: v1::StreamPodSandboxesRequest,
) -> Result<Replies<v1::StreamPodSandboxesResponse>, ApiError> {
    let wrap = |pod_sandboxes| v1::StreamPodSandboxesResponse { pod_sandboxes };
    Ok(batches(select(api, request.filter)?, |view| view::sandbox_item(view), wrap))
}

fn select(api: &Api, raw: Option<v1::PodSandboxFilter>) -> Result<Vec<Arc<SandboxView>>, ApiError> {
    let runtime = &api.engine()?.runtime;
    let raw = raw.unwrap_or_default();
    let state = match raw.state {
        None => None,
        Some(value) => Some(match validate::enumeration("filter.state.state", value.state)? {
            v1::PodSandboxState::SandboxReady => SandboxState::Ready,
            v1::PodSandboxState::SandboxNotready => SandboxState::NotReady,
        }),
    };
    let id = (!raw.id.is_empty()).then_some(raw.id);
    Ok(runtime.sandboxes(&SandboxFilter { id, state, labels: raw.label_selector })?)
}
