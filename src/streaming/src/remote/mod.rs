//! The remote command protocol, whatever carries it: flows between a client and a process, and a
//! word at the end about how it went.

mod size;
mod spdy;
mod status;

pub(crate) use size::Sizes;
pub(crate) use spdy::{CREATION, accept};

use crate::backend::{Outcome, Process, Reader, Size, Writer};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

/// How long a silent output is waited for after the process's end, when something that it left
/// behind still holds it.
const DRAIN: Duration = Duration::from_secs(2);
/// How long a client may take to hang up once it has been told the outcome. It does so at once; a
/// connection that we closed first could lose what is still on its way to it.
pub(crate) const LINGER: Duration = Duration::from_secs(10);
/// Bytes that are carried at once.
const CHUNK: usize = 32 * 1024;

/// Versions of the protocol; later ones can more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    /// Flows, and errors in words.
    V1,
    /// Ends of flows are told.
    V2,
    /// Terminals change their size.
    V3,
    /// The outcome is a document with the exit code.
    V4,
    /// Ends of flows are told over WebSocket too.
    V5,
}

/// The client's side of the flows.
pub(crate) struct Channels {
    pub(crate) stdin: Option<Reader>,
    pub(crate) stdout: Option<Writer>,
    pub(crate) stderr: Option<Writer>,
    pub(crate) error: Writer,
    pub(crate) resize: Option<Reader>,
    pub(crate) version: Version,
}

/// Carries everything until the process has ended and the client has been told, then until the
/// client has hung up or lingers too long. Dropped when the client goes first.
pub(crate) async fn run(started: Result<Process, String>, channels: Channels) {
    let Channels { stdin, stdout, stderr, mut error, resize, version } = channels;
    let process = started.unwrap_or_else(failed);
    let _scope = process.scope;
    let (over, ended) = watch::channel(false);
    let inputs = async {
        tokio::join!(feed(stdin, process.stdin, ended.clone()), follow(resize, process.size));
        std::future::pending::<()>().await;
    };
    let outputs = async {
        tokio::join!(
            carry(process.stdout, stdout, ended.clone()),
            carry(process.stderr, stderr, ended.clone()),
        )
    };
    let work = async {
        let end = async {
            let outcome = process.end.await;
            // The outputs are there still, for as long as something comes.
            over.send_replace(true);
            outcome
        };
        // The flows are held until the client hangs up: dropping them would say more than their end.
        let (outcome, (_stdout, _stderr)) = tokio::join!(end, outputs);
        tell(&mut error, &outcome, version).await;
        tokio::time::sleep(LINGER).await;
    };
    tokio::select! {
        () = work => {}
        () = inputs => {}
    }
}

fn failed(why: String) -> Process {
    let end = Box::pin(std::future::ready(Outcome::Failed(why)));
    Process { stdin: None, stdout: None, stderr: None, size: None, end, scope: Box::new(()) }
}

async fn tell(error: &mut Writer, outcome: &Outcome, version: Version) {
    let word = if version >= Version::V4 {
        status::document(outcome)
    } else {
        status::text(outcome).into_bytes()
    };
    if !word.is_empty() {
        let _ = error.write_all(&word).await;
    }
    let _ = error.shutdown().await;
}

/// From the client to the process. What the process does not take any more is read and thrown away:
/// the other flows share the connection.
async fn feed(from: Option<Reader>, to: Option<Writer>, ended: watch::Receiver<bool>) {
    let Some(mut from) = from else { return };
    let mut to = to;
    let mut buffer = vec![0; CHUNK];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => {
                let Some(writer) = &mut to else { continue };
                let mut over = ended.clone();
                let taken = tokio::select! {
                    taken = writer.write_all(buffer.get(..count).unwrap_or_default()) => taken.is_ok(),
                    _ = over.wait_for(|over| *over) => false,
                };
                if !taken {
                    to = None;
                }
            }
        }
    }
    if let Some(mut writer) = to {
        let _ = writer.shutdown().await;
    }
}

/// From the process to the client, and then the end. A client that gave up this flow does not hold up
/// the process. Returns the flow, while there is one.
async fn carry(
    from: Option<Reader>,
    mut to: Option<Writer>,
    ended: watch::Receiver<bool>,
) -> Option<Writer> {
    if let Some(from) = from {
        copy(from, &mut to, ended).await;
    }
    if let Some(to) = &mut to {
        // A client that has gone is told nothing.
        let _ = to.shutdown().await;
    }
    to
}

async fn copy(mut from: Reader, to: &mut Option<Writer>, ended: watch::Receiver<bool>) {
    let mut buffer = vec![0; CHUNK];
    loop {
        let mut over = ended.clone();
        let silence = async {
            // An error: the sender has gone, which is the end too.
            let _ = over.wait_for(|over| *over).await;
            tokio::time::sleep(DRAIN).await;
        };
        let count = tokio::select! {
            read = from.read(&mut buffer) => read.unwrap_or(0),
            () = silence => 0,
        };
        if count == 0 {
            return;
        }
        if let Some(writer) = to
            && writer.write_all(buffer.get(..count).unwrap_or_default()).await.is_err()
        {
            *to = None;
        }
    }
}

/// Sizes from the client to the terminal.
async fn follow(from: Option<Reader>, to: Option<watch::Sender<Size>>) {
    let (Some(mut from), to) = (from, to) else { return };
    let mut sizes = Sizes::default();
    let mut buffer = [0; 512];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(count) => match (sizes.take(buffer.get(..count).unwrap_or_default()), &to) {
                (Ok(Some(size)), Some(to)) => {
                    to.send_replace(size);
                }
                (Ok(_), _) => {}
                (Err(_), _) => return,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{DuplexStream, duplex};

    fn flow() -> (DuplexStream, DuplexStream) {
        duplex(1 << 16)
    }

    #[tokio::test]
    async fn a_grandchild_that_holds_the_output_is_not_waited_for() {
        let (mut process_out, ours) = flow();
        let (theirs, mut client_out) = flow();
        let (error, mut client_error) = flow();
        process_out.write_all(b"said before the end").await.unwrap();
        let process = Process {
            stdin: None,
            stdout: Some(Box::new(ours)),
            stderr: None,
            size: None,
            end: Box::pin(std::future::ready(Outcome::Exited(3))),
            scope: Box::new(()),
        };
        let channels = Channels {
            stdin: None,
            stdout: Some(Box::new(theirs)),
            stderr: None,
            error: Box::new(error),
            resize: None,
            version: Version::V4,
        };
        let client = async {
            let (mut out, mut word) = (Vec::new(), Vec::new());
            client_out.read_to_end(&mut out).await.unwrap();
            client_error.read_to_end(&mut word).await.unwrap();
            (out, word)
        };
        let (out, word) = tokio::select! {
            () = run(Ok(process), channels) => panic!("it lingers until the client has gone"),
            read = client => read,
        };
        assert_eq!(out, b"said before the end");
        assert!(String::from_utf8(word).unwrap().contains("NonZeroExitCode"));
        drop(process_out);
    }

    #[tokio::test]
    async fn a_failure_is_told_in_the_clients_version() {
        for (version, word) in [(Version::V1, "no such program"), (Version::V4, "\"Failure\"")] {
            let (error, mut client) = flow();
            let channels = Channels {
                stdin: None,
                stdout: None,
                stderr: None,
                error: Box::new(error),
                resize: None,
                version,
            };
            let mut text = String::new();
            tokio::select! {
                () = run(Err("no such program".to_owned()), channels) => panic!("too early"),
                read = client.read_to_string(&mut text) => drop(read.unwrap()),
            }
            assert!(text.contains(word), "{text}");
        }
    }
}
