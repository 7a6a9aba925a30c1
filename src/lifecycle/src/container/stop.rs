//! StopContainer, and ending a container by force.

use super::supervise::force_out;
use super::{Container, Phase, conclude, left_behind};
use crate::context::{Context, SHIM_PATIENCE};
use crate::state::{End, How};
use crate::{ContainerState, Error, Result};
use orlop_model::{Signal, Timestamp};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::timeout;

/// How late a shim may be in answering a new daemon when its container is to be stopped at once.
const LATE: Duration = Duration::from_secs(2);

/// The stop signal, `grace` for it to work, then SIGKILL. Any number of these may run at once: the
/// signal is sent by the first one, and whichever waits least kills for all.
///
/// A container that was never started has nothing to stop and stays as it is, as in the field.
pub(crate) async fn stop(
    context: Arc<Context>,
    container: Arc<Container>,
    grace: Duration,
) -> Result<()> {
    match container.state() {
        ContainerState::Exited | ContainerState::Created => return Ok(()),
        ContainerState::Running | ContainerState::Unknown => {}
    }
    // After a start of the daemon a shim may be a little late; it is not killed for that.
    let _ = timeout(grace.clamp(LATE, SHIM_PATIENCE), container.known()).await;
    if !grace.is_zero() && send_stop_signal(&container).await {
        tokio::select! {
            () = container.reached(Phase::Ended) => return Ok(()),
            () = tokio::time::sleep(grace) => {}
        }
    }
    kill(&context, &container).await
}

/// Whether the container can now be waited for.
async fn send_stop_signal(container: &Container) -> bool {
    let Some(client) = container.client() else { return false };
    if container.stop_signalled.swap(true, Ordering::AcqRel) {
        return true;
    }
    let signal = container.facts.get().stop_signal.number();
    match timeout(SHIM_PATIENCE, client.kill("", signal, false)).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::warn!(container = %container.id, %error, "stop signal not sent");
            // Its end may be on the way; else it is killed at the end of the grace period.
            !error.is_gone()
        }
        Err(_) => false,
    }
}

/// Ends a container in any state and returns when that is recorded. For its removal and the stop of
/// its sandbox.
pub(crate) async fn end(context: &Arc<Context>, container: &Arc<Container>) -> Result<()> {
    match container.state() {
        ContainerState::Exited => Ok(()),
        ContainerState::Running | ContainerState::Unknown => kill(context, container).await,
        ContainerState::Created => {
            // Its supervisor kills the waiting init when it takes the shim away.
            let at = Timestamp::now();
            let message = "it was never started".to_owned();
            conclude(context, container, End { how: How::NeverStarted, at, message }).await;
            Ok(())
        }
    }
}

async fn kill(context: &Arc<Context>, container: &Arc<Container>) -> Result<()> {
    container.killing.store(true, Ordering::Release);
    if let Some(client) = container.client() {
        // Its outcome is seen below, or it is not and force is used.
        let _ = timeout(SHIM_PATIENCE, client.kill("", Signal::KILL.number(), true)).await;
        if timeout(SHIM_PATIENCE, container.reached(Phase::Ended)).await.is_ok() {
            return Ok(());
        }
    }
    // The shim does not react: end it and all of its container by the kernel's means. The
    // supervisor sees the connection close; a container without supervisor is concluded here.
    force_out(context, container).await?;
    if container.is_silent() {
        let end = left_behind(container).await;
        conclude(context, container, end).await;
    }
    timeout(SHIM_PATIENCE, container.reached(Phase::Ended))
        .await
        .map_err(|_| Error::KillTimeout { id: container.id.clone(), after: SHIM_PATIENCE })
}
