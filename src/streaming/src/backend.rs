//! What is streamed to and from: whoever runs the server knows processes and sandboxes.

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// A flow of bytes to us.
pub type Reader = Box<dyn AsyncRead + Send + Unpin>;
/// A flow of bytes from us. Shutting it down is the end of the flow.
pub type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// Which flows a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streams {
    /// The client writes.
    pub stdin: bool,
    /// The client reads the output, or a terminal's.
    pub stdout: bool,
    /// The client reads the error output; never with a terminal.
    pub stderr: bool,
    /// There is a terminal.
    pub tty: bool,
}

/// What a client was promised when it got its URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// A command in a container.
    Exec {
        /// Which container.
        container: String,
        /// Program and arguments.
        command: Vec<String>,
        /// Which flows.
        streams: Streams,
    },
    /// A container's own process.
    Attach {
        /// Which container.
        container: String,
        /// Which flows.
        streams: Streams,
    },
    /// Ports of a sandbox.
    PortForward {
        /// Which sandbox.
        sandbox: String,
        /// For clients that cannot name ports themselves.
        ports: Vec<u16>,
    },
}

/// How it ended with a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// An attachment is over because the container is.
    Ended,
    /// A command ended: 0 to 255, 128 + N for signal N.
    Exited(u32),
    /// Something went wrong, in words for the client.
    Failed(String),
}

/// A process with whatever of its flows was asked for. Dropping it ends the attachment or the
/// command, and leaves nothing.
pub struct Process {
    /// Its input.
    pub stdin: Option<Writer>,
    /// Its output.
    pub stdout: Option<Reader>,
    /// Its error output.
    pub stderr: Option<Reader>,
    /// Its terminal, if it has one: the newest size counts.
    pub size: Option<watch::Sender<Size>>,
    /// Ready when it has ended.
    pub end: BoxFuture<'static, Outcome>,
    /// Held until everything has been carried; its drop tidies up.
    pub scope: Box<dyn Send>,
}

/// Runs what the server streams. Errors are words for the client.
pub trait Backend: Send + Sync + 'static {
    /// Starts a command.
    fn exec<'a>(
        &'a self,
        container: &'a str,
        command: Vec<String>,
        streams: Streams,
    ) -> BoxFuture<'a, Result<Process, String>>;

    /// Attaches to a container.
    fn attach<'a>(
        &'a self,
        container: &'a str,
        streams: Streams,
    ) -> BoxFuture<'a, Result<Process, String>>;

    /// Connects to a port of a sandbox's own localhost.
    fn dial<'a>(&'a self, sandbox: &'a str, port: u16) -> BoxFuture<'a, Result<TcpStream, String>>;
}
