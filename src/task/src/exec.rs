//! Run a command in a container and collect what it writes.

use crate::client::ExecRequest;
use crate::fifo::{Fifo, failed};
use crate::{Client, TaskError};
use orlop_model::ExitStatus;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::net::unix::pipe;
use tokio::time::{Instant, timeout, timeout_at};

/// How long output is waited for after the command's end, when something that it left behind still
/// holds the pipe.
const DRAIN: Duration = Duration::from_secs(2);
/// How long a killed command may take to end before it is given up.
const KILLED: Duration = Duration::from_secs(10);

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
    client: &Client,
    exec_id: &str,
    process: &[u8],
    limit: Option<Duration>,
    cap: usize,
) -> Result<ExecOutput, ExecError> {
    let (out, err) = (Fifo::make(client, exec_id, "out")?, Fifo::make(client, exec_id, "err")?);
    let (mut stdout, mut stderr) =
        (Collector::open(out.path(), cap)?, Collector::open(err.path(), cap)?);
    let request = ExecRequest {
        exec_id: exec_id.to_owned(),
        process: process.to_vec(),
        terminal: false,
        stdin: String::new(),
        stdout: out.name(),
        stderr: err.name(),
    };
    let guard = Guard { client: client.clone(), exec_id: exec_id.to_owned(), armed: true };
    let result = run(client, request, limit, &mut stdout, &mut stderr).await;
    let status = match result {
        Ok(status) => status,
        Err(error) => {
            // The guard kills what may run; the answer does not wait for that unless it must.
            if let ExecError::TimedOut(_) = error {
                guard.reaped().await;
            }
            return Err(error);
        }
    };
    guard.done();
    Ok(ExecOutput {
        truncated: stdout.truncated || stderr.truncated,
        stdout: stdout.bytes,
        stderr: stderr.bytes,
        exit_code: status.code,
    })
}

/// Starts it and collects until it has ended and said all.
async fn run(
    client: &Client,
    request: ExecRequest,
    limit: Option<Duration>,
    stdout: &mut Collector,
    stderr: &mut Collector,
) -> Result<ExitStatus, ExecError> {
    let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
    let exec_id = request.exec_id.clone();
    let command = async {
        // Sent together: the shim serves one connection in order, so nothing waits in between.
        let ((), _, ended) =
            tokio::try_join!(client.exec(request), client.start(&exec_id), client.wait(&exec_id))?;
        Ok::<ExitStatus, TaskError>(ended)
    };
    let finished = async {
        let output = async { tokio::join!(stdout.fill(), stderr.fill()) };
        tokio::pin!(command);
        tokio::pin!(output);
        let ended = tokio::select! {
            ended = &mut command => ended?,
            // All writers gone: now only the end is missing.
            _ = &mut output => return command.await,
        };
        // Somebody may hold the pipes for ever: enough is enough.
        let _ = timeout(DRAIN, &mut output).await;
        Ok(ended)
    };
    match (deadline, limit) {
        (Some(deadline), Some(limit)) => timeout_at(deadline, finished)
            .await
            .map_err(|_| ExecError::TimedOut(limit))?
            .map_err(ExecError::from),
        _ => Ok(finished.await?),
    }
}

/// Deletes the exec when the call is over; kills it first when it may still run.
struct Guard {
    client: Client,
    exec_id: String,
    armed: bool,
}

impl Guard {
    /// It has ended: only the shim's record of it is left, and nobody waits for that to go.
    fn done(mut self) {
        self.armed = false;
        let (client, exec_id) = (self.client.clone(), std::mem::take(&mut self.exec_id));
        tokio::spawn(async move {
            // Fails only with the shim itself, which takes the record along.
            let _ = client.delete(&exec_id).await;
        });
    }

    /// Kills it and returns when it has been reaped.
    async fn reaped(mut self) {
        self.armed = false;
        kill(&self.client, &self.exec_id).await;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let (client, exec_id) = (self.client.clone(), std::mem::take(&mut self.exec_id));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { kill(&client, &exec_id).await });
        }
    }
}

/// Ends a command, with its process group, and forgets it.
pub async fn kill(client: &Client, exec_id: &str) {
    // Each step may find that there is nothing left to do.
    let _ = client.kill(exec_id, 9, true).await;
    let _ = timeout(KILLED, client.wait(exec_id)).await;
    let _ = client.delete(exec_id).await;
}

/// One stream's bytes, up to the cap.
struct Collector {
    pipe: pipe::Receiver,
    bytes: Vec<u8>,
    cap: usize,
    truncated: bool,
}

impl Collector {
    fn open(path: &Path, cap: usize) -> Result<Self, TaskError> {
        let pipe = pipe::OpenOptions::new().open_receiver(path).map_err(failed(path))?;
        Ok(Self { pipe, bytes: Vec::new(), cap, truncated: false })
    }

    /// Reads until the last writer has gone.
    async fn fill(&mut self) {
        let mut buffer = [0; 8192];
        loop {
            if self.pipe.readable().await.is_err() {
                return;
            }
            match self.pipe.try_read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    let room = self.cap.saturating_sub(self.bytes.len());
                    let (kept, rest) = buffer[..count].split_at(count.min(room));
                    self.bytes.extend_from_slice(kept);
                    self.truncated |= !rest.is_empty();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }
}
