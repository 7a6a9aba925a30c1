//! `wait`: by the shim itself, so that no lock is held meanwhile and a daemon may come and go.

use super::{said, with_config};
use crate::args::containers::WaitArgs;
use crate::cli::Place;
use crate::config::Config;
use crate::door::Door;
use anyhow::Context;
use orlop_api::engine_v1 as v1;
use orlop_engine::Location;
use orlop_task::Shim;
use std::io::Write;
use std::process::ExitCode;

/// Prints the exit code of each container once it has ended.
pub(crate) fn wait(place: &Place, arguments: &WaitArgs) -> anyhow::Result<ExitCode> {
    with_config(place, async |config| {
        let mut code = ExitCode::SUCCESS;
        for name in &arguments.of.containers {
            match one(&config, name, &arguments.condition).await {
                Ok(status) => writeln!(std::io::stdout(), "{status}")?,
                Err(error) => {
                    code = ExitCode::FAILURE;
                    let _ = writeln!(std::io::stderr(), "orlop: {error:#}");
                }
            }
        }
        Ok(code)
    })
}

/// How a container stands, and its shim where it lives.
struct Look {
    id: String,
    exit_code: i64,
    finished: String,
    /// It ran when it was looked at.
    lives: bool,
    shim: Option<Shim>,
}

/// `None`: it is not there.
async fn look(config: &Config, name: &str) -> anyhow::Result<Option<Look>> {
    let door = Door::open(config).await?;
    let seen = look_at(&door, name).await;
    door.close().await;
    seen
}

async fn look_at(door: &Door, name: &str) -> anyhow::Result<Option<Look>> {
    let mut engine = door.engine();
    let request = v1::ContainerRequest { container: name.to_owned() };
    let shown = match engine.inspect(request.clone()).await {
        Err(status) if status.code() == tonic::Code::NotFound => return Ok(None),
        other => other.map_err(said)?.into_inner().json,
    };
    let shown: serde_json::Value = serde_json::from_slice(&shown).context("the answer")?;
    let located = engine.locate(request).await.map_err(said)?.into_inner().json;
    let location: Location = serde_json::from_slice(&located).context("the answer")?;
    let shim = match (location.running, &location.bundle) {
        // It may end right now: then the next look sees it.
        (true, Some(bundle)) => Shim::connect(bundle).await.ok(),
        _ => None,
    };
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    Ok(Some(Look {
        id: text(&shown["Id"]),
        exit_code: shown["State"]["ExitCode"].as_i64().unwrap_or(0),
        finished: text(&shown["State"]["FinishedAt"]),
        lives: shown["State"]["Running"].as_bool().unwrap_or(false) || location.running,
        shim: shim.filter(|_| location.running),
    }))
}

/// How long a daemon may take to learn what the shim has told us.
const LEARNING: std::time::Duration = std::time::Duration::from_secs(5);

/// Returns when a daemon knows of an end, too: whoever waits wants to remove it next. Without one the next
/// command finds out by itself.
async fn known(config: &Config, id: &str) {
    let Ok(door) = Door::open(config).await else { return };
    if door.is_a_daemons() {
        let until = v1::wait_request::Until::NotRunning.into();
        let request = v1::WaitRequest { container: id.to_owned(), until };
        // Too late, or started again: the answer is the same.
        let _ = tokio::time::timeout(LEARNING, door.engine().wait(request)).await;
    }
    door.close().await;
}

async fn one(config: &Config, name: &str, condition: &str) -> anyhow::Result<i64> {
    let absent = || anyhow::anyhow!("there is no container {name:?}");
    let first = look(config, name).await?.ok_or_else(absent)?;
    let (id, before) = (first.id.clone(), first.finished.clone());
    let mut seen = first;
    loop {
        if let Some(shim) = seen.shim.take() {
            // Whatever the answer: the next look tells.
            let exit = shim.client.wait("").await;
            if let Ok(exit) = exit {
                seen.exit_code = i64::from(exit.code);
                if condition != "removed" {
                    known(config, &id).await;
                    return Ok(seen.exit_code);
                }
            }
        } else {
            let over = match condition {
                // It ended while it was looked at: the next look tells how.
                _ if seen.lives => false,
                "removed" => false,
                "next-exit" => seen.finished != before,
                _ => true,
            };
            if over {
                return Ok(seen.exit_code);
            }
            // Nothing that can be waited for tells of a start or a removal without a daemon.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        let code = seen.exit_code;
        match look(config, &id).await? {
            Some(look) => seen = look,
            None => return Ok(code),
        }
    }
}
