//! Exec, Attach and PortForward on the wire: a server on loopback with single-use tokens that speaks
//! the remote command and port forwarding protocols of Kubernetes over SPDY/3.1 and WebSocket.
//!
//! It knows no container: whoever runs it implements [`Backend`]. A connection is one future, and
//! everything that belongs to it is held by that future: when the client goes, or the process ends,
//! nothing is left.

mod backend;
mod forward;
mod idle;
mod remote;
mod server;
pub mod spdy;
mod tokens;
mod upgrade;
mod websocket;

pub use backend::{Backend, Outcome, Process, Reader, Request, Size, Streams, Writer};
pub use server::Server;
pub use tokens::{LIFETIME, MAX_WAITING, TooManyWaiting};
