//! Networks that people make.

use super::{EngineCalls, not_yet};
use crate::engine_v1 as v1;
use crate::error::ApiError;

pub(super) async fn create(_calls: &EngineCalls, _request: v1::Json) -> Result<v1::Name, ApiError> {
    not_yet("create")
}

pub(super) async fn remove(
    _calls: &EngineCalls,
    _request: v1::Name,
) -> Result<v1::Empty, ApiError> {
    not_yet("remove")
}

pub(super) async fn list(
    _calls: &EngineCalls,
    _request: v1::Empty,
) -> Result<v1::JsonList, ApiError> {
    not_yet("list")
}

pub(super) async fn inspect(
    _calls: &EngineCalls,
    _request: v1::Name,
) -> Result<v1::Json, ApiError> {
    not_yet("inspect")
}

pub(super) async fn connect(
    _calls: &EngineCalls,
    _request: v1::ConnectRequest,
) -> Result<v1::Empty, ApiError> {
    not_yet("connect")
}

pub(super) async fn disconnect(
    _calls: &EngineCalls,
    _request: v1::ConnectRequest,
) -> Result<v1::Empty, ApiError> {
    not_yet("disconnect")
}

pub(super) async fn prune(
    _calls: &EngineCalls,
    _request: v1::PruneRequest,
) -> Result<v1::Json, ApiError> {
    not_yet("prune")
}
