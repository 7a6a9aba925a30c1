//! StartContainer.

use super::{Container, Phase, conclude};
use crate::context::{Context, START_PATIENCE};
use crate::sandbox::Sandbox;
use crate::state::{End, How};
use crate::{ContainerState, Error, EventKind, Result};
use orlop_model::Timestamp;
use orlop_task::TaskError;
use std::sync::Arc;
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
    match timeout(START_PATIENCE, client.start("")).await {
        Ok(Ok(_pid)) => {
            container.observe(|facts| facts.started_at = Some(at.max(facts.created_at))).await;
            container.advance(Phase::Running);
            context.tell(EventKind::Started, &container.sandbox, Some(&container.id));
            Ok(())
        }
        Ok(Err(error)) => Err(failed(&context, &container, &error).await),
        Err(_) => Err(Error::ShimSilent {
            id: container.id.to_string(),
            why: format!("no answer to start within {START_PATIENCE:?}"),
        }),
    }
}

/// A container that could not be started has ended: its status tells why, as the error does.
async fn failed(context: &Context, container: &Container, error: &TaskError) -> Error {
    let message = error.to_string();
    let how = if error.is_gone() { How::Lost } else { How::StartFailed };
    conclude(context, container, End { how, at: Timestamp::now(), message: message.clone() }).await;
    Error::Start { id: container.id.clone(), message }
}
