//! A session on a connection. One future drives it; its streams are readers and writers that other
//! futures of the same task hold. Nothing is spawned: when the drive is dropped, all has ended.

use super::frame::{GoAway, Reset};
use super::header::Headers;
use super::session::{Event, Read, Role, Sent, Session};
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::Notify;

/// Bytes per read of the connection.
const CHUNK: usize = 16 * 1024;
/// While nothing is read because a stream is full, a peer that has gone is found by asking it.
const PROBE: Duration = Duration::from_secs(15);

/// The streams' side of a session. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Connection(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    core: Mutex<Core>,
    /// There is something to send, or to end.
    send: Notify,
    /// There may be room to read on.
    room: Notify,
}

#[derive(Debug)]
struct Core {
    session: Session,
    accepted: VecDeque<(u32, Headers)>,
    accepting: Option<Waker>,
    waiting: BTreeMap<u32, Waiting>,
    /// The connection has ended.
    ended: bool,
    /// Send what there is, then end.
    closing: bool,
}

#[derive(Debug, Default)]
struct Waiting {
    read: Option<Waker>,
    write: Option<Waker>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Core> {
        // The state is whole between any two statements that hold the lock.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Core {
    fn wake_readers(&mut self, stream: u32) {
        if let Some(waker) = self.waiting.get_mut(&stream).and_then(|one| one.read.take()) {
            waker.wake();
        }
    }

    /// Wakes who wants to send on `stream`, or with 0 on any.
    fn wake_writers(&mut self, stream: u32) {
        for (id, waiting) in &mut self.waiting {
            if (stream == 0 || *id == stream)
                && let Some(waker) = waiting.write.take()
            {
                waker.wake();
            }
        }
    }

    fn end(&mut self) {
        self.ended = true;
        self.accepting.take().into_iter().for_each(Waker::wake);
        for waiting in std::mem::take(&mut self.waiting).into_values() {
            waiting.read.into_iter().chain(waiting.write).for_each(Waker::wake);
        }
    }

    fn happened(&mut self, events: Vec<Event>) {
        for event in events {
            match event {
                Event::Opened { stream, headers } => {
                    self.accepted.push_back((stream, headers));
                    self.accepting.take().into_iter().for_each(Waker::wake);
                }
                Event::Readable(stream) => self.wake_readers(stream),
                Event::Writable(stream) => self.wake_writers(stream),
            }
        }
    }
}

impl Connection {
    /// A session with no connection yet; [`Connection::drive`] gives it one.
    pub fn new(role: Role, max_streams: usize) -> Self {
        let core = Core {
            session: Session::new(role, max_streams),
            accepted: VecDeque::new(),
            accepting: None,
            waiting: BTreeMap::new(),
            ended: false,
            closing: false,
        };
        Self(Arc::new(Shared { core: Mutex::new(core), send: Notify::new(), room: Notify::new() }))
    }

    /// Carries bytes between `io` and the session until either ends, or [`Connection::close`] has
    /// been called and everything is sent. A peer that breaks the protocol is an error.
    pub async fn drive(&self, io: impl AsyncRead + AsyncWrite) -> io::Result<()> {
        let _end = End(&self.0);
        let (mut reader, mut writer) = tokio::io::split(io);
        let mut write = std::pin::pin!(self.write(&mut writer));
        let read = tokio::select! {
            done = &mut write => return done,
            done = self.read(&mut reader) => done,
        };
        // Why it ends (a GOAWAY) goes out first, if the peer takes it at once.
        self.0.lock().closing = true;
        self.0.send.notify_one();
        let _ = tokio::time::timeout(Duration::from_secs(1), write).await;
        read
    }

    async fn read(&self, reader: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK];
        loop {
            while self.0.lock().session.is_congested() {
                if tokio::time::timeout(PROBE, self.0.room.notified()).await.is_err() {
                    self.0.lock().session.ping();
                    self.0.send.notify_one();
                }
            }
            let count = reader.read(&mut buffer).await?;
            if count == 0 {
                return Ok(());
            }
            let mut events = Vec::new();
            let mut core = self.0.lock();
            let taken = core.session.receive(buffer.get(..count).unwrap_or_default(), &mut events);
            core.happened(events);
            drop(core);
            self.0.send.notify_one();
            taken.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
    }

    async fn write(&self, writer: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        loop {
            let (bytes, closing) = {
                let mut core = self.0.lock();
                (core.session.take_out(), core.closing)
            };
            if bytes.is_empty() {
                if closing {
                    return writer.shutdown().await;
                }
                self.0.send.notified().await;
                continue;
            }
            writer.write_all(&bytes).await?;
            writer.flush().await?;
            let mut core = self.0.lock();
            if core.session.sent(bytes.len()) {
                core.wake_writers(0);
            }
            drop(core);
            self.0.room.notify_one();
        }
    }

    /// The next stream that the peer opens, which has been accepted; `None` when the connection has
    /// ended.
    pub async fn accept(&self) -> Option<Stream> {
        poll_fn(|context| {
            let mut core = self.0.lock();
            if let Some((id, headers)) = core.accepted.pop_front() {
                core.session.reply(id);
                drop(core);
                self.0.send.notify_one();
                return Poll::Ready(Some(Stream { id, headers, shared: Arc::clone(&self.0) }));
            }
            if core.ended {
                return Poll::Ready(None);
            }
            core.accepting = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Opens a stream, as a client.
    pub fn open(&self, headers: Headers) -> io::Result<Stream> {
        let opened = self.0.lock().session.open(&headers);
        let id = opened.map_err(io::Error::other)?;
        self.0.send.notify_one();
        Ok(Stream { id, headers, shared: Arc::clone(&self.0) })
    }

    /// Ends the session once everything is sent.
    pub fn close(&self) {
        let mut core = self.0.lock();
        core.session.go_away(GoAway::Ok);
        core.closing = true;
        drop(core);
        self.0.send.notify_one();
    }
}

/// However the drive ends, nobody goes on waiting.
struct End<'a>(&'a Shared);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.lock().end();
    }
}

/// One stream. Dropping it tells the peer, unless both sides have finished.
#[derive(Debug)]
pub struct Stream {
    id: u32,
    headers: Headers,
    shared: Arc<Shared>,
}

impl Stream {
    /// Its number in the session.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// What the peer opened it with.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// Refuses it.
    pub fn refuse(self) {
        self.shared.lock().session.release(self.id, Reset::RefusedStream);
        self.shared.send.notify_one();
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut core = self.shared.lock();
        core.session.release(self.id, Reset::Cancel);
        core.waiting.remove(&self.id);
        drop(core);
        self.shared.send.notify_one();
        self.shared.room.notify_one();
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut core = self.shared.lock();
        match core.session.read(self.id, buffer.initialize_unfilled()) {
            Read::Bytes(count) => {
                drop(core);
                buffer.advance(count);
                // A window may have to be opened, and the reading may go on.
                self.shared.send.notify_one();
                self.shared.room.notify_one();
                Poll::Ready(Ok(()))
            }
            Read::End => Poll::Ready(Ok(())),
            Read::Reset => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Read::Pending if core.ended => {
                Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
            }
            Read::Pending => {
                core.waiting.entry(self.id).or_default().read = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut core = self.shared.lock();
        if core.ended {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        match core.session.send(self.id, bytes) {
            Sent::Bytes(count) => {
                drop(core);
                self.shared.send.notify_one();
                Poll::Ready(Ok(count))
            }
            Sent::Reset => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Sent::Pending => {
                core.waiting.entry(self.id).or_default().write = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.lock().session.finish(self.id);
        self.shared.send.notify_one();
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client and a server over a pipe that holds little.
    async fn both<T>(work: impl AsyncFnOnce(Connection, Connection) -> T) -> T {
        let (near, far) = tokio::io::duplex(1000);
        let (client, server) =
            (Connection::new(Role::Client, 0), Connection::new(Role::Server, 16));
        let drives = async {
            let (a, b) = tokio::join!(client.drive(near), server.drive(far));
            a.unwrap();
            b.unwrap();
            std::future::pending::<()>().await
        };
        tokio::select! {
            () = drives => unreachable!(),
            done = work(client.clone(), server.clone()) => done,
        }
    }

    #[tokio::test]
    async fn more_than_a_window_goes_both_ways() {
        both(async |client, server| {
            let mut ours = client.open([("streamtype", "data")].into_iter().collect()).unwrap();
            let theirs = server.accept().await.unwrap();
            assert_eq!(theirs.headers().get("streamtype"), Some("data"));
            let (mut read, mut write) = tokio::io::split(theirs);
            let echo = async {
                tokio::io::copy(&mut read, &mut write).await.unwrap();
                write.shutdown().await.unwrap();
            };
            let sent: Vec<u8> = (0..1_000_000_u32).map(|n| n as u8).collect();
            let (mut got, all) = (Vec::new(), sent.clone());
            let (mut read, mut write) = tokio::io::split(&mut ours);
            let talk = async {
                let ((), ()) = tokio::join!(
                    async {
                        write.write_all(&sent).await.unwrap();
                        write.shutdown().await.unwrap();
                    },
                    async {
                        read.read_to_end(&mut got).await.unwrap();
                    }
                );
            };
            tokio::join!(echo, talk);
            assert_eq!(got, all);
        })
        .await;
    }

    #[tokio::test]
    async fn a_peer_that_goes_ends_every_wait() {
        let (near, far) = tokio::io::duplex(1000);
        let server = Connection::new(Role::Server, 16);
        drop(near);
        let (driven, accepted) = tokio::join!(server.drive(far), server.accept());
        driven.unwrap();
        assert!(accepted.is_none());
    }

    #[tokio::test]
    async fn a_dropped_stream_is_told() {
        both(async |client, server| {
            let mut ours = client.open(Headers::default()).unwrap();
            drop(server.accept().await.unwrap());
            let mut buffer = [0; 1];
            let error = ours.read(&mut buffer).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        })
        .await;
    }
}
