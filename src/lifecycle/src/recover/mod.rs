//! After a start of the daemon: records are met with what the host really has.
//!
//! What a record speaks of and what lives is supervised again. What ended meanwhile is recorded.
//! What lives, or lies around, without a record was half made or half removed: it is removed. After
//! a boot of the host nothing lives, and the records say so.

mod adopt;
mod orphans;

pub(crate) use orphans::force_out_bundle;

use crate::Result;
use crate::container::{Container, Link};
use crate::context::Context;
use crate::kept::{Kept, blocking, from_store};
use crate::records::{Damaged, Records};
use crate::sandbox::Sandbox;
use crate::spans;
use crate::state::{ContainerRecord, SandboxRecord};
use orlop_model::Timestamp;
use orlop_store::Record;
use orlop_task::Shim;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::timeout;
use tracing::Instrument;

/// How long the start of the daemon waits for shims to answer; all are asked at once. One that is
/// later than that is unknown until it answers.
const PATIENCE: Duration = Duration::from_millis(1500);

/// What [`crate::Runtime::recover`] found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Sandboxes that are known.
    pub sandboxes: usize,
    /// Containers that are known.
    pub containers: usize,
    /// Of these, still running.
    pub running: usize,
    /// Whose shim did not answer within its time.
    pub unknown: usize,
    /// Records that could not be read and were moved aside, with the reason.
    pub bad_records: Vec<String>,
    /// Things without a record that were removed: half-made objects of the time of the crash.
    pub orphans: usize,
}

/// Meets the records with the host.
pub(crate) async fn recover(context: &Arc<Context>) -> Result<Recovered> {
    let mut recovered = Recovered::default();
    let sandboxes = load(&context.sandbox_records, &mut recovered).await?;
    let containers = load(&context.container_records, &mut recovered).await?;
    for (name, record) in sandboxes {
        let facts = Kept::loaded(Arc::clone(&context.sandbox_records), &name, record);
        let sandbox = Sandbox::new(facts, &context.host.boot_id, None);
        context
            .index
            .sandbox_names
            .settle(sandbox.facts.get().config.metadata.clone(), sandbox.id.clone());
        context.index.insert_sandbox(Arc::new(sandbox));
    }
    recovered.orphans += insert_containers(context, containers).await?;
    recover_network(context).await;
    meet_sandboxes(context).await;
    adopt::adopt_all(context, PATIENCE).await;
    recovered.orphans += orphans::remove_all(context).await?;
    count(context, &mut recovered);
    context.recovered.store(true, Ordering::Release);
    Ok(recovered)
}

async fn load<R: Record + Send + 'static>(
    dir: &Arc<Records<R>>,
    recovered: &mut Recovered,
) -> Result<Vec<(String, R)>> {
    let dir = Arc::clone(dir);
    let (records, damaged) =
        blocking(move || dir.load_all().map_err(|error| from_store(R::KIND, error))).await?;
    for Damaged { bad, restored } in damaged {
        let now =
            if restored { "its copy is used" } else { "there is no copy: its object is removed" };
        let text = format!(
            "{} record {:?} moved to {}: {}; {now}",
            R::KIND,
            bad.name,
            bad.moved_to.display(),
            bad.why
        );
        tracing::warn!("{text}");
        recovered.bad_records.push(text);
    }
    Ok(records)
}

/// Containers whose sandbox has no record are removed with it. How many those were.
async fn insert_containers(
    context: &Arc<Context>,
    records: Vec<(String, ContainerRecord)>,
) -> Result<usize> {
    let known: HashSet<_> =
        context.index.all_sandboxes().iter().map(|sandbox| sandbox.id.clone()).collect();
    let mut lost = Vec::new();
    for (name, record) in records {
        if !known.contains(&record.sandbox) {
            lost.push(name);
            continue;
        }
        let key = (record.sandbox.clone(), record.config.metadata.clone());
        let bundle = context.bundle(record.id.as_str());
        context.index.container_names.settle(key, record.id.clone());
        let facts = Kept::loaded(Arc::clone(&context.container_records), &name, record);
        context.index.insert_container(Arc::new(Container::new(facts, bundle, Link::Silent)));
    }
    let count = lost.len();
    let dir = Arc::clone(&context.container_records);
    blocking(move || {
        // Without a record they are orphans like any other, see below.
        lost.iter().try_for_each(|name| dir.remove(name).map_err(|error| from_store(name, error)))
    })
    .await?;
    Ok(count)
}

fn lives(facts: &SandboxRecord, context: &Context) -> bool {
    facts.boot_id == context.host.boot_id && facts.released_at.is_none()
}

/// Lets the network drop what belongs to no living sandbox.
async fn recover_network(context: &Arc<Context>) {
    let all: Vec<_> =
        context.index.all_sandboxes().iter().map(|sandbox| sandbox.facts.get()).collect();
    let live = || all.iter().filter(|facts| lives(facts, context));
    let slots: Vec<String> = live()
        .filter_map(|facts| facts.namespaces.as_ref())
        .map(|pinned| pinned.slot.clone())
        .collect();
    let sandboxes: Vec<String> = live().map(|facts| facts.id.to_string()).collect();
    if let Err(error) = context.network.recover(&slots, &sandboxes).await {
        // Running pods do not need it; new ones will tell.
        tracing::error!(error = crate::error::chain(&error), "network not recovered");
    }
}

/// Sandboxes of another boot hold nothing any more; the others' inits are watched again.
async fn meet_sandboxes(context: &Arc<Context>) {
    let mut tasks = tokio::task::JoinSet::new();
    for sandbox in context.index.all_sandboxes() {
        let facts = sandbox.facts.get();
        let context = Arc::clone(context);
        if facts.boot_id != context.host.boot_id && facts.released_at.is_none() {
            tasks.spawn(async move { bury(&context, &sandbox, &facts).await });
        } else if lives(&facts, &context)
            && facts.init_pid.is_some()
            && facts.init_ended_at.is_none()
        {
            tasks.spawn(async move { meet_init(&context, &sandbox).await });
        }
    }
    while tasks.join_next().await.is_some() {}
}

/// After a boot `/run` is empty and this finds nothing; but nobody promises that it is a tmpfs.
async fn bury(context: &Arc<Context>, sandbox: &Sandbox, facts: &SandboxRecord) {
    if let Err(error) = crate::sandbox::end_init(context, sandbox).await {
        tracing::warn!(sandbox = %facts.id, error = error.report(), "stale init not removed");
    }
    if let Err(error) = crate::sandbox::unmake_files(context, facts).await {
        tracing::warn!(sandbox = %facts.id, error = error.report(), "stale files not removed");
    }
    sandbox.observe(|facts| facts.released_at = Some(Timestamp::now())).await;
}

/// Waits for the shim of an init for a while. A stuck one may still answer later, and the pod's PID
/// namespace lives as long as its process 1 does.
async fn meet_init(context: &Context, sandbox: &Arc<Sandbox>) {
    let bundle = context.bundle(sandbox.id.as_str());
    let sandbox = Arc::clone(sandbox);
    let span = spans::of_sandbox(&sandbox.id);
    let meet = async move {
        match Shim::connect(&bundle).await {
            Ok(shim) => sandbox.adopt_init(shim.client).await,
            Err(error) => {
                tracing::info!(sandbox = %sandbox.id, %error, "init has ended");
                sandbox.observe(|facts| facts.init_ended_at = Some(Timestamp::now())).await;
            }
        }
    };
    let _ = timeout(PATIENCE, tokio::spawn(meet.instrument(span))).await;
}

fn count(context: &Context, recovered: &mut Recovered) {
    let containers = context.index.all_containers();
    let having = |state| containers.iter().filter(|container| container.state() == state).count();
    recovered.sandboxes = context.index.all_sandboxes().len();
    recovered.containers = containers.len();
    recovered.running = having(crate::ContainerState::Running);
    recovered.unknown = having(crate::ContainerState::Unknown);
}
