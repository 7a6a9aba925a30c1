//! Commands that somebody talks to, and attachments to a container.

use super::Container;
use super::exec::{exec_failed, process_json, running_client};
use crate::context::random_id;
use crate::neighbours::task_failed;
use crate::{Error, Result};
use orlop_model::ExecId;
use orlop_task::{Flows, Session};
use std::sync::Arc;

/// Refuses what only a running container can have.
pub(crate) fn check_running(container: &Container) -> Result<()> {
    running_client(container, "this needs a running container").map(drop)
}

/// Starts a command in a running container.
pub(crate) async fn exec_session(
    container: Arc<Container>,
    command: Vec<String>,
    flows: Flows,
) -> Result<Session> {
    if command.is_empty() {
        let why = "the command is empty: give a program and its arguments".into();
        return Err(Error::Invalid { field: "cmd", value: String::new(), why });
    }
    let client = running_client(&container, "a command needs a running container")?;
    let process = process_json(&container, &command, flows.terminal).await?;
    let exec_id = ExecId::from_random(random_id());
    orlop_task::exec_session(&client, exec_id.as_str(), process, flows)
        .await
        .map_err(|error| exec_failed(&container, &error))
}

/// Attaches to a running container. Its standard input is there only if it was created with one.
pub(crate) async fn attach_session(container: Arc<Container>, flows: Flows) -> Result<Session> {
    let client = running_client(&container, "only a running container can be attached to")?;
    let config = &container.facts.get().config;
    let stdin = container.bundle.join("stdin");
    let name = ExecId::from_random(random_id());
    let flows = Flows { terminal: config.tty, stderr: flows.stderr && !config.tty, ..flows };
    let stdin = config.stdin.then_some(stdin.as_path());
    orlop_task::attach_session(&client, name.as_str(), stdin, flows)
        .await
        .map_err(|error| task_failed("attaching", container.id.as_str(), error))
}
