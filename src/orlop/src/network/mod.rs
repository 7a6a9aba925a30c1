//! `orlop network`.

use crate::args::networks::{
    ConnectArgs, CreateNetworkArgs, DisconnectArgs, InspectNetworkArgs, NetworkCall, RmNetworkArgs,
};
use crate::args::{ListFlags, PruneFlags};
use crate::cli::Place;
use crate::container::{said, with_door};
use crate::door::Engine;
use crate::show::{self, Column, Filters, Shape};
use anyhow::Context;
use orlop_api::engine_v1 as v1;
use orlop_engine::NetworkDetail;
use serde_json::{Value, json};
use std::io::Write;
use std::process::ExitCode;

/// What `network ls` has.
const SHAPE: Shape<'static> = Shape {
    columns: &[
        Column { field: "ID", title: "NETWORK ID" },
        Column { field: "Name", title: "NAME" },
        Column { field: "Driver", title: "DRIVER" },
        Column { field: "Scope", title: "SCOPE" },
        Column { field: "IPv6", title: "IPV6" },
        Column { field: "Internal", title: "INTERNAL" },
        Column { field: "Labels", title: "LABELS" },
        Column { field: "CreatedAt", title: "CREATED AT" },
    ],
    shown: &["ID", "Name", "Driver", "Scope"],
    quiet: "ID",
};

pub(crate) fn run(place: &Place, call: &NetworkCall) -> anyhow::Result<ExitCode> {
    match call {
        NetworkCall::Ls(flags) => ls(place, flags),
        NetworkCall::Create(arguments) => create(place, arguments),
        NetworkCall::Rm(arguments) => rm(place, arguments),
        NetworkCall::Inspect(arguments) => inspect(place, arguments),
        NetworkCall::Connect(arguments) => connect(place, arguments),
        NetworkCall::Disconnect(arguments) => disconnect(place, arguments),
        NetworkCall::Prune(flags) => prune(place, flags),
    }
}

fn create(place: &Place, arguments: &CreateNetworkArgs) -> anyhow::Result<ExitCode> {
    let spec = arguments.spec().map_err(anyhow::Error::msg)?;
    with_door(place, async |door| {
        let json = serde_json::to_vec(&spec)?;
        let made = door.engine().create_network(v1::Json { json }).await.map_err(said)?;
        writeln!(std::io::stdout(), "{}", made.into_inner().name)?;
        Ok(ExitCode::SUCCESS)
    })
}

fn rm(place: &Place, arguments: &RmNetworkArgs) -> anyhow::Result<ExitCode> {
    crate::container::each(place, &arguments.networks, async |engine, name| {
        match engine.remove_network(v1::Name { name }).await {
            Err(status) if arguments.force && status.code() == tonic::Code::NotFound => Ok(()),
            done => done.map(drop),
        }
    })
}

async fn all(engine: &mut Engine) -> anyhow::Result<Vec<NetworkDetail>> {
    let found = engine.list_networks(v1::Empty {}).await.map_err(said)?.into_inner().json;
    let read = |json: &Vec<u8>| serde_json::from_slice(json).context("the answer cannot be read");
    found.iter().map(read).collect()
}

fn ls(place: &Place, flags: &ListFlags) -> anyhow::Result<ExitCode> {
    let known = ["id", "name", "driver", "scope", "label", "type", "dangling"];
    let filters = Filters::new(&flags.filter, &known)?;
    let dangling = filters.truth("dangling")?;
    with_door(place, async |door| {
        let mut found = all(&mut door.engine()).await?;
        found.retain(|one| fits(one, &filters, dangling));
        let rows: Vec<Value> = found.iter().map(|one| row(one, flags.no_trunc)).collect();
        let mut out = std::io::stdout().lock();
        let width = show::terminal_width().filter(|_| !flags.no_trunc);
        show::list(&mut out, &SHAPE, &rows, flags.format.as_deref(), flags.quiet, width)?;
        Ok(ExitCode::SUCCESS)
    })
}

fn fits(one: &NetworkDetail, filters: &Filters, dangling: Option<bool>) -> bool {
    let made = !["bridge", "host", "none"].contains(&one.name.as_str());
    filters.any("id", |id| one.id.starts_with(id))
        && filters.any("name", |name| named(&one.name, name))
        && filters.any("driver", |driver| one.driver == driver)
        && filters.any("scope", |scope| one.scope == scope)
        && filters.any("type", |kind| (kind == "custom") == made)
        && filters.labels(&one.labels)
        && dangling.is_none_or(|dangling| (made && one.containers.is_empty()) == dangling)
}

/// Part of a name, or all of it between `^` and `$`, as tools ask.
fn named(name: &str, asked: &str) -> bool {
    let (start, rest) = match asked.strip_prefix('^') {
        Some(rest) => (true, rest),
        None => (false, asked),
    };
    let (end, word) = match rest.strip_suffix('$') {
        Some(word) => (true, word),
        None => (false, rest),
    };
    match (start, end) {
        (true, true) => name == word,
        (true, false) => name.starts_with(word),
        (false, true) => name.ends_with(word),
        (false, false) => name.contains(word),
    }
}

fn row(one: &NetworkDetail, whole: bool) -> Value {
    let labels: Vec<_> = one.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let id = if whole { one.id.as_str() } else { one.id.get(..12).unwrap_or(&one.id) };
    json!({
        "ID": id,
        "Name": one.name,
        "Driver": one.driver,
        "Scope": one.scope,
        "IPv6": one.enable_ipv6,
        "Internal": one.internal,
        "Labels": labels.join(","),
        "CreatedAt": one.created,
    })
}

fn inspect(place: &Place, arguments: &InspectNetworkArgs) -> anyhow::Result<ExitCode> {
    with_door(place, async |door| {
        let mut engine = door.engine();
        let (mut shown, mut code) = (Vec::new(), ExitCode::SUCCESS);
        for name in arguments.networks.iter().cloned() {
            match engine.inspect_network(v1::Name { name }).await {
                Ok(found) => shown.push(serde_json::from_slice(&found.into_inner().json)?),
                Err(status) => {
                    code = ExitCode::FAILURE;
                    let _ = writeln!(std::io::stderr(), "orlop: {}", status.message());
                }
            }
        }
        let format = arguments.format.format.as_deref();
        show::objects(&mut std::io::stdout().lock(), &shown, format)?;
        Ok(code)
    })
}

fn connect(place: &Place, arguments: &ConnectArgs) -> anyhow::Result<ExitCode> {
    with_door(place, async |door| {
        let request = v1::ConnectRequest {
            network: arguments.network.clone(),
            container: arguments.container.clone(),
            endpoint: serde_json::to_vec(&arguments.endpoint())?,
            force: false,
        };
        door.engine().connect_network(request).await.map_err(said)?;
        Ok(ExitCode::SUCCESS)
    })
}

fn disconnect(place: &Place, arguments: &DisconnectArgs) -> anyhow::Result<ExitCode> {
    with_door(place, async |door| {
        let request = v1::ConnectRequest {
            network: arguments.network.clone(),
            container: arguments.container.clone(),
            endpoint: Vec::new(),
            force: arguments.force,
        };
        door.engine().disconnect_network(request).await.map_err(said)?;
        Ok(ExitCode::SUCCESS)
    })
}

fn prune(place: &Place, flags: &PruneFlags) -> anyhow::Result<ExitCode> {
    if !crate::volume::confirmed(flags, "all networks that no container uses")? {
        return Ok(ExitCode::SUCCESS);
    }
    with_door(place, async |door| {
        let request = v1::PruneRequest { filters: crate::volume::filters(flags), all: true };
        let done = door.engine().prune_networks(request).await.map_err(said)?.into_inner();
        let done: Value = serde_json::from_slice(&done.json)?;
        let mut out = std::io::stdout().lock();
        for name in done["NetworksDeleted"].as_array().into_iter().flatten() {
            writeln!(out, "{}", name.as_str().unwrap_or_default())?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_as_kind_asks() {
        for (asked, fits) in
            [("^kind$", true), ("kin", true), ("^ind", false), ("nd$", true), ("^kin$", false)]
        {
            assert_eq!(named("kind", asked), fits, "{asked}");
        }
    }
}
