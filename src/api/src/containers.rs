//! Calls on containers.

use crate::Api;
use crate::batches::{Replies, fits, in_batches as batches};
use crate::error::ApiError;
use crate::v1;
use crate::validate::{self, Invalid};
use crate::view;
use orlop_lifecycle::{ContainerFilter, ContainerState, ContainerView};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub(crate) async fn create(
    api: &Api,
    request: v1::CreateContainerRequest,
) -> Result<v1::CreateContainerResponse, ApiError> {
    let engine = api.engine()?;
    let sandbox = required_id("pod_sandbox_id", &request.pod_sandbox_id)?;
    let config = validate::container(request.config.as_ref(), api.node().abilities)?;
    let id = engine.runtime.create_container(sandbox, config).await?;
    Ok(v1::CreateContainerResponse { container_id: id.to_string() })
}

pub(crate) async fn start(
    api: &Api,
    request: v1::StartContainerRequest,
) -> Result<v1::StartContainerResponse, ApiError> {
    api.engine()?.runtime.start_container(required(&request.container_id)?).await?;
    Ok(v1::StartContainerResponse {})
}

pub(crate) async fn stop(
    api: &Api,
    request: v1::StopContainerRequest,
) -> Result<v1::StopContainerResponse, ApiError> {
    api.engine()?.runtime.stop_container(required(&request.container_id)?, request.timeout).await?;
    Ok(v1::StopContainerResponse {})
}

pub(crate) async fn remove(
    api: &Api,
    request: v1::RemoveContainerRequest,
) -> Result<v1::RemoveContainerResponse, ApiError> {
    api.engine()?.runtime.remove_container(required(&request.container_id)?).await?;
    Ok(v1::RemoveContainerResponse {})
}

pub(crate) async fn reopen_log(
    api: &Api,
    request: v1::ReopenContainerLogRequest,
) -> Result<v1::ReopenContainerLogResponse, ApiError> {
    api.engine()?.runtime.reopen_log(required(&request.container_id)?).await?;
    Ok(v1::ReopenContainerLogResponse {})
}

pub(crate) async fn checkpoint(
    api: &Api,
    request: v1::CheckpointContainerRequest,
) -> Result<v1::CheckpointContainerResponse, ApiError> {
    let runtime = &api.engine()?.runtime;
    let id = required(&request.container_id)?;
    if request.location.is_empty() {
        return Err(Invalid::Missing {
            field: "location".to_owned(),
            remedy: "give the absolute path of a tar archive to be written".to_owned(),
        }
        .into());
    }
    let limit = u64::try_from(request.timeout).ok().filter(|seconds| *seconds > 0);
    let limit = limit.map(Duration::from_secs);
    runtime.checkpoint(id, request.location.into(), limit).await?;
    Ok(v1::CheckpointContainerResponse {})
}

fn required(id: &str) -> Result<&str, Invalid> {
    required_id("container_id", id)
}

/// An empty id would fit every object as a prefix.
pub(crate) fn required_id<'a>(field: &str, id: &'a str) -> Result<&'a str, Invalid> {
    if id.is_empty() {
        Err(Invalid::Missing { field: field.to_owned(), remedy: "give an id".to_owned() })
    } else {
        Ok(id)
    }
}

pub(crate) async fn status(
    api: &Api,
    request: v1::ContainerStatusRequest,
) -> Result<v1::ContainerStatusResponse, ApiError> {
    let container = api.engine()?.runtime.container(required(&request.container_id)?)?;
    let info = if request.verbose { verbose(&container).await } else { BTreeMap::new() };
    Ok(v1::ContainerStatusResponse { status: Some(view::container_status(&container)), info })
}

async fn verbose(container: &ContainerView) -> BTreeMap<String, String> {
    let info = json!({
        "sandboxID": container.sandbox,
        "pid": container.pid.unwrap_or(0),
        "cgroup": container.cgroup,
        "bundle": container.bundle,
        "runtimeSpec": runtime_spec(container.bundle.join("config.json")).await,
        "config": &*container.config,
    });
    BTreeMap::from([("info".to_owned(), info.to_string())])
}

/// The spec as the shim got it; null where the bundle is gone.
async fn runtime_spec(path: PathBuf) -> Value {
    let read = move || serde_json::from_slice(&std::fs::read(path).ok()?).ok();
    tokio::task::spawn_blocking(read).await.ok().flatten().unwrap_or(Value::Null)
}

pub(crate) async fn list(
    api: &Api,
    request: v1::ListContainersRequest,
) -> Result<v1::ListContainersResponse, ApiError> {
    let containers = select(api, request.filter)?;
    fits(v1::ListContainersResponse {
        containers: containers.iter().map(|view| view::container_item(view)).collect(),
    })
}

pub(crate) async fn stream(
    api: &Api,
    request: v1::StreamContainersRequest,
) -> Result<Replies<v1::StreamContainersResponse>, ApiError> {
    let wrap = |containers| v1::StreamContainersResponse { containers };
    Ok(batches(select(api, request.filter)?, |view| view::container_item(view), wrap))
}

fn select(
    api: &Api,
    raw: Option<v1::ContainerFilter>,
) -> Result<Vec<Arc<ContainerView>>, ApiError> {
    let runtime = &api.engine()?.runtime;
    let raw = raw.unwrap_or_default();
    let state = match raw.state {
        None => None,
        Some(value) => Some(match validate::enumeration("filter.state.state", value.state)? {
            v1::ContainerState::ContainerCreated => ContainerState::Created,
            v1::ContainerState::ContainerRunning => ContainerState::Running,
            v1::ContainerState::ContainerExited => ContainerState::Exited,
            v1::ContainerState::ContainerUnknown => ContainerState::Unknown,
        }),
    };
    let given = |text: String| (!text.is_empty()).then_some(text);
    Ok(runtime.containers(&ContainerFilter {
        id: given(raw.id),
        sandbox: given(raw.pod_sandbox_id),
        state,
        labels: raw.label_selector,
    })?)
}
