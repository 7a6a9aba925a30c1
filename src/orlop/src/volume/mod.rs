//! `orlop volume`.

use crate::args::volumes::{
    CreateVolumeArgs, InspectVolumeArgs, PruneVolumeArgs, RmVolumeArgs, VolumeCall,
};
use crate::args::{ListFlags, PruneFlags};
use crate::cli::Place;
use crate::container::{said, with_door};
use crate::show::{self, Column, Filters, Shape};
use anyhow::{Context, bail};
use orlop_api::engine_v1 as v1;
use orlop_engine::VolumeDetail;
use serde_json::{Value, json};
use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;

/// What `volume ls` has.
const SHAPE: Shape<'static> = Shape {
    columns: &[
        Column { field: "Driver", title: "DRIVER" },
        Column { field: "Name", title: "VOLUME NAME" },
        Column { field: "Scope", title: "SCOPE" },
        Column { field: "Mountpoint", title: "MOUNTPOINT" },
        Column { field: "Labels", title: "LABELS" },
        Column { field: "Containers", title: "CONTAINERS" },
    ],
    shown: &["Driver", "Name"],
    quiet: "Name",
};

pub(crate) fn run(place: &Place, call: &VolumeCall) -> anyhow::Result<ExitCode> {
    match call {
        VolumeCall::Create(arguments) => create(place, arguments),
        VolumeCall::Ls(flags) => ls(place, flags),
        VolumeCall::Rm(arguments) => rm(place, arguments),
        VolumeCall::Inspect(arguments) => inspect(place, arguments),
        VolumeCall::Prune(arguments) => prune(place, arguments),
    }
}

fn create(place: &Place, arguments: &CreateVolumeArgs) -> anyhow::Result<ExitCode> {
    with_door(place, async |door| {
        let json = serde_json::to_vec(&arguments.spec())?;
        let made = door.engine().create_volume(v1::Json { json }).await.map_err(said)?;
        writeln!(std::io::stdout(), "{}", made.into_inner().name)?;
        Ok(ExitCode::SUCCESS)
    })
}

fn rm(place: &Place, arguments: &RmVolumeArgs) -> anyhow::Result<ExitCode> {
    let force = arguments.force;
    crate::container::each(place, &arguments.volumes, async |engine, name| {
        engine.remove_volume(v1::RemoveVolumeRequest { name, force }).await.map(drop)
    })
}

fn ls(place: &Place, flags: &ListFlags) -> anyhow::Result<ExitCode> {
    let filters = Filters::new(&flags.filter, &["name", "driver", "label", "dangling"])?;
    let dangling = filters.truth("dangling")?;
    with_door(place, async |door| {
        let found = door.engine().list_volumes(v1::Empty {}).await.map_err(said)?.into_inner();
        let read = |json: &Vec<u8>| -> anyhow::Result<VolumeDetail> {
            serde_json::from_slice(json).context("the answer cannot be read")
        };
        let mut found = found.json.iter().map(read).collect::<anyhow::Result<Vec<_>>>()?;
        found.retain(|one| {
            filters.any("name", |name| one.name.contains(name))
                && filters.any("driver", |driver| one.driver == driver)
                && filters.labels(&one.labels)
                && dangling.is_none_or(|dangling| one.containers.is_empty() == dangling)
        });
        let rows: Vec<Value> = found.iter().map(row).collect();
        let mut out = std::io::stdout().lock();
        let width = show::terminal_width().filter(|_| !flags.no_trunc);
        show::list(&mut out, &SHAPE, &rows, flags.format.as_deref(), flags.quiet, width)?;
        Ok(ExitCode::SUCCESS)
    })
}

fn row(one: &VolumeDetail) -> Value {
    let labels: Vec<_> = one.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    json!({
        "Driver": one.driver,
        "Name": one.name,
        "Scope": one.scope,
        "Mountpoint": one.mountpoint,
        "Labels": labels.join(","),
        "Containers": one.containers.join(","),
    })
}

fn inspect(place: &Place, arguments: &InspectVolumeArgs) -> anyhow::Result<ExitCode> {
    with_door(place, async |door| {
        let mut engine = door.engine();
        let (mut shown, mut code) = (Vec::new(), ExitCode::SUCCESS);
        for name in arguments.volumes.iter().cloned() {
            match engine.inspect_volume(v1::Name { name }).await {
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

fn prune(place: &Place, arguments: &PruneVolumeArgs) -> anyhow::Result<ExitCode> {
    let what = match arguments.all {
        true => "all volumes that no container uses",
        false => "all unnamed volumes that no container uses",
    };
    if !confirmed(&arguments.prune, what)? {
        return Ok(ExitCode::SUCCESS);
    }
    with_door(place, async |door| {
        let request = v1::PruneRequest { filters: filters(&arguments.prune), all: arguments.all };
        let done = door.engine().prune_volumes(request).await.map_err(said)?.into_inner();
        let done: Value = serde_json::from_slice(&done.json)?;
        let mut out = std::io::stdout().lock();
        for name in done["VolumesDeleted"].as_array().into_iter().flatten() {
            writeln!(out, "{}", name.as_str().unwrap_or_default())?;
        }
        let bytes = done["SpaceReclaimed"].as_u64().unwrap_or(0);
        writeln!(out, "Total reclaimed space: {}", show::bytes(bytes))?;
        Ok(ExitCode::SUCCESS)
    })
}

/// As the service reads them.
pub(crate) fn filters(flags: &PruneFlags) -> Vec<String> {
    flags.filter.iter().map(|(key, value)| format!("{key}={value}")).collect()
}

/// Asks whoever types, unless that was answered by `--force`.
pub(crate) fn confirmed(flags: &PruneFlags, what: &str) -> anyhow::Result<bool> {
    if flags.force {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        bail!("this removes {what}: say --force where nobody can be asked");
    }
    write!(std::io::stderr(), "This removes {what}. Continue? [y/N] ")?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}
