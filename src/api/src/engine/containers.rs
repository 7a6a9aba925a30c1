//! Containers: made, started, stopped, shown.

use super::{EngineCalls, json, list as json_list, read};
use crate::engine_v1 as v1;
use crate::error::ApiError;
use orlop_engine::{ContainerSpec, Error, Until, UpdateSpec};
use orlop_model::Signal;
use serde_json::json as object;

type Result<T> = std::result::Result<T, ApiError>;

pub(super) async fn create(
    calls: &EngineCalls,
    request: v1::CreateRequest,
) -> Result<v1::CreateResponse> {
    let spec: ContainerSpec = read("spec", &request.spec)?;
    let made = calls.engine()?.create(spec).await?;
    Ok(v1::CreateResponse { id: made.id.to_string(), warnings: made.warnings })
}

pub(super) async fn start(calls: &EngineCalls, request: v1::ContainerRequest) -> Result<v1::Empty> {
    calls.engine()?.start(&request.container).await?;
    Ok(v1::Empty {})
}

pub(super) async fn stop(calls: &EngineCalls, request: v1::StopRequest) -> Result<v1::Empty> {
    let signal = optional_signal(&request.signal)?;
    calls.engine()?.stop(&request.container, signal, request.timeout).await?;
    Ok(v1::Empty {})
}

pub(super) async fn restart(calls: &EngineCalls, request: v1::StopRequest) -> Result<v1::Empty> {
    let signal = optional_signal(&request.signal)?;
    calls.engine()?.restart(&request.container, signal, request.timeout).await?;
    Ok(v1::Empty {})
}

pub(super) async fn kill(calls: &EngineCalls, request: v1::KillRequest) -> Result<v1::Empty> {
    let signal = optional_signal(&request.signal)?.unwrap_or(Signal::KILL);
    calls.engine()?.kill(&request.container, signal).await?;
    Ok(v1::Empty {})
}

/// Empty: the container's own, or the call's.
fn optional_signal(text: &str) -> Result<Option<Signal>> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = |_| Error::Invalid {
        field: "signal",
        value: text.to_owned(),
        why: "there is no such signal: see signal(7)".into(),
    };
    Ok(Some(Signal::parse(text).map_err(wrong)?))
}

pub(super) async fn pause(calls: &EngineCalls, request: v1::ContainerRequest) -> Result<v1::Empty> {
    calls.engine()?.pause(&request.container).await?;
    Ok(v1::Empty {})
}

pub(super) async fn unpause(
    calls: &EngineCalls,
    request: v1::ContainerRequest,
) -> Result<v1::Empty> {
    calls.engine()?.unpause(&request.container).await?;
    Ok(v1::Empty {})
}

pub(super) async fn remove(calls: &EngineCalls, request: v1::RemoveRequest) -> Result<v1::Empty> {
    calls.engine()?.remove(&request.container, request.force, request.volumes).await?;
    Ok(v1::Empty {})
}

pub(super) async fn rename(calls: &EngineCalls, request: v1::RenameRequest) -> Result<v1::Empty> {
    calls.engine()?.rename(&request.container, &request.name).await?;
    Ok(v1::Empty {})
}

pub(super) async fn update(calls: &EngineCalls, request: v1::ChangeRequest) -> Result<v1::Empty> {
    let change: UpdateSpec = read("update", &request.change)?;
    calls.engine()?.update(&request.container, change).await?;
    Ok(v1::Empty {})
}

pub(super) async fn list(calls: &EngineCalls, _: v1::Empty) -> Result<v1::JsonList> {
    json_list(&calls.engine()?.list())
}

pub(super) async fn inspect(
    calls: &EngineCalls,
    request: v1::ContainerRequest,
) -> Result<v1::Json> {
    json(&calls.engine()?.inspect(&request.container)?)
}

pub(super) async fn wait(
    calls: &EngineCalls,
    request: v1::WaitRequest,
) -> Result<v1::WaitResponse> {
    let until = match request.until() {
        v1::wait_request::Until::NotRunning => Until::NotRunning,
        v1::wait_request::Until::NextExit => Until::NextExit,
        v1::wait_request::Until::Removed => Until::Removed,
    };
    let (exit_code, error) = calls.engine()?.wait(&request.container, until).await?;
    Ok(v1::WaitResponse { exit_code, error })
}

pub(super) async fn prune(calls: &EngineCalls, _request: v1::PruneRequest) -> Result<v1::Json> {
    let (removed, bytes) = calls.engine()?.prune().await?;
    json(&object!({"ContainersDeleted": removed, "SpaceReclaimed": bytes}))
}
