//! What holds for every call: message size, deadlines, and the codes that clients expect for both.

use crate::builds_v1::builds_server::BuildsServer;
use crate::calls::{Observe, Observer};
use crate::engine_v1::engine_server::EngineServer;
use crate::images_v1::images_server::ImagesServer;
use crate::v1::image_service_server::ImageServiceServer;
use crate::v1::runtime_service_server::RuntimeServiceServer;
use crate::{Api, BuildCalls, EngineCalls, ImageCalls};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_stream::{Stream, StreamExt};
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, HeaderValue, Request, Response};
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Code, Status};
use tower::{Layer, Service};

/// Largest request in bytes: the kubelet's own limit.
pub const MAX_REQUEST: usize = 16 << 20;

/// Receive windows: requests are small, and memory is counted per connection.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 256 << 10;

/// How much earlier than the client's deadline a call is given up, so that our answer is on its way
/// when tonic's own timer fires, which answers Cancelled.
const HEAD_START: Duration = Duration::from_millis(5);

/// Serves both services on the connections of `incoming` until `shutdown` is ready; then waits for
/// the calls in flight. The observer is told of every call.
pub async fn serve<I, C, E>(
    api: Api,
    observer: Arc<dyn Observer>,
    incoming: I,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error>
where
    I: Stream<Item = Result<C, E>>,
    C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    C::ConnectInfo: Clone + Send + Sync + 'static,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let closing = api.clone();
    let shutdown = async move {
        shutdown.await;
        closing.close();
    };
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .layer(Observe(observer))
        .layer(Limits)
        .add_service(RuntimeServiceServer::new(api.clone()).max_decoding_message_size(MAX_REQUEST))
        .add_service(ImagesServer::new(ImageCalls::of(api.clone())))
        .add_service(
            EngineServer::new(EngineCalls::of(api.clone())).max_decoding_message_size(MAX_REQUEST),
        )
        .add_service(
            BuildsServer::new(BuildCalls::of(api.clone())).max_decoding_message_size(MAX_REQUEST),
        )
        .add_service(ImageServiceServer::new(api).max_decoding_message_size(MAX_REQUEST))
        .serve_with_incoming_shutdown(incoming, shutdown)
        .await
}

/// Serves Orlop's own services on one connection of this process with itself, for a command line that
/// finds no daemon: that of images, and those of containers and of builds where they are open, too. Ends
/// with the connection.
pub async fn serve_own<C>(
    images: ImageCalls,
    engine: Option<EngineCalls>,
    builds: Option<BuildCalls>,
    connection: C,
) -> Result<(), tonic::transport::Error>
where
    C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    C::ConnectInfo: Clone + Send + Sync + 'static,
{
    // The stream of connections must stay open: with its end the server would wind down.
    let incoming = tokio_stream::iter([Ok::<_, std::io::Error>(connection)]);
    Server::builder()
        .add_service(ImagesServer::new(images))
        .add_optional_service(
            engine.map(|calls| EngineServer::new(calls).max_decoding_message_size(MAX_REQUEST)),
        )
        .add_optional_service(
            builds.map(|calls| BuildsServer::new(calls).max_decoding_message_size(MAX_REQUEST)),
        )
        .serve_with_incoming(incoming.chain(tokio_stream::pending()))
        .await
}

#[derive(Clone, Copy)]
struct Limits;

impl<S> Layer<S> for Limits {
    type Service = Limited<S>;
    fn layer(&self, inner: S) -> Limited<S> {
        Limited { inner }
    }
}

#[derive(Clone)]
struct Limited<S> {
    inner: S,
}

impl<S> Service<Request<Body>> for Limited<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let limit = deadline(request.headers());
        let call = self.inner.call(request);
        Box::pin(async move {
            let Some(limit) = limit else { return call.await.map(too_large) };
            match tokio::time::timeout(limit, call).await {
                Ok(reply) => reply.map(too_large),
                Err(_) => {
                    Ok(Status::deadline_exceeded("the deadline of the call has passed").into_http())
                }
            }
        })
    }
}

/// tonic answers OutOfRange to a request over the limit; gRPC elsewhere says ResourceExhausted, and
/// no call of ours uses the former.
fn too_large(mut reply: Response<Body>) -> Response<Body> {
    const STATUS: &str = "grpc-status";
    let is =
        |value: &HeaderValue| value.as_bytes() == (Code::OutOfRange as i32).to_string().as_bytes();
    if reply.headers().get(STATUS).is_some_and(is) {
        let code = HeaderValue::from(Code::ResourceExhausted as i32);
        reply.headers_mut().insert(STATUS, code);
    }
    reply
}

/// gRPC's `grpc-timeout`: up to 8 digits and a unit.
fn deadline(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    let limit = match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    };
    Some(limit.saturating_sub(HEAD_START))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A service that never answers.
    struct Silent;

    impl Service<Request<Body>> for Silent {
        type Response = Response<Body>;
        type Error = std::convert::Infallible;
        type Future = std::future::Pending<Result<Response<Body>, Self::Error>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            std::future::pending()
        }
    }

    #[tokio::test]
    async fn a_passed_deadline_is_said_to_be_one() {
        let mut request = Request::new(Body::default());
        request.headers_mut().insert("grpc-timeout", HeaderValue::from_static("6m"));
        let reply = Limits.layer(Silent).call(request).await.unwrap();
        let code = Code::from_bytes(reply.headers()["grpc-status"].as_bytes());
        assert_eq!(code, Code::DeadlineExceeded);
    }

    #[test]
    fn deadlines() {
        for (text, millis) in [
            ("1S", Some(995)),
            ("2M", Some(119_995)),
            ("1H", Some(3_599_995)),
            ("100m", Some(95)),
            ("5000u", Some(0)),
            ("99999999n", Some(94)),
            ("", None),
            ("S", None),
            ("1", None),
            ("1d", None),
            ("123456789S", None),
            ("-1S", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            let found = deadline(&headers).map(|limit| limit.as_millis());
            assert_eq!(found, millis, "{text:?}");
        }
    }
}
