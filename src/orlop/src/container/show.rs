//! `ps`, `inspect` and `port`.

use super::{list, said, with_door};
use crate::args::containers::{InspectContainerArgs, PortArgs, PsArgs};
use crate::cli::Place;
use crate::door::Engine;
use crate::show;
use anyhow::{Context, bail};
use orlop_api::engine_v1 as v1;
use orlop_engine::Summary;
use orlop_model::Timestamp;
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
        let found = list::chosen(summaries(&mut door.engine()).await?, arguments)?;
        let (flags, now) = (&arguments.list, Timestamp::now());
        let rows: Vec<_> = found.iter().map(|one| list::row(one, now, flags.no_trunc)).collect();
        let shape = list::shape(arguments.size);
        let mut out = std::io::stdout().lock();
        let (format, width) = (flags.format.as_deref(), show::terminal_width());
        show::list(&mut out, &shape, &rows, format, flags.quiet, width)?;
        Ok(ExitCode::SUCCESS)
    })
}

/// `container inspect`.
pub(crate) fn inspect(place: &Place, arguments: &InspectContainerArgs) -> anyhow::Result<ExitCode> {
    with_door(place, async |door| {
        let mut engine = door.engine();
        let mut found = Vec::new();
        for name in &arguments.of.containers {
            found.push(inspection(&mut engine, name).await.map_err(said)?);
        }
        let format = arguments.format.format.as_deref();
        show::objects(&mut std::io::stdout().lock(), &found, format)?;
        Ok(ExitCode::SUCCESS)
    })
}

/// All that is known of a container.
pub(crate) async fn inspection(
    engine: &mut Engine,
    name: &str,
) -> Result<serde_json::Value, tonic::Status> {
    let request = v1::ContainerRequest { container: name.to_owned() };
    let found = engine.inspect(request).await?.into_inner();
    serde_json::from_slice(&found.json)
        .map_err(|error| tonic::Status::internal(format!("the answer cannot be read: {error}")))
}

/// `port`: all that is published, or where one port is.
pub(crate) fn port(place: &Place, arguments: &PortArgs) -> anyhow::Result<ExitCode> {
    with_door(place, async |door| {
        let found = inspection(&mut door.engine(), &arguments.of.container).await;
        let shown = found.map_err(said)?;
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
