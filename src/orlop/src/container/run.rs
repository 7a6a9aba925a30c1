//! `create`, and `run`, which is `create` then `start`.

use super::{FAILED, said, with_config};
use crate::args::container::ContainerFlags;
use crate::args::containers::{CreateArgs, RunArgs, image_and_command};
use crate::args::spec::{self, Own};
use crate::cli::Place;
use crate::door::Door;
use anyhow::Context;
use orlop_api::EXIT_CODE;
use orlop_api::engine_v1 as v1;
use orlop_engine::ContainerSpec;
use orlop_engine::spec::PullPolicy;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use tonic::{Code, Status};

/// `create`: prints the id.
pub(crate) fn create(place: &Place, arguments: &CreateArgs) -> anyhow::Result<ExitCode> {
    let (image, command) = image_and_command(&arguments.image_and_command);
    let spec = spec_of(&arguments.flags, image, command)?;
    with_config(place, async |config| {
        let door = Door::open(&config).await?;
        let made = make(&door, &spec, &arguments.flags).await;
        door.close().await;
        writeln!(std::io::stdout(), "{}", made?)?;
        Ok(ExitCode::SUCCESS)
    })
}

/// `run`: the status is the program's in the foreground, 0 in the background; 125 to 127 where no program
/// began.
pub(crate) fn run(place: &Place, arguments: &RunArgs) -> anyhow::Result<ExitCode> {
    let (image, command) = image_and_command(&arguments.image_and_command);
    let done = spec_of(&arguments.flags, image, command).and_then(|mut spec| {
        // With a terminal one may leave and come back; a pipe's end is the input's.
        spec.stdin_once = spec.stdin && !spec.tty && !arguments.detach;
        with_config(place, async |config| {
            let door = Door::open(&config).await?;
            if !arguments.detach {
                return match make(&door, &spec, &arguments.flags).await {
                    Ok(id) => crate::stream::run(&config, door, &id, &spec, arguments).await,
                    Err(error) => {
                        door.close().await;
                        Err(error)
                    }
                };
            }
            let begun = begin(&door, &spec, &arguments.flags).await;
            door.close().await;
            let id = begun?;
            writeln!(std::io::stdout(), "{id}")?;
            Ok(ExitCode::SUCCESS)
        })
    });
    match done {
        Ok(code) => Ok(code),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "orlop: {error:#}");
            let code = error.downcast_ref::<NotStarted>().map_or(FAILED, |failed| failed.code);
            Ok(ExitCode::from(code))
        }
    }
}

/// A start that failed, with what a shell would say of it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct NotStarted {
    message: String,
    /// 125 to 127.
    pub(crate) code: u8,
}

/// Reads the code that a failed start has.
pub(crate) fn not_started(status: &Status) -> NotStarted {
    let code = status.metadata().get(EXIT_CODE).and_then(|code| code.to_str().ok());
    let code = code.and_then(|code| code.parse().ok()).unwrap_or(FAILED);
    NotStarted { message: status.message().to_owned(), code }
}

async fn begin(
    door: &Door,
    spec: &ContainerSpec,
    flags: &ContainerFlags,
) -> anyhow::Result<String> {
    let id = make(door, spec, flags).await?;
    let mut engine = door.engine();
    if let Err(status) = engine.start(v1::ContainerRequest { container: id.clone() }).await {
        if spec.auto_remove {
            // The start has failed; that nothing stays of it is all that is left to want.
            let request = v1::RemoveRequest { container: id, force: true, volumes: true };
            let _ = engine.remove(request).await;
        }
        return Err(not_started(&status).into());
    }
    Ok(id)
}

/// The form of the container, with warnings on standard error.
pub(crate) fn spec_of(
    flags: &ContainerFlags,
    image: &str,
    command: &[String],
) -> anyhow::Result<ContainerSpec> {
    let (spec, warnings) = spec::container(flags, image, command, &Own)?;
    warn(&warnings);
    Ok(spec)
}

fn warn(warnings: &[String]) {
    for warning in warnings {
        let _ = writeln!(std::io::stderr(), "orlop: {warning}");
    }
}

/// Makes the container, and pulls its image before where that is to be. Its id.
pub(crate) async fn make(
    door: &Door,
    spec: &ContainerSpec,
    flags: &ContainerFlags,
) -> anyhow::Result<String> {
    let file = flags.what.cidfile.as_deref();
    if let Some(path) = file.filter(|path| path.exists()) {
        anyhow::bail!("--cidfile {} exists already: remove it, or give another", path.display());
    }
    if spec.pull == PullPolicy::Always {
        crate::image::fetch(&mut door.images(), &spec.image, flags.what.quiet).await?;
    }
    let request = v1::CreateRequest { spec: serde_json::to_vec(spec)? };
    let mut engine = door.engine();
    let made = match engine.create(request.clone()).await {
        Err(status) if status.code() == Code::NotFound && spec.pull == PullPolicy::Missing => {
            if !flags.what.quiet {
                let image = &spec.image;
                let _ = writeln!(std::io::stderr(), "Image {image} is not here: pulling it");
            }
            crate::image::fetch(&mut door.images(), &spec.image, flags.what.quiet).await?;
            engine.create(request).await
        }
        other => other,
    };
    let made = made.map_err(said)?.into_inner();
    warn(&made.warnings);
    if let Some(path) = file {
        note(path, &made.id)?;
    }
    Ok(made.id)
}

fn note(path: &Path, id: &str) -> anyhow::Result<()> {
    std::fs::write(path, id).with_context(|| format!("--cidfile {}", path.display()))
}
