//! Files of containers: copied, compared, made into images.

use super::{EngineCalls, Messages, not_yet};
use crate::engine_v1 as v1;
use crate::error::ApiError;
use tonic::Streaming;

pub(super) async fn diff(
    _calls: &EngineCalls,
    _request: v1::ContainerRequest,
) -> Result<v1::JsonList, ApiError> {
    not_yet("diff")
}

pub(super) async fn commit(
    _calls: &EngineCalls,
    _request: v1::CommitRequest,
) -> Result<v1::Name, ApiError> {
    not_yet("commit")
}

pub(super) async fn copy_out(
    _calls: &EngineCalls,
    _request: v1::CopyRequest,
) -> Result<Messages<v1::Chunk>, ApiError> {
    not_yet("copy_out")
}

pub(super) async fn export_root(
    _calls: &EngineCalls,
    _request: v1::ContainerRequest,
) -> Result<Messages<v1::Chunk>, ApiError> {
    not_yet("export_root")
}

pub(super) async fn copy_in(
    _calls: &EngineCalls,
    _request: Streaming<v1::CopyRequest>,
) -> Result<v1::Empty, ApiError> {
    not_yet("copy_in")
}
