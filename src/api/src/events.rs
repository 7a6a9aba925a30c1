//! GetContainerEvents.

use crate::Api;
use crate::batches::Replies;
use crate::error::ApiError;
use crate::v1;
use crate::view;
use futures::stream;
use orlop_lifecycle::{Event, EventKind};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use tonic::Status;

/// A subscriber takes events at its own pace from a ring that all share. One that is too far behind
/// has lost some: its stream ends with an error, so that it lists again and starts anew.
pub(crate) async fn stream(
    api: &Api,
    _: v1::GetEventsRequest,
) -> Result<Replies<v1::ContainerEventResponse>, ApiError> {
    let events = api.engine()?.runtime.events()?;
    let closing = api.closing();
    Ok(replies(events, closing))
}

fn replies(
    events: broadcast::Receiver<Event>,
    closing: watch::Receiver<bool>,
) -> Replies<v1::ContainerEventResponse> {
    let next = |state: Option<_>| async move {
        let (mut events, mut closing): (
            tokio::sync::broadcast::Receiver<Event>,
            tokio::sync::watch::Receiver<bool>,
        ) = state?;
        let event = tokio::select! {
            event = events.recv() => event,
            // The daemon stops; a stream that goes on would hold that up.
            _ = closing.wait_for(|closing| *closing) => return None,
        };
        match event {
            Ok(event) => Some((Ok(response(&event)), Some((events, closing)))),
            Err(RecvError::Lagged(lost)) => Some((Err(behind(lost)), None)),
            Err(RecvError::Closed) => None,
        }
    };
    Box::pin(stream::unfold(Some((events, closing)), next))
}

fn behind(lost: u64) -> Status {
    tracing::warn!(lost, "a subscriber to container events was too slow and is cut off");
    Status::resource_exhausted(format!(
        "{lost} events were lost because they were not read in time: list sandboxes and containers, then subscribe again"
    ))
}

fn response(event: &Event) -> v1::ContainerEventResponse {
    let kind = match event.kind {
        EventKind::Created => v1::ContainerEventType::ContainerCreatedEvent,
        EventKind::Started | EventKind::RunStarted | EventKind::Health => {
            v1::ContainerEventType::ContainerStartedEvent
        }
        // Containers of CRI run once and are not looked at.
        EventKind::Stopped | EventKind::RunEnded => v1::ContainerEventType::ContainerStoppedEvent,
        EventKind::Deleted => v1::ContainerEventType::ContainerDeletedEvent,
    };
    v1::ContainerEventResponse {
        // A sandbox's own events bear its id.
        container_id: event
            .container
            .as_ref()
            .map_or_else(|| event.sandbox.to_string(), ToString::to_string),
        container_event_type: kind.into(),
        created_at: event.at.0,
        pod_sandbox_status: event.pod.as_ref().map(|pod| view::sandbox_status(pod)),
        containers_statuses: event
            .containers
            .iter()
            .map(|container| view::container_status(container))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt;
    use orlop_model::{SandboxId, Timestamp};

    fn event(at: i64) -> Event {
        let sandbox = SandboxId::parse("s1").unwrap();
        let kind = EventKind::Started;
        Event { kind, at: Timestamp(at), sandbox, container: None, pod: None, containers: vec![] }
    }

    #[tokio::test]
    async fn who_is_too_slow_is_told_to_list_again_and_holds_up_nobody() {
        let sender = broadcast::Sender::new(4);
        let closing = watch::Sender::new(false);
        let subscribe = || replies(sender.subscribe(), closing.subscribe());
        let (mut slow, mut quick) = (subscribe(), subscribe());
        for at in 0..10 {
            sender.send(event(at)).unwrap();
            let told = quick.next().await.unwrap().unwrap();
            assert_eq!((told.created_at, told.container_id.as_str()), (at, "s1"));
        }
        let error = slow.next().await.unwrap().unwrap_err();
        assert_eq!(error.code(), tonic::Code::ResourceExhausted);
        assert!(error.message().starts_with("6 events were lost"), "{error}");
        assert!(slow.next().await.is_none(), "the stream has ended");
        // The daemon stops.
        closing.send_replace(true);
        assert!(quick.next().await.is_none());
    }
}
