//! `rmi` and `image prune`.

use super::said;
use crate::args::PruneFlags;
use crate::args::images::{PruneImagesArgs, RmiArgs};
use crate::ask::consent;
use crate::door::Images;
use crate::show::{Filters, bytes, moment};
use anyhow::{Context, bail};
use orlop_api::images_v1 as v1;
use orlop_model::Timestamp;
use std::io::Write;

/// Takes names away, and images with their last name; says what became of each.
pub(super) async fn remove(
    out: &mut impl Write,
    client: &mut Images,
    arguments: &RmiArgs,
) -> anyhow::Result<()> {
    let mut failures = Vec::new();
    for image in &arguments.images {
        match one(client, image, arguments.force).await {
            Ok(lines) => {
                for line in lines {
                    writeln!(out, "{line}")?;
                }
            }
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    if failures.is_empty() { Ok(()) } else { bail!("{}", failures.join("\norlop: ")) }
}

async fn one(client: &mut Images, image: &str, force: bool) -> anyhow::Result<Vec<String>> {
    let raw = match super::inspect::raw(client, image).await {
        Ok(raw) => raw,
        Err(status) if status.code() == tonic::Code::NotFound && force => return Ok(Vec::new()),
        Err(status) if status.code() == tonic::Code::NotFound => bail!("not present: {image}"),
        Err(status) => return Err(said(status)),
    };
    let names = |key: &str| -> Vec<String> {
        let all = raw[key].as_array().into_iter().flatten();
        all.filter_map(|name| name.as_str().map(str::to_owned)).collect()
    };
    let (tags, id) = (names("repoTags"), raw["id"].as_str().unwrap_or_default().to_owned());
    let hex = image.strip_prefix("sha256:").unwrap_or(image);
    let by_id = id.trim_start_matches("sha256:").starts_with(hex);
    if by_id && tags.len() > 1 && !force {
        bail!(
            "{image} has several names ({}): remove one of them, or all with --force",
            tags.join(", ")
        );
    }
    let request = v1::RemoveRequest { image: image.to_owned() };
    client.remove(request).await.map_err(said)?;
    // What is still there tells what went.
    let left = super::inspect::raw(client, &id).await.ok();
    let left = left.map(|raw| raw["repoTags"].clone());
    let stays = |tag: &String| {
        left.iter().flat_map(|left| left.as_array()).flatten().any(|known| known == tag.as_str())
    };
    let gone = tags.iter().filter(|tag| !stays(tag));
    let mut lines: Vec<_> = gone.map(|tag| format!("Untagged: {}", super::familiar(tag))).collect();
    if left.is_none() {
        lines.push(format!("Deleted: {id}"));
    }
    Ok(lines)
}

/// What to prune, of flags.
pub(crate) fn prune_request(
    all: bool,
    flags: &PruneFlags,
    now: Timestamp,
) -> anyhow::Result<v1::PruneRequest> {
    let filters = Filters::new(&flags.filter, &["until", "label", "label!", "dangling"])?;
    let before = match filters.get("until").last() {
        None => None,
        Some(text) => Some(moment(text, now).context("--filter until")?.0 / 1_000_000_000),
    };
    Ok(v1::PruneRequest {
        all: all || filters.truth("dangling")? == Some(false),
        before,
        labels: filters.get("label").to_vec(),
        without: filters.get("label!").to_vec(),
    })
}

pub(super) async fn prune(
    out: &mut impl Write,
    client: &mut Images,
    arguments: &PruneImagesArgs,
    now: Timestamp,
) -> anyhow::Result<()> {
    let request = prune_request(arguments.all, &arguments.prune, now)?;
    let what = if request.all {
        "all images that no container uses"
    } else {
        "all images without a name that no container uses"
    };
    consent(arguments.prune.force, what)?;
    let done = client.prune(request).await.map_err(said)?.into_inner();
    for id in &done.removed {
        writeln!(out, "{id}")?;
    }
    writeln!(out, "Total reclaimed space: {}", bytes(done.bytes))?;
    Ok(())
}
