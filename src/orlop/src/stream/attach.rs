//! Attaching to a container that runs.

use super::signals::Signals;
use super::start::{join, settle};
use super::talk::{Left, Manner, talk};
use super::terminal::{self, Raw};
use super::{Attached, from_json, said, shim_of};
use crate::config::Config;
use crate::door::Door;
use anyhow::bail;
use orlop_api::engine_v1 as v1;
use orlop_engine::Location;
use orlop_task::{Client, Status};

/// Stays with `container` until its end, or until the keys are typed; its status.
pub(crate) async fn attach(
    config: &Config,
    container: &str,
    wanted: &Attached,
) -> anyhow::Result<u8> {
    let keys = wanted.keys()?;
    let location = locate(config, container).await?;
    if !location.running {
        bail!("container {} is not running: start it first", location.name);
    }
    let stdin = wanted.stdin && location.stdin;
    terminal::check(location.tty, stdin)?;
    let (client, bundle) = shim_of(&location).await?;
    if client.state("").await?.status == Status::Paused {
        bail!("container {} is paused: unpause it first", location.name);
    }
    let mut signals = Signals::listen()?;
    let session = join(&client, &bundle, &location, wanted).await?;
    if location.tty {
        redraw(&client).await?;
    }
    let raw = (location.tty && stdin).then(Raw::enter).transpose()?;
    let keys = (location.tty && stdin).then_some(keys);
    let manner = Manner { tty: location.tty, keys, proxy: wanted.sig_proxy };
    let left = talk(&client, "", session, &mut signals, manner).await;
    drop(raw);
    let left = left?;
    if let Left::Exited(_) = left {
        settle(config, container, false).await?;
    }
    Ok(left.status())
}

/// Gives the terminal our size by way of another one: a program draws its screen anew only when the
/// size has changed.
async fn redraw(client: &Client) -> anyhow::Result<()> {
    let Some((width, height)) = terminal::size() else { return Ok(()) };
    client.resize_pty("", u32::from(width) + 1, u32::from(height) + 1).await?;
    client.resize_pty("", width.into(), height.into()).await?;
    Ok(())
}

/// Where a container's streams are.
pub(crate) async fn locate(config: &Config, container: &str) -> anyhow::Result<Location> {
    let door = Door::open(config).await?;
    let request = v1::ContainerRequest { container: container.to_owned() };
    let located = door.engine().locate(request).await;
    door.close().await;
    from_json(&located.map_err(said)?.into_inner().json)
}
