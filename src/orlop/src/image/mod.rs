//! Commands on images, through the node's daemon or without one.

mod progress;
mod transfer;

pub(crate) use transfer::send;

use crate::args::images::{ImageCall, ImageCommand, RmiArgs};
use crate::cli::Place;
use crate::config::{Loaded, Sources};
use crate::door::{Door, Images};
use crate::size::size;
use anyhow::{Context, bail};
use orlop_api::images_v1 as v1;
use serde_json::Value;
use std::io::Write;

/// Carries out one command. What it prints goes to standard output, everything else to standard
/// error.
pub(crate) fn run(place: &Place, command: &ImageCommand) -> anyhow::Result<()> {
    let Loaded { config, .. } = Sources::new(&place.settings()).load()?;
    crate::logging::start_quiet();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("worker threads cannot be started")?;
    let done = runtime.block_on(async {
        let door = Door::to_images(&config).await?;
        let done = command_at(&door, command).await;
        door.close().await;
        done
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    done
}

/// Pulls an image for another command, with the progress on standard error.
pub(crate) async fn fetch(images: &mut Images, name: &str, quiet: bool) -> anyhow::Result<()> {
    transfer::fetch(images, name, quiet).await
}

async fn command_at(door: &Door, command: &ImageCommand) -> anyhow::Result<()> {
    let client = &mut door.images();
    let mut out = std::io::stdout().lock();
    match command {
        ImageCommand::Call(ImageCall::Pull(arguments)) => {
            transfer::pull(client, &arguments.name, &arguments.login).await?;
        }
        ImageCommand::Call(ImageCall::Push(arguments)) => {
            let target = arguments.target.as_deref();
            transfer::push(client, &arguments.image, target, &arguments.login).await?;
        }
        ImageCommand::Call(ImageCall::Load(arguments)) => {
            transfer::load(client, &arguments.input, &arguments.name).await?;
        }
        ImageCommand::Call(ImageCall::Save(arguments)) => {
            transfer::save(client, &arguments.images, &arguments.output).await?;
        }
        ImageCommand::Call(ImageCall::Tag { image, name }) => {
            let request = v1::TagRequest { image: image.clone(), name: name.clone() };
            client.tag(request).await.map_err(said)?;
        }
        ImageCommand::Call(ImageCall::History(arguments)) => {
            history(&mut out, &inspect(client, &arguments.image).await?)?;
        }
        ImageCommand::Call(ImageCall::Import(_)) => {
            bail!("import is not there yet in this version")
        }
        ImageCommand::Rm(arguments) => remove(client, arguments).await?,
        ImageCommand::Ls(_) => {
            let list = client.list(v1::ListRequest {}).await.map_err(said)?.into_inner();
            list_images(&mut out, list.images)?;
        }
        ImageCommand::Inspect(arguments) => {
            for image in &arguments.images {
                let json = inspect(client, image).await?;
                writeln!(out, "{}", serde_json::to_string_pretty(&json)?)?;
            }
        }
        ImageCommand::Prune(arguments) => {
            let request = v1::PruneRequest { all: arguments.all };
            let done = client.prune(request).await.map_err(said)?.into_inner();
            for id in &done.removed {
                writeln!(out, "{id}")?;
            }
            writeln!(out, "{} images removed, {} freed", done.removed.len(), size(done.bytes))?;
        }
        ImageCommand::Verify { repair } => {
            let request = v1::VerifyRequest { repair: *repair };
            verify(&mut out, &client.verify(request).await.map_err(said)?.into_inner())?;
        }
        ImageCommand::Pulls => pulls(&mut out, client).await?,
        ImageCommand::Build(_) => bail!("a build has a way of its own"),
    }
    Ok(())
}

async fn remove(client: &mut Images, arguments: &RmiArgs) -> anyhow::Result<()> {
    let mut absent = Vec::new();
    for image in &arguments.images {
        let request = v1::RemoveRequest { image: image.clone() };
        if !client.remove(request).await.map_err(said)?.into_inner().removed {
            absent.push(image.as_str());
        }
    }
    if !absent.is_empty() && !arguments.force {
        bail!("not present: {}", absent.join(", "));
    }
    Ok(())
}

async fn pulls(out: &mut impl Write, client: &mut Images) -> anyhow::Result<()> {
    let pulls = client.pulls(v1::PullsRequest {}).await.map_err(said)?.into_inner().pulls;
    for pull in pulls {
        writeln!(
            out,
            "{}  {} of {} layers  {} of {}  for {:.0} s",
            pull.reference,
            pull.layers_done,
            pull.layers,
            size(pull.bytes_done),
            size(pull.bytes),
            pull.seconds
        )?;
    }
    Ok(())
}

/// A name as people write it: without the registry and the folder that are meant where none are said.
pub(crate) fn familiar(name: &str) -> &str {
    let Some(rest) = name.strip_prefix("docker.io/") else { return name };
    rest.strip_prefix("library/").filter(|rest| !rest.contains('/')).unwrap_or(rest)
}

/// What the service said, without the words of the protocol around it.
fn said(status: tonic::Status) -> anyhow::Error {
    anyhow::anyhow!("{}", status.message())
}

async fn inspect(client: &mut Images, image: &str) -> anyhow::Result<Value> {
    let request = v1::InspectRequest { image: image.to_owned() };
    let json = client.inspect(request).await.map_err(said)?.into_inner().json;
    serde_json::from_str(&json).context("the answer cannot be read")
}

fn short(id: &str) -> &str {
    let hex = id.strip_prefix("sha256:").unwrap_or(id);
    hex.get(..12).unwrap_or(hex)
}

fn list_images(out: &mut impl Write, images: Vec<v1::ListedImage>) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for image in images {
        let fallback = image.digests.first().cloned().unwrap_or_else(|| "<none>".into());
        let tags = if image.tags.is_empty() { vec![fallback] } else { image.tags };
        let created = image.created.get(..10).unwrap_or("-").to_owned();
        for tag in tags {
            let mark = if image.pinned { " (pinned)" } else { "" };
            rows.push((
                format!("{tag}{mark}"),
                short(&image.id).to_owned(),
                created.clone(),
                size(image.size),
            ));
        }
    }
    rows.sort();
    let wide = rows.iter().map(|row| row.0.len()).max().unwrap_or(0).max(4);
    writeln!(out, "{:wide$}  {:12}  {:10}  SIZE", "NAME", "ID", "CREATED")?;
    for (name, id, created, size) in rows {
        writeln!(out, "{name:wide$}  {id:12}  {created:10}  {size}")?;
    }
    Ok(())
}

/// Steps that made the image, newest first, with the layers that came of them.
fn history(out: &mut impl Write, image: &Value) -> anyhow::Result<()> {
    let none = Vec::new();
    let steps = image["config"]["history"].as_array().unwrap_or(&none);
    let mut layers = image["layers"].as_array().unwrap_or(&none).iter();
    let mut rows = Vec::new();
    for step in steps {
        let empty = step["empty_layer"].as_bool().unwrap_or(false);
        let layer = if empty { None } else { layers.next() };
        let bytes = layer.and_then(|layer| layer["blobSize"].as_u64());
        let text = |key: &str| step[key].as_str().unwrap_or_default();
        let created = text("created").get(..19).unwrap_or("-").to_owned();
        // What the image says is not for a terminal to interpret.
        let by: String =
            text("created_by").chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        rows.push((created, bytes.map_or_else(|| "-".into(), size), by));
    }
    rows.extend(layers.map(|layer| {
        let bytes = layer["blobSize"].as_u64().map_or_else(|| "-".into(), size);
        ("-".to_owned(), bytes, String::new())
    }));
    writeln!(out, "{:19}  {:>10}  CREATED BY", "CREATED", "COMPRESSED")?;
    for (created, bytes, by) in rows.into_iter().rev() {
        writeln!(out, "{created:19}  {bytes:>10}  {by}")?;
    }
    Ok(())
}

fn verify(out: &mut impl Write, report: &v1::VerifyResponse) -> anyhow::Result<()> {
    for finding in &report.findings {
        writeln!(out, "{}: {}: {}", finding.object, finding.problem, finding.outcome)?;
    }
    let counted = match report.counted {
        0 => String::new(),
        some => format!("; {some} more were only counted, since their blobs are not here"),
    };
    writeln!(
        out,
        "{} images, {} layers and {} blobs compared with their digests{counted}",
        report.images, report.layers, report.blobs
    )?;
    let left = report.findings.iter().filter(|finding| !finding.repaired).count();
    if left > 0 {
        bail!("{left} of {} findings are not put right", report.findings.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn history_goes_with_the_layers() {
        let image = json!({
            "layers": [{"blobSize": 2_000_000}, {"blobSize": 512}],
            "config": {"history": [
                {"created": "2026-01-02T03:04:05Z", "created_by": "ADD x /"},
                {"created": "2026-01-02T03:04:06Z", "created_by": "ENV a=\u{1b}[2Jb", "empty_layer": true},
                {"created_by": "RUN y"},
            ]},
        });
        let mut out = Vec::new();
        history(&mut out, &image).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<_> = text.lines().map(str::trim_end).collect();
        assert_eq!(
            lines[1..],
            [
                "-                         512 B  RUN y",
                "2026-01-02T03:04:06           -  ENV a= [2Jb",
                "2026-01-02T03:04:05      2.0 MB  ADD x /",
            ]
        );
    }
}
