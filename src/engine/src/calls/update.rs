//! Changes to a container that is there: its name, its limits, its restart policy.

use crate::container::to_the_end;
use crate::spec::{Resources, RestartPolicy};
use crate::{Engine, Error, Result, names};
use orlop_lifecycle::ContainerState;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What is to change; `None` and empty stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpdateSpec {
    /// Limits.
    pub resources: Resources,
    /// What happens when it ends.
    pub restart: Option<RestartPolicy>,
}

impl Engine {
    /// Gives a container another name.
    pub async fn rename(&self, text: &str, name: &str) -> Result<()> {
        let (inner, container) = (Arc::clone(&self.0), self.find(text)?);
        let name = name.strip_prefix('/').unwrap_or(name).to_owned();
        to_the_end(async move {
            names::check(&name)?;
            let _turn = container.turn.lock().await;
            let old = container.name();
            if old == name {
                return Err(Error::Invalid {
                    field: "name",
                    value: name,
                    why: "the container has this name already: give another".into(),
                });
            }
            inner.index.claim(&name, &container.id)?;
            let changed = container.change(|facts| facts.name.clone_from(&name)).await;
            inner.index.free(if changed.is_ok() { &old } else { &name }, &container.id);
            changed?;
            crate::attempt::tell_names(&inner, &container).await?;
            inner.emit(&container, "rename", |event| event.with("oldName", old));
            Ok(())
        })
        .await
    }

    /// Changes limits and restart policy, of a running container at once.
    pub async fn update(&self, text: &str, change: UpdateSpec) -> Result<()> {
        let (inner, container) = (Arc::clone(&self.0), self.find(text)?);
        to_the_end(async move {
            let _turn = container.turn.lock().await;
            let record = container.record();
            if change.restart.is_some_and(|policy| policy != RestartPolicy::No)
                && record.spec.auto_remove
            {
                return Err(Error::Invalid {
                    field: "restart",
                    value: format!("{:?}", change.restart.unwrap_or_default()),
                    why: "the container is removed at its end (--rm): nothing is left to restart"
                        .into(),
                });
            }
            let merged = merged(&record.spec.resources, &change.resources);
            let live = inner.attempt_of(&record).filter(|view| {
                matches!(view.state, ContainerState::Created | ContainerState::Running)
            });
            if let Some(view) = live {
                let mut limits = crate::attempt::resources(&change.resources);
                if change.resources.memory_swap.is_none() && change.resources.memory.is_some() {
                    // The sum that goes with the memory is derived, unless it was asked for.
                    limits.memory_swap_limit = crate::attempt::resources(&merged).memory_swap_limit;
                }
                inner.runtime.update_container(view.id.as_str(), limits).await?;
                if let Some(policy) = change.restart {
                    let policy = crate::attempt::restart(policy);
                    inner.runtime.set_restart(view.id.as_str(), policy).await?;
                }
            }
            container
                .change(|facts| {
                    facts.spec.resources = merged;
                    if let Some(policy) = change.restart {
                        facts.spec.restart = policy;
                    }
                })
                .await?;
            inner.emit(&container, "update", |event| event);
            Ok(())
        })
        .await
    }
}

fn merged(old: &Resources, new: &Resources) -> Resources {
    let text = |new: &String, old: &String| if new.is_empty() { old } else { new }.clone();
    let cpus = new.nano_cpus.is_some() || new.cpu_quota.is_some() || new.cpu_period.is_some();
    Resources {
        memory: new.memory.or(old.memory),
        memory_swap: new.memory_swap.or(old.memory_swap),
        memory_reservation: new.memory_reservation.or(old.memory_reservation),
        // One way of saying it takes the place of the other.
        nano_cpus: if cpus { new.nano_cpus } else { old.nano_cpus },
        cpu_period: if new.nano_cpus.is_some() { None } else { new.cpu_period.or(old.cpu_period) },
        cpu_quota: if new.nano_cpus.is_some() { None } else { new.cpu_quota.or(old.cpu_quota) },
        cpu_shares: new.cpu_shares.or(old.cpu_shares),
        cpuset_cpus: text(&new.cpuset_cpus, &old.cpuset_cpus),
        cpuset_mems: text(&new.cpuset_mems, &old.cpuset_mems),
        pids: new.pids.or(old.pids),
        blkio_weight: new.blkio_weight.or(old.blkio_weight),
        ..old.clone()
    }
}
