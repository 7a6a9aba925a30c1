//! RemoveContainer.

use super::{Container, Phase, end, remove_layers};
use crate::context::{Context, SHIM_PATIENCE};
use crate::host::remove_tree;
use crate::kept::blocking;
use crate::{Error, EventKind, Result};
use std::sync::Arc;
use tokio::time::timeout;

/// Ends a container if need be and removes all of it except its log, which the kubelet owns.
pub(crate) async fn remove(context: Arc<Context>, container: Arc<Container>) -> Result<()> {
    let _turn = container.turn.lock().await;
    end(&context, &container).await?;
    // The supervisor has a bound on everything it does, and so has this wait.
    timeout(SHIM_PATIENCE * 3, container.reached(Phase::Retired)).await.map_err(|_| {
        Error::ShimSilent { id: container.id.to_string(), why: "its end takes too long".into() }
    })?;
    let (images, bundle) = (context.images.clone(), container.bundle.clone());
    let (id, config) = (container.id.clone(), Arc::clone(&container.facts.get().config));
    blocking(move || {
        remove_layers(&images, id.as_str(), &config)?;
        remove_tree(&bundle)
    })
    .await?;
    // The record goes last: until then a failed removal can be tried again.
    container.facts.remove().await?;
    context.index.remove_container(&container.id);
    let name = container.facts.get().config.metadata.clone();
    context.index.container_names.free(&(container.sandbox.clone(), name), &container.id);
    context.tell(EventKind::Deleted, &container.sandbox, Some(&container.id));
    Ok(())
}
