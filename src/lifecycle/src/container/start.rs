//! StartContainer.

use super::{Container, Phase, conclude, force_out};
use crate::context::Context;
use crate::sandbox::Sandbox;
use crate::state::{End, How};
use crate::{ContainerState, Error, EventKind, Result};
use orlop_model::Timestamp;
use orlop_task::TaskError;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Lets the program of a created container go.
pub(crate) async fn start(
    context: Arc<Context>,
    sandbox: Arc<Sandbox>,
    container: Arc<Container>,
) -> Result<()> {
    let _shared = sandbox.gate.read().await;
    let _turn = container.turn.lock().await;
    sandbox.check_ready(&context)?;
    if container.state() != ContainerState::Created {
        return Err(container.wrong_state("only a created container can be started"));
    }
    let client = container.client().ok_or_else(|| container.wrong_state("its shim has gone"))?;
    // Before the call: a program may have written its first line before the answer is here.
    let at = Timestamp::now();
    let patience = context.options.start_patience;
    match timeout(patience, client.start("")).await {
        Ok(Ok(_pid)) => {
            container.observe(|facts| facts.started_at = Some(at.max(facts.created_at))).await;
            container.advance(Phase::Running);
            context.tell(EventKind::Started, &container.sandbox, Some(&container.id));
            Ok(())
        }
        Ok(Err(error)) => Err(failed(&context, &container, &error).await),
        Err(_) => Err(too_late(&context, &container, patience).await),
    }
}

/// Nobody may be told that a start failed whose program begins later: shim and init are ended by the
/// kernel's means before the answer.
async fn too_late(context: &Context, container: &Container, patience: Duration) -> Error {
    let why = format!("no answer to start within {patience:?}");
    match force_out(context, container).await {
        Ok(()) => {
            let end = End { how: How::StartFailed, at: Timestamp::now(), message: why.clone() };
            conclude(context, container, end).await;
        }
        // Its state stays open, and its removal tries again.
        Err(error) => {
            tracing::error!(container = %container.id, error = error.report(), "start not undone");
        }
    }
    Error::ShimSilent { id: container.id.to_string(), why }
}

/// A container that could not be started has ended: its status tells why, as the error does.
async fn failed(context: &Context, container: &Container, error: &TaskError) -> Error {
    let message = error.to_string();
    let how = if error.is_gone() { How::Lost } else { How::StartFailed };
    conclude(context, container, End { how, at: Timestamp::now(), message: message.clone() }).await;
    Error::Start { id: container.id.clone(), message }
}
