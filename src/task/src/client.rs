//! The daemon's end of a connection to a shim.

use crate::TaskError;
use crate::connection::{CallError, Connection};
use crate::names::{SHIM, TASK_V3, URL_CREATE_OPTIONS, URL_METRICS_V2, URL_PROCESS, URL_RESOURCES};
use crate::protocol::shim::{
    AttachRequest, AttachResponse, CreateOptions, DetailsRequest, ReopenLogRequest,
    SuperviseRequest, WatchRequest, WatchResponse,
};
use crate::protocol::{Mount, stats, stats::Metrics, stats2, task as rpc};
use crate::ttrpc::Code;
use orlop_model::{ExitStatus, Timestamp};
use prost::Message;
use prost_types::Any;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

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
pub struct Client {
    id: Arc<str>,
    connection: Arc<Connection>,
}

impl Client {
    /// Connects to the socket of the shim of container `id`. Fails at once when nobody listens.
    pub async fn connect(id: &str, address: &Path) -> Result<Self, TaskError> {
        let unreachable = |source| TaskError::Unreachable {
            id: id.to_owned(),
            address: address.to_owned(),
            source,
        };
        let socket = crate::socket::connect(address).await.map_err(unreachable)?;
        Ok(Self { id: id.into(), connection: Arc::new(Connection::new(socket, address)) })
    }

    /// The container.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The socket that this client is connected to.
    pub fn address(&self) -> &Path {
        self.connection.address()
    }

    /// Resolves when the connection has ended: the shim is dead or has shut down.
    pub async fn closed(&self) {
        self.connection.closed().await;
    }

    async fn call<M: Message + Default>(
        &self,
        service: &str,
        method: &str,
        request: &impl Message,
    ) -> Result<M, TaskError> {
        let answer = self.connection.call(service, method, request.encode_to_vec()).await;
        let response = answer.map_err(|error| match error {
            CallError::Closed => TaskError::Gone { id: self.id.to_string() },
            CallError::TooLong(message) => {
                TaskError::Refused { code: Code::ResourceExhausted, message }
            }
        })?;
        match response.status {
            Some(status) if status.code != 0 => Err(TaskError::Refused {
                code: Code::from_number(status.code),
                message: status.message,
            }),
            _ => M::decode(response.payload.as_slice()).map_err(|error| TaskError::Malformed {
                id: self.id.to_string(),
                reason: error.to_string(),
            }),
        }
    }

    async fn task<M: Message + Default>(
        &self,
        method: &str,
        request: &impl Message,
    ) -> Result<M, TaskError> {
        self.call(TASK_V3, method, request).await
    }

    /// Makes the container up to the point where its workload waits for `start`. Its pid.
    pub async fn create(&self, bundle: &Path, request: CreateRequest) -> Result<u32, TaskError> {
        let options =
            Any { type_url: URL_CREATE_OPTIONS.to_owned(), value: request.options.encode_to_vec() };
        let request = rpc::CreateTaskRequest {
            id: self.id.to_string(),
            bundle: bundle.to_string_lossy().into_owned(),
            rootfs: request.rootfs,
            terminal: request.terminal,
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            checkpoint: String::new(),
            parent_checkpoint: String::new(),
            options: Some(options),
        };
        let answer: rpc::CreateTaskResponse = self.task("Create", &request).await?;
        Ok(answer.pid)
    }

    /// Lets the process go. An exec error (absent, not executable, …) is the answer's error. Its pid.
    pub async fn start(&self, exec_id: &str) -> Result<u32, TaskError> {
        let request = rpc::StartRequest { id: self.id.to_string(), exec_id: exec_id.to_owned() };
        let answer: rpc::StartResponse = self.task("Start", &request).await?;
        Ok(answer.pid)
    }

    /// Waits for the end of a process; at once when it has ended already.
    pub async fn wait(&self, exec_id: &str) -> Result<ExitStatus, TaskError> {
        let request = rpc::WaitRequest { id: self.id.to_string(), exec_id: exec_id.to_owned() };
        let answer: rpc::WaitResponse = self.task("Wait", &request).await?;
        Ok(exit_status(answer.exit_status, answer.exited_at))
    }

    /// How a process stands.
    pub async fn state(&self, exec_id: &str) -> Result<State, TaskError> {
        let request = rpc::StateRequest { id: self.id.to_string(), exec_id: exec_id.to_owned() };
        let answer: rpc::StateResponse = self.task("State", &request).await?;
        let status = answer.status();
        let exit =
            (status == Status::Stopped).then(|| exit_status(answer.exit_status, answer.exited_at));
        Ok(State { status, pid: answer.pid, exit, terminal: answer.terminal })
    }

    /// Sends a signal to a process, or to `all` of the container. Ok when the process has ended.
    pub async fn kill(&self, exec_id: &str, signal: u32, all: bool) -> Result<(), TaskError> {
        let request =
            rpc::KillRequest { id: self.id.to_string(), exec_id: exec_id.to_owned(), signal, all };
        match self.task("Kill", &request).await {
            Err(error) if error.is_not_found() => Ok(()),
            other => other,
        }
    }

    /// Adds a process; `start` lets it go.
    pub async fn exec(&self, request: ExecRequest) -> Result<(), TaskError> {
        let request = rpc::ExecProcessRequest {
            id: self.id.to_string(),
            exec_id: request.exec_id,
            terminal: request.terminal,
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            spec: Some(Any { type_url: URL_PROCESS.to_owned(), value: request.process }),
        };
        self.task("Exec", &request).await
    }

    /// Forgets a process that has ended or was never started. For the container itself: kills what
    /// is left in its cgroup and removes the cgroup.
    pub async fn delete(&self, exec_id: &str) -> Result<ExitStatus, TaskError> {
        let request = rpc::DeleteRequest { id: self.id.to_string(), exec_id: exec_id.to_owned() };
        let answer: rpc::DeleteResponse = self.task("Delete", &request).await?;
        Ok(exit_status(answer.exit_status, answer.exited_at))
    }

    /// Process ids in the container's cgroup.
    pub async fn pids(&self) -> Result<Vec<u32>, TaskError> {
        let request = rpc::PidsRequest { id: self.id.to_string() };
        let answer: rpc::PidsResponse = self.task("Pids", &request).await?;
        Ok(answer.processes.into_iter().map(|process| process.pid).collect())
    }

    /// cpu, memory and pids as the cgroup counts them.
    pub async fn stats(&self) -> Result<Metrics, TaskError> {
        let request = rpc::StatsRequest { id: self.id.to_string() };
        let answer: rpc::StatsResponse = self.task("Stats", &request).await?;
        let malformed = |reason: String| TaskError::Malformed { id: self.id.to_string(), reason };
        let stats = answer.stats.ok_or_else(|| malformed("no stats".to_owned()))?;
        let wrong = |error: prost::DecodeError| malformed(error.to_string());
        if stats.type_url.ends_with(URL_METRICS_V2) {
            let unified = stats2::Metrics::decode(stats.value.as_slice()).map_err(wrong)?;
            return Ok(from_unified(unified));
        }
        Metrics::decode(stats.value.as_slice()).map_err(wrong)
    }

    /// Sets new limits: OCI Linux resources in JSON.
    pub async fn update(&self, resources: Vec<u8>) -> Result<(), TaskError> {
        let resources = Any { type_url: URL_RESOURCES.to_owned(), value: resources };
        let id = self.id.to_string();
        let request =
            rpc::UpdateTaskRequest { id, resources: Some(resources), annotations: HashMap::new() };
        self.task("Update", &request).await
    }

    /// Sets the size of a terminal, in characters.
    pub async fn resize_pty(
        &self,
        exec_id: &str,
        width: u32,
        height: u32,
    ) -> Result<(), TaskError> {
        let (id, exec_id) = (self.id.to_string(), exec_id.to_owned());
        self.task("ResizePty", &rpc::ResizePtyRequest { id, exec_id, width, height }).await
    }

    /// Closes the process's standard input once what is in the FIFO has been passed on.
    pub async fn close_stdin(&self, exec_id: &str) -> Result<(), TaskError> {
        let (id, exec_id) = (self.id.to_string(), exec_id.to_owned());
        self.task("CloseIO", &rpc::CloseIoRequest { id, exec_id, stdin: true }).await
    }

    /// Freezes every process of the container.
    pub async fn pause(&self) -> Result<(), TaskError> {
        self.task("Pause", &rpc::PauseRequest { id: self.id.to_string() }).await
    }

    /// Undoes `pause`.
    pub async fn resume(&self) -> Result<(), TaskError> {
        self.task("Resume", &rpc::ResumeRequest { id: self.id.to_string() }).await
    }

    /// The process ids of the shim and of process 1, which is 0 before there is one.
    pub async fn pids_of_shim(&self) -> Result<(u32, u32), TaskError> {
        let answer: rpc::ConnectResponse =
            self.task("Connect", &rpc::ConnectRequest { id: self.id.to_string() }).await?;
        Ok((answer.shim_pid, answer.task_pid))
    }

    /// Opens the log anew at its path; `FailedPrecondition` unless the container runs.
    pub async fn reopen_log(&self) -> Result<(), TaskError> {
        self.call(SHIM, "ReopenLog", &ReopenLogRequest { id: self.id.to_string() }).await
    }

    /// Shows what the container's process writes from now on to whoever reads these FIFOs (empty: not
    /// wanted). Returns when that is over: whether the reader fell behind and was cut off for it. With
    /// `patient` the process waits for a reader that has fallen behind.
    pub async fn attach(
        &self,
        stdout: String,
        stderr: String,
        patient: bool,
    ) -> Result<bool, TaskError> {
        let request = AttachRequest { id: self.id.to_string(), stdout, stderr, patient };
        let answer: AttachResponse = self.call(SHIM, "Attach", &request).await?;
        Ok(answer.fell_behind)
    }

    /// Has a supervised container's shim read its supervision anew.
    pub async fn supervise(&self) -> Result<(), TaskError> {
        self.call(SHIM, "Supervise", &SuperviseRequest { id: self.id.to_string() }).await
    }

    /// Returns when something about a supervised container's runs or health is new since `seen` (0 the
    /// first time); the number for the next call.
    pub async fn watch(&self, seen: u64) -> Result<u64, TaskError> {
        let request = WatchRequest { id: self.id.to_string(), seen };
        let answer: WatchResponse = self.call(SHIM, "Watch", &request).await?;
        Ok(answer.seen)
    }

    /// OOM kills, dropped log bytes, times.
    pub async fn details(&self) -> Result<Details, TaskError> {
        self.call(SHIM, "Details", &DetailsRequest { id: self.id.to_string() }).await
    }

    /// Ends the shim if it has no container any more, or in any case with `now`, which ends the
    /// container too. The answer may be lost to the end of the connection, which counts as success.
    pub async fn shutdown(&self, now: bool) -> Result<(), TaskError> {
        match self.task("Shutdown", &rpc::ShutdownRequest { id: self.id.to_string(), now }).await {
            Err(TaskError::Gone { .. }) => Ok(()),
            other => other,
        }
    }
}

/// The counters of a unified host in the older form, which holds all that is in them.
fn from_unified(metrics: stats2::Metrics) -> Metrics {
    let nanoseconds = |micros: u64| micros.saturating_mul(1000);
    let (cpu, memory) = (metrics.cpu.unwrap_or_default(), metrics.memory.unwrap_or_default());
    let pids = metrics.pids.unwrap_or_default();
    let entry = |usage, limit| stats::MemoryEntry { usage, limit, ..stats::MemoryEntry::default() };
    Metrics {
        pids: Some(stats::PidsStat { current: pids.current, limit: pids.limit }),
        cpu: Some(stats::CpuStat {
            usage: Some(stats::CpuUsage {
                total: nanoseconds(cpu.usage_usec),
                kernel: nanoseconds(cpu.system_usec),
                user: nanoseconds(cpu.user_usec),
                per_cpu: Vec::new(),
            }),
            throttling: Some(stats::Throttle {
                periods: cpu.nr_periods,
                throttled_periods: cpu.nr_throttled,
                throttled_time: nanoseconds(cpu.throttled_usec),
            }),
        }),
        memory: Some(stats::MemoryStat {
            rss: memory.anon,
            pg_fault: memory.pgfault,
            pg_maj_fault: memory.pgmajfault,
            total_inactive_file: memory.inactive_file,
            usage: Some(entry(memory.usage, memory.usage_limit)),
            swap: Some(entry(memory.swap_usage, 0)),
            ..stats::MemoryStat::default()
        }),
    }
}

fn exit_status(code: u32, at: Option<prost_types::Timestamp>) -> ExitStatus {
    let at = at.map_or(0, |at| {
        at.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(at.nanos))
    });
    ExitStatus { code, at: Timestamp(at) }
}
