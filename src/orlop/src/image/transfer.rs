//! Commands that move much: pull, push, load, save.

use super::progress::Display;
use super::said;
use crate::args::images::{LoadArgs, Login, PullArgs, PushArgs};
use crate::door::Images as Client;
use anyhow::{Context, bail};
use orlop_api::images_v1 as v1;
use orlop_model::{Platform, Reference};
use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::path::Path;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// Bytes in one message of an archive.
const CHUNK: usize = 256 << 10;
const QUEUE: usize = 8;

pub(super) async fn pull(client: &mut Client, arguments: &PullArgs) -> anyhow::Result<()> {
    let PullArgs { name, login, .. } = arguments;
    if arguments.all_tags {
        bail!("--all-tags: pull the tags that are needed, each by its name");
    }
    let host = Platform::host();
    if let Some(wanted) = &arguments.platform
        && *wanted != host.to_string()
        && *wanted != format!("{}/{}", host.os, host.architecture)
    {
        bail!("--platform {wanted}: this machine has images for {host} only");
    }
    let credentials = credentials(login, name).await?;
    let request = v1::PullRequest { name: name.clone(), credentials };
    let messages = client.pull(request).await.map_err(said)?.into_inner();
    writeln!(std::io::stdout(), "{}", follow(messages, !arguments.quiet).await?)?;
    Ok(())
}

/// Pulls what another command needs: nothing of it on standard output.
pub(super) async fn fetch(client: &mut Client, name: &str, quiet: bool) -> anyhow::Result<()> {
    let credentials = credentials(&Login::default(), name).await?;
    let request = v1::PullRequest { name: name.to_owned(), credentials };
    follow(client.pull(request).await.map_err(said)?.into_inner(), !quiet).await.map(drop)
}

pub(super) async fn push(client: &mut Client, arguments: &PushArgs) -> anyhow::Result<()> {
    let PushArgs { image, target, login, .. } = arguments;
    if !arguments.all_tags {
        return push_one(client, image, target.as_deref(), login, arguments.quiet).await;
    }
    if target.is_some() {
        bail!("--all-tags sends each tag under its own name: leave the target out");
    }
    let listed = client.list(v1::ListRequest {}).await.map_err(said)?.into_inner().images;
    let mut tags: Vec<_> = listed.into_iter().flat_map(|image| image.tags).collect();
    tags.retain(|tag| {
        let repository = tag.rsplit_once(':').map_or(tag.as_str(), |(repository, _)| repository);
        repository == image || super::familiar(repository) == image
    });
    if tags.is_empty() {
        bail!("no image here has a tag of {image}");
    }
    for tag in &tags {
        push_one(client, tag, None, login, arguments.quiet).await?;
    }
    Ok(())
}

async fn push_one(
    client: &mut Client,
    image: &str,
    target: Option<&str>,
    login: &Login,
    quiet: bool,
) -> anyhow::Result<()> {
    let credentials = credentials(login, target.unwrap_or(image)).await?;
    let target = target.unwrap_or_default().to_owned();
    let request = v1::PushRequest { image: image.to_owned(), target, credentials };
    let messages = client.push(request).await.map_err(said)?.into_inner();
    writeln!(std::io::stdout(), "{}", follow(messages, !quiet).await?)?;
    Ok(())
}

/// Sends an image under its own name, with what the user's files have for the registry; the digest
/// of its manifest.
pub(crate) async fn send(client: &mut Client, image: &str, quiet: bool) -> anyhow::Result<String> {
    let reference = Reference::parse(image)?;
    let found = tokio::task::spawn_blocking(move || {
        orlop_image::Auth::from_files(&crate::login::files(), &reference)
    });
    let credentials = message(found.await??);
    let target = String::new();
    let request = v1::PushRequest { image: image.to_owned(), target, credentials };
    let messages = client.push(request).await.map_err(said)?.into_inner();
    follow(messages, !quiet).await
}

/// Shows how it goes; the result.
async fn follow(mut messages: Streaming<v1::Progress>, shown: bool) -> anyhow::Result<String> {
    let mut display = Display::new();
    let result = loop {
        match messages.message().await {
            Ok(Some(message)) if !message.result.is_empty() => break message.result,
            Ok(Some(message)) if shown => display.show(&message),
            Ok(Some(_)) => {}
            Ok(None) => bail!("the daemon ended in the middle"),
            Err(status) => {
                display.end();
                return Err(said(status));
            }
        }
    };
    display.end();
    Ok(result)
}

/// Those that were given, else what the user's own files have for the registry.
async fn credentials(login: &Login, name: &str) -> anyhow::Result<Option<v1::Credentials>> {
    if let Some(username) = login.username.clone() {
        let mut password = String::new();
        std::io::stdin().take(64 << 10).read_to_string(&mut password)?;
        let password = password.trim_end_matches(['\r', '\n']).to_owned();
        return Ok(Some(v1::Credentials { username, password, ..Default::default() }));
    }
    let Ok(reference) = Reference::parse(name) else { return Ok(None) };
    let found = tokio::task::spawn_blocking(move || {
        orlop_image::Auth::from_files(&crate::login::files(), &reference)
    });
    Ok(message(found.await??))
}

fn message(found: Option<orlop_image::Auth>) -> Option<v1::Credentials> {
    match found {
        Some(orlop_image::Auth::Basic { username, password }) => {
            Some(v1::Credentials { username, password, ..Default::default() })
        }
        Some(orlop_image::Auth::IdentityToken(identity_token)) => {
            Some(v1::Credentials { identity_token, ..Default::default() })
        }
        _ => None,
    }
}

fn is_standard(file: &Path) -> bool {
    file == Path::new("-")
}

pub(super) async fn load(client: &mut Client, arguments: &LoadArgs) -> anyhow::Result<()> {
    let source = open(&arguments.input)?;
    load_from(client, source, &arguments.name, arguments.quiet).await
}

/// Sends an archive and says which images it had.
pub(super) async fn load_from(
    client: &mut Client,
    source: Box<dyn Read + Send>,
    names: &[String],
    quiet: bool,
) -> anyhow::Result<()> {
    for image in send_archive(client, source, names).await?.images {
        if quiet {
            continue;
        }
        if image.names.is_empty() {
            writeln!(std::io::stdout(), "Loaded image ID: {}", image.id)?;
        }
        for name in &image.names {
            writeln!(std::io::stdout(), "Loaded image: {}", super::familiar(name))?;
        }
    }
    Ok(())
}

fn open(file: &Path) -> anyhow::Result<Box<dyn Read + Send>> {
    if !is_standard(file) {
        let opened = File::open(file);
        let opened = opened.with_context(|| format!("{} cannot be opened", file.display()))?;
        return Ok(Box::new(opened));
    }
    if std::io::stdin().is_terminal() {
        bail!("standard input is a terminal: name a file, or feed an archive in");
    }
    Ok(Box::new(std::io::stdin()))
}

/// An image that an archive had.
pub(crate) struct Sent {
    pub(crate) id: String,
    pub(crate) names: Vec<String>,
}

/// Sends an archive, from a file or standard input, to the store.
pub(crate) async fn send_file(client: &mut Client, file: &Path) -> anyhow::Result<Vec<Sent>> {
    let images = send_archive(client, open(file)?, &[]).await?.images.into_iter();
    Ok(images.map(|image| Sent { id: image.id, names: image.names }).collect())
}

/// Sends an archive to the store.
pub(super) async fn send_archive(
    client: &mut Client,
    source: Box<dyn Read + Send>,
    names: &[String],
) -> anyhow::Result<v1::ImportResponse> {
    let (send, messages) = mpsc::channel(QUEUE);
    let first = v1::ImportRequest { names: names.to_vec(), data: Vec::new() };
    let reading = tokio::task::spawn_blocking(move || read(source, first, &send));
    let done = client.import(ReceiverStream::new(messages)).await;
    // An archive that could not be read to its end explains an import that failed.
    reading.await?.context("the archive cannot be read")?;
    Ok(done.map_err(said)?.into_inner())
}

fn read(
    mut source: impl Read,
    first: v1::ImportRequest,
    send: &mpsc::Sender<v1::ImportRequest>,
) -> std::io::Result<()> {
    let mut message = first;
    loop {
        if send.blocking_send(message).is_err() {
            // The other side has ended, and says why.
            return Ok(());
        }
        let mut data = Vec::with_capacity(CHUNK);
        source.by_ref().take(CHUNK as u64).read_to_end(&mut data)?;
        if data.is_empty() {
            return Ok(());
        }
        message = v1::ImportRequest { names: Vec::new(), data };
    }
}

/// Writes images into an archive.
pub(crate) async fn save(
    client: &mut Client,
    images: &[String],
    output: &Path,
) -> anyhow::Result<()> {
    if is_standard(output) && std::io::stdout().is_terminal() {
        bail!("standard output is a terminal: name a file with --output, or send it on");
    }
    let request = v1::ExportRequest { images: images.to_vec() };
    let mut chunks = client.export(request).await.map_err(said)?.into_inner();
    // Nothing is made before the first bytes are there, and a half file is taken away.
    let mut first = chunks.message().await.map_err(said)?;
    let mut target: Box<dyn Write> = if is_standard(output) {
        Box::new(std::io::stdout())
    } else {
        let made = File::create(output);
        Box::new(made.with_context(|| format!("{} cannot be made", output.display()))?)
    };
    let written = async {
        while let Some(chunk) = first.take() {
            target.write_all(&chunk.data).context("the archive cannot be written")?;
            first = chunks.message().await.map_err(said)?;
        }
        target.flush().context("the archive cannot be written")
    };
    let written = written.await;
    if written.is_err() && !is_standard(output) {
        let _ = std::fs::remove_file(output);
    }
    written
}
