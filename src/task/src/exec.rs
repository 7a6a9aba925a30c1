//! Run a command in a container and collect what it writes.

use crate::{Client, TaskError};
use std::time::Duration;

/// What a command said and how it ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecOutput {
    /// Its standard output, at most the cap.
    pub stdout: Vec<u8>,
    /// Its standard error, at most the cap.
    pub stderr: Vec<u8>,
    /// 0 to 255, 128 + N for signal N.
    pub exit_code: u32,
    /// Whether output beyond the cap was thrown away.
    pub truncated: bool,
}

/// Why a command gave no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecError {
    /// It ran longer than allowed and was killed and reaped.
    #[error("command timed out after {0:?} and was killed")]
    TimedOut(Duration),
    /// It could not be run.
    #[error(transparent)]
    Task(#[from] TaskError),
}

/// Runs the OCI `process` (JSON) in the container as `exec_id` and waits for its end. Output beyond
/// `cap` bytes per stream is read and thrown away. What a grandchild still holds open after the end
/// is waited for a short while only. Dropping the future kills the command and tidies up.
pub async fn exec_sync(
    _client: &Client,
    _exec_id: &str,
    _process: &[u8],
    _timeout: Option<Duration>,
    _cap: usize,
) -> Result<ExecOutput, ExecError> {
    todo!()
}
