//! Commands on images, through the node's daemon or without one.

mod import;
mod inspect;
mod list;
mod progress;
mod remove;
mod transfer;

pub(crate) use inspect::inspection;
pub(crate) use remove::prune_request;
pub(crate) use transfer::{Sent, save as export_to, send, send_file};

use crate::args::images::{ImageCall, ImageCommand};
use crate::cli::Place;
use crate::config::{Loaded, Sources};
use crate::door::{Door, Images};
use crate::show;
use crate::size::size;
use anyhow::{Context, bail};
use orlop_api::images_v1 as v1;
use orlop_model::Timestamp;
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
    let (now, width) = (Timestamp::now(), show::terminal_width());
    match command {
        ImageCommand::Call(ImageCall::Pull(arguments)) => transfer::pull(client, arguments).await?,
        ImageCommand::Call(ImageCall::Push(arguments)) => transfer::push(client, arguments).await?,
        ImageCommand::Call(ImageCall::Load(arguments)) => transfer::load(client, arguments).await?,
        ImageCommand::Call(ImageCall::Save(arguments)) => {
            transfer::save(client, &arguments.images, &arguments.output).await?;
        }
        ImageCommand::Call(ImageCall::Tag { image, name }) => {
            let request = v1::TagRequest { image: image.clone(), name: name.clone() };
            client.tag(request).await.map_err(said)?;
        }
        ImageCommand::Call(ImageCall::History(arguments)) => {
            let raw = inspect::raw(client, &arguments.image).await.map_err(said)?;
            inspect::history(&mut out, &raw, arguments, now, width)?;
        }
        ImageCommand::Call(ImageCall::Import(arguments)) => {
            import::import(client, arguments).await?;
        }
        ImageCommand::Rm(arguments) => remove::remove(&mut out, client, arguments).await?,
        ImageCommand::Ls(arguments) => {
            let list = client.list(v1::ListRequest {}).await.map_err(said)?.into_inner();
            let rows = list::rows(&list.images, arguments, now)?;
            let shape = list::shape(arguments.digests);
            let (format, quiet) = (arguments.list.format.as_deref(), arguments.list.quiet);
            show::list(&mut out, &shape, &rows, format, quiet, width)?;
        }
        ImageCommand::Inspect(arguments) => {
            let mut found = Vec::new();
            for image in &arguments.images {
                found.push(inspection(client, image).await.map_err(said)?);
            }
            show::objects(&mut out, &found, arguments.format.format.as_deref())?;
        }
        ImageCommand::Prune(arguments) => remove::prune(&mut out, client, arguments, now).await?,
        ImageCommand::Verify { repair } => {
            let request = v1::VerifyRequest { repair: *repair };
            verify(&mut out, &client.verify(request).await.map_err(said)?.into_inner())?;
        }
        ImageCommand::Pulls => pulls(&mut out, client).await?,
        ImageCommand::Build(_) => bail!("a build has a way of its own"),
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

fn short(id: &str) -> &str {
    show::short_id(id)
}

/// A time to compare with: RFC 3339, a date, seconds since 1970, or how long ago.
fn until(text: &str, now: Timestamp) -> anyhow::Result<Timestamp> {
    show::moment(text, now)
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
