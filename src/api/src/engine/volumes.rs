//! Volumes that people make.

use super::{EngineCalls, json, list as json_list, read};
use crate::engine_v1 as v1;
use crate::error::ApiError;
use orlop_engine::VolumeRecord;
use orlop_engine::spec::VolumeSpec;
use serde_json::json;

pub(super) async fn create(calls: &EngineCalls, request: v1::Json) -> Result<v1::Name, ApiError> {
    let spec: VolumeSpec = read("volume", &request.json)?;
    Ok(v1::Name { name: calls.engine()?.create_volume(spec).await? })
}

pub(super) async fn remove(
    calls: &EngineCalls,
    request: v1::RemoveVolumeRequest,
) -> Result<v1::Empty, ApiError> {
    calls.engine()?.remove_volume(&request.name, request.force).await?;
    Ok(v1::Empty {})
}

pub(super) async fn list(
    calls: &EngineCalls,
    _request: v1::Empty,
) -> Result<v1::JsonList, ApiError> {
    json_list(&calls.engine()?.list_volumes())
}

pub(super) async fn inspect(calls: &EngineCalls, request: v1::Name) -> Result<v1::Json, ApiError> {
    json(&calls.engine()?.inspect_volume(&request.name)?)
}

/// Unnamed volumes only, unless `all`. Filters: `label=NAME[=VALUE]` and `label!=…`.
pub(super) async fn prune(
    calls: &EngineCalls,
    request: v1::PruneRequest,
) -> Result<v1::Json, ApiError> {
    let filters = super::labels(&request.filters)?;
    let keep = |volume: &VolumeRecord| {
        !filters.fit(&volume.spec.labels) || !(request.all || volume.anonymous)
    };
    let (removed, bytes) = calls.engine()?.prune_volumes(keep).await?;
    json(&json!({"VolumesDeleted": removed, "SpaceReclaimed": bytes}))
}
