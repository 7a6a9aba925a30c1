//! `system df`.

use crate::args::system::DfArgs;
use crate::cli::Place;
use crate::container::{said, summaries, with_door};
use crate::show::{self, Column, Shape, bytes};
use orlop_api::{engine_v1 as v1, images_v1};
use orlop_engine::Summary;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write;
use std::process::ExitCode;

const COLUMNS: [Column; 5] = [
    Column { field: "Active", title: "ACTIVE" },
    Column { field: "Reclaimable", title: "RECLAIMABLE" },
    Column { field: "Size", title: "SIZE" },
    Column { field: "TotalCount", title: "TOTAL" },
    Column { field: "Type", title: "TYPE" },
];

/// What one object takes, and whether something uses it.
struct Object {
    name: String,
    bytes: u64,
    active: bool,
}

/// Prints it.
pub(crate) fn df(place: &Place, arguments: &DfArgs) -> anyhow::Result<ExitCode> {
    with_door(place, async |door| {
        let containers = summaries(&mut door.engine()).await?;
        let listed = door.images().list(images_v1::ListRequest {}).await.map_err(said)?;
        let images = images(&listed.into_inner().images, &containers);
        let usage = door.engine().disk_usage(v1::Empty {}).await.map_err(said)?.into_inner();
        let usage = super::read(&usage.json)?;
        let volumes = of(&usage["Volumes"]);
        let containers = containers.iter().map(|one| Object {
            name: one.name.clone(),
            bytes: one.size,
            active: one.state.lives(),
        });
        let containers: Vec<_> = containers.collect();
        let mut out = std::io::stdout().lock();
        let kinds = [("Images", &images), ("Containers", &containers), ("Local Volumes", &volumes)];
        let mut rows: Vec<_> = kinds.iter().map(|(kind, all)| row(kind, all)).collect();
        // Layers that images share count once.
        if let Some(bytes_of) = usage["LayersSize"].as_u64() {
            rows[0]["Size"] = bytes(bytes_of).into();
        }
        let shape = Shape {
            columns: &COLUMNS,
            shown: &["Type", "TotalCount", "Active", "Size", "Reclaimable"],
            quiet: "Type",
        };
        let width = show::terminal_width();
        show::list(&mut out, &shape, &rows, arguments.format.as_deref(), false, width)?;
        if arguments.verbose {
            for (kind, all) in kinds {
                writeln!(out, "\n{kind}:")?;
                for one in all {
                    let mark = if one.active { "in use" } else { "unused" };
                    writeln!(out, "  {:>8}  {mark}  {}", bytes(one.bytes), one.name)?;
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn images(all: &[images_v1::ListedImage], containers: &[Summary]) -> Vec<Object> {
    let used: BTreeSet<_> = containers.iter().map(|one| one.image_id.as_str()).collect();
    let object = |image: &images_v1::ListedImage| Object {
        name: image
            .tags
            .first()
            .map_or(image.id.as_str(), |tag| crate::image::familiar(tag))
            .to_owned(),
        bytes: image.size,
        active: used.contains(image.id.as_str()),
    };
    all.iter().map(object).collect()
}

fn of(all: &Value) -> Vec<Object> {
    let object = |one: &Value| Object {
        name: one["Name"].as_str().unwrap_or_default().to_owned(),
        bytes: one["Size"].as_u64().unwrap_or(0),
        active: one["InUse"].as_bool().unwrap_or(false),
    };
    all.as_array().into_iter().flatten().map(object).collect()
}

fn row(kind: &str, all: &[Object]) -> Value {
    let total: u64 = all.iter().map(|one| one.bytes).sum();
    let idle: u64 = all.iter().filter(|one| !one.active).map(|one| one.bytes).sum();
    let part = match (total, idle) {
        (0, _) => "0B".to_owned(),
        _ => format!("{} ({}%)", bytes(idle), u128::from(idle) * 100 / u128::from(total)),
    };
    json!({
        "Type": kind,
        "TotalCount": all.len().to_string(),
        "Active": all.iter().filter(|one| one.active).count().to_string(),
        "Size": bytes(total),
        "Reclaimable": part,
    })
}
