//! The HTTP server that clients come to with their tokens: it upgrades a connection to SPDY or
//! WebSocket, and serves it as one future. Nothing outlives its connection.

use crate::backend::{Backend, Process, Request, Streams};
use crate::forward;
use crate::idle::{Activity, Watched};
use crate::remote::{self, Version};
use crate::spdy::io::Connection;
use crate::spdy::session::Role;
use crate::tokens::{Tokens, TooManyWaiting};
use crate::upgrade::{self, Carrier, Refusal};
use crate::websocket::{self, Protocol, Tunnel};
use futures::future::BoxFuture;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// How long a client may take to say what it wants.
const HEAD: Duration = Duration::from_secs(10);
/// Connections at once; one more is told to come back.
const MAX_CONNECTIONS: usize = 1000;
/// Bytes of a request's head.
const MAX_HEAD: usize = 16 * 1024;
/// Streams that a remote command has at most, with room for a client's mistakes.
const REMOTE_STREAMS: usize = 8;
/// Streams of a port forwarding session: two for each connection.
const FORWARD_STREAMS: usize = 512;

/// The server. Clones are the same one.
#[derive(Clone)]
pub struct Server(Arc<Inner>);

struct Inner {
    address: SocketAddr,
    tokens: Tokens<Request>,
    backend: Arc<dyn Backend>,
}

/// What a connection is for, once its head has been answered.
struct Job {
    request: Request,
    carrier: Carrier,
    upgrade: OnUpgrade,
}

impl Server {
    /// A server for `listener`, which is to be given to [`Server::serve`].
    pub fn new(listener: &TcpListener, backend: Arc<dyn Backend>) -> io::Result<Self> {
        let address = listener.local_addr()?;
        Ok(Self(Arc::new(Inner { address, tokens: Tokens::new(), backend })))
    }

    /// A URL that is good for one connection within a minute.
    pub fn url(&self, request: Request) -> Result<String, TooManyWaiting> {
        let kind = kind(&request);
        let token = self.0.tokens.issue(request)?;
        Ok(format!("http://{}/{kind}/{token}", self.0.address))
    }

    /// Serves connections until `shutdown` is ready, then ends them all.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let mut connections = JoinSet::new();
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                Some(ended) = connections.join_next() => {
                    if let Err(error) = ended && error.is_panic() {
                        tracing::error!(%error, "a streaming connection failed");
                    }
                }
                accepted = listener.accept() => match accepted {
                    Ok((socket, _)) => {
                        let (server, places) = (self.clone(), Arc::clone(&places));
                        connections.spawn(async move {
                            let place = places.try_acquire().ok();
                            server.connection(socket, place.is_some()).await;
                        });
                    }
                    Err(error) => {
                        // No descriptors, for example: others may free some.
                        tracing::warn!(%error, "a streaming connection was not accepted");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
        connections.shutdown().await;
    }

    async fn connection(self, socket: TcpStream, has_place: bool) {
        // Without it a keystroke waits for the answer to the one before.
        let _ = socket.set_nodelay(true);
        let slot = Mutex::new(None);
        let service = service_fn(|request| {
            let answered = self.answer(request, has_place, &slot);
            std::future::ready(Ok::<_, Infallible>(answered))
        });
        let head = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(socket), service)
            .with_upgrades();
        if let Err(error) = head.await {
            tracing::debug!(%error, "a streaming client said nothing that can be answered");
            return;
        }
        let job = slot.into_inner().unwrap_or_else(PoisonError::into_inner);
        let Some(Job { request, carrier, upgrade }) = job else { return };
        match upgrade.await {
            Ok(upgraded) => self.stream(TokioIo::new(upgraded), request, carrier).await,
            Err(error) => tracing::debug!(%error, "a streaming client left before it was served"),
        }
    }

    /// Answers a request's head; one that is to be served is left in `slot`.
    fn answer(
        &self,
        mut head: hyper::Request<Incoming>,
        has_place: bool,
        slot: &Mutex<Option<Job>>,
    ) -> hyper::Response<Full<Bytes>> {
        if !has_place {
            return upgrade::refuse(Refusal::Busy);
        }
        let mut path = head.uri().path().strip_prefix('/').unwrap_or_default().split('/');
        let (named, token, rest) = (path.next(), path.next(), path.next());
        if !matches!(*head.method(), http::Method::GET | http::Method::POST) {
            return upgrade::refuse(Refusal::Method);
        }
        // Whatever comes of it, the token is used up: nobody gets a second guess.
        let found = token.filter(|_| rest.is_none()).and_then(|one| self.0.tokens.redeem(one));
        let Some(request) = found.filter(|request| Some(kind(request)) == named) else {
            return upgrade::refuse(Refusal::Unknown);
        };
        let forwarding = matches!(request, Request::PortForward { .. });
        match upgrade::negotiate(head.headers(), forwarding) {
            Ok((carrier, answer)) => {
                let upgrade = hyper::upgrade::on(&mut head);
                *slot.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(Job { request, carrier, upgrade });
                answer
            }
            Err(refusal) => upgrade::refuse(refusal),
        }
    }

    async fn stream<T>(&self, io: T, request: Request, carrier: Carrier)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let activity = Activity::new();
        let io = Watched { inner: io, activity: activity.clone() };
        tokio::select! {
            () = self.carry(io, request, carrier) => {}
            () = activity.idle() => tracing::info!("a streaming connection was idle for too long"),
        }
    }

    async fn carry<T>(&self, io: T, request: Request, carrier: Carrier)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let backend = self.0.backend.as_ref();
        match (request, carrier) {
            (Request::PortForward { sandbox, .. }, Carrier::Spdy(_)) => {
                spdy_forward(io, backend, &sandbox).await;
            }
            (Request::PortForward { sandbox, ports }, Carrier::WebSocket(protocol)) => {
                let socket = websocket::socket(io).await;
                match protocol {
                    Protocol::Tunnel => {
                        spdy_forward(Tunnel::new(socket), backend, &sandbox).await;
                    }
                    Protocol::Channels(codec, _) => {
                        websocket::forward(socket, codec, &ports, backend, &sandbox).await;
                    }
                }
            }
            (Request::Exec { container, command, streams }, carrier) => {
                let start = Box::pin(backend.exec(&container, command, streams));
                remote_command(io, carrier, streams, start).await;
            }
            (Request::Attach { container, streams }, carrier) => {
                let start = Box::pin(backend.attach(&container, streams));
                remote_command(io, carrier, streams, start).await;
            }
        }
    }
}

fn kind(request: &Request) -> &'static str {
    match request {
        Request::Exec { .. } => "exec",
        Request::Attach { .. } => "attach",
        Request::PortForward { .. } => "portforward",
    }
}

async fn remote_command<T>(
    io: T,
    carrier: Carrier,
    streams: Streams,
    start: BoxFuture<'_, Result<Process, String>>,
) where
    T: AsyncRead + AsyncWrite + Unpin,
{
    match carrier {
        Carrier::Spdy(version) => spdy_command(io, version, streams, start).await,
        Carrier::WebSocket(Protocol::Channels(codec, version)) => {
            websocket::remote(websocket::socket(io).await, (codec, version), streams, start).await;
        }
        // Never agreed on for a remote command.
        Carrier::WebSocket(Protocol::Tunnel) => {}
    }
}

async fn spdy_command<T>(
    io: T,
    version: Version,
    streams: Streams,
    start: BoxFuture<'_, Result<Process, String>>,
) where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let connection = Connection::new(Role::Server, REMOTE_STREAMS);
    let work = async {
        match remote::accept(&connection, streams, version).await {
            Some(channels) => remote::run(start.await, channels).await,
            None => tracing::debug!("a client did not open the streams that it had asked for"),
        }
    };
    drive(&connection, io, work).await;
}

async fn spdy_forward<T>(io: T, backend: &dyn Backend, sandbox: &str)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let connection = Connection::new(Role::Server, FORWARD_STREAMS);
    drive(&connection, io, forward::serve_spdy(&connection, backend, sandbox)).await;
}

/// Works while the connection lasts, then closes it.
async fn drive<T>(connection: &Connection, io: T, work: impl Future<Output = ()>)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    /// How long a client may take to take the last bytes.
    const FAREWELL: Duration = Duration::from_secs(5);
    let mut driven = std::pin::pin!(connection.drive(io));
    let done = tokio::select! {
        done = &mut driven => done,
        () = work => {
            connection.close();
            tokio::time::timeout(FAREWELL, driven).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = done {
        tracing::debug!(%error, "a streaming connection ended");
    }
}
