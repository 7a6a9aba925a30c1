//! The CRI socket and its connections.

use anyhow::{Context, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs::Permissions;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Connections that wait for the server to take them.
const BACKLOG: usize = 16;
/// Pause after an error of accept that will not go away at once, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);
/// Such errors come in numbers: one of them is logged in this time.
const QUIET: Duration = Duration::from_secs(10);

/// Binds the socket, 0600 in a directory that only root enters. A socket that nobody listens on is
/// replaced; anything else at the path is left alone.
pub(crate) fn bind(path: &Path) -> anyhow::Result<UnixListener> {
    make_room(path)?;
    let listener = UnixListener::bind(path)
        .with_context(|| format!("socket {} cannot be bound", path.display()))?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))
        .with_context(|| format!("mode of socket {} cannot be set", path.display()))?;
    Ok(listener)
}

fn make_room(path: &Path) -> anyhow::Result<()> {
    let at = path.display();
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(error).with_context(|| format!("socket {at} cannot be looked at"));
        }
        Ok(found) if !found.file_type().is_socket() => {
            bail!(
                "socket {at} cannot be bound: something that is no socket is there; remove it or use another path"
            )
        }
        Ok(_) => {}
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(stream) if is_served(&stream) => {
            bail!("socket {at} is in use by another daemon: stop that one, or use another path")
        }
        Ok(_) => std::fs::remove_file(path)
            .with_context(|| format!("stale socket {at} cannot be removed")),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path)
            .with_context(|| format!("stale socket {at} cannot be removed")),
        Err(error) => Err(error).with_context(|| format!("socket {at} cannot be tried")),
    }
}

/// Whether somebody is behind the socket. A daemon that was killed while it started a child leaves
/// its listener open until that child's exec; then the kernel hangs up on us, whom nobody accepted.
fn is_served(stream: &std::os::unix::net::UnixStream) -> bool {
    const PATIENCE: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };
    // The server's half of an HTTP/2 connection speaks first, so that a living one is known at once.
    let mut fds = [PollFd::new(stream, PollFlags::IN)];
    match poll(&mut fds, Some(&PATIENCE)) {
        Ok(0) | Err(_) => true,
        Ok(_) => !matches!((&mut &*stream).read(&mut [0; 1]), Ok(0) | Err(_)),
    }
}

/// Accepts for as long as the receiver lives. No error ends it: a client that went away and a moment
/// without descriptors are both survived.
pub(crate) fn accept(listener: UnixListener) -> ReceiverStream<Result<UnixStream, std::io::Error>> {
    let (sender, receiver) = mpsc::channel(BACKLOG);
    tokio::spawn(async move {
        let mut warned: Option<Instant> = None;
        loop {
            tokio::select! {
                () = sender.closed() => return,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        if sender.send(Ok(stream)).await.is_err() {
                            return;
                        }
                    }
                    Err(error) if is_the_clients(&error) => tracing::debug!("connection lost in accept: {error}"),
                    Err(error) => {
                        if warned.is_none_or(|at| at.elapsed() > QUIET) {
                            tracing::warn!("connections cannot be accepted for now: {error}");
                            warned = Some(Instant::now());
                        }
                        tokio::time::sleep(PAUSE).await;
                    }
                },
            }
        }
    });
    ReceiverStream::new(receiver)
}

fn is_the_clients(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stale_sockets_are_replaced_living_ones_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let first = bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let error = bind(&path).unwrap_err().to_string();
        assert!(error.contains("in use"), "{error}");
        drop(first);
        bind(&path).unwrap();
    }

    #[tokio::test]
    async fn other_files_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        std::fs::write(&path, "precious").unwrap();
        assert!(bind(&path).unwrap_err().to_string().contains("no socket"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }
}
