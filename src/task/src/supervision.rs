//! What a shim does by itself for a container that people started: it starts it again and looks at its
//! health. The daemon asks for it with one file in the bundle, and reads what became of it from two.

use crate::{Bundle, TaskError};
use serde::{Deserialize, Serialize};
use std::path::Path;

const SUPERVISION: &str = "supervision.json";
const HEALTH_PROCESS: &str = "health-process.json";
const RUNS: &str = "runs.json";
const HEALTH: &str = "health.json";

/// `supervision.json`, written before the container is created. Without it a container runs once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supervision {
    /// Form of this file; 1.
    pub version: u32,
    /// When the container is started again.
    pub restart: Restart,
    /// The signal that asks for its end: once it was sent through the Task service (as SIGKILL), the
    /// container is not started again.
    pub stop_signal: u32,
    /// How its health is looked at; the command is in `health-process.json`, an OCI process.
    #[serde(default)]
    pub health: Option<HealthCheck>,
}

/// When a container that ended by itself is started again. What a boot does is not the shim's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Not at all.
    #[default]
    No,
    /// Each time.
    Always,
    /// After an end with a status other than 0.
    OnFailure {
        /// So many times; 0: without end.
        max: u32,
    },
}

impl Restart {
    /// Whether a container that ended with `code` and was started again `restarts` times before is
    /// started again.
    pub fn again(self, code: u32, restarts: u32) -> bool {
        match self {
            Self::No => false,
            Self::Always => true,
            Self::OnFailure { max } => code != 0 && (max == 0 || restarts < max),
        }
    }
}

/// When health is looked at, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// Between the end of a look and the next.
    pub interval: u64,
    /// After which a look is ended by force and has failed.
    pub timeout: u64,
    /// After the start; failures in it do not count.
    pub start_period: u64,
    /// Between two looks in that time.
    pub start_interval: u64,
    /// Failures in a row that make it unhealthy.
    pub retries: u32,
}

/// `runs.json`: how often the container was started, and the run that is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunsRecord {
    /// Form of this record; 1.
    pub version: u32,
    /// How often it was started again.
    pub restarts: u32,
    /// Process id now; 0: none.
    pub pid: i32,
    /// Its start time in clock ticks since boot, which makes the number unmistakable.
    pub pid_start: u64,
    /// When the present or last run began; nanoseconds since 1970.
    pub started_at: i64,
    /// It has ended and will be started again.
    pub waiting: bool,
    /// How the run before ended.
    #[serde(default)]
    pub last: Option<RunEnd>,
}

/// How one run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunEnd {
    /// 0 to 255, 128 + N for signal N.
    pub code: u32,
    /// Nanoseconds since 1970.
    pub at: i64,
    /// Whether the kernel killed a process of it for want of memory.
    pub oom_killed: bool,
}

/// `health.json`: what the looks found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthRecord {
    /// Form of this record; 1.
    pub version: u32,
    /// The verdict.
    pub status: HealthStatus,
    /// Failures in a row that count.
    pub failing_streak: u32,
    /// The last looks, oldest first, five at most.
    pub log: Vec<HealthResult>,
}

/// A container's health.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// Not known yet.
    #[default]
    Starting,
    /// The last look was good, or too few in a row were bad.
    Healthy,
    /// Too many in a row were bad.
    Unhealthy,
}

impl HealthStatus {
    /// The word that people see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// One look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthResult {
    /// When it began; nanoseconds since 1970.
    pub start: i64,
    /// When it was over.
    pub end: i64,
    /// 0: good; −1: it could not be run or took too long.
    pub exit_code: i32,
    /// What it wrote, to both outputs; 4096 bytes at most.
    pub output: String,
}

impl HealthRecord {
    /// Looks that are remembered.
    const REMEMBERED: usize = 5;

    /// Adds a look; `counts`: a failure of it counts. True when the status is another now.
    pub fn add(&mut self, result: HealthResult, counts: bool, retries: u32) -> bool {
        let before = self.status;
        if result.exit_code == 0 {
            self.failing_streak = 0;
            self.status = HealthStatus::Healthy;
        } else if counts {
            self.failing_streak = self.failing_streak.saturating_add(1);
            if self.failing_streak >= retries {
                self.status = HealthStatus::Unhealthy;
            }
        }
        self.log.push(result);
        let spare = self.log.len().saturating_sub(Self::REMEMBERED);
        self.log.drain(..spare);
        self.status != before
    }
}

impl Bundle {
    /// What the shim is to do by itself; `None`: nothing.
    pub fn supervision(&self) -> Result<Option<Supervision>, TaskError> {
        self.read_json(SUPERVISION)
    }

    /// Asks the shim to supervise. `health` is the OCI process of the health check, as JSON.
    pub fn write_supervision(
        &self,
        supervision: &Supervision,
        health: Option<&[u8]>,
    ) -> Result<(), TaskError> {
        if let Some(process) = health {
            write(self.path(), HEALTH_PROCESS, process)?;
        }
        let bytes = serde_json::to_vec(supervision).map_err(|error| TaskError::Bundle {
            path: self.path().join(SUPERVISION),
            source: error.into(),
        })?;
        write(self.path(), SUPERVISION, &bytes)
    }

    /// The OCI process of the health check, as JSON.
    pub fn health_process(&self) -> Result<Vec<u8>, TaskError> {
        let path = self.path().join(HEALTH_PROCESS);
        std::fs::read(&path).map_err(|source| TaskError::Bundle { path, source })
    }

    /// How often it was started; `None` for a container that is not supervised or has not begun.
    pub fn runs(&self) -> Result<Option<RunsRecord>, TaskError> {
        self.read_json(RUNS)
    }

    /// Its health; `None` for a container without health check, or before its start.
    pub fn health(&self) -> Result<Option<HealthRecord>, TaskError> {
        self.read_json(HEALTH)
    }

    /// The shim's side of [`Bundle::runs`].
    pub fn write_runs(&self, record: &RunsRecord) -> Result<(), TaskError> {
        self.write_json(RUNS, record)
    }

    /// The shim's side of [`Bundle::health`].
    pub fn write_health(&self, record: &HealthRecord) -> Result<(), TaskError> {
        self.write_json(HEALTH, record)
    }

    fn write_json(&self, name: &str, record: &impl Serialize) -> Result<(), TaskError> {
        let failed = |source| TaskError::Bundle { path: self.path().join(name), source };
        let bytes = serde_json::to_vec(record).map_err(|error| failed(error.into()))?;
        write(self.path(), name, &bytes)
    }
}

/// By rename; not synced, as a bundle does not outlive a boot.
fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), TaskError> {
    let temporary = dir.join(format!(".{name}.new"));
    std::fs::write(&temporary, bytes)
        .and_then(|()| std::fs::rename(&temporary, dir.join(name)))
        .map_err(|source| TaskError::Bundle { path: dir.join(name), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        for (policy, code, restarts, again) in [
            (Restart::No, 1, 0, false),
            (Restart::Always, 0, 99, true),
            (Restart::OnFailure { max: 0 }, 1, 99, true),
            (Restart::OnFailure { max: 0 }, 0, 0, false),
            (Restart::OnFailure { max: 2 }, 1, 1, true),
            (Restart::OnFailure { max: 2 }, 1, 2, false),
        ] {
            assert_eq!(policy.again(code, restarts), again, "{policy:?} {code} {restarts}");
        }
    }

    #[test]
    fn health_needs_failures_in_a_row() {
        let look = |exit_code| HealthResult { start: 1, end: 2, exit_code, output: String::new() };
        let mut record = HealthRecord::default();
        assert!(!record.add(look(1), false, 2), "the start period");
        assert!(!record.add(look(1), true, 2));
        assert!(record.add(look(0), true, 2));
        assert_eq!((record.status, record.failing_streak), (HealthStatus::Healthy, 0));
        assert!(!record.add(look(1), true, 2));
        assert!(record.add(look(-1), true, 2));
        assert_eq!((record.status, record.failing_streak), (HealthStatus::Unhealthy, 2));
        assert!(!record.add(look(1), true, 2));
        assert!(record.add(look(0), true, 2));
        let codes: Vec<_> = record.log.iter().map(|look| look.exit_code).collect();
        assert_eq!(codes, [0, 1, -1, 1, 0]);
    }

    #[test]
    fn files_of_a_bundle() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = Bundle::new(dir.path());
        assert_eq!((bundle.supervision().unwrap(), bundle.runs().unwrap()), (None, None));
        let supervision = Supervision {
            version: 1,
            restart: Restart::OnFailure { max: 3 },
            stop_signal: 15,
            health: None,
        };
        bundle.write_supervision(&supervision, Some(b"{}")).unwrap();
        assert_eq!(bundle.supervision().unwrap(), Some(supervision));
        assert_eq!(bundle.health_process().unwrap(), b"{}");
        let runs = RunsRecord { version: 1, restarts: 2, ..RunsRecord::default() };
        bundle.write_runs(&runs).unwrap();
        assert_eq!(bundle.runs().unwrap(), Some(runs));
    }
}
