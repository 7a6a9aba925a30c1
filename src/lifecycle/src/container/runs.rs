//! What a shim does by itself: further runs and looks at health, as far as its bundle tells.

use super::Container;
use crate::context::Context;
use crate::kept::blocking;
use crate::neighbours::task_failed;
use crate::{EventKind, Result};
use orlop_model::Timestamp;
use orlop_spec::request::{Restart, Supervise};
use orlop_task::{Bundle, Client, HealthRecord, RunsRecord, TaskError};
use std::sync::PoisonError;

/// What was read last.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Watched {
    pub(crate) runs: Option<RunsRecord>,
    pub(crate) health: Option<HealthRecord>,
}

impl Watched {
    /// When the last run began, where that is told.
    pub(super) fn began(&self) -> Option<Timestamp> {
        self.runs.as_ref().map(|runs| Timestamp(runs.started_at)).filter(|at| at.0 != 0)
    }

    /// Process 1 now: the first run's, or the present one's; none between two.
    pub(super) fn pid(&self, first: u32) -> Option<u32> {
        match &self.runs {
            None => Some(first),
            Some(runs) => Some(runs.pid.unsigned_abs()).filter(|pid| *pid != 0),
        }
    }

    /// What is new against `before`, in order.
    fn news(&self, before: &Self) -> Vec<EventKind> {
        let count = |one: &Self| one.runs.as_ref().map_or(0, |runs| runs.restarts);
        let waits = |one: &Self| one.runs.as_ref().is_some_and(|runs| runs.waiting);
        let status = |one: &Self| one.health.as_ref().map(|health| health.status);
        let mut news = Vec::new();
        // Of runs between the two looks nothing is left but their number.
        if waits(self) && !waits(before) || count(self) > count(before) && !waits(before) {
            news.push(EventKind::RunEnded);
        }
        if count(self) > count(before) {
            news.push(EventKind::RunStarted);
        }
        if waits(self) && count(self) > count(before) {
            news.push(EventKind::RunEnded);
        }
        if status(self) != status(before) {
            news.push(EventKind::Health);
        }
        news
    }
}

impl Container {
    /// Whether its shim does something by itself.
    pub(crate) fn is_supervised(&self) -> bool {
        self.facts.get().config.extras.supervise.is_some()
    }

    /// Reads what the shim has left in the bundle, and shows it. What it was before.
    pub(crate) async fn look_at_runs(&self) -> Result<Watched> {
        let bundle = Bundle::new(&self.bundle);
        let read = blocking(move || {
            let read = || -> std::result::Result<Watched, TaskError> {
                Ok(Watched { runs: bundle.runs()?, health: bundle.health()? })
            };
            Ok(read())
        });
        let watched = read.await?.unwrap_or_else(|error| {
            tracing::warn!(container = %self.id, %error, "its runs and health are not known");
            Watched::default()
        });
        let before = std::mem::replace(
            &mut *self.watched.write().unwrap_or_else(PoisonError::into_inner),
            watched,
        );
        self.refresh();
        Ok(before)
    }

    fn watched(&self) -> Watched {
        self.watched.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Tells the shim of another policy. The rest of what it was asked for stays.
pub(crate) async fn set_restart(container: &Container, policy: Restart) -> Result<()> {
    let Some(client) = container.client() else {
        return Err(container.wrong_state("its shim has gone"));
    };
    let facts = container.facts.get();
    let Some(asked) = &facts.config.extras.supervise else {
        return Err(container.wrong_state("its shim does nothing by itself"));
    };
    let asked = Supervise { restart: policy, ..asked.clone() };
    let supervision = super::create::supervision(&asked, facts.stop_signal);
    let (bundle, id) = (Bundle::new(&container.bundle), container.id.to_string());
    let written = blocking(move || Ok(bundle.write_supervision(&supervision, None))).await?;
    written.map_err(|error| task_failed("changing the policy", &id, error))?;
    let told = client.supervise().await;
    told.map_err(|error| task_failed("changing the policy", &id, error))
}

/// Follows a supervised container until its shim is gone.
pub(crate) async fn watch_runs(context: &Context, container: &Container, client: &Client) {
    let mut seen = 0;
    loop {
        match client.watch(seen).await {
            Ok(now) => seen = now,
            Err(error) => {
                if !error.is_gone() && !error.is_not_found() {
                    tracing::warn!(container = %container.id, %error, "its runs are not followed");
                }
                return;
            }
        }
        let Ok(before) = container.look_at_runs().await else { return };
        for kind in container.watched().news(&before) {
            context.tell(kind, &container.sandbox, Some(&container.id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use EventKind::{Health, RunEnded, RunStarted};
    use orlop_task::HealthStatus;

    fn watched(restarts: u32, waiting: bool, health: Option<HealthStatus>) -> Watched {
        Watched {
            runs: Some(RunsRecord { restarts, waiting, ..RunsRecord::default() }),
            health: health.map(|status| HealthRecord { status, ..HealthRecord::default() }),
        }
    }

    #[test]
    fn what_happened_between_two_looks() {
        let (sick, well) = (Some(HealthStatus::Unhealthy), Some(HealthStatus::Healthy));
        for (before, now, news) in [
            (Watched::default(), watched(0, false, None), vec![]),
            (watched(0, false, None), watched(0, true, None), vec![RunEnded]),
            (watched(0, true, None), watched(1, false, None), vec![RunStarted]),
            (watched(0, false, None), watched(1, false, None), vec![RunEnded, RunStarted]),
            (watched(0, true, None), watched(1, true, None), vec![RunStarted, RunEnded]),
            (watched(0, false, well), watched(0, false, sick), vec![Health]),
            (watched(0, false, sick), watched(0, false, sick), vec![]),
        ] {
            assert_eq!(now.news(&before), news, "{before:?} {now:?}");
        }
    }

    #[test]
    fn the_process_of_the_present_run() {
        assert_eq!(Watched::default().pid(7), Some(7));
        assert_eq!(watched(0, true, None).pid(7), None);
        let mut now = watched(1, false, None);
        if let Some(runs) = &mut now.runs {
            runs.pid = 9;
        }
        assert_eq!(now.pid(7), Some(9));
    }
}
