//! UpdateContainerResources.

use super::Container;
use crate::context::{Context, SHIM_PATIENCE};
use crate::error::below;
use crate::kept::blocking;
use crate::neighbours::task_failed;
use crate::{ContainerState, Error, ErrorKind, Result};
use orlop_spec::request::Resources;
use orlop_task::Client;
use std::sync::Arc;
use tokio::time::timeout;

/// Changes the limits of a container that was created or runs. What is not set stays. When one limit
/// is refused, those that were set already are taken back.
pub(crate) async fn update(
    context: Arc<Context>,
    container: Arc<Container>,
    asked: Resources,
) -> Result<()> {
    let _turn = container.turn.lock().await;
    let expected = "only a container that was created or runs has limits to change";
    if !matches!(container.state(), ContainerState::Created | ContainerState::Running) {
        return Err(container.wrong_state(expected));
    }
    let client = container.client().ok_or_else(|| container.wrong_state(expected))?;
    let old = container.facts.get().resources().clone();
    let new = merged(&old, &asked)?;
    if let Err(error) = set(&context, &container, &client, &change(&new, &asked)).await {
        // As far as the kernel lets us: the first error is what counts.
        let back = set(&context, &container, &client, &change(&old, &asked)).await;
        if let Err(back) = back {
            tracing::warn!(container = %container.id, error = back.report(), "limits not taken back");
        }
        return Err(error);
    }
    if let Some(score) = asked.oom_score_adj.filter(|score| *score != 0) {
        set_oom_score(&context, &container, score).await?;
    }
    container.observe(|facts| facts.resources = Some(new)).await;
    Ok(())
}

/// What holds after a change: fields that are not set keep their old values.
fn merged(old: &Resources, asked: &Resources) -> Result<Resources> {
    let text = |new: &String, old: &String| if new.is_empty() { old } else { new }.clone();
    let mut new = Resources {
        cpu_period: asked.cpu_period.or(old.cpu_period),
        cpu_quota: asked.cpu_quota.or(old.cpu_quota),
        cpu_shares: asked.cpu_shares.or(old.cpu_shares),
        memory_limit: asked.memory_limit.or(old.memory_limit),
        memory_swap_limit: asked.memory_swap_limit.or(old.memory_swap_limit),
        // Zero is how CRI leaves a score out.
        oom_score_adj: asked.oom_score_adj.filter(|score| *score != 0).or(old.oom_score_adj),
        cpuset_cpus: text(&asked.cpuset_cpus, &old.cpuset_cpus),
        cpuset_mems: text(&asked.cpuset_mems, &old.cpuset_mems),
        hugepage_limits: old.hugepage_limits.clone(),
        unified: old.unified.clone(),
        pids: asked.pids.or(old.pids),
        memory_reservation: asked.memory_reservation.or(old.memory_reservation),
        blkio_weight: asked.blkio_weight.or(old.blkio_weight),
        oom_kill_disable: old.oom_kill_disable,
    };
    new.unified.extend(asked.unified.clone());
    for (size, limit) in &asked.hugepage_limits {
        new.hugepage_limits.retain(|(known, _)| known != size);
        new.hugepage_limits.push((size.clone(), *limit));
    }
    check_swap(&new)?;
    Ok(new)
}

/// The swap limit is one on memory and swap together.
fn check_swap(new: &Resources) -> Result<()> {
    let Some(swap) = new.memory_swap_limit.filter(|swap| *swap >= 0) else { return Ok(()) };
    match new.memory_limit {
        Some(memory) if memory >= 0 && swap >= memory => Ok(()),
        Some(memory) => Err(Error::Invalid {
            field: "linux.memory_swap_limit_in_bytes",
            value: swap.to_string(),
            why: format!(
                "it is memory and swap together, and the memory limit is {memory}: give both, or -1 for no limit of swap"
            ),
        }),
        None => Err(Error::Invalid {
            field: "linux.memory_swap_limit_in_bytes",
            value: swap.to_string(),
            why: "the container has no memory limit: give that too".into(),
        }),
    }
}

/// The limits of `all` that have to be written when those of `asked` change: limits that the kernel
/// checks against each other go together.
fn change(all: &Resources, asked: &Resources) -> Resources {
    let mut change = Resources {
        cpu_shares: asked.cpu_shares.and(all.cpu_shares),
        pids: asked.pids.and(all.pids),
        memory_reservation: asked.memory_reservation.and(all.memory_reservation),
        blkio_weight: asked.blkio_weight.and(all.blkio_weight),
        cpuset_cpus: if asked.cpuset_cpus.is_empty() {
            String::new()
        } else {
            all.cpuset_cpus.clone()
        },
        cpuset_mems: if asked.cpuset_mems.is_empty() {
            String::new()
        } else {
            all.cpuset_mems.clone()
        },
        ..Resources::default()
    };
    if asked.cpu_period.is_some() || asked.cpu_quota.is_some() {
        (change.cpu_period, change.cpu_quota) = (all.cpu_period, all.cpu_quota);
    }
    if asked.memory_limit.is_some() || asked.memory_swap_limit.is_some() {
        (change.memory_limit, change.memory_swap_limit) = (all.memory_limit, all.memory_swap_limit);
    }
    let pages = all.hugepage_limits.iter();
    change.hugepage_limits = pages
        .filter(|(size, _)| asked.hugepage_limits.iter().any(|(asked, _)| asked == size))
        .cloned()
        .collect();
    let keys = all.unified.iter().filter(|(key, _)| asked.unified.contains_key(*key));
    change.unified = keys.map(|(key, value)| (key.clone(), value.clone())).collect();
    change
}

async fn set(
    context: &Context,
    container: &Container,
    client: &Client,
    change: &Resources,
) -> Result<()> {
    let id = container.id.as_str();
    let mut limits = orlop_spec::limits(change, &context.host.features);
    if let Some(memory) = limits.memory_mut() {
        // v2 would kill, and v1 push everything out, to come below a limit.
        memory.set_check_before_update(Some(true));
    }
    let json = serde_json::to_vec(&limits)
        .map_err(|error| below("writing the limits", id, ErrorKind::Internal, error))?;
    match timeout(SHIM_PATIENCE, client.update(json)).await {
        Ok(done) => done.map_err(|error| task_failed("changing the limits", id, error)),
        Err(_) => Err(Error::ShimSilent {
            id: id.to_owned(),
            why: format!("no answer to update within {SHIM_PATIENCE:?}"),
        }),
    }
}

/// Of every process that there is; those to come inherit it.
async fn set_oom_score(context: &Arc<Context>, container: &Container, score: i32) -> Result<()> {
    let score = context.host.features.min_oom_score_adj.map_or(score, |least| score.max(least));
    let (context, id) = (Arc::clone(context), container.id.clone());
    let cgroup = container.view().cgroup.clone();
    blocking(move || match context.host.meter(&cgroup) {
        Some(meter) => meter.set_oom_score_adj(score).map_err(|error| {
            below("changing the OOM score", id.as_str(), ErrorKind::Internal, error)
        }),
        None => Ok(()),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources() -> Resources {
        Resources {
            cpu_quota: Some(50_000),
            cpu_period: Some(100_000),
            cpu_shares: Some(512),
            memory_limit: Some(1 << 26),
            oom_score_adj: Some(500),
            cpuset_cpus: "0".into(),
            hugepage_limits: vec![("2MB".into(), 0)],
            ..Resources::default()
        }
    }

    #[test]
    fn what_is_not_set_stays() {
        let old = resources();
        let asked = Resources { oom_score_adj: Some(0), ..Resources::default() };
        assert_eq!(merged(&old, &asked).unwrap(), old);
        assert_eq!(change(&old, &asked), Resources::default(), "nothing to write");
        let asked = Resources {
            cpu_quota: Some(-1),
            memory_limit: Some(1 << 27),
            hugepage_limits: vec![("2MB".into(), 7)],
            unified: [("memory.high".to_owned(), "max".to_owned())].into(),
            ..Resources::default()
        };
        let new = merged(&old, &asked).unwrap();
        let expected = Resources {
            cpu_quota: Some(-1),
            memory_limit: Some(1 << 27),
            hugepage_limits: vec![("2MB".into(), 7)],
            unified: asked.unified.clone(),
            ..old
        };
        assert_eq!(new, expected);
        let written = change(&new, &asked);
        assert_eq!((written.cpu_quota, written.cpu_period), (Some(-1), Some(100_000)));
        assert_eq!((written.cpu_shares, written.cpuset_cpus.as_str()), (None, ""));
    }

    #[test]
    fn swap_is_never_below_memory() {
        let old = Resources { memory_swap_limit: Some(1 << 26), ..resources() };
        let raise = Resources { memory_limit: Some(1 << 27), ..Resources::default() };
        let error = merged(&old, &raise).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains("memory_swap_limit_in_bytes"), "{error}");
        let both = Resources { memory_swap_limit: Some(1 << 27), ..raise.clone() };
        merged(&old, &both).unwrap();
        merged(&resources(), &raise).unwrap();
        let alone = Resources { memory_swap_limit: Some(1), ..Resources::default() };
        assert!(merged(&Resources::default(), &alone).is_err());
        let none = Resources { memory_swap_limit: Some(-1), ..Resources::default() };
        merged(&Resources::default(), &none).unwrap();
    }
}
