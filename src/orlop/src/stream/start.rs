//! Starting a container in front of somebody.

use super::signals::Signals;
use super::talk::{Left, Manner, talk};
use super::terminal::{self, Raw};
use super::{Attached, from_json, said, shim_of, unique};
use crate::config::Config;
use crate::container::not_started;
use crate::door::{Door, Engine};
use orlop_api::engine_v1 as v1;
use orlop_engine::Location;
use orlop_task::{Client, Flows, Session};
use std::path::{Path, PathBuf};

/// Starts `container` and stays with it; its status. It is attached to before its program begins, so
/// that nothing of what it says is lost.
pub(crate) async fn start(
    config: &Config,
    door: Door,
    container: &str,
    wanted: &Attached,
    removed: bool,
) -> anyhow::Result<u8> {
    let begun = begin(&door, container, wanted).await;
    let begun = match begun {
        Ok(begun) => begun,
        Err(error) => {
            if removed {
                // That nothing stays of it is all that is left to want.
                let container = container.to_owned();
                let request = v1::RemoveRequest { container, force: true, volumes: true };
                let _ = door.engine().remove(request).await;
            }
            door.close().await;
            return Err(error);
        }
    };
    let Begun { client, session, mut signals, manner, raw } = begun;
    // The lock is given back while the first output may be on its way already.
    let (left, ()) = tokio::join!(talk(&client, "", session, &mut signals, manner), door.close());
    drop(raw);
    let left = left?;
    if let Left::Exited(_) = left {
        settle(config, container, removed).await?;
    }
    Ok(left.status())
}

struct Begun {
    client: Client,
    session: Session,
    signals: Signals,
    manner: Manner,
    raw: Option<Raw>,
}

async fn begin(door: &Door, container: &str, wanted: &Attached) -> anyhow::Result<Begun> {
    let keys = wanted.keys()?;
    let mut engine = door.engine();
    let request = v1::ContainerRequest { container: container.to_owned() };
    let (location, client, bundle) = prepare(&mut engine, container).await?;
    let stdin = wanted.stdin && location.stdin;
    terminal::check(location.tty, stdin)?;
    let signals = Signals::listen()?;
    let session = join(&client, &bundle, &location, wanted).await?;
    if let (true, Some((width, height))) = (location.tty, terminal::size()) {
        client.resize_pty("", width.into(), height.into()).await?;
    }
    engine.start(request).await.map_err(|status| not_started(&status))?;
    let raw = (location.tty && stdin).then(Raw::enter).transpose()?;
    let keys = (location.tty && stdin).then_some(keys);
    let manner = Manner { tty: location.tty, keys, proxy: wanted.sig_proxy };
    Ok(Begun { client, session, signals, manner, raw })
}

/// Has an attempt made that waits to be let go, or finds the one that runs.
async fn prepare(
    engine: &mut Engine,
    container: &str,
) -> anyhow::Result<(Location, Client, PathBuf)> {
    let request = v1::ContainerRequest { container: container.to_owned() };
    let mut again = true;
    loop {
        let located = engine.prepare(request.clone()).await;
        let located = located.map_err(|status| not_started(&status))?.into_inner();
        let location: Location = from_json(&located.json)?;
        let found = async {
            let (client, bundle) = shim_of(&location).await?;
            let over = client.state("").await?.exit.is_some();
            anyhow::Ok((client, bundle, over))
        };
        match found.await {
            Ok((client, bundle, false)) => return Ok((location, client, bundle)),
            Err(error) if !again => return Err(error),
            // It has just ended, and that is not noted yet.
            _ => {
                let until = v1::wait_request::Until::NotRunning.into();
                let request = v1::WaitRequest { container: container.to_owned(), until };
                engine.wait(request).await.map_err(said)?;
                again = false;
            }
        }
    }
}

/// Attaches, so that the container waits where we fall behind.
pub(super) async fn join(
    client: &Client,
    bundle: &Path,
    location: &Location,
    wanted: &Attached,
) -> anyhow::Result<Session> {
    let flows = Flows {
        stdin: wanted.stdin && location.stdin,
        stdout: wanted.stdout,
        stderr: wanted.stderr && !location.tty,
        terminal: location.tty,
        patient: true,
    };
    let stdin = bundle.join("stdin");
    Ok(orlop_task::attach_session(client, &unique(), Some(&stdin), flows).await?)
}

/// Lets the engine note the end, give back what the run had, and remove the container where that was
/// asked for, before the command returns: the next command finds it so.
pub(super) async fn settle(config: &Config, container: &str, removed: bool) -> anyhow::Result<()> {
    use v1::wait_request::Until;
    let door = Door::open(config).await?;
    let until = if removed { Until::Removed } else { Until::NotRunning };
    let request = v1::WaitRequest { container: container.to_owned(), until: until.into() };
    let waited = door.engine().wait(request).await;
    door.close().await;
    match waited {
        Ok(_) => Ok(()),
        // It has gone already.
        Err(status) if status.code() == tonic::Code::NotFound => Ok(()),
        Err(status) => Err(said(status)),
    }
}
