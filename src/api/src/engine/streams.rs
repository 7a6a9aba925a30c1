//! Where the streams of containers and commands are.

use super::{EngineCalls, not_yet};
use crate::engine_v1 as v1;
use crate::error::ApiError;

pub(super) async fn locate(
    _calls: &EngineCalls,
    _request: v1::ContainerRequest,
) -> Result<v1::Json, ApiError> {
    not_yet("locate")
}

pub(super) async fn prepare_exec(
    _calls: &EngineCalls,
    _request: v1::ChangeRequest,
) -> Result<v1::Json, ApiError> {
    not_yet("prepare_exec")
}

pub(super) async fn prepare(
    _calls: &EngineCalls,
    _request: v1::ContainerRequest,
) -> Result<v1::Json, ApiError> {
    not_yet("prepare")
}
