//! What people do to a running container and CRI has no call for: hold still, go on, any signal.

use super::{Container, process_of};
use crate::context::SHIM_PATIENCE;
use crate::neighbours::task_failed;
use crate::{Error, Result};
use orlop_model::Signal;
use orlop_task::TaskError;
use tokio::time::timeout;

/// Freezes every process of a running container.
pub(crate) async fn pause(container: &Container) -> Result<()> {
    let client = process_of(container, "only a running container can be paused")?;
    bounded(container, "pausing", client.pause()).await
}

/// Undoes [`pause`].
pub(crate) async fn resume(container: &Container) -> Result<()> {
    let client = process_of(container, "only a paused container goes on")?;
    bounded(container, "resuming", client.resume()).await
}

/// Sends a signal to process 1 of a running container.
pub(crate) async fn signal(container: &Container, signal: Signal) -> Result<()> {
    let client = process_of(container, "only a running container gets signals")?;
    bounded(container, "signalling", client.kill("", signal.number(), false)).await
}

async fn bounded(
    container: &Container,
    what: &'static str,
    call: impl Future<Output = std::result::Result<(), TaskError>>,
) -> Result<()> {
    match timeout(SHIM_PATIENCE, call).await {
        Ok(done) => done.map_err(|error| task_failed(what, container.id.as_str(), error)),
        Err(_) => Err(Error::ShimSilent {
            id: container.id.to_string(),
            why: format!("no answer within {SHIM_PATIENCE:?}"),
        }),
    }
}
