//! The machine as a whole.

use super::{EngineCalls, not_yet};
use crate::engine_v1 as v1;
use crate::error::ApiError;

pub(super) async fn disk_usage(
    _calls: &EngineCalls,
    _request: v1::Empty,
) -> Result<v1::Json, ApiError> {
    not_yet("disk_usage")
}

pub(super) async fn info(_calls: &EngineCalls, _request: v1::Empty) -> Result<v1::Json, ApiError> {
    not_yet("info")
}
