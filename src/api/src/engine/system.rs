//! The machine as a whole.

use super::{EngineCalls, not_yet};
use crate::engine_v1 as v1;
use crate::error::ApiError;
use serde_json::{Value, json};

/// What layers take, each counted once, and each volume. Walks volumes.
pub(super) async fn disk_usage(
    calls: &EngineCalls,
    _request: v1::Empty,
) -> Result<v1::Json, ApiError> {
    let engine = calls.engine()?;
    let walked = tokio::task::spawn_blocking(move || {
        let layers = engine.images().usage().bytes;
        let sizes = engine.volume_sizes();
        let volumes = engine.list_volumes().into_iter().map(|volume| {
            let size = sizes.get(&volume.name).copied().unwrap_or(0);
            json!({"Name": volume.name, "Size": size, "InUse": !volume.containers.is_empty()})
        });
        json!({"LayersSize": layers, "Volumes": volumes.collect::<Vec<Value>>()})
    });
    let found = walked.await.map_err(|error| ApiError::Stream { message: error.to_string() })?;
    Ok(v1::Json { json: found.to_string().into_bytes() })
}

pub(super) async fn info(_calls: &EngineCalls, _request: v1::Empty) -> Result<v1::Json, ApiError> {
    not_yet("info")
}
