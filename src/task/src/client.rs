//! The daemon's end of a connection to a shim.

use crate::TaskError;
use crate::protocol::{Mount, shim::CreateOptions, stats::Metrics};
use orlop_model::ExitStatus;
use std::path::{Path, PathBuf};

pub use crate::protocol::Status;

/// What a container is created from. `Default` is a container without input, output or root mounts.
#[derive(Debug, Clone, Default)]
pub struct CreateRequest {
    /// Mounts that make up the root file system, in order; made in the container's own mount namespace.
    pub rootfs: Vec<Mount>,
    /// Whether process 1 gets a terminal; must agree with the spec.
    pub terminal: bool,
    /// A FIFO, or empty for none.
    pub stdin: String,
    /// A FIFO, `cri:///path/of/log`, or empty for none.
    pub stdout: String,
    /// A FIFO, `cri:///path/of/log`, or empty for none. Empty with a terminal.
    pub stderr: String,
    /// Our own options.
    pub options: CreateOptions,
}

/// A further process.
#[derive(Debug, Clone, Default)]
pub struct ExecRequest {
    /// Its name beside the container's id; not empty.
    pub exec_id: String,
    /// The OCI process in JSON.
    pub process: Vec<u8>,
    /// Whether it gets a terminal.
    pub terminal: bool,
    /// A FIFO, or empty for none.
    pub stdin: String,
    /// A FIFO, `cri:///path/of/log`, or empty for none.
    pub stdout: String,
    /// A FIFO, `cri:///path/of/log`, or empty for none.
    pub stderr: String,
}

/// How a process stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Created, running, stopped, paused.
    pub status: Status,
    /// Process id in the host's PID namespace; 0 before there is one.
    pub pid: u32,
    /// How it ended, when it has.
    pub exit: Option<ExitStatus>,
    /// Whether it has a terminal.
    pub terminal: bool,
}

/// What our own service adds to [`State`].
pub type Details = crate::protocol::shim::DetailsResponse;

/// A connection to one shim, which has one container. Clones share the connection; any number of
/// requests may be in flight; a dropped future cancels nothing in the shim but is otherwise safe.
/// In every call `exec_id` is empty for the container's own process 1.
#[derive(Debug, Clone)]
pub struct Client {}

impl Client {
    /// Connects to a shim's socket.
    pub async fn connect(_id: &str, _address: &Path) -> Result<Self, TaskError> {
        todo!()
    }

    /// Resolves when the connection has ended: the shim is dead or has shut down.
    pub async fn closed(&self) {
        todo!()
    }

    /// Makes the container up to the point where its workload waits for `start`. Its pid.
    pub async fn create(&self, _bundle: &Path, _request: CreateRequest) -> Result<u32, TaskError> {
        todo!()
    }

    /// Lets the process go. An exec error (absent, not executable, …) is the answer's error. Its pid.
    pub async fn start(&self, _exec_id: &str) -> Result<u32, TaskError> {
        todo!()
    }

    /// Waits for the end of a process; at once when it has ended already.
    pub async fn wait(&self, _exec_id: &str) -> Result<ExitStatus, TaskError> {
        todo!()
    }

    /// How a process stands.
    pub async fn state(&self, _exec_id: &str) -> Result<State, TaskError> {
        todo!()
    }

    /// Sends a signal to a process, or to `all` of the container. Ok when the process has ended.
    pub async fn kill(&self, _exec_id: &str, _signal: u32, _all: bool) -> Result<(), TaskError> {
        todo!()
    }

    /// Adds a process; `start` lets it go.
    pub async fn exec(&self, _request: ExecRequest) -> Result<(), TaskError> {
        todo!()
    }

    /// Forgets a process that has ended or was never started. For the container itself: kills what
    /// is left in its cgroup and removes the cgroup.
    pub async fn delete(&self, _exec_id: &str) -> Result<ExitStatus, TaskError> {
        todo!()
    }

    /// Process ids in the container's cgroup.
    pub async fn pids(&self) -> Result<Vec<u32>, TaskError> {
        todo!()
    }

    /// cpu, memory and pids as the cgroup counts them.
    pub async fn stats(&self) -> Result<Metrics, TaskError> {
        todo!()
    }

    /// Sets new limits: OCI Linux resources in JSON.
    pub async fn update(&self, _resources: Vec<u8>) -> Result<(), TaskError> {
        todo!()
    }

    /// Sets the size of a terminal, in characters.
    pub async fn resize_pty(
        &self,
        _exec_id: &str,
        _width: u32,
        _height: u32,
    ) -> Result<(), TaskError> {
        todo!()
    }

    /// Closes the process's standard input once what is in the FIFO has been passed on.
    pub async fn close_stdin(&self, _exec_id: &str) -> Result<(), TaskError> {
        todo!()
    }

    /// Freezes every process of the container.
    pub async fn pause(&self) -> Result<(), TaskError> {
        todo!()
    }

    /// Undoes `pause`.
    pub async fn resume(&self) -> Result<(), TaskError> {
        todo!()
    }

    /// Opens the log anew at its path; `FailedPrecondition` unless the container runs.
    pub async fn reopen_log(&self) -> Result<(), TaskError> {
        todo!()
    }

    /// OOM kills, dropped log bytes, times.
    pub async fn details(&self) -> Result<Details, TaskError> {
        todo!()
    }

    /// Ends the shim if it has no container any more, or in any case with `now`. The answer may be
    /// lost to the end of the connection, which counts as success.
    pub async fn shutdown(&self, _now: bool) -> Result<(), TaskError> {
        todo!()
    }

    /// The socket that this client is connected to.
    pub fn address(&self) -> &PathBuf {
        todo!()
    }
}
