//! A container's root as an image: its layer copied, then the configuration that was asked for.

use crate::engine_v1 as v1;
use crate::error::ApiError;
use crate::validate::Invalid;
use orlop_build::exec::{Ended, ExecError, Executor, Step};
use orlop_engine::files::clone_layer;
use orlop_engine::{Container, Engine, Error};
use orlop_model::Reference;
use std::path::PathBuf;
use std::sync::Arc;

pub(super) async fn commit(
    engine: &Engine,
    request: v1::CommitRequest,
) -> Result<String, ApiError> {
    let container = engine.find(&request.container)?;
    let names = match request.name.as_str() {
        "" => Vec::new(),
        name => vec![Reference::parse(name).map_err(|error| Invalid::Image {
            field: "name".to_owned(),
            why: error.to_string(),
        })?],
    };
    let held = match request.pause {
        true => hold(engine, &container).await?,
        false => false,
    };
    let made = make(engine, &container, request, names).await;
    if held {
        // Whatever came of it, the container goes on.
        let resumed = resume(engine, &container).await;
        made.and_then(|made| resumed.map(|()| made))
    } else {
        made
    }
}

/// Freezes a container that runs; whether it was this that froze it.
async fn hold(engine: &Engine, container: &Container) -> Result<bool, ApiError> {
    let paused = container.record().attempt.as_ref().is_some_and(|attempt| attempt.paused);
    match engine.shim(container).await? {
        Some(shim) if !paused => {
            shim.pause().await.map_err(Error::from)?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

async fn resume(engine: &Engine, container: &Container) -> Result<(), ApiError> {
    if let Some(shim) = engine.shim(container).await? {
        shim.resume().await.map_err(Error::from)?;
    }
    Ok(())
}

async fn make(
    engine: &Engine,
    container: &Arc<Container>,
    request: v1::CommitRequest,
    names: Vec<Reference>,
) -> Result<String, ApiError> {
    let layers = engine.layers(container)?;
    let record = container.record();
    let store = engine.images().clone();
    let image = store
        .get(record.image.as_str())
        .ok_or_else(|| Error::ImageMissing { image: record.image.to_string() })?;
    let places = engine.places(container);
    let handle = tokio::runtime::Handle::current();
    let scratch = engine.options().run.join("commit");
    let command = record.spec.command.join(" ");
    let work = move || {
        let builder = orlop_build::Engine::new(
            store.clone(),
            Arc::new(NoSteps(scratch.clone())),
            handle,
            &scratch,
            u64::MAX,
        )
        .map_err(|error| error.to_string())?;

        let commit = orlop_build::Commit {
            image: &image,
            created_by: &command,
            author: &request.author,
            message: &request.message,
            changes: &request.changes,
            names: &names,
        };
        builder.commit(&commit, |to| clone_layer(&layers.upper, to, &places))
    };
    let made = tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| ApiError::Stream { message: error.to_string() })?;
    let name = record.name.clone();
    let (id, superseded) = made.map_err(|why| Error::State {
        what: "container",
        name,
        why: format!("cannot be made into an image: {why}"),
    })?;
    if let Some(superseded) = superseded {
        // Its layers live on in the image that was made from it.
        engine.images().untag(superseded.as_str()).await?;
    }
    Ok(id.to_string())
}

/// A commit executes nothing.
struct NoSteps(PathBuf);

impl Executor for NoSteps {
    fn run(&self, _: &Step, _: &mut dyn FnMut(&[u8])) -> Result<Ended, ExecError> {
        Err(ExecError::Failed("a commit runs no commands".to_owned()))
    }

    fn scratch(&self) -> PathBuf {
        self.0.clone()
    }
}
