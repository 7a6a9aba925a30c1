//! What a builder needs to run a step: something that runs a process in a root. The engine does not
//! know how; the binary that has the runtime does.

use crate::users::Identity;
use std::path::PathBuf;
use tokio_util::sync::CancellationToken;

pub use crate::instruction::{NetworkMode, SecurityMode};

/// Runs processes in roots.
pub trait Executor: Send + Sync {
    /// Runs one process to its end. Blocking. What it writes goes to `output` as it comes.
    fn run(&self, step: &Step, output: &mut dyn FnMut(&[u8])) -> Result<Ended, ExecError>;

    /// A directory in memory, not on a disk, for what only one step may see: secrets, scripts,
    /// mounts. Removed by the caller.
    fn scratch(&self) -> PathBuf;
}

/// A process to run.
#[derive(Debug, Clone)]
pub struct Step {
    /// Read-only layers of the root, top first.
    pub lower: Vec<PathBuf>,
    /// The layer that takes changes.
    pub upper: PathBuf,
    /// Its work directory.
    pub work: PathBuf,
    /// Program and arguments.
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Working directory.
    pub cwd: String,
    /// Who runs it.
    pub user: Identity,
    /// The host's name as the step sees it.
    pub hostname: String,
    /// Which network it has.
    pub network: NetworkMode,
    /// How it is confined.
    pub security: SecurityMode,
    /// Further mounts.
    pub mounts: Vec<StepMount>,
    /// Lines for `/etc/hosts`.
    pub extra_hosts: Vec<(String, String)>,
    /// Bytes of `/dev/shm`.
    pub shm_size: u64,
    /// Name, soft and hard limit.
    pub ulimits: Vec<(String, u64, u64)>,
    /// Ends the process.
    pub cancel: CancellationToken,
}

/// A mount in a step's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepMount {
    /// A file or directory of the host.
    Bind {
        /// On the host.
        source: PathBuf,
        /// In the root.
        target: String,
        /// Writes are refused.
        read_only: bool,
    },
    /// An empty directory in memory.
    Tmpfs {
        /// In the root.
        target: String,
        /// Bytes at most.
        size: Option<u64>,
        /// Writes are refused.
        read_only: bool,
    },
}

impl StepMount {
    /// Where it is in the root.
    pub fn target(&self) -> &str {
        match self {
            Self::Bind { target, .. } | Self::Tmpfs { target, .. } => target,
        }
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// 0 to 255.
    pub code: u32,
    /// The kernel ended a process for want of memory.
    pub oom: bool,
}

/// A process that could not be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExecError {
    /// Someone gave up on it.
    #[error("cancelled")]
    Cancelled,
    /// The runtime could not start it.
    #[error("{0}")]
    Failed(String),
}
