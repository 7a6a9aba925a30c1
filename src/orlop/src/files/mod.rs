//! Files of containers: `cp`, `diff`, `export`, `commit`.

mod cp;
mod transfer;

use crate::args::containers::{CommitArgs, CpArgs, ExportArgs};
use crate::cli::Place;
use crate::container::{said, with_door};
use crate::stream::from_json;
use anyhow::{Context, bail};
use orlop_api::engine_v1 as v1;
use orlop_engine::files::{Change, ChangeKind};
use std::io::{self, Write};

/// Copies between a container and this machine.
pub(crate) fn cp(place: &Place, asked: &CpArgs) -> anyhow::Result<()> {
    with_door(place, async |door| cp::cp(door, asked).await)
}

/// Paths that differ from the image.
pub(crate) fn diff(place: &Place, container: &str) -> anyhow::Result<()> {
    let found = with_door(place, async |door| {
        let request = v1::ContainerRequest { container: container.to_owned() };
        door.engine().diff(request).await.map_err(said)
    })?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    for json in found.into_inner().json {
        let change: Change = from_json(&json)?;
        let kind = match change.kind {
            ChangeKind::Added => 'A',
            ChangeKind::Changed => 'C',
            ChangeKind::Deleted => 'D',
        };
        writeln!(out, "{kind} {}", plain(&change.path))?;
    }
    Ok(out.flush()?)
}

/// What a container calls its files is not for a terminal to interpret.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// The whole root as a tar file.
pub(crate) fn export(place: &Place, asked: &ExportArgs) -> anyhow::Result<()> {
    if asked.output.is_none() && rustix::termios::isatty(rustix::stdio::stdout()) {
        bail!("a tar file is not for a terminal: use -o, or redirect the output");
    }
    with_door(place, async |door| {
        let request = v1::ContainerRequest { container: asked.of.container.clone() };
        let chunks = door.engine().export_root(request).await.map_err(said)?.into_inner();
        match &asked.output {
            None => transfer::to_writer(chunks, transfer::stdout()?).await,
            Some(path) => {
                let failed = || format!("file {}", path.display());
                let file = tokio::fs::File::create(path).await.with_context(failed)?;
                transfer::to_writer(chunks, file).await.with_context(failed)
            }
        }
        .map(drop)
    })
}

/// A container as an image; prints its id.
pub(crate) fn commit(place: &Place, asked: &CommitArgs) -> anyhow::Result<()> {
    let request = v1::CommitRequest {
        container: asked.of.container.clone(),
        name: asked.name.clone().unwrap_or_default(),
        author: asked.author.clone().unwrap_or_default(),
        message: asked.message.clone().unwrap_or_default(),
        changes: asked.change.clone(),
        pause: asked.pause,
    };
    let made = with_door(place, async |door| door.engine().commit(request).await.map_err(said))?;
    writeln!(io::stdout(), "{}", made.into_inner().name)?;
    Ok(())
}
