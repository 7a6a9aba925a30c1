//! StopPodSandbox and RemovePodSandbox.

use super::run::detach_request;
use super::{Sandbox, end_init};
use crate::container;
use crate::context::Context;
use crate::error::io;
use crate::host::remove_tree;
use crate::kept::blocking;
use crate::neighbours::network_failed;
use crate::state::SandboxRecord;
use crate::{EventKind, Result};
use orlop_model::Timestamp;
use rustix::mount::{UnmountFlags, unmount};
use std::path::Path;
use std::sync::Arc;

/// Ends the containers and gives back what the sandbox holds. What fails is tried again by the next
/// call; everything is tried even if something fails.
pub(crate) async fn stop(context: Arc<Context>, sandbox: Arc<Sandbox>) -> Result<()> {
    if sandbox.facts.get().released_at.is_some() {
        return Ok(());
    }
    // From now on it takes no containers; those that are being made finish first.
    sandbox
        .observe(|facts| {
            facts.stop_asked_at.get_or_insert_with(Timestamp::now);
        })
        .await;
    let _alone = sandbox.gate.write().await;
    end_containers(&context, &sandbox).await?;
    release(&context, &sandbox).await
}

async fn end_containers(context: &Arc<Context>, sandbox: &Sandbox) -> Result<()> {
    let mut ends = tokio::task::JoinSet::new();
    for container in context.index.containers_of(&sandbox.id) {
        let context = Arc::clone(context);
        ends.spawn(async move {
            container::end(&context, &container).await?;
            container.reached(container::Phase::Retired).await;
            Ok(())
        });
    }
    first_error(ends).await
}

async fn first_error(mut tasks: tokio::task::JoinSet<Result<()>>) -> Result<()> {
    let mut first = Ok(());
    while let Some(done) = tasks.join_next().await {
        // A task that panicked has told so itself; its object is dealt with by the next call.
        first = first.and(done.unwrap_or(Ok(())));
    }
    first
}

/// Gives back init, network, namespaces, mounts and cgroup. Repeatable.
async fn release(context: &Arc<Context>, sandbox: &Sandbox) -> Result<()> {
    let facts = sandbox.facts.get();
    if facts.released_at.is_some() {
        return Ok(());
    }
    let (init, network) =
        tokio::join!(end_init(context, sandbox), release_network(context, &facts));
    let files = unmake_files(context, &facts).await;
    init.and(network).and(files)?;
    sandbox.observe(|facts| facts.released_at = Some(Timestamp::now())).await;
    context.tell(EventKind::Stopped, &sandbox.id, None);
    Ok(())
}

async fn release_network(context: &Context, facts: &SandboxRecord) -> Result<()> {
    if facts.attached {
        let detached = context.network.detach(detach_request(facts)).await;
        detached.map_err(|error| network_failed("detaching the network", &facts.id, error))?;
    }
    if let Some(namespaces) = &facts.namespaces {
        let released = context.network.release(&namespaces.slot).await;
        released.map_err(|error| network_failed("releasing the namespaces", &facts.id, error))?;
    }
    Ok(())
}

/// Removes the sandbox's directory with its shared memory, and the cgroup if that is ours.
pub(crate) async fn unmake_files(context: &Arc<Context>, facts: &SandboxRecord) -> Result<()> {
    let dir = context.sandbox_dir(&facts.id);
    let cgroup = facts.own_cgroup.then(|| facts.cgroup_parent.clone());
    let (host, made) = (Arc::clone(&context.host), facts.made_cgroups.clone());
    blocking(move || {
        // The directory goes last: it is by its name that recovery finds a cgroup of ours.
        cgroup.map_or(Ok(()), |path| host.end_cgroup(&path))?;
        host.prune_cgroups(&made);
        release_files(&dir)
    })
    .await
}

/// Unmounts a sandbox's shared memory and removes its files.
pub(crate) fn release_files(dir: &Path) -> Result<()> {
    let shm = dir.join("shm");
    // As often as something is mounted there; detached, since a process that is ending may still
    // have it open.
    loop {
        match unmount(&shm, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => break,
            Err(error) => return Err(io("unmounting", shm)(error.into())),
        }
    }
    remove_tree(dir)
}

/// Stops a sandbox if need be and removes all of it.
pub(crate) async fn remove(context: Arc<Context>, sandbox: Arc<Sandbox>) -> Result<()> {
    stop(Arc::clone(&context), Arc::clone(&sandbox)).await?;
    let _alone = sandbox.gate.write().await;
    let mut removals = tokio::task::JoinSet::new();
    for container in context.index.containers_of(&sandbox.id) {
        removals.spawn(container::remove(Arc::clone(&context), container));
    }
    first_error(removals).await?;
    sandbox.facts.remove().await?;
    context.index.remove_sandbox(&sandbox.id);
    let name = sandbox.facts.get().config.metadata.clone();
    context.index.sandbox_names.free(&name, &sandbox.id);
    context.tell_of(EventKind::Deleted, &sandbox.id, None, Some(sandbox.view()));
    Ok(())
}
