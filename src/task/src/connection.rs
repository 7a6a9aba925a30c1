//! One ttrpc connection with any number of calls in flight.
//!
//! Two tasks own the socket: one reads answers and hands each to its caller, one writes what
//! callers queue. A caller whose future is dropped leaves no trace: its frame is queued whole or
//! not at all, and an answer that nobody waits for is thrown away.

use crate::protocol::ttrpc::{Request, Response};
use crate::trace;
use crate::ttrpc::{self, HEADER_LEN, Header, Kind};
use prost::Message;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tracing::Instrument;

/// Frames that may wait for the socket before callers wait.
const QUEUE: usize = 64;

/// Why a call got no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CallError {
    /// The connection ended first.
    Closed,
    /// The request is beyond ttrpc's limit.
    TooLong(String),
}

/// The connection. Dropping it ends both tasks and closes the socket.
#[derive(Debug)]
pub(crate) struct Connection {
    address: PathBuf,
    queue: mpsc::Sender<Vec<u8>>,
    calls: Arc<Calls>,
    next: AtomicU32,
    closed: watch::Receiver<bool>,
    tasks: [AbortHandle; 2],
}

/// Callers by stream id; `None` once the connection has ended.
#[derive(Debug)]
struct Calls(Mutex<Option<HashMap<u32, oneshot::Sender<Response>>>>);

impl Calls {
    fn lock(&self) -> MutexGuard<'_, Option<HashMap<u32, oneshot::Sender<Response>>>> {
        // The map is whole between any two statements that hold the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the caller out of the map when it stops waiting.
struct Waiting<'a> {
    calls: &'a Calls,
    stream: u32,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(calls) = self.calls.lock().as_mut() {
            calls.remove(&self.stream);
        }
    }
}

impl Connection {
    /// Takes a connected socket into service; needs a tokio runtime around it.
    pub(crate) fn new(socket: UnixStream, address: &Path) -> Self {
        let (read, write) = socket.into_split();
        let (queue, queued) = mpsc::channel(QUEUE);
        let (tell, closed) = watch::channel(false);
        let calls = Arc::new(Calls(Mutex::new(Some(HashMap::new()))));
        let reader = tokio::spawn(receive(read, Arc::clone(&calls), tell));
        let writer = tokio::spawn(transmit(write, queued));
        Self {
            address: address.to_owned(),
            queue,
            calls,
            next: AtomicU32::new(0),
            closed,
            tasks: [reader.abort_handle(), writer.abort_handle()],
        }
    }

    pub(crate) fn address(&self) -> &PathBuf {
        &self.address
    }

    /// Resolves once the connection has ended.
    pub(crate) async fn closed(&self) {
        let mut closed = self.closed.clone();
        // An error means that the reader has gone, which is the end too.
        let _ = closed.wait_for(|closed| *closed).await;
    }

    /// Calls a method and waits for the answer.
    pub(crate) async fn call(
        &self,
        service: &str,
        method: &str,
        payload: Vec<u8>,
    ) -> Result<Response, CallError> {
        let span = trace::span(method);
        let answer = self.exchange(service, method, payload).instrument(span.clone()).await;
        span.record("outcome", outcome(&answer));
        answer
    }

    async fn exchange(
        &self,
        service: &str,
        method: &str,
        payload: Vec<u8>,
    ) -> Result<Response, CallError> {
        let request = Request {
            service: service.to_owned(),
            method: method.to_owned(),
            payload,
            timeout_nano: 0,
            metadata: trace::metadata(),
        };
        // The odd numbers are the client's.
        let stream = self.next.fetch_add(1, Ordering::Relaxed).wrapping_mul(2).wrapping_add(1);
        let mut frame = Vec::new();
        ttrpc::encode(stream, Kind::Request, &request, &mut frame)
            .map_err(|error| CallError::TooLong(error.to_string()))?;
        let (answer, answered) = oneshot::channel();
        match self.calls.lock().as_mut() {
            Some(calls) => calls.insert(stream, answer),
            None => return Err(CallError::Closed),
        };
        let _waiting = Waiting { calls: &self.calls, stream };
        self.queue.send(frame).await.map_err(|_| CallError::Closed)?;
        answered.await.map_err(|_| CallError::Closed)
    }
}

fn outcome(answer: &Result<Response, CallError>) -> &'static str {
    match answer {
        Ok(response) if response.status.as_ref().is_none_or(|status| status.code == 0) => "ok",
        Ok(_) => "refused",
        Err(_) => "gone",
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn receive(mut socket: OwnedReadHalf, calls: Arc<Calls>, tell: watch::Sender<bool>) {
    // Whatever ends the loop is the end of the connection.
    while let Some((stream, response)) = next_response(&mut socket).await {
        let caller = calls.lock().as_mut().and_then(|calls| calls.remove(&stream));
        if let Some(caller) = caller {
            // The caller may have left in this moment.
            let _ = caller.send(response);
        }
    }
    // Dropping their senders tells all who still wait.
    calls.lock().take();
    let _ = tell.send(true);
}

async fn next_response(socket: &mut OwnedReadHalf) -> Option<(u32, Response)> {
    let mut head = [0; HEADER_LEN];
    socket.read_exact(&mut head).await.ok()?;
    let header = Header::parse(head).ok()?;
    if header.kind != Kind::Response {
        return None;
    }
    let mut message = vec![0; header.len as usize];
    socket.read_exact(&mut message).await.ok()?;
    Response::decode(message.as_slice()).ok().map(|response| (header.stream, response))
}

async fn transmit(mut socket: OwnedWriteHalf, mut queued: mpsc::Receiver<Vec<u8>>) {
    while let Some(frame) = queued.recv().await {
        if socket.write_all(&frame).await.is_err() {
            // The reader sees the end too and tells everybody.
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ttrpc::Status;

    async fn pair() -> (Connection, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Connection::new(ours, Path::new("/s")), theirs)
    }

    async fn take(peer: &mut UnixStream) -> (u32, Request) {
        let mut head = [0; HEADER_LEN];
        peer.read_exact(&mut head).await.unwrap();
        let header = Header::parse(head).unwrap();
        let mut message = vec![0; header.len as usize];
        peer.read_exact(&mut message).await.unwrap();
        (header.stream, Request::decode(message.as_slice()).unwrap())
    }

    async fn give(peer: &mut UnixStream, stream: u32, payload: &[u8]) {
        let response = Response { status: Some(Status::default()), payload: payload.to_vec() };
        let mut frame = Vec::new();
        ttrpc::encode(stream, Kind::Response, &response, &mut frame).unwrap();
        peer.write_all(&frame).await.unwrap();
    }

    #[tokio::test]
    async fn answers_come_in_any_order() {
        let (connection, mut peer) = pair().await;
        let server = async {
            let (first, one) = take(&mut peer).await;
            let (second, two) = take(&mut peer).await;
            assert!(first % 2 == 1 && second % 2 == 1 && first != second);
            give(&mut peer, second, &two.payload).await;
            give(&mut peer, 99, b"nobody asked").await;
            give(&mut peer, first, &one.payload).await;
        };
        let calls = async {
            tokio::join!(
                connection.call("s", "a", b"1".to_vec()),
                connection.call("s", "b", b"2".to_vec())
            )
        };
        let ((one, two), ()) = tokio::join!(calls, server);
        assert_eq!((one.unwrap().payload, two.unwrap().payload), (b"1".to_vec(), b"2".to_vec()));
    }

    #[tokio::test]
    async fn a_dropped_call_disturbs_nobody() {
        let (connection, mut peer) = pair().await;
        let (dropped, _) = {
            let call = connection.call("s", "slow", Vec::new());
            tokio::select! {
                _ = call => unreachable!("nobody answered"),
                request = take(&mut peer) => request,
            }
        };
        assert!(connection.calls.lock().as_ref().unwrap().is_empty());
        let server = async {
            give(&mut peer, dropped, b"late").await;
            let (stream, _) = take(&mut peer).await;
            give(&mut peer, stream, b"ok").await;
        };
        let (answer, ()) = tokio::join!(connection.call("s", "next", Vec::new()), server);
        assert_eq!(answer.unwrap().payload, b"ok");
    }

    #[tokio::test]
    async fn the_end_of_the_connection_reaches_all() {
        let (connection, mut peer) = pair().await;
        let server = async {
            take(&mut peer).await;
            drop(peer);
        };
        let (answer, ()) = tokio::join!(connection.call("s", "m", Vec::new()), server);
        assert_eq!(answer.unwrap_err(), CallError::Closed);
        connection.closed().await;
        assert_eq!(connection.call("s", "m", Vec::new()).await.unwrap_err(), CallError::Closed);
    }

    #[tokio::test]
    async fn too_long_is_refused_before_it_is_sent() {
        let (connection, _peer) = pair().await;
        let answer = connection.call("s", "m", vec![0; ttrpc::MAX_MESSAGE]).await;
        assert!(matches!(answer, Err(CallError::TooLong(_))));
    }
}
