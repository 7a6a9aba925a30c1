//! `system prune` and `container prune`.

use crate::args::PruneFlags;
use crate::args::system::SystemPruneArgs;
use crate::ask::consent;
use crate::cli::Place;
use crate::container::{said, with_door};
use crate::image::prune_request;
use crate::show::bytes;
use anyhow::bail;
use orlop_api::engine_v1 as v1;
use orlop_model::Timestamp;
use serde_json::Value;
use std::io::Write;
use std::process::ExitCode;

fn request(flags: &PruneFlags, all: bool) -> v1::PruneRequest {
    let filters = flags.filter.iter().map(|(key, value)| format!("{key}={value}"));
    v1::PruneRequest { filters: filters.collect(), all }
}

/// Prints a list of the answer with its title; gives the bytes that were freed.
fn print(out: &mut impl Write, title: &str, key: &str, json: &[u8]) -> anyhow::Result<u64> {
    let done = super::read(json)?;
    let removed = done[key].as_array().map_or(&[][..], Vec::as_slice);
    if !removed.is_empty() {
        writeln!(out, "{title}:")?;
        for name in removed.iter().filter_map(Value::as_str) {
            writeln!(out, "{name}")?;
        }
        writeln!(out)?;
    }
    Ok(done["SpaceReclaimed"].as_u64().unwrap_or(0))
}

/// `container prune`.
pub(crate) fn containers(place: &Place, flags: &PruneFlags) -> anyhow::Result<ExitCode> {
    // Some of what is asked for would be left out without a word.
    if let Some((key, value)) = flags.filter.first() {
        bail!(
            "--filter {key}={value}: not possible here; choose with orlop ps --filter, then orlop rm"
        );
    }
    consent(flags.force, "all containers that do not run")?;
    with_door(place, async |door| {
        let mut out = std::io::stdout().lock();
        let done = door.engine().prune(request(flags, false)).await.map_err(said)?.into_inner();
        let freed = print(&mut out, "Deleted Containers", "ContainersDeleted", &done.json)?;
        writeln!(out, "Total reclaimed space: {}", bytes(freed))?;
        Ok(ExitCode::SUCCESS)
    })
}

/// `system prune`: what no longer runs first, since it holds the rest.
pub(crate) fn prune(place: &Place, arguments: &SystemPruneArgs) -> anyhow::Result<ExitCode> {
    let flags = &arguments.prune;
    if let Some((key, value)) = flags.filter.first() {
        bail!(
            "--filter {key}={value}: not possible for all kinds at once; prune images, networks and volumes each by itself"
        );
    }
    let images = if arguments.all { "all unused images" } else { "unused images without a name" };
    let volumes = if arguments.volumes { ", unused unnamed volumes" } else { "" };
    consent(flags.force, &format!("stopped containers, unused networks{volumes}, and {images}"))?;
    with_door(place, async |door| {
        let (mut engine, mut out) = (door.engine(), std::io::stdout().lock());
        let done = engine.prune(request(flags, false)).await.map_err(said)?.into_inner();
        let mut freed = print(&mut out, "Deleted Containers", "ContainersDeleted", &done.json)?;
        let done = engine.prune_networks(request(flags, false)).await.map_err(said)?.into_inner();
        print(&mut out, "Deleted Networks", "NetworksDeleted", &done.json)?;
        if arguments.volumes {
            let done =
                engine.prune_volumes(request(flags, false)).await.map_err(said)?.into_inner();
            freed += print(&mut out, "Deleted Volumes", "VolumesDeleted", &done.json)?;
        }
        let images = prune_request(arguments.all, flags, Timestamp::now())?;
        let done = door.images().prune(images).await.map_err(said)?.into_inner();
        if !done.removed.is_empty() {
            writeln!(out, "Deleted Images:\n{}\n", done.removed.join("\n"))?;
        }
        writeln!(out, "Total reclaimed space: {}", bytes(freed + done.bytes))?;
        Ok(ExitCode::SUCCESS)
    })
}
