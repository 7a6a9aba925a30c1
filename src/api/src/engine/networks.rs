//! Networks that people make.

use super::{EngineCalls, json, list as json_list, read};
use crate::engine_v1 as v1;
use crate::error::ApiError;
use orlop_engine::NetworkRecord;
use orlop_engine::spec::{Endpoint, NetworkSpec};
use serde_json::json;

pub(super) async fn create(calls: &EngineCalls, request: v1::Json) -> Result<v1::Name, ApiError> {
    let spec: NetworkSpec = read("network", &request.json)?;
    Ok(v1::Name { name: calls.engine()?.create_network(spec).await? })
}

pub(super) async fn remove(calls: &EngineCalls, request: v1::Name) -> Result<v1::Empty, ApiError> {
    calls.engine()?.remove_network(&request.name).await?;
    Ok(v1::Empty {})
}

pub(super) async fn list(
    calls: &EngineCalls,
    _request: v1::Empty,
) -> Result<v1::JsonList, ApiError> {
    json_list(&calls.engine()?.list_networks().await?)
}

pub(super) async fn inspect(calls: &EngineCalls, request: v1::Name) -> Result<v1::Json, ApiError> {
    json(&calls.engine()?.inspect_network(&request.name).await?)
}

pub(super) async fn connect(
    calls: &EngineCalls,
    request: v1::ConnectRequest,
) -> Result<v1::Empty, ApiError> {
    let mut endpoint = match request.endpoint.as_slice() {
        [] => Endpoint::default(),
        bytes => read("endpoint", bytes)?,
    };
    endpoint.network = request.network;
    calls.engine()?.connect_network(&request.container, endpoint).await?;
    Ok(v1::Empty {})
}

pub(super) async fn disconnect(
    calls: &EngineCalls,
    request: v1::ConnectRequest,
) -> Result<v1::Empty, ApiError> {
    calls.engine()?.disconnect_network(&request.container, &request.network).await?;
    Ok(v1::Empty {})
}

/// Filters: `label=NAME[=VALUE]` and `label!=…`, all of which must hold.
pub(super) async fn prune(
    calls: &EngineCalls,
    request: v1::PruneRequest,
) -> Result<v1::Json, ApiError> {
    let filters = super::labels(&request.filters)?;
    let keep = |network: &NetworkRecord| !filters.fit(&network.spec.labels);
    let removed = calls.engine()?.prune_networks(keep).await?;
    json(&json!({"NetworksDeleted": removed}))
}
