//! The WebSocket carriers: remote commands and port forwarding by channels, and SPDY inside of
//! WebSocket messages.

mod codec;
mod mux;
mod tunnel;

pub(crate) use tunnel::Tunnel;

use crate::backend::{Backend, Process, Streams};
use crate::forward;
use crate::remote::{self, Channels, Version};
use codec::Codec;
use futures::future::{BoxFuture, join_all};
use mux::Mux;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// The largest message that a client may send; its flows come in pieces of some KiB.
const MAX_MESSAGE: usize = 1 << 20;

/// A subprotocol of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Channels.
    Channels(Codec, Version),
    /// A SPDY session for port forwarding.
    Tunnel,
}

/// The name of the tunnel.
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

/// Names of remote command subprotocols, the best first.
const REMOTE: [(&str, Protocol); 5] = [
    ("v5.channel.k8s.io", Protocol::Channels(Codec::Binary, Version::V5)),
    ("v4.channel.k8s.io", Protocol::Channels(Codec::Binary, Version::V4)),
    ("v4.base64.channel.k8s.io", Protocol::Channels(Codec::Base64, Version::V4)),
    ("channel.k8s.io", Protocol::Channels(Codec::Binary, Version::V1)),
    ("base64.channel.k8s.io", Protocol::Channels(Codec::Base64, Version::V1)),
];

/// The same for port forwarding.
const FORWARD: [(&str, Protocol); 3] = [
    (TUNNEL, Protocol::Tunnel),
    ("v4.channel.k8s.io", Protocol::Channels(Codec::Binary, Version::V4)),
    ("v4.base64.channel.k8s.io", Protocol::Channels(Codec::Base64, Version::V4)),
];

/// The subprotocol to speak with a client that offers `offered`, by name; a client that offers none
/// gets the oldest. `None`: none of them is ours.
pub(crate) fn choose(
    forwarding: bool,
    offered: &[String],
) -> Option<(Option<&'static str>, Protocol)> {
    let ours: &[(&'static str, Protocol)] = if forwarding { &FORWARD } else { &REMOTE };
    if offered.is_empty() {
        return ours
            .iter()
            .rev()
            .find(|(_, protocol)| matches!(protocol, Protocol::Channels(Codec::Binary, _)))
            .map(|(_, protocol)| (None, *protocol));
    }
    ours.iter()
        .find(|(name, _)| offered.iter().any(|one| one == name))
        .map(|(name, protocol)| (Some(*name), *protocol))
}

/// The names of all subprotocols.
pub(crate) fn names(forwarding: bool) -> Vec<&'static str> {
    let ours: &[(&'static str, Protocol)] = if forwarding { &FORWARD } else { &REMOTE };
    ours.iter().map(|(name, _)| *name).collect()
}

/// Puts the WebSocket protocol on a connection whose handshake is done.
pub(crate) async fn socket<T: AsyncRead + AsyncWrite + Unpin>(io: T) -> WebSocketStream<T> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
        .read_buffer_size(16 * 1024)
        .write_buffer_size(0);
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}

/// A remote command by channels: 0 to 4 are stdin, stdout, stderr, the outcome, and sizes.
pub(crate) async fn remote<T: AsyncRead + AsyncWrite + Unpin>(
    socket: WebSocketStream<T>,
    (codec, version): (Codec, Version),
    streams: Streams,
    start: BoxFuture<'_, Result<Process, String>>,
) {
    let mut mux = Mux::new(codec, version >= Version::V5);
    let mut channels = Channels {
        stdin: streams.stdin.then(|| mux.reader(0)),
        stdout: streams.stdout.then(|| mux.writer(1, false)),
        stderr: (streams.stderr && !streams.tty).then(|| mux.writer(2, false)),
        error: mux.writer(3, true),
        resize: streams.tty.then(|| mux.reader(4)),
        version,
    };
    let work = async {
        // An empty message says that the channels are there, as the oldest clients expect.
        let first = [&mut channels.stdout, &mut channels.stderr].into_iter().flatten().next();
        let greeted = first.unwrap_or(&mut channels.error).write(&[]).await;
        if greeted.is_ok() {
            remote::run(start.await, channels).await;
        }
    };
    // Whoever ends first: the client, or the command and then the client.
    tokio::select! {
        _ = mux.drive(socket) => {}
        () = work => {}
    }
}

/// Port forwarding by channels: for port N, 2 N carries its bytes and 2 N + 1 its error; both begin
/// with the port's number, the low byte first.
pub(crate) async fn forward<T: AsyncRead + AsyncWrite + Unpin>(
    socket: WebSocketStream<T>,
    codec: Codec,
    ports: &[u16],
    backend: &dyn Backend,
    sandbox: &str,
) {
    let mut mux = Mux::new(codec, false);
    let pairs: Vec<_> = (0..=u8::MAX)
        .step_by(2)
        .zip(ports)
        .map(|(channel, port)| {
            let data = mux.writer(channel, false);
            (*port, mux.reader(channel), data, mux.writer(channel + 1, false))
        })
        .collect();
    let all = join_all(pairs.into_iter().map(|(port, from, mut to, mut error)| async move {
        let number = port.to_le_bytes();
        to.write_all(&number).await?;
        error.write_all(&number).await?;
        let done = match backend.dial(sandbox, port).await {
            Ok(connection) => {
                forward::carry(from, to, connection).await.map_err(|error| error.to_string())
            }
            Err(why) => Err(why),
        };
        match done {
            Ok(()) => Ok(()),
            Err(why) => error.write_all(why.as_bytes()).await,
        }
    }));
    let farewell = mux.writer(0, true);
    let work = async {
        all.await;
        let mut farewell = farewell;
        let _ = farewell.shutdown().await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = mux.drive(socket) => {}
        () = work => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_common_protocol() {
        let offer =
            |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let name = |forwarding, names: &[&str]| choose(forwarding, &offer(names)).map(|(n, _)| n);
        assert_eq!(
            name(false, &["v4.channel.k8s.io", "v5.channel.k8s.io"]),
            Some(Some("v5.channel.k8s.io"))
        );
        assert_eq!(name(false, &["other", "channel.k8s.io"]), Some(Some("channel.k8s.io")));
        assert_eq!(name(false, &["other"]), None);
        assert_eq!(name(true, &["v5.channel.k8s.io"]), None);
        assert_eq!(name(true, &[TUNNEL]), Some(Some(TUNNEL)));
        let oldest = Protocol::Channels(Codec::Binary, Version::V1);
        assert_eq!(choose(false, &[]), Some((None, oldest)));
    }
}
