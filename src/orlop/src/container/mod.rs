//! `run`, `create`, `start` and what else is done to containers as a whole.

mod list;
mod run;
mod show;
mod wait;

pub(crate) use run::{NotStarted, create, not_started, run};
pub(crate) use show::{inspect, inspection, port, ps, summaries};
pub(crate) use wait::wait;

use crate::args::containers::{KillArgs, RenameArgs, RmArgs, StopArgs, UpdateArgs};
use crate::cli::Place;
use crate::config::{Config, Loaded, Sources};
use crate::door::{Door, Engine};
use anyhow::Context;
use orlop_api::engine_v1 as v1;
use orlop_engine::UpdateSpec;
use std::io::Write;
use std::process::ExitCode;

/// The status of a command that failed before any program of a container began.
pub(crate) const FAILED: u8 = 125;

/// Reads the configuration and runs `work` on a few threads.
pub(crate) fn with_config<T, F>(place: &Place, work: impl FnOnce(Config) -> F) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<T>>,
{
    let Loaded { config, .. } = Sources::new(&place.settings()).load()?;
    crate::logging::start_quiet();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("worker threads cannot be started")?;
    let done = runtime.block_on(work(config));
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    done
}

/// The same with an open door, which is closed in order.
pub(crate) fn with_door<T>(
    place: &Place,
    work: impl AsyncFnOnce(&Door) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    with_config(place, async |config| {
        let door = Door::open(&config).await?;
        let done = work(&door).await;
        door.close().await;
        done
    })
}

/// What the service said, without the words of the protocol around it.
pub(crate) fn said(status: tonic::Status) -> anyhow::Error {
    anyhow::Error::msg(status.message().to_owned())
}

/// Does the same to each of several containers; says of each that it is done, or why not. Fails when
/// any did.
pub(crate) fn each(
    place: &Place,
    names: &[String],
    call: impl AsyncFn(&mut Engine, String) -> Result<(), tonic::Status>,
) -> anyhow::Result<ExitCode> {
    with_door(place, async |door| {
        let mut engine = door.engine();
        let mut code = ExitCode::SUCCESS;
        for name in names {
            match call(&mut engine, name.clone()).await {
                Ok(()) => writeln!(std::io::stdout(), "{name}")?,
                Err(status) => {
                    code = ExitCode::FAILURE;
                    let _ = writeln!(std::io::stderr(), "orlop: {}", status.message());
                }
            }
        }
        Ok(code)
    })
}

/// `start` without a look at the streams.
pub(crate) fn start(place: &Place, names: &[String]) -> anyhow::Result<ExitCode> {
    each(place, names, async |engine, container| {
        engine.start(v1::ContainerRequest { container }).await.map(drop)
    })
}

pub(crate) fn stop(place: &Place, arguments: &StopArgs) -> anyhow::Result<ExitCode> {
    each(place, &arguments.of.containers, async |engine, container| {
        engine.stop(stop_request(arguments, container)).await.map(drop)
    })
}

pub(crate) fn restart(place: &Place, arguments: &StopArgs) -> anyhow::Result<ExitCode> {
    each(place, &arguments.of.containers, async |engine, container| {
        engine.restart(stop_request(arguments, container)).await.map(drop)
    })
}

fn stop_request(arguments: &StopArgs, container: String) -> v1::StopRequest {
    let signal = arguments.signal.clone().unwrap_or_default();
    v1::StopRequest { container, signal, timeout: arguments.time }
}

pub(crate) fn kill(place: &Place, arguments: &KillArgs) -> anyhow::Result<ExitCode> {
    each(place, &arguments.of.containers, async |engine, container| {
        let signal = arguments.signal.clone();
        engine.kill(v1::KillRequest { container, signal }).await.map(drop)
    })
}

pub(crate) fn pause(place: &Place, names: &[String]) -> anyhow::Result<ExitCode> {
    each(place, names, async |engine, container| {
        engine.pause(v1::ContainerRequest { container }).await.map(drop)
    })
}

pub(crate) fn unpause(place: &Place, names: &[String]) -> anyhow::Result<ExitCode> {
    each(place, names, async |engine, container| {
        engine.unpause(v1::ContainerRequest { container }).await.map(drop)
    })
}

pub(crate) fn rm(place: &Place, arguments: &RmArgs) -> anyhow::Result<ExitCode> {
    let (force, volumes) = (arguments.force, arguments.volumes);
    each(place, &arguments.of.containers, async |engine, container| {
        let request = v1::RemoveRequest { container, force, volumes };
        match engine.remove(request).await {
            // By force it is no failure that it is not there.
            Err(status) if force && status.code() == tonic::Code::NotFound => Ok(()),
            done => done.map(drop),
        }
    })
}

pub(crate) fn rename(place: &Place, arguments: &RenameArgs) -> anyhow::Result<ExitCode> {
    with_door(place, async |door| {
        let (container, name) = (arguments.of.container.clone(), arguments.name.clone());
        door.engine().rename(v1::RenameRequest { container, name }).await.map_err(said)?;
        Ok(ExitCode::SUCCESS)
    })
}

pub(crate) fn update(place: &Place, arguments: &UpdateArgs) -> anyhow::Result<ExitCode> {
    let resources = crate::args::spec::resources(&arguments.limits)?;
    let change = serde_json::to_vec(&UpdateSpec { resources, restart: arguments.restart })?;
    each(place, &arguments.of.containers, async |engine, container| {
        let change = change.clone();
        engine.update(v1::ChangeRequest { container, change }).await.map(drop)
    })
}
