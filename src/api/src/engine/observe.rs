//! What containers do: processes, usage, events.

use super::{EngineCalls, Messages, not_yet};
use crate::engine_v1 as v1;
use crate::error::ApiError;

pub(super) async fn top(
    _calls: &EngineCalls,
    _request: v1::TopRequest,
) -> Result<v1::Json, ApiError> {
    not_yet("top")
}

pub(super) async fn stats(
    _calls: &EngineCalls,
    _request: v1::StatsRequest,
) -> Result<v1::JsonList, ApiError> {
    not_yet("stats")
}

pub(super) async fn events(
    _calls: &EngineCalls,
    _request: v1::EventsRequest,
) -> Result<Messages<v1::Json>, ApiError> {
    not_yet("events")
}
