//! Looking at a container's health: a command in it, time and again. What it writes and how it ends is in
//! the bundle's `health.json` for whoever wants to know.

use crate::container::Container;
use crate::container::process::Process;
use crate::container::state::{Event, State};
use crate::error::Refusal;
use crate::io::{Io, Paths};
use crate::shim::{Shim, stage_refusal};
use crate::stage::{ExecRequest, Stdio, spawn_exec};
use orlop_model::Timestamp;
use orlop_task::{Bundle, HealthCheck, HealthRecord, HealthResult, HealthStatus};
use std::os::fd::AsFd;

/// What the exit code of a look is that could not be run or took too long.
const NO_EXIT: i32 = -1;
/// Bytes of a look's output that are kept.
const OUTPUT: usize = 4096;

/// The looks at one container.
#[derive(Debug)]
pub(crate) struct Health {
    check: HealthCheck,
    record: HealthRecord,
    /// The look that is under way.
    pub(crate) probe: Option<Process>,
    looked_at: Timestamp,
    timed_out: bool,
    /// When the run that is looked at began, on the shim's clock.
    began: u64,
    /// When the next look begins, or the present one is ended by force.
    due: Option<u64>,
}

impl Health {
    pub(crate) fn new(check: HealthCheck) -> Self {
        Self {
            check,
            record: HealthRecord { version: 1, ..HealthRecord::default() },
            probe: None,
            looked_at: Timestamp::ZERO,
            timed_out: false,
            began: 0,
            due: None,
        }
    }

    /// When there is something to do.
    pub(crate) fn next(&self) -> Option<u64> {
        self.due
    }

    /// In the start period a failure does not count, until there was a success.
    fn forgiving(&self, now: u64) -> bool {
        self.record.status == HealthStatus::Starting
            && now.saturating_sub(self.began) < self.check.start_period
    }

    fn plan(&mut self, now: u64) {
        let pause =
            if self.forgiving(now) { self.check.start_interval } else { self.check.interval };
        self.due = Some(now.saturating_add(pause));
    }
}

impl Shim {
    fn health(&mut self) -> Option<&mut Health> {
        self.container.as_mut()?.supervised.as_mut()?.health.as_mut()
    }

    /// Whether this is the process of a look.
    pub(crate) fn is_probe(&self, key: u32) -> bool {
        let supervised =
            self.container.as_ref().and_then(|container| container.supervised.as_ref());
        supervised.and_then(|one| one.probe()).is_some_and(|probe| probe.key == key)
    }

    /// A run has begun.
    pub(crate) fn health_begins(&mut self) {
        let now = self.clock();
        let Some(health) = self.health() else { return };
        health.began = now;
        health.record.status = HealthStatus::Starting;
        health.record.failing_streak = 0;
        health.plan(now);
        self.keep_health();
    }

    /// Nobody is looked at while everything is frozen.
    pub(crate) fn hold_health(&mut self, frozen: bool) {
        let now = self.clock();
        if frozen {
            self.drop_probe();
        } else if let Some(health) = self.health() {
            health.plan(now);
        }
    }

    fn keep_health(&self) {
        let Some(container) = &self.container else { return };
        let health = container.supervised.as_ref().and_then(|one| one.health.as_ref());
        let Some(health) = health else { return };
        if let Err(error) = Bundle::new(&container.bundle).write_health(&health.record) {
            crate::diagnostics::note(&error.to_string());
        }
    }

    /// Begins a look that is due, or ends one that took too long.
    pub(crate) fn look_after_health(&mut self, now: u64) {
        let Some(health) = self.health() else { return };
        if health.due.is_none_or(|due| due > now) {
            return;
        }
        health.due = None;
        if let Some(probe) = &health.probe {
            health.timed_out = true;
            // Its end comes as every end does.
            if probe.signal_group(9).is_err() {
                let _ = probe.signal(9);
            }
            return;
        }
        health.timed_out = false;
        health.looked_at = Timestamp::now();
        health.due = Some(now.saturating_add(health.check.timeout));
        let key = self.key();
        if let Err(refusal) = self.look(key) {
            self.probe_over(Some(refusal.message));
        }
    }

    fn look(&mut self, key: u32) -> Result<(), Refusal> {
        let Self { poller, container: Some(container), self_exe, .. } = self else {
            return Err(Refusal::internal("the container has gone"));
        };
        let Container { init, spec, cgroup, bundle, supervised, .. } = container;
        let pidfd = init.pidfd().filter(|_| init.state == State::Running);
        let pidfd = pidfd.ok_or_else(|| Refusal::precondition("the container is not running"))?;
        let bytes = Bundle::new(&*bundle).health_process();
        let bytes = bytes.map_err(|error| Refusal::precondition(error.to_string()))?;
        let process: oci_spec::runtime::Process = serde_json::from_slice(&bytes)
            .map_err(|error| Refusal::invalid(format!("health-process.json: {error}")))?;
        let owner = crate::container::host_owner(spec, process.user());
        let (io, ends) = Io::collect(key, OUTPUT, owner)?;
        let staged = spawn_exec(&ExecRequest {
            process: &process,
            spec,
            init_pidfd: pidfd.as_fd(),
            init_pid: init.pid,
            stdio: Stdio::Fds(ends.borrow()),
            cgroup: Some(cgroup),
            self_exe: self_exe.as_fd(),
        })
        .map_err(stage_refusal)?;
        let name = "the health check".to_owned();
        let mut probe = Process::new(key, name, String::new(), Paths::default(), State::Created);
        probe.happen(Event::Start)?;
        probe.adopt(poller, staged, io)?;
        if let Some(health) = supervised.as_mut().and_then(|one| one.health.as_mut()) {
            health.probe = Some(probe);
        }
        Ok(())
    }

    /// A look is over, or could not be made.
    pub(crate) fn probe_over(&mut self, failure: Option<String>) {
        let now = self.clock();
        let Self { poller, container: Some(container), buffer, .. } = self else { return };
        let health = container.supervised.as_mut().and_then(|one| one.health.as_mut());
        let Some(health) = health else { return };
        let mut output = Vec::new();
        let mut code = None;
        if let Some(mut probe) = health.probe.take() {
            code = probe.exit.map(|exit| i32::try_from(exit.code).unwrap_or(NO_EXIT));
            if let Some(io) = &mut probe.io {
                io.drain(poller, buffer);
                output = io.collected();
                io.close(poller);
            }
        }
        let (exit_code, output) = match (failure, health.timed_out) {
            (Some(failure), _) => (NO_EXIT, failure),
            (None, true) => {
                let limit = health.check.timeout;
                (NO_EXIT, format!("it took longer than {limit} ms and was killed"))
            }
            (None, false) => {
                (code.unwrap_or(NO_EXIT), String::from_utf8_lossy(&output).into_owned())
            }
        };
        let counts = !health.forgiving(now);
        let result =
            HealthResult { start: health.looked_at.0, end: Timestamp::now().0, exit_code, output };
        let news = health.record.add(result, counts, health.check.retries);
        health.plan(now);
        self.keep_health();
        if news {
            self.tell_news();
        }
    }

    /// What was looked at has ended or is frozen: the look is of no use. Its process is reaped as an
    /// orphan.
    pub(crate) fn drop_probe(&mut self) {
        let Self { poller, container: Some(container), .. } = self else { return };
        let health = container.supervised.as_mut().and_then(|one| one.health.as_mut());
        let Some(health) = health else { return };
        health.due = None;
        let Some(mut probe) = health.probe.take() else { return };
        let _ = probe.signal(9);
        if let Some(io) = &mut probe.io {
            io.close(poller);
        }
        if let Some(pidfd) = probe.pidfd() {
            poller.forget(pidfd);
        }
        if let Some(staged) = &probe.staged {
            poller.forget(&staged.control);
        }
    }
}
