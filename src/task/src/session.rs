//! A process with its flows in our hands: a command that somebody talks to, or a container that
//! somebody is attached to.

use crate::client::ExecRequest;
use crate::exec::kill;
use crate::fifo::{Fifo, failed};
use crate::{Client, TaskError};
use orlop_model::ExitStatus;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::time::timeout;

/// What an attachment may be behind, in bytes per stream, before it is cut off.
pub const ATTACH_BUFFER: usize = 1 << 20;
/// How names of commands begin that belong to a command line: it talks to the shim itself, and a
/// daemon that begins or ends lets them be.
pub const CLIENT_EXEC: &str = "cli-";
/// How long a command whose client has gone may take to end by itself after SIGHUP.
const HANGUP: Duration = Duration::from_secs(10);

/// Which flows are wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flows {
    /// Standard input.
    pub stdin: bool,
    /// Standard output, or a terminal's.
    pub stdout: bool,
    /// Standard error; never with a terminal.
    pub stderr: bool,
    /// There is a terminal.
    pub terminal: bool,
    /// An attachment that falls behind makes the container wait, instead of being cut off.
    pub patient: bool,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEnd {
    /// The process did.
    Exited(ExitStatus),
    /// An attachment fell behind by more than [`ATTACH_BUFFER`] and was cut off.
    FellBehind,
}

/// The flows, and how it ends. Dropping it ends an attachment; a command that still runs then gets
/// SIGHUP and, after ten seconds, SIGKILL, both with its process group.
pub struct Session {
    /// Writes to standard input; dropping it is the input's end.
    pub stdin: Option<pipe::Sender>,
    /// Reads standard output.
    pub stdout: Option<pipe::Receiver>,
    /// Reads standard error.
    pub stderr: Option<pipe::Receiver>,
    /// Width and height for the terminal: the newest counts, (0, 0) means not known yet.
    pub size: watch::Sender<(u16, u16)>,
    /// Ready with the end. Output may still be on its way then.
    pub end: Pin<Box<dyn Future<Output = Result<SessionEnd, TaskError>> + Send>>,
    /// To be dropped when everything has been read.
    pub scope: Scope,
}

/// What a session leaves to be tidied up when it is over.
#[derive(Debug)]
pub struct Scope(Option<Command>);

impl Scope {
    /// Leaves a command that runs to itself.
    pub fn leave(mut self) {
        self.0 = None;
    }

    /// Takes away what is left of a command that has ended. Without it a task does so when this is
    /// dropped, which a process that ends does not wait for.
    pub async fn finish(mut self) {
        if let Some(command) = self.0.take() {
            command.finish().await;
        }
    }
}

/// A command in the shim.
#[derive(Debug)]
struct Command {
    client: Client,
    exec_id: String,
    ended: Arc<AtomicBool>,
}

impl Drop for Scope {
    fn drop(&mut self) {
        let Some(command) = self.0.take() else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(command.finish());
        }
    }
}

impl Command {
    /// Each step may find that there is nothing left to do.
    async fn finish(self) {
        let (client, exec_id) = (&self.client, &self.exec_id);
        if self.ended.load(Ordering::Acquire) {
            let _ = client.delete(exec_id).await;
            return;
        }
        let _ = client.kill(exec_id, 1, true).await;
        let _ = timeout(HANGUP, client.wait(exec_id)).await;
        kill(client, exec_id).await;
    }
}

/// Starts the OCI `process` (JSON) in the container as `exec_id`, with no input and no output, and
/// leaves it to itself.
pub async fn exec_detached(
    client: &Client,
    exec_id: &str,
    process: Vec<u8>,
    terminal: bool,
) -> Result<(), TaskError> {
    let request =
        ExecRequest { exec_id: exec_id.to_owned(), process, terminal, ..ExecRequest::default() };
    client.exec(request).await?;
    match client.start(exec_id).await {
        Ok(_pid) => Ok(()),
        Err(error) => {
            // It never ran; nothing else would take it away.
            let _ = client.delete(exec_id).await;
            Err(error)
        }
    }
}

/// Starts the OCI `process` (JSON) in the container as `exec_id`.
pub async fn exec_session(
    client: &Client,
    exec_id: &str,
    process: Vec<u8>,
    flows: Flows,
) -> Result<Session, TaskError> {
    let fifo = |wanted: bool, stream: &str| {
        wanted.then(|| Fifo::make(client, exec_id, stream)).transpose()
    };
    let (input, output, error) =
        (fifo(flows.stdin, "in")?, fifo(flows.stdout, "out")?, fifo(flows.stderr, "err")?);
    // Both ends, so that it can be opened before the shim does and waits for nobody's reading; the
    // shim sees the end of input when this last writer goes.
    let stdin = input.as_ref().map(|fifo| open_writer(fifo.path(), true)).transpose()?;
    let stdout = output.as_ref().map(|fifo| open_reader(fifo.path())).transpose()?;
    let stderr = error.as_ref().map(|fifo| open_reader(fifo.path())).transpose()?;
    let name = |fifo: &Option<Fifo>| fifo.as_ref().map_or_else(String::new, Fifo::name);
    let request = ExecRequest {
        exec_id: exec_id.to_owned(),
        process,
        terminal: flows.terminal,
        stdin: name(&input),
        stdout: name(&output),
        stderr: name(&error),
    };
    let ended = Arc::new(AtomicBool::new(false));
    let command =
        Command { client: client.clone(), exec_id: exec_id.to_owned(), ended: Arc::clone(&ended) };
    // From here on it may exist: whatever happens, it is taken away again.
    let scope = Scope(Some(command));
    if let Err(error) = tokio::try_join!(client.exec(request), client.start(exec_id)) {
        ended.store(true, Ordering::Release);
        return Err(error);
    }
    let (size, sizes) = watch::channel((0, 0));
    let (client, exec_id) = (client.clone(), exec_id.to_owned());
    let end = Box::pin(async move {
        let exit = following(&client, &exec_id, sizes, client.wait(&exec_id)).await?;
        ended.store(true, Ordering::Release);
        Ok(SessionEnd::Exited(exit))
    });
    Ok(Session { stdin, stdout, stderr, size, end, scope })
}

/// Attaches to the container's own process: its output from now on, and its standard input if it has
/// one (the FIFO `stdin`). `name` makes it differ from others.
pub async fn attach_session(
    client: &Client,
    name: &str,
    stdin: Option<&Path>,
    flows: Flows,
) -> Result<Session, TaskError> {
    let fifo =
        |wanted: bool, stream: &str| wanted.then(|| Fifo::make(client, name, stream)).transpose();
    let (output, error) = (fifo(flows.stdout, "out")?, fifo(flows.stderr, "err")?);
    let stdout = output.as_ref().map(|fifo| open_reader(fifo.path())).transpose()?;
    let stderr = error.as_ref().map(|fifo| open_reader(fifo.path())).transpose()?;
    for pipe in stdout.iter().chain(&stderr) {
        // A smaller one only makes a watcher fall behind sooner.
        let _ = rustix::pipe::fcntl_setpipe_size(pipe, ATTACH_BUFFER);
    }
    let stdin = stdin.filter(|_| flows.stdin).and_then(|path| open_writer(path, false).ok());
    let name = |fifo: &Option<Fifo>| fifo.as_ref().map_or_else(String::new, Fifo::name);
    let (out_name, err_name) = (name(&output), name(&error));
    let wanted = flows.stdout || flows.stderr;
    let mut attached: Pin<Box<dyn Future<Output = Result<bool, TaskError>> + Send>> = {
        let client = client.clone();
        Box::pin(async move {
            match wanted {
                true => client.attach(out_name, err_name, flows.patient).await,
                false => std::future::pending().await,
            }
        })
    };
    // Asked for before anybody lets the program go: one that ends at once may take its shim with it.
    let mut waited: Pin<Box<dyn Future<Output = Result<ExitStatus, TaskError>> + Send>> = {
        let client = client.clone();
        Box::pin(async move { client.wait("").await })
    };
    // The shim serves one connection in order: when the last call is answered, those before it have
    // been taken. They answer themselves only when they are refused, or over already.
    tokio::select! {
        biased;
        over = &mut attached => {
            over?;
            attached = Box::pin(std::future::ready(Ok(false)));
        }
        exit = &mut waited => waited = Box::pin(std::future::ready(exit)),
        state = client.state("") => {
            state?;
        }
    }
    let (size, sizes) = watch::channel((0, 0));
    let client = client.clone();
    let end = Box::pin(async move {
        let over = async {
            tokio::select! {
                behind = &mut attached => match behind? {
                    true => Ok(SessionEnd::FellBehind),
                    // Its outputs are closed; it may go on without them.
                    false => waited.await.map(SessionEnd::Exited),
                },
                exit = &mut waited => exit.map(SessionEnd::Exited),
            }
        };
        following(&client, "", sizes, over).await
    });
    Ok(Session { stdin, stdout, stderr, size, end, scope: Scope(None) })
}

/// Waits for `end` and hands every new size to the terminal meanwhile.
async fn following<T>(
    client: &Client,
    exec_id: &str,
    mut sizes: watch::Receiver<(u16, u16)>,
    end: impl Future<Output = T>,
) -> T {
    let resize = async {
        while sizes.changed().await.is_ok() {
            let (width, height) = *sizes.borrow_and_update();
            // A process without terminal, or one that has just ended: nothing to do.
            let _ = client.resize_pty(exec_id, width.into(), height.into()).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        end = end => end,
        () = resize => std::future::pending().await,
    }
}

fn open_reader(path: &Path) -> Result<pipe::Receiver, TaskError> {
    pipe::OpenOptions::new().open_receiver(path).map_err(failed(path))
}

fn open_writer(path: &Path, first: bool) -> Result<pipe::Sender, TaskError> {
    pipe::OpenOptions::new().read_write(first).open_sender(path).map_err(failed(path))
}
