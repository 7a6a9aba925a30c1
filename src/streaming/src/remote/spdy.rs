//! Which SPDY stream is which flow.

use super::{Channels, Version};
use crate::backend::Streams;
use crate::spdy::io::{Connection, Stream};
use std::time::Duration;
use tokio::time::timeout;

/// How long a client may take to open its streams.
pub(crate) const CREATION: Duration = Duration::from_secs(30);

/// Waits until the client has opened every stream that it asked for; `None` when it does not.
pub(crate) async fn accept(
    connection: &Connection,
    streams: Streams,
    version: Version,
) -> Option<Channels> {
    timeout(CREATION, gather(connection, streams, version)).await.ok().flatten()
}

async fn gather(connection: &Connection, streams: Streams, version: Version) -> Option<Channels> {
    let wanted = [
        ("error", true),
        ("stdin", streams.stdin),
        ("stdout", streams.stdout),
        ("stderr", streams.stderr && !streams.tty),
        ("resize", streams.tty && version >= Version::V3),
    ];
    let mut found: [Option<Stream>; 5] = [const { None }; 5];
    while wanted.iter().zip(&found).any(|((_, wanted), found)| *wanted && found.is_none()) {
        let stream = connection.accept().await?;
        let kind = stream.headers().get("streamtype").unwrap_or_default();
        let place = wanted.iter().position(|(name, wanted)| *wanted && *name == kind);
        match place.and_then(|place| found.get_mut(place)) {
            Some(slot) if slot.is_none() => *slot = Some(stream),
            _ => stream.refuse(),
        }
    }
    let [error, stdin, stdout, stderr, resize] = found;
    Some(Channels {
        stdin: stdin.map(|stream| Box::new(stream) as _),
        stdout: stdout.map(|stream| Box::new(stream) as _),
        stderr: stderr.map(|stream| Box::new(stream) as _),
        error: Box::new(error?),
        resize: resize.map(|stream| Box::new(stream) as _),
        version,
    })
}
