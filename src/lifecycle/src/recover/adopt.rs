//! Containers of an earlier daemon find a supervisor again.

use crate::container::{Container, Link, Phase, conclude, left_behind, retire, supervise};
use crate::context::Context;
use crate::spans;
use crate::state::{End, How};
use orlop_model::Timestamp;
use orlop_task::{Client, Shim, State, Status};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument;

/// Adopts every container, all at once, and waits until each is known or `patience` is over: then
/// the rest is unknown, and goes on being asked.
pub(super) async fn adopt_all(context: &Arc<Context>, patience: Duration) {
    let deadline = Instant::now() + patience;
    let mut pending = Vec::new();
    for container in context.index.all_containers() {
        let (known, told) = oneshot::channel();
        pending.push(told);
        let span = spans::of_container(&container);
        tokio::spawn(adopt(Arc::clone(context), container, known).instrument(span));
    }
    for told in pending {
        // Late, or its task has ended: both are fine here.
        let _ = timeout_at(deadline, told).await;
    }
}

async fn adopt(context: Arc<Context>, container: Arc<Container>, known: oneshot::Sender<()>) {
    if container.is_supervised() {
        // Its process may be another than the record's, also where it has ended.
        let _ = container.look_at_runs().await;
    }
    let facts = container.facts.get();
    if facts.boot_id != context.host.boot_id && facts.end.is_none() {
        let message = "the node was restarted while the container was there".to_owned();
        let end = End { how: How::Rebooted, at: Timestamp::now(), message };
        conclude(&context, &container, end).await;
    }
    if container.phase() >= Phase::Ended {
        container.set_link(Link::Down);
        let _ = known.send(());
        finish(&context, &container).await;
        return;
    }
    tokio::select! {
        // It was killed by force while its shim did not answer.
        () = container.reached(Phase::Ended) => {}
        found = find(&container) => match found {
            Some((client, state)) => meet(&context, &container, client, state).await,
            None => {
                let end = left_behind(&container).await;
                conclude(&context, &container, end).await;
            }
        },
    }
    if container.is_silent() {
        container.set_link(Link::Down);
    }
    let _ = known.send(());
    supervise(context, container).await;
}

/// The shim and what it says; `None`: there is none. Takes as long as the shim takes.
async fn find(container: &Container) -> Option<(Client, State)> {
    let shim = Shim::connect(&container.bundle).await;
    let answer = match shim {
        Ok(shim) => shim.client.state("").await.map(|state| (shim.client, state)),
        Err(error) => Err(error),
    };
    answer
        .inspect_err(|error| tracing::info!(container = %container.id, %error, "shim has gone"))
        .ok()
}

/// What the shim knows and the record does not: a start or an end that the daemon did not live to see.
async fn meet(context: &Context, container: &Container, client: Client, state: State) {
    // Before anybody can begin a command of this daemon's.
    let details = client.details().await.unwrap_or_default();
    let facts = container.facts.get();
    let begun = state.status != Status::Created && state.status != Status::Unknown;
    if facts.started_at.is_none() && begun {
        match (details.started_at, state.exit) {
            // It never started, its waiting init was killed.
            (0, Some(exit)) => {
                let how = How::Exited { code: exit.code, oom: false };
                let message = "it ended before it was started".into();
                conclude(context, container, End { how, at: exit.at, message }).await;
            }
            (0, None) => container.observe(|facts| facts.started_at = Some(Timestamp::now())).await,
            (at, _) => container.observe(|facts| facts.started_at = Some(Timestamp(at))).await,
        }
    }
    tokio::spawn(end_commands(client.clone(), details.exec_ids));
    container.set_link(Link::Up(client));
    if container.facts.get().started_at.is_some() {
        container.advance(Phase::Running);
    }
    if let Some(exit) = state.exit {
        // It has ended: nobody shall see it run.
        let end = match left_behind(container).await {
            End { how: How::Lost, .. } => {
                let how = How::Exited { code: exit.code, oom: false };
                End { how, at: exit.at, message: String::new() }
            }
            end => end,
        };
        conclude(context, container, end).await;
    }
}

/// Commands of the earlier daemon have lost whoever talked to them: they end. Those of a command line
/// talk to the shim themselves: only what is left of one that has ended goes.
async fn end_commands(client: Client, commands: Vec<String>) {
    for command in commands {
        if command.starts_with(orlop_task::CLIENT_EXEC) {
            let over = client.state(&command).await.is_ok_and(|state| state.exit.is_some());
            if over {
                // Its client may do the same in this moment.
                let _ = client.delete(&command).await;
            }
            continue;
        }
        orlop_task::end_command(&client, &command).await;
    }
}

/// A container that has ended may have left its shim, if the daemon died in between.
async fn finish(context: &Arc<Context>, container: &Container) {
    let connect = timeout_at(Instant::now() + super::PATIENCE, Shim::connect(&container.bundle));
    if let Ok(Ok(shim)) = connect.await {
        container.set_link(Link::Up(shim.client));
    }
    retire(context, container).await;
}
