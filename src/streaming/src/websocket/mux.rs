//! Flows over one WebSocket. A flow from the client that nobody reads holds up the whole connection,
//! since WebSocket has no windows: at most its buffer is held here, the rest waits in TCP.

use super::codec::Codec;
use crate::backend::{Reader, Writer};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_util::sync::PollSender;

/// Bytes of one flow from the client that wait for whoever reads them.
const BUFFER: usize = 64 * 1024;
/// Messages that wait for the connection.
const QUEUE: usize = 8;
/// The largest message that we send.
const MAX_MESSAGE: usize = 32 * 1024;
/// The channel on which a client ends another channel (protocol version 5).
const CLOSE: u8 = 255;
/// While a flow holds up the reading, a client that has gone is found by asking it.
const PROBE: Duration = Duration::from_secs(15);

/// What goes out.
enum Outgoing {
    Flow(u8, Bytes),
    Ping,
    /// The last flow has ended.
    Close,
}

/// The flows of one connection, and what carries them.
pub(crate) struct Mux {
    codec: Codec,
    /// Whether the client can end single flows.
    closes: bool,
    inward: Vec<(u8, DuplexStream)>,
    send: mpsc::Sender<Outgoing>,
    queued: mpsc::Receiver<Outgoing>,
}

impl Mux {
    pub(crate) fn new(codec: Codec, closes: bool) -> Self {
        let (send, queued) = mpsc::channel(QUEUE);
        Self { codec, closes, inward: Vec::new(), send, queued }
    }

    /// A flow from the client.
    pub(crate) fn reader(&mut self, channel: u8) -> Reader {
        let (near, far) = duplex(BUFFER);
        self.inward.push((channel, near));
        Box::new(far)
    }

    /// A flow to the client. With `last`, its end is the end of the connection.
    pub(crate) fn writer(&self, channel: u8, last: bool) -> Writer {
        Box::new(Flow { channel, last, send: PollSender::new(self.send.clone()) })
    }

    /// Carries everything until the client goes, or has been told that all has ended and agrees.
    pub(crate) async fn drive<T>(self, socket: WebSocketStream<T>) -> Result<(), Error>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let Self { codec, closes, mut inward, send, mut queued } = self;
        let (mut sink, mut source) = socket.split();
        let write = async {
            while let Some(next) = queued.recv().await {
                match next {
                    Outgoing::Flow(channel, bytes) => {
                        sink.send(codec.encode(channel, &bytes)).await?;
                    }
                    Outgoing::Ping => sink.send(Message::Ping(Bytes::new())).await?,
                    // With a code: clients take a close without one for a failure.
                    Outgoing::Close => {
                        let (code, reason) = (CloseCode::Normal, "".into());
                        let goodbye = Message::Close(Some(CloseFrame { code, reason }));
                        return sink.send(goodbye).await;
                    }
                }
            }
            Ok::<(), Error>(())
        };
        let read = async {
            while let Some(message) = source.next().await {
                let Some((channel, bytes)) = codec.decode(message?) else { continue };
                if channel == CLOSE && closes {
                    inward.retain(|(one, _)| bytes.first() != Some(one));
                    continue;
                }
                let found = inward.iter_mut().find(|(one, _)| *one == channel);
                if let Some((_, flow)) = found
                    && put(flow, &bytes, &send).await.is_err()
                {
                    inward.retain(|(one, _)| *one != channel);
                }
            }
            Ok::<(), Error>(())
        };
        let mut read = std::pin::pin!(read);
        tokio::select! {
            done = &mut read => return done,
            done = write => done?,
        }
        // We have said goodbye: the client answers, or has gone.
        let _ = tokio::time::timeout(crate::remote::LINGER, read).await;
        Ok(())
    }
}

/// Hands bytes to a flow; asks now and then whether the client is still there.
async fn put(
    flow: &mut DuplexStream,
    bytes: &[u8],
    send: &mpsc::Sender<Outgoing>,
) -> io::Result<()> {
    let mut handing = std::pin::pin!(flow.write_all(bytes));
    loop {
        match tokio::time::timeout(PROBE, &mut handing).await {
            Ok(done) => return done,
            // A full queue asks the same question.
            Err(_) => drop(send.try_send(Outgoing::Ping)),
        }
    }
}

/// One flow to the client.
struct Flow {
    channel: u8,
    last: bool,
    send: PollSender<Outgoing>,
}

impl Flow {
    fn poll_send(&mut self, context: &mut Context<'_>, what: Outgoing) -> Poll<io::Result<()>> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        ready!(self.send.poll_reserve(context)).map_err(gone)?;
        Poll::Ready(self.send.send_item(what).map_err(gone))
    }
}

impl AsyncWrite for Flow {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let part = bytes.get(..MAX_MESSAGE).unwrap_or(bytes);
        let what = Outgoing::Flow(self.channel, Bytes::copy_from_slice(part));
        ready!(self.poll_send(context, what))?;
        Poll::Ready(Ok(part.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.last {
            ready!(self.poll_send(context, Outgoing::Close))?;
            self.last = false;
        }
        Poll::Ready(Ok(()))
    }
}
