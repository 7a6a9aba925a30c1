//! The task that watches over a container from its creation to the end of its shim.

use super::{Container, Link, Phase, watch_runs};
use crate::context::{Context, SHIM_PATIENCE};
use crate::host;
use crate::kept::blocking;
use crate::recover::force_out_bundle;
use crate::state::{End, How, end_at};
use crate::{EventKind, Result};
use orlop_model::Timestamp;
use orlop_task::{Bundle, Client};
use std::sync::Arc;
use tokio::time::timeout;

/// Watches a container whose shim answers: records its end, whatever that is, then takes its shim
/// and cgroup away. Returns when nothing but files is left of it.
pub(crate) async fn supervise(context: Arc<Context>, container: Arc<Container>) {
    if let Some(client) = container.client() {
        let end = tokio::select! {
            // Somebody else concluded: a start that failed, a sandbox that was stopped.
            () = container.reached(Phase::Ended) => None,
            end = watch(&container, &client) => Some(end),
            () = follow(&context, &container, &client) => None,
        };
        if let Some(end) = end {
            conclude(&context, &container, end).await;
        }
    }
    retire(&context, &container).await;
}

/// Follows what the shim does by itself; never returns.
async fn follow(context: &Context, container: &Container, client: &Client) {
    if container.is_supervised() {
        watch_runs(context, container, client).await;
    }
    std::future::pending::<()>().await;
}

/// Returns with the end of the container.
async fn watch(container: &Container, client: &Client) -> End {
    let mut exit = client.wait("").await;
    let refused = exit.as_ref().is_err_and(|error| !error.is_gone());
    if refused && container.phase() == Phase::Created {
        // Somebody else's shim may not let itself be asked before the start.
        tokio::select! {
            () = client.closed() => {}
            () = container.reached(Phase::Running) => exit = client.wait("").await,
        }
    }
    match exit {
        Ok(exit) => {
            decided(container).await;
            let message = match container.phase() {
                Phase::Created => "its init ended before it was started".to_owned(),
                _ => String::new(),
            };
            let oom = recorded_end(container).await.is_some_and(|(_, oom)| oom);
            End { how: How::Exited { code: exit.code, oom }, at: exit.at, message }
        }
        Err(error) => {
            if !error.is_gone() {
                tracing::warn!(container = %container.id, %error, "shim does not tell the exit");
            }
            decided(container).await;
            left_behind(container).await
        }
    }
}

/// A start that is on its way knows better why the waiting init has ended, or that the program began
/// before: its word comes first. Once a container runs nobody is waited for, since a removal that has
/// the turn waits for us.
async fn decided(container: &Container) {
    if container.phase() == Phase::Created {
        drop(container.turn.lock().await);
    }
}

/// The end of a container whose shim is gone: from the shim's last word, if it left one.
pub(crate) async fn left_behind(container: &Container) -> End {
    match recorded_end(container).await {
        Some((end, _)) => end,
        None => End {
            how: How::Lost,
            at: Timestamp::now(),
            message: "its shim ended without recording an exit status".into(),
        },
    }
}

/// What the shim wrote about the exit of process 1, and whether memory ran out.
async fn recorded_end(container: &Container) -> Option<(End, bool)> {
    let bundle = Bundle::new(&container.bundle);
    let read = blocking(move || Ok(bundle.exit_record())).await;
    match read {
        Ok(Ok(exit)) => exit.map(|exit| {
            let how = How::Exited { code: exit.code, oom: exit.oom_killed };
            (End { how, at: Timestamp(exit.exited_at), message: String::new() }, exit.oom_killed)
        }),
        Ok(Err(error)) => {
            tracing::warn!(container = %container.id, %error, "exit record not read");
            None
        }
        Err(_) => None,
    }
}

/// Records the end of a container. The first end counts.
pub(crate) async fn conclude(context: &Context, container: &Container, end: End) {
    if container.is_supervised() {
        // What its last run left, before anybody can see the end; not knowing it changes nothing of that.
        let _ = container.look_at_runs().await;
    }
    let mut first = false;
    container
        .observe(|facts| {
            first = facts.end.is_none();
            if first {
                let at = end_at(facts, end.at);
                facts.end = Some(End { at, ..end });
            }
        })
        .await;
    container.advance(Phase::Ended);
    if first {
        context.tell(EventKind::Stopped, &container.sandbox, Some(&container.id));
    }
}

/// Takes away the shim, what is left of the processes, and the cgroup, of a container that ended.
pub(crate) async fn retire(context: &Context, container: &Container) {
    let asked = match container.client() {
        Some(client) => ask_to_leave(&client).await,
        None => false,
    };
    if !asked && let Err(error) = force_out(context, container).await {
        tracing::warn!(container = %container.id, error = error.report(), "container not cleaned up");
    }
    container.set_link(Link::Down);
    container.advance(Phase::Retired);
}

/// The orderly way: the shim removes the cgroup and ends. Whether it did.
pub(crate) async fn ask_to_leave(client: &Client) -> bool {
    let leave = async {
        let deleted = client.delete("").await;
        if deleted.as_ref().is_err_and(|error| !error.is_not_found()) {
            return false;
        }
        // Without a container the shim ends; that its connection closes is its word for it.
        let _ = client.shutdown(true).await;
        client.closed().await;
        true
    };
    timeout(SHIM_PATIENCE, leave).await.unwrap_or(false)
}

/// The other way, for a shim that is dead or stuck: by the kernel's means.
pub(crate) async fn force_out(context: &Context, container: &Container) -> Result<()> {
    let facts = container.facts.get();
    let (host, bundle) = (Arc::clone(&context.host), container.bundle.clone());
    blocking(move || {
        // The shim first: it could start something while the cgroup is being emptied.
        force_out_bundle(&bundle);
        if facts.boot_id == host.boot_id && facts.pid_start != 0 {
            host::kill_process(i32::try_from(facts.pid).unwrap_or(0), facts.pid_start);
        }
        host.end_cgroup(&facts.cgroup)
    })
    .await
}
