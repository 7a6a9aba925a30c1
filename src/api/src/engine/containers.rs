//! Containers: made, started, stopped, shown.

use super::{EngineCalls, not_yet};
use crate::engine_v1 as v1;
use crate::error::ApiError;

pub(super) async fn create(
    _calls: &EngineCalls,
    _request: v1::CreateRequest,
) -> Result<v1::CreateResponse, ApiError> {
    not_yet("create")
}

pub(super) async fn start(
    _calls: &EngineCalls,
    _request: v1::ContainerRequest,
) -> Result<v1::Empty, ApiError> {
    not_yet("start")
}

pub(super) async fn stop(
    _calls: &EngineCalls,
    _request: v1::StopRequest,
) -> Result<v1::Empty, ApiError> {
    not_yet("stop")
}

pub(super) async fn restart(
    _calls: &EngineCalls,
    _request: v1::StopRequest,
) -> Result<v1::Empty, ApiError> {
    not_yet("restart")
}

pub(super) async fn kill(
    _calls: &EngineCalls,
    _request: v1::KillRequest,
) -> Result<v1::Empty, ApiError> {
    not_yet("kill")
}

pub(super) async fn pause(
    _calls: &EngineCalls,
    _request: v1::ContainerRequest,
) -> Result<v1::Empty, ApiError> {
    not_yet("pause")
}

pub(super) async fn unpause(
    _calls: &EngineCalls,
    _request: v1::ContainerRequest,
) -> Result<v1::Empty, ApiError> {
    not_yet("unpause")
}

pub(super) async fn remove(
    _calls: &EngineCalls,
    _request: v1::RemoveRequest,
) -> Result<v1::Empty, ApiError> {
    not_yet("remove")
}

pub(super) async fn rename(
    _calls: &EngineCalls,
    _request: v1::RenameRequest,
) -> Result<v1::Empty, ApiError> {
    not_yet("rename")
}

pub(super) async fn update(
    _calls: &EngineCalls,
    _request: v1::ChangeRequest,
) -> Result<v1::Empty, ApiError> {
    not_yet("update")
}

pub(super) async fn list(
    _calls: &EngineCalls,
    _request: v1::Empty,
) -> Result<v1::JsonList, ApiError> {
    not_yet("list")
}

pub(super) async fn inspect(
    _calls: &EngineCalls,
    _request: v1::ContainerRequest,
) -> Result<v1::Json, ApiError> {
    not_yet("inspect")
}

pub(super) async fn wait(
    _calls: &EngineCalls,
    _request: v1::WaitRequest,
) -> Result<v1::WaitResponse, ApiError> {
    not_yet("wait")
}

pub(super) async fn prune(
    _calls: &EngineCalls,
    _request: v1::PruneRequest,
) -> Result<v1::Json, ApiError> {
    not_yet("prune")
}
