//! Where the streams of containers and commands are.

use super::{EngineCalls, json, not_yet};
use crate::engine_v1 as v1;
use crate::error::ApiError;

pub(super) async fn locate(
    calls: &EngineCalls,
    request: v1::ContainerRequest,
) -> Result<v1::Json, ApiError> {
    let engine = calls.engine()?;
    json(&engine.locate(&*engine.find(&request.container)?))
}

pub(super) async fn prepare_exec(
    _calls: &EngineCalls,
    _request: v1::ChangeRequest,
) -> Result<v1::Json, ApiError> {
    not_yet("prepare_exec")
}

pub(super) async fn prepare(
    calls: &EngineCalls,
    request: v1::ContainerRequest,
) -> Result<v1::Json, ApiError> {
    json(&calls.engine()?.prepare(&request.container).await?)
}
