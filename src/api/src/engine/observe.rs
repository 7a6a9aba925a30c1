//! What containers do: processes, usage, events.

use super::{EngineCalls, Messages, json, list};
use crate::engine_v1 as v1;
use crate::error::ApiError;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// Events that wait for a client.
const QUEUE: usize = 64;

pub(super) async fn top(
    calls: &EngineCalls,
    request: v1::TopRequest,
) -> Result<v1::Json, ApiError> {
    let engine = calls.engine()?;
    let container = engine.find(&request.container)?;
    json(&engine.top(&container, &request.arguments).await?)
}

pub(super) async fn stats(
    calls: &EngineCalls,
    request: v1::StatsRequest,
) -> Result<v1::JsonList, ApiError> {
    let engine = calls.engine()?;
    let containers = request.containers.iter().map(|name| engine.find(name));
    let containers = match request.containers.as_slice() {
        [] => engine.containers(),
        _ => containers.collect::<Result<_, _>>()?,
    };
    let mut readings = Vec::new();
    for container in containers {
        readings.push(engine.reading(&container).await?);
    }
    list(&readings)
}

pub(super) async fn events(
    calls: &EngineCalls,
    request: v1::EventsRequest,
) -> Result<Messages<v1::Json>, ApiError> {
    let engine = calls.engine()?;
    let filters = orlop_engine::event::Filters::parse(&request.filters)?;
    let log = engine.event_log();
    log.make().map_err(orlop_engine::Error::io("making", log.path()))?;
    let mut tail = orlop_engine::Tail::open(&log.path(), true)
        .and_then(|mut tail| tail.to_end().map(|()| tail))
        .map_err(orlop_engine::Error::io("reading", log.path()))?;
    let (send, events) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        loop {
            let line = match tail.line() {
                Ok(Some(line)) => line,
                Ok(None) => {
                    tokio::select! {
                        _ = tail.wait() => continue,
                        () = send.closed() => return,
                    }
                }
                Err(error) => {
                    let _ = send.send(Err(Status::internal(error.to_string()))).await;
                    return;
                }
            };
            let Ok(event) = serde_json::from_slice(&line) else { continue };
            if filters.fit(&event) && send.send(Ok(v1::Json { json: line })).await.is_err() {
                return;
            }
        }
    });
    Ok(Box::pin(ReceiverStream::new(events)))
}
