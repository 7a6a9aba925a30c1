//! The end of an attempt, and that of a container.

use super::run::halt;
use crate::attempt;
use crate::container::{blocking, to_the_end};
use crate::engine::Inner;
use crate::{Container, Engine, Error, Result};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Engine {
    /// Removes a container: with `force` also where it runs, with `volumes` its unnamed volumes, too.
    pub async fn remove(&self, text: &str, force: bool, volumes: bool) -> Result<()> {
        let (inner, container) = (Arc::clone(&self.0), self.find(text)?);
        to_the_end(async move {
            let status = inner.status_of(&container.record());
            if status.state.lives() && !force {
                return Err(Error::State {
                    what: "container",
                    name: container.name(),
                    why: format!(
                        "is {}: stop it first, or remove it by force (-f)",
                        status.state.as_str()
                    ),
                });
            }
            remove(&inner, &container, volumes).await
        })
        .await
    }

    /// Removes all containers that do not live. Their ids, and the bytes of their layers.
    pub async fn prune(&self) -> Result<(Vec<String>, u64)> {
        let mut removed = (Vec::new(), 0);
        for container in self.containers() {
            if !self.status(&container).state.lives() {
                let key = container.record().layer();
                let bytes = self.0.images.writable_usage(&key).map_or(0, |usage| usage.bytes);
                self.remove(container.id.as_str(), false, false).await?;
                removed.0.push(container.id.to_string());
                removed.1 += bytes;
            }
        }
        Ok(removed)
    }
}

/// The removal is noted first and the record goes last: what a crash leaves, the next opening finishes.
async fn remove(inner: &Arc<Inner>, container: &Arc<Container>, volumes: bool) -> Result<()> {
    container
        .change(|facts| {
            facts.removing = true;
            facts.stopped = true;
        })
        .await?;
    halt(inner, container, None, Some(0)).await?;
    let _turn = container.turn.lock().await;
    if container.is_forgotten().await {
        return Ok(());
    }
    attempt::settle(inner, container).await?;
    let (images, key) = (inner.images.clone(), container.record().layer());
    let logs = inner.log_dir(&container.id);
    blocking(move || {
        images.remove_rootfs(&key)?;
        match std::fs::remove_dir_all(&logs) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("removing", logs)(error))
            }
            _ => Ok(()),
        }
    })
    .await?;
    container.forget().await?;
    inner.emit(container, "destroy", |event| event);
    inner.index.remove(&container.id);
    if volumes {
        inner.remove_anonymous(&container.record()).await;
    }
    container.poke();
    Ok(())
}

/// After an end that nobody asked for, or at an opening: clears the attempt away and goes on with what
/// is to follow. What fails is tried again by the next opening.
pub(crate) async fn ended(inner: &Arc<Inner>, container: &Arc<Container>) {
    let settled = {
        let _turn = container.turn.lock().await;
        attempt::settle(inner, container).await
    };
    if let Err(error) = settled {
        tracing::warn!(container = %container.id, %error, "its end is not cleared away");
        return;
    }
    let record = container.record();
    let restarting = container.restarting.load(Ordering::Acquire);
    let ran = record.attempt.is_none() && record.last.is_some();
    if record.removing || (record.spec.auto_remove && ran && !restarting) {
        if container.is_forgotten().await {
            return;
        }
        if let Err(error) = remove(inner, container, true).await {
            tracing::warn!(container = %container.id, %error, "not removed");
        }
    }
}
