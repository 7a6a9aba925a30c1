//! Making a container: its record and its writable layer, no process yet.

use super::refuse;
use crate::container::{blocking, to_the_end};
use crate::engine::Inner;
use crate::names;
use crate::record::layer_key;
use crate::{Container, ContainerSpec, Engine, Error, Record, Result, health, merge, volumes};
use orlop_model::{ContainerId, Digest, Signal, Timestamp};
use rand::RngCore;
use std::io::Read;
use std::sync::Arc;

/// Larger configurations were not taken from a registry either.
const MAX_CONFIGURATION: u64 = 8 << 20;

/// A container that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewContainer {
    /// Its id.
    pub id: ContainerId,
    /// What the user should know.
    pub warnings: Vec<String>,
}

impl Engine {
    /// Makes a container. The image must be here.
    pub async fn create(&self, spec: ContainerSpec) -> Result<NewContainer> {
        let inner = Arc::clone(&self.0);
        to_the_end(async move { create(&inner, spec).await }).await
    }
}

async fn create(inner: &Arc<Inner>, mut spec: ContainerSpec) -> Result<NewContainer> {
    let image = inner
        .images
        .get(&spec.image)
        .ok_or_else(|| Error::ImageMissing { image: spec.image.clone() })?;
    let mut merged = merge(&spec, image.config.config().as_ref());
    let configuration = configuration(inner, &image.id).await;
    merged.health = health::merge(spec.health.as_ref(), health::of_image(&configuration));
    check(&spec, &merged)?;
    refuse::platform(&spec, &image.config)?;
    refuse::modes(&spec)?;
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    let id = ContainerId::from_random(bytes);
    let name = claim_name(inner, &spec, &id)?;
    let adopted = match volumes::adopt(inner, &mut spec, &merged).await {
        Ok(adopted) => adopted,
        Err(error) => {
            inner.index.free(&name, &id);
            return Err(error);
        }
    };
    let record = Record {
        id: id.clone(),
        name: name.clone(),
        created_at: Timestamp::now(),
        image: image.id.clone(),
        merged,
        spec,
        attempts: 0,
        attempt: None,
        last: None,
        boot: String::new(),
        stopped: false,
        removing: false,
    };
    match make(inner, record).await {
        Ok(container) => {
            inner.index.insert(Arc::clone(&container));
            inner.emit(&container, "create", |event| event);
            Ok(NewContainer { id, warnings: Vec::new() })
        }
        Err(error) => {
            inner.index.free(&name, &id);
            adopted.undo(inner);
            Err(error)
        }
    }
}

/// An image's configuration as it was pulled: it says more than the standard has. Empty where it cannot be
/// read.
async fn configuration(inner: &Arc<Inner>, image: &Digest) -> Vec<u8> {
    let (images, image) = (inner.images.clone(), image.clone());
    let read = move || {
        let mut bytes = Vec::new();
        let file = images.open_blob(&image).map_err(Error::io("reading", image.to_string()))?;
        file.take(MAX_CONFIGURATION)
            .read_to_end(&mut bytes)
            .map_err(Error::io("reading", image.to_string()))?;
        Ok(bytes)
    };
    blocking(read).await.unwrap_or_default()
}

/// The layer first: a record means that all of it was made, a layer without one is an orphan.
async fn make(inner: &Arc<Inner>, record: Record) -> Result<Arc<Container>> {
    let (images, key, image) = (inner.images.clone(), record.layer(), record.image.clone());
    blocking(move || {
        images.create_rootfs(&image, &key)?;
        Ok(())
    })
    .await?;
    let id = record.id.clone();
    let made = match volumes::populate(inner, &record).await {
        Ok(()) => Container::create(Arc::clone(&inner.records), record).await,
        Err(error) => Err(error),
    };
    if made.is_err() {
        let images = inner.images.clone();
        let _ = blocking(move || Ok(images.remove_rootfs(&layer_key(&id))?)).await;
    }
    Ok(Arc::new(made?))
}

/// The name that was asked for, else one that is free.
fn claim_name(inner: &Inner, spec: &ContainerSpec, id: &ContainerId) -> Result<String> {
    if let Some(name) = &spec.name {
        let name = name.strip_prefix('/').unwrap_or(name);
        names::check(name)?;
        inner.index.claim(name, id)?;
        return Ok(name.to_owned());
    }
    loop {
        let name = names::draw(|name| inner.index.is_taken(name));
        if inner.index.claim(&name, id).is_ok() {
            return Ok(name);
        }
    }
}

/// What no start could make good.
fn check(spec: &ContainerSpec, merged: &crate::Merged) -> Result<()> {
    let wrong = |field, value: &str, why: &str| {
        Err(Error::Invalid { field, value: value.to_owned(), why: why.to_owned() })
    };
    if merged.args().is_empty() {
        let why = "the image does not say what to run: give a command after the image's name";
        return wrong("command", "", why);
    }
    if !merged.stop_signal.is_empty()
        && spec.stop_signal.is_some()
        && Signal::parse(&merged.stop_signal).is_err()
    {
        return wrong("stop-signal", &merged.stop_signal, "there is no such signal");
    }
    if spec.auto_remove && spec.restart != crate::spec::RestartPolicy::No {
        return wrong("rm", "true", "what is removed at its end is not restarted: drop --restart");
    }
    if !spec.runtime.is_empty() && spec.restart != crate::spec::RestartPolicy::No {
        let why = "a shim of another maker starts nothing again: drop --restart or --runtime";
        return wrong("restart", &spec.runtime, why);
    }
    let dir = &merged.working_dir;
    if spec.working_dir.is_some() && !dir.starts_with('/') {
        return wrong("workdir", dir, "it must be an absolute path");
    }
    for (name, _, _) in &spec.resources.ulimits {
        if orlop_spec::rlimit(name).is_none() {
            return wrong("ulimit", name, "the kernel has no such limit: see getrlimit(2)");
        }
    }
    for mount in &spec.mounts {
        if !mount.target.is_absolute() {
            let target = mount.target.display().to_string();
            return wrong("mount", &target, "the path in the container must be absolute");
        }
    }
    Ok(())
}
