//! Connecting to a port of a sandbox, as one of its own processes would.

use super::Sandbox;
use crate::error::io;
use crate::kept::blocking;
use crate::{ErrorKind, Result};
use orlop_spec::Namespace;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// How long a port on its own host may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to `port` on the sandbox's localhost: IPv4 first, then IPv6.
pub(crate) async fn dial(sandbox: Arc<Sandbox>, port: u16) -> Result<TcpStream> {
    let netns = match sandbox.namespaces().network {
        Namespace::Path(path) => Some(path),
        _ => None,
    };
    let (four, six) = sockets(netns).await?;
    let failed = |source: std::io::Error| {
        let what = "connecting to a port";
        let object = format!("{port} of sandbox {}", sandbox.id);
        crate::error::below(what, object, ErrorKind::Unavailable, source)
    };
    let first = connect(four, Ipv4Addr::LOCALHOST.into(), port).await;
    match (first, six) {
        (Ok(stream), _) => Ok(stream),
        (Err(error), None) => Err(failed(error)),
        // Of the two errors, the first is the one that people expect.
        (Err(error), Some(six)) => {
            connect(six, Ipv6Addr::LOCALHOST.into(), port).await.map_err(|_| failed(error))
        }
    }
}

/// A socket belongs to the namespace that it was made in, wherever it is used.
async fn sockets(netns: Option<PathBuf>) -> Result<(OwnedFd, Option<OwnedFd>)> {
    blocking(move || match netns {
        Some(path) => orlop_network::tcp_sockets_in(&path).map_err(io("making a socket in", &path)),
        None => orlop_network::tcp_sockets().map_err(io("making a socket", "the host's network")),
    })
    .await
}

async fn connect(socket: OwnedFd, address: IpAddr, port: u16) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::from_std_stream(std::net::TcpStream::from(socket));
    let connecting = timeout(PATIENCE, socket.connect((address, port).into()));
    connecting.await.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))?
}
