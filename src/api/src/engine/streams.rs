//! Where the streams of containers and commands are.

use super::{EngineCalls, json, read};
use crate::engine_v1 as v1;
use crate::error::ApiError;
use orlop_engine::spec::ExecSpec;

pub(super) async fn locate(
    calls: &EngineCalls,
    request: v1::ContainerRequest,
) -> Result<v1::Json, ApiError> {
    let engine = calls.engine()?;
    json(&engine.locate(&*engine.find(&request.container)?))
}

pub(super) async fn prepare_exec(
    calls: &EngineCalls,
    request: v1::ChangeRequest,
) -> Result<v1::Json, ApiError> {
    let engine = calls.engine()?;
    let container = engine.find(&request.container)?;
    let spec: ExecSpec = read("exec", &request.change)?;
    json(&engine.prepare_exec(&container, &spec).await?)
}

pub(super) async fn prepare(
    calls: &EngineCalls,
    request: v1::ContainerRequest,
) -> Result<v1::Json, ApiError> {
    json(&calls.engine()?.prepare(&request.container).await?)
}
