//! `ps`, `inspect` and `port`.

use super::{said, with_door};
use crate::args::containers::{PortArgs, PsArgs};
use crate::cli::Place;
use crate::door::Engine;
use anyhow::{Context, bail};
use orlop_api::engine_v1 as v1;
use orlop_engine::Summary;
use std::io::Write;
use std::process::ExitCode;

/// All containers, newest first.
pub(crate) async fn summaries(engine: &mut Engine) -> anyhow::Result<Vec<Summary>> {
    let found = engine.list(v1::Empty {}).await.map_err(said)?.into_inner().json;
    let read = |json: &Vec<u8>| serde_json::from_slice(json).context("the answer cannot be read");
    found.iter().map(read).collect()
}

/// `ps`.
pub(crate) fn ps(place: &Place, arguments: &PsArgs) -> anyhow::Result<ExitCode> {
    with_door(place, async |door| {
        let mut found = summaries(&mut door.engine()).await?;
        found.retain(|one| arguments.all || one.state.lives());
        let mut out = std::io::stdout().lock();
        for one in &found {
            if arguments.list.quiet {
                let id = if arguments.list.no_trunc { &one.id[..] } else { &one.id[..12] };
                writeln!(out, "{id}")?;
            } else {
                let (id, state) = (&one.id[..12], one.state.as_str());
                writeln!(out, "{id}  {}  {state}  {}", one.image, one.name)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// `container inspect`: a JSON list.
pub(crate) fn inspect(place: &Place, names: &[String]) -> anyhow::Result<ExitCode> {
    with_door(place, async |door| {
        let mut engine = door.engine();
        let mut shown: Vec<serde_json::Value> = Vec::new();
        for container in names.iter().cloned() {
            let found = engine.inspect(v1::ContainerRequest { container }).await.map_err(said)?;
            shown.push(serde_json::from_slice(&found.into_inner().json)?);
        }
        writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(&shown)?)?;
        Ok(ExitCode::SUCCESS)
    })
}

/// `port`: all that is published, or where one port is.
pub(crate) fn port(place: &Place, arguments: &PortArgs) -> anyhow::Result<ExitCode> {
    with_door(place, async |door| {
        let container = arguments.of.container.clone();
        let found = door.engine().inspect(v1::ContainerRequest { container }).await;
        let shown: serde_json::Value =
            serde_json::from_slice(&found.map_err(said)?.into_inner().json)?;
        let none = serde_json::Map::new();
        let ports = shown["NetworkSettings"]["Ports"].as_object().unwrap_or(&none);
        let wanted: Option<Vec<String>> = arguments.port.as_ref().map(|port| {
            let name = |(port, protocol): &(u16, orlop_engine::spec::Protocol)| {
                format!("{port}/{}", format!("{protocol:?}").to_lowercase())
            };
            port.0.iter().map(name).collect()
        });
        let mut any = false;
        for (name, bindings) in ports {
            if wanted.as_ref().is_some_and(|wanted| !wanted.contains(name)) {
                continue;
            }
            for binding in bindings.as_array().into_iter().flatten() {
                let text = |key: &str| binding[key].as_str().unwrap_or_default().to_owned();
                let (ip, port) = (text("HostIp"), text("HostPort"));
                let at = if ip.contains(':') {
                    format!("[{ip}]:{port}")
                } else {
                    format!("{ip}:{port}")
                };
                any = true;
                match wanted {
                    Some(_) => writeln!(std::io::stdout(), "{at}")?,
                    None => writeln!(std::io::stdout(), "{name} -> {at}")?,
                }
            }
        }
        match wanted {
            Some(wanted) if !any => {
                bail!("{} of {} is not published", wanted.join(", "), arguments.of.container)
            }
            _ => Ok(ExitCode::SUCCESS),
        }
    })
}
