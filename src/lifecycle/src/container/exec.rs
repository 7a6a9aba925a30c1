//! ExecSync and ReopenContainerLog.

use super::Container;
use crate::context::{Context, SHIM_PATIENCE, random_id};
use crate::error::{below, io};
use crate::kept::blocking;
use crate::neighbours::task_failed;
use crate::{ContainerState, Error, ErrorKind, ExecOutput, Result};
use oci_spec::runtime::{Process, Spec};
use orlop_model::ExecId;
use orlop_task::{Client, ExecError, TaskError};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::timeout;

/// Runs a command in a running container and collects what it says.
pub(crate) async fn exec_sync(
    context: Arc<Context>,
    container: Arc<Container>,
    command: Vec<String>,
    limit: Option<Duration>,
) -> Result<ExecOutput> {
    if command.is_empty() {
        let why = "the command is empty: give a program and its arguments".into();
        return Err(Error::Invalid { field: "cmd", value: String::new(), why });
    }
    let client = running_client(&container, "a command needs a running container")?;
    let process = process_json(&container, &command, false).await?;
    let exec_id = ExecId::from_random(random_id());
    let cap = context.options.exec_output_cap;
    match orlop_task::exec_sync(&client, exec_id.as_str(), &process, limit, cap).await {
        Ok(output) => Ok(ExecOutput {
            stdout: output.stdout,
            stderr: output.stderr,
            exit_code: i32::try_from(output.exit_code).unwrap_or(255),
        }),
        Err(ExecError::TimedOut(limit)) => {
            Err(Error::ExecTimeout { id: container.id.clone(), limit })
        }
        Err(ExecError::Task(error)) => Err(exec_failed(&container, &error)),
        Err(other) => {
            Err(below("running a command", container.id.as_str(), ErrorKind::Internal, other))
        }
    }
}

/// Lets the shim open the log file anew, after the kubelet has renamed it.
pub(crate) async fn reopen_log(container: Arc<Container>) -> Result<()> {
    let client = running_client(&container, "a log can be reopened only while the container runs")?;
    if container.view().log_path.is_none() {
        return Err(container.wrong_state("it has no log: the request that made it names none"));
    }
    match timeout(SHIM_PATIENCE, client.reopen_log()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(task_failed("reopening the log", container.id.as_str(), error)),
        Err(_) => Err(Error::ShimSilent {
            id: container.id.to_string(),
            why: format!("no answer within {SHIM_PATIENCE:?}"),
        }),
    }
}

pub(super) fn running_client(container: &Container, expected: &'static str) -> Result<Client> {
    if container.state() != ContainerState::Running {
        return Err(container.wrong_state(expected));
    }
    if container.killing.load(Ordering::Acquire) {
        return Err(container.wrong_state("it is being killed and takes no more commands"));
    }
    container.client().ok_or_else(|| container.wrong_state(expected))
}

/// The container's own process with another command. The container must run.
pub(crate) async fn exec_process(
    container: &Container,
    command: &[String],
    terminal: bool,
) -> Result<Process> {
    running_client(container, "a command needs a running container")?;
    process(container, command, terminal).await
}

async fn process(container: &Container, command: &[String], terminal: bool) -> Result<Process> {
    let spec = match container.remembered_process() {
        Some(spec) => spec,
        None => container.remember_process(read_process(container).await?),
    };
    Ok(orlop_spec::process_for_exec(spec, command, terminal)?)
}

/// The same as JSON.
pub(super) async fn process_json(
    container: &Container,
    command: &[String],
    terminal: bool,
) -> Result<Vec<u8>> {
    let process = process(container, command, terminal).await?;
    serde_json::to_vec(&process).map_err(|error| {
        below("writing the process", container.id.as_str(), ErrorKind::Internal, error)
    })
}

/// Reads the spec back after a restart of the daemon.
async fn read_process(container: &Container) -> Result<Spec> {
    let path = container.bundle.join("config.json");
    let id = container.id.clone();
    blocking(move || {
        let bytes = std::fs::read(&path).map_err(io("reading", &path))?;
        let spec = serde_json::from_slice(&bytes)
            .map_err(|error| below("reading the spec", id.as_str(), ErrorKind::Internal, error))?;
        Ok(process_only(spec))
    })
    .await
}

/// What exec needs of a spec; the rest would only take memory.
pub(super) fn process_only(mut spec: Spec) -> Spec {
    spec.set_linux(None).set_mounts(None).set_hooks(None).set_annotations(None);
    spec
}

pub(super) fn exec_failed(container: &Container, error: &TaskError) -> Error {
    if error.is_gone() {
        return Error::ShimSilent { id: container.id.to_string(), why: error.to_string() };
    }
    if container.state() != ContainerState::Running {
        return container.wrong_state("it ended before the command did");
    }
    Error::Exec { id: container.id.clone(), message: error.to_string() }
}
