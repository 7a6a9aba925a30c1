//! A command in a running container.

use super::signals::Signals;
use super::talk::{Manner, talk};
use super::terminal::{self, Raw};
use super::{Attached, from_json, said, shim_of};
use crate::config::Config;
use crate::door::Door;
use anyhow::Context;
use orlop_api::engine_v1 as v1;
use orlop_engine::ExecLocation;
use orlop_engine::spec::ExecSpec;
use orlop_task::{Flows, TaskError};
use serde_json::{Value, json};

/// What is executed, and how.
pub(crate) struct Exec {
    pub(crate) spec: ExecSpec,
    /// Do not stay with it.
    pub(crate) detach: bool,
    /// As typed; empty: the usual ones.
    pub(crate) detach_keys: String,
}

/// Executes a command in `container`; its status.
pub(crate) async fn exec(config: &Config, container: &str, asked: &Exec) -> anyhow::Result<u8> {
    let wanted =
        Attached { detach_keys: asked.detach_keys.clone(), ..Attached::all(asked.spec.stdin) };
    let keys = wanted.keys()?;
    let (tty, stdin) = (asked.spec.tty, asked.spec.stdin && !asked.detach);
    terminal::check(tty, stdin)?;
    let place = prepare(config, container, &asked.spec).await?;
    let process = sized(&place.process, tty)?;
    let (client, _) = shim_of(&place.location).await?;
    if asked.detach {
        let begun = orlop_task::exec_detached(&client, &place.exec_id, process, tty).await;
        return begun.map_or_else(not_begun, |()| Ok(0));
    }
    let mut signals = Signals::listen()?;
    let flows = Flows { stdin, stdout: true, stderr: !tty, terminal: tty, patient: true };
    let session = match orlop_task::exec_session(&client, &place.exec_id, process, flows).await {
        Ok(session) => session,
        Err(error) => return not_begun(error),
    };
    let raw = (tty && stdin).then(Raw::enter).transpose()?;
    let manner = Manner { tty, keys: (tty && stdin).then_some(keys), proxy: true };
    let left = talk(&client, &place.exec_id, session, &mut signals, manner).await;
    drop(raw);
    Ok(left?.status())
}

async fn prepare(
    config: &Config,
    container: &str,
    spec: &ExecSpec,
) -> anyhow::Result<ExecLocation> {
    let door = Door::open(config).await?;
    let change = serde_json::to_vec(spec)?;
    let request = v1::ChangeRequest { container: container.to_owned(), change };
    let prepared = door.engine().prepare_exec(request).await;
    door.close().await;
    from_json(&prepared.map_err(said)?.into_inner().json)
}

/// The process with the size of our terminal, so that it has it from its first instruction on.
fn sized(process: &str, tty: bool) -> anyhow::Result<Vec<u8>> {
    let mut process: Value = serde_json::from_str(process).context("the answer cannot be read")?;
    if let (true, Some((width, height))) = (tty, terminal::size()) {
        process["consoleSize"] = json!({"width": width, "height": height});
    }
    Ok(serde_json::to_vec(&process)?)
}

/// As a shell has it: 127 where there is no such program, 126 where it cannot be executed. Anything
/// else is an error of ours.
fn not_begun(error: TaskError) -> anyhow::Result<u8> {
    let message = error.to_string();
    match orlop_engine::status_of_start(&message) {
        Some(status) => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "orlop: {message}");
            Ok(status)
        }
        None => Err(error.into()),
    }
}
