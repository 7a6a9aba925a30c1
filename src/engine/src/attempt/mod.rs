//! One start of a container: a pod of lifecycle's with one container in it, from the making to the
//! clearing away.

mod config;
mod pod;
mod ports;
mod resources;

pub(crate) use config::restart;
pub(crate) use ports::PortClaims;
pub(crate) use resources::resources;

use crate::container::blocking;
use crate::engine::Inner;
use crate::event::Event;
use crate::record::{Attempt, Ended};
use crate::{Container, Error, Record, Result, networks};
use orlop_lifecycle::{ContainerState, ContainerView};
use orlop_model::Timestamp;
use std::sync::Arc;

/// Makes the attempt that waits to be let go; one that is there already is returned. The caller has the
/// container's turn.
pub(crate) async fn prepare(
    inner: &Arc<Inner>,
    container: &Arc<Container>,
) -> Result<Arc<ContainerView>> {
    settle(inner, container).await?;
    let record = container.record();
    if let Some(view) = inner.attempt_of(&record) {
        return Ok(view);
    }
    let number = record.attempts + 1;
    let ports = inner.ports.allocate(&record)?;
    let made = make(inner, container, &record, number, ports).await;
    if made.is_err() {
        inner.ports.release(&record.id);
    }
    made
}

/// Mounts what its volumes need; where it fails nothing stays mounted.
async fn with_volumes(
    inner: &Arc<Inner>,
    container: &Arc<Container>,
    number: u32,
) -> Result<orlop_spec::request::ContainerConfig> {
    let (kept, record) = (Arc::clone(inner), container.record());
    let made = {
        let _turn = inner.volumes.turn.lock().await;
        blocking(move || config::container(&kept, &record, number)).await
    };
    if made.is_err() {
        release_volumes(inner, container).await?;
    }
    made
}

async fn make(
    inner: &Arc<Inner>,
    container: &Arc<Container>,
    record: &Record,
    number: u32,
    ports: Vec<orlop_spec::request::PortMapping>,
) -> Result<Arc<ContainerView>> {
    let config = with_volumes(inner, container, number).await?;
    // Pods that several share are not taken away by one while another enters.
    let shared = inner.pods.lock().await;
    let pod = pod::enter(inner, record, number, ports.clone()).await?;
    let attempt =
        Attempt { number, sandbox: pod.clone(), paused: false, ports, networks: Vec::new() };
    let noted = container
        .change(|facts| {
            facts.attempts = number;
            facts.attempt = Some(attempt);
            facts.stopped = false;
            facts.boot.clone_from(&inner.boot);
        })
        .await;
    drop(shared);
    if let Err(error) = noted {
        pod::leave(inner, &record.id, &pod).await?;
        return Err(error);
    }
    let made = match tell_names(inner, container).await {
        Ok(()) => inner.runtime.create_container(pod.as_str(), config).await.map_err(Error::from),
        Err(error) => Err(error),
    };
    match made {
        Ok(id) => Ok(inner.runtime.container(id.as_str())?),
        Err(error) => {
            give_up(inner, container, &error).await?;
            Err(error)
        }
    }
}

/// Says on its networks who a container is, and notes where it is there.
pub(crate) async fn tell_names(inner: &Inner, container: &Container) -> Result<()> {
    let record = container.record();
    let Some(attempt) = &record.attempt else { return Ok(()) };
    let places = networks::announce(inner, &record, attempt.sandbox.as_str()).await?;
    container
        .change(|facts| {
            if let Some(attempt) = &mut facts.attempt {
                attempt.networks = places;
            }
        })
        .await
}

/// Lets a prepared attempt go.
pub(crate) async fn go(
    inner: &Arc<Inner>,
    container: &Arc<Container>,
    view: &ContainerView,
) -> Result<()> {
    match inner.runtime.start_container(view.id.as_str()).await {
        Ok(()) => {
            inner.emit(container, "start", |event| event);
            container.poke();
            Ok(())
        }
        Err(error) => {
            let message = error.report();
            settle(inner, container).await?;
            let exit_code = code_of_failure(&message);
            let (name, told) = (container.name(), plain(&message));
            container
                .observe(|facts| {
                    let now = Timestamp::now();
                    let started_at = Timestamp(0);
                    let error = told.clone();
                    facts.last = Some(Ended {
                        started_at,
                        finished_at: now,
                        exit_code,
                        oom: false,
                        error,
                        restarts: 0,
                    });
                })
                .await;
            Err(Error::Start { name, message: told, exit_code })
        }
    }
}

/// What a shell would say: 127 where there is no such program, 126 where it cannot be executed.
fn code_of_failure(message: &str) -> i32 {
    const ABSENT: [&str; 3] = ["no such file in", "not found in any", "No such file or directory"];
    const UNFIT: [&str; 6] = [
        "it is a directory",
        "not executable by",
        "wrong architecture",
        "not a program",
        "a damaged program",
        "Permission denied",
    ];
    if ABSENT.iter().any(|words| message.contains(words)) {
        127
    } else if UNFIT.iter().any(|words| message.contains(words)) {
        126
    } else {
        125
    }
}

/// The message without the names of the rooms below, which know the container by another id.
fn plain(message: &str) -> String {
    match message.split_once("could not be started: ") {
        Some((_, rest)) => rest.to_owned(),
        None => message.to_owned(),
    }
}

/// An attempt that could not be made leaves nothing.
async fn give_up(inner: &Arc<Inner>, container: &Arc<Container>, error: &Error) -> Result<()> {
    let (error, now) = (plain(&error.to_string()), Timestamp::now());
    let record = container.record();
    if let Some(attempt) = &record.attempt {
        let _shared = inner.pods.lock().await;
        pod::leave(inner, &record.id, &attempt.sandbox).await?;
    }
    inner.ports.release(&record.id);
    container
        .observe(|facts| {
            facts.attempt = None;
            let (started_at, exit_code) = (Timestamp(0), 125);
            facts.last = Some(Ended {
                started_at,
                finished_at: now,
                exit_code,
                oom: false,
                error,
                restarts: 0,
            });
        })
        .await;
    release_volumes(inner, container).await
}

/// Clears an attempt away that has ended, after its end is noted for good. Nothing where there is none,
/// or where it lives. The caller has the container's turn.
pub(crate) async fn settle(inner: &Arc<Inner>, container: &Arc<Container>) -> Result<()> {
    let record = container.record();
    let Some(attempt) = record.attempt.clone() else { return Ok(()) };
    let view = inner.attempt_of(&record);
    if view.as_ref().is_some_and(|view| view.state != ContainerState::Exited) {
        return Ok(());
    }
    // Without a view it was given up half made.
    if let Some(view) = &view {
        let ended = Ended {
            started_at: view.started_at,
            finished_at: view.finished_at,
            exit_code: view.exit_code,
            oom: view.reason == "OOMKilled",
            error: plain(&view.message),
            restarts: view.runs.as_ref().map_or(0, |runs| runs.restarts),
        };
        let code = ended.exit_code;
        let told = record.last.as_ref() == Some(&ended);
        container.change(|facts| facts.last = Some(ended)).await?;
        if !told && view.started_at.0 != 0 {
            inner.emit(container, "die", |event| event.with("exitCode", code.to_string()));
        }
        inner.runtime.remove_container(view.id.as_str()).await?;
    }
    let shared = inner.pods.lock().await;
    pod::leave(inner, &record.id, &attempt.sandbox).await?;
    drop(shared);
    inner.ports.release(&record.id);
    container.change(|facts| facts.attempt = None).await?;
    release_volumes(inner, container).await
}

/// Nothing of its volumes stays mounted for a container without an attempt.
async fn release_volumes(inner: &Arc<Inner>, container: &Arc<Container>) -> Result<()> {
    let (inner, record) = (Arc::clone(inner), container.record());
    let _turn = inner.volumes.turn.lock().await;
    let kept = Arc::clone(&inner);
    blocking(move || kept.release_volumes(&record)).await
}

/// Writes an event about a container.
impl Inner {
    pub(crate) fn emit(
        &self,
        container: &Container,
        action: &str,
        more: impl FnOnce(Event) -> Event,
    ) {
        let record = container.record();
        let mut event = Event::new("container", action, record.id.as_str())
            .with("name", record.name.clone())
            .with("image", record.spec.image.clone());
        for (name, value) in &record.merged.labels {
            event.attributes.entry(name.clone()).or_insert_with(|| value.clone());
        }
        self.events.emit(&more(event));
    }
}

/// The directory of a container's log.
pub(crate) async fn make_log_dir(path: std::path::PathBuf) -> Result<()> {
    blocking(move || {
        use std::os::unix::fs::DirBuilderExt;
        let mut builder = std::fs::DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(&path);
        made.map_err(Error::io("making directory", path))
    })
    .await
}
