//! The directory that a shim and its daemon share. Whoever finds a bundle finds the container.

use crate::TaskError;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

/// A bundle directory: `config.json` (the OCI spec), `address` (the shim's socket), `shim.json`
/// (which process the shim is), `exit.json` (how process 1 ended), `shim.log` (the shim's own
/// complaints; normally absent). For a container that the shim supervises also `supervision.json`,
/// `health-process.json`, `runs.json` and `health.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    path: PathBuf,
}

/// Which process a shim is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShimRecord {
    /// Form of this record; 1.
    pub version: u32,
    /// The container.
    pub id: String,
    /// Process id in the host's PID namespace.
    pub pid: i32,
    /// Start time in clock ticks since boot (`/proc/<pid>/stat`, field 22): with the pid, it names
    /// the process for good.
    pub start_time: u64,
}

/// How process 1 of a container ended, written by the shim before anybody is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Form of this record; 1.
    pub version: u32,
    /// The process id it had.
    pub pid: i32,
    /// 0 to 255, 128 + N for signal N.
    pub code: u32,
    /// Nanoseconds since 1970.
    pub exited_at: i64,
    /// Whether the kernel killed a process of the container for want of memory.
    pub oom_killed: bool,
}

impl Bundle {
    /// A bundle at `path`. Nothing is read yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The OCI spec.
    pub fn config(&self) -> PathBuf {
        self.path.join("config.json")
    }

    /// The file that holds the path of the shim's socket.
    pub fn address_file(&self) -> PathBuf {
        self.path.join("address")
    }

    /// The container's id: the directory's name, as containerd has it too.
    pub fn id(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// The socket of the shim.
    pub fn address(&self) -> Result<PathBuf, TaskError> {
        let path = self.address_file();
        let text =
            std::fs::read_to_string(&path).map_err(|source| TaskError::Bundle { path, source })?;
        let text = text.trim_end();
        Ok(PathBuf::from(text.strip_prefix("unix://").unwrap_or(text)))
    }

    /// How process 1 ended; `None` while it has not.
    pub fn exit_record(&self) -> Result<Option<ExitRecord>, TaskError> {
        self.read_json("exit.json")
    }

    /// Which process the shim is or was; `None` before it has said so.
    pub fn shim(&self) -> Result<Option<ShimRecord>, TaskError> {
        self.read_json("shim.json")
    }

    pub(crate) fn read_json<T: for<'a> Deserialize<'a>>(
        &self,
        name: &str,
    ) -> Result<Option<T>, TaskError> {
        let path = self.path.join(name);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| TaskError::Bundle { path, source: io::Error::from(error) }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(TaskError::Bundle { path, source }),
        }
    }
}
