//! One build as its client sees it: progress, outputs, the result, and what comes after.

use super::args::{BuildArgs, ProgressForm};
use super::output::{Output, Sinks};
use super::progress::Printer;
use crate::door::Door;
use anyhow::{Context, bail};
use orlop_api::builds_v1::{self as v1, build_event::Event as In};
use std::io::Write;

/// Builds, and hands out what was asked for. When `stop` is ready the build is cancelled.
pub(super) async fn build(
    door: &Door,
    arguments: &BuildArgs,
    request: v1::BuildRequest,
    outputs: &[Output],
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let tags = request.tags.clone();
    let form = if arguments.quiet { ProgressForm::Quiet } else { arguments.progress };
    let mut printer = Printer::new(form);
    let mut stop = std::pin::pin!(stop);
    let reply = door.builds().build(request).await;
    let mut events = reply.map_err(|status| anyhow::anyhow!("{}", status.message()))?.into_inner();
    let mut sinks = Sinks::new(outputs);
    let result = loop {
        let event = tokio::select! {
            event = events.message() => event,
            // Dropping the stream cancels the build.
            () = &mut stop => {
                printer.end();
                bail!("the build was cancelled");
            }
            () = printer.tick() => {
                printer.draw();
                continue;
            }
        };
        let event = match event {
            Ok(Some(v1::BuildEvent { event: Some(event) })) => event,
            Ok(Some(_)) => continue,
            Ok(None) => bail!("the service ended before the build did"),
            Err(status) => {
                printer.end();
                bail!("{}", status.message())
            }
        };
        match event {
            In::Chunk(chunk) => sinks.take(chunk)?,
            In::Failure(text) => {
                printer.end();
                bail!("build failed\n{text}");
            }
            In::Result(result) => break result,
            event => printer.show(event),
        }
    };
    printer.end();
    let manifest = match arguments.push || outputs.iter().any(|output| output.push) {
        true => Some(push(door, &tags, arguments.quiet).await?),
        false => None,
    };
    record(arguments, &result, &tags, manifest.as_deref())?;
    // An archive on standard output ends where it ends.
    if !outputs.iter().any(Output::is_stdout) {
        writeln!(std::io::stdout(), "{}", result.id)?;
    }
    Ok(())
}

/// Sends the image to the registries that its names name. The digest of its manifest.
async fn push(door: &Door, tags: &[String], quiet: bool) -> anyhow::Result<String> {
    let mut digest = String::new();
    for tag in tags {
        digest = crate::image::send(&mut door.images(), tag, quiet)
            .await
            .with_context(|| format!("pushing {tag}"))?;
    }
    Ok(digest)
}

fn record(
    arguments: &BuildArgs,
    result: &v1::Result,
    tags: &[String],
    manifest: Option<&str>,
) -> anyhow::Result<()> {
    if let Some(path) = &arguments.iidfile {
        std::fs::write(path, &result.id).with_context(|| format!("writing {}", path.display()))?;
    }
    if let Some(path) = &arguments.metadata_file {
        let mut metadata = serde_json::json!({
            "containerimage.config.digest": result.id,
            "image.name": tags.join(","),
            "orlop.steps.reused": result.reused,
            "orlop.steps.made": result.made,
        });
        if let Some(digest) = manifest {
            metadata["containerimage.digest"] = digest.into();
        }
        std::fs::write(path, serde_json::to_vec_pretty(&metadata)?)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}
