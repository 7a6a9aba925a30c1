//! The page of metrics over HTTP. No secret is in it, and nothing can be changed through it.

use super::Metrics;
use anyhow::Context;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Scrapers that are served at once; more wait.
const MOST: usize = 16;
/// A client that is slower is cut off.
const PATIENCE: Duration = Duration::from_secs(10);

/// A bound address whose page is served while this lives.
pub(crate) struct Listener {
    task: JoinHandle<()>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Listener {
    /// Binds the address and serves from then on.
    pub(crate) fn bind(address: SocketAddr, metrics: Metrics) -> anyhow::Result<Self> {
        let listener = std::net::TcpListener::bind(address)
            .and_then(|listener| {
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener)
            })
            .with_context(|| format!("metrics.address {address} cannot be listened on"))?;
        let at = listener.local_addr().unwrap_or(address);
        tracing::info!("metrics are at http://{at}/metrics");
        Ok(Self { task: tokio::spawn(accept(listener, metrics)) })
    }
}

async fn accept(listener: TcpListener, metrics: Metrics) {
    let mut served = JoinSet::new();
    loop {
        while served.len() >= MOST {
            served.join_next().await;
        }
        match listener.accept().await {
            Ok((stream, _)) => drop(served.spawn(serve(stream, metrics.clone()))),
            Err(error) => {
                tracing::debug!("a scraper cannot be accepted: {error}");
                // Too many open files do not end at once.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        while served.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, metrics: Metrics) {
    let answer = hyper::service::service_fn(move |request: Request<Incoming>| {
        let reply = reply(request.method(), request.uri().path(), &metrics);
        async move { Ok::<_, Infallible>(reply) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), answer);
    if let Ok(Err(error)) = tokio::time::timeout(PATIENCE * 6, connection).await {
        tracing::debug!("a scraper was lost: {error}");
    }
}

fn reply(method: &Method, path: &str, metrics: &Metrics) -> Response<Full<Bytes>> {
    let mut reply = Response::new(Full::default());
    if path != "/metrics" {
        *reply.status_mut() = StatusCode::NOT_FOUND;
    } else if ![Method::GET, Method::HEAD].contains(method) {
        *reply.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        reply.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    } else {
        let kind = prometheus_client::encoding::prometheus_text::CONTENT_TYPE;
        reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        *reply.body_mut() = Full::from(metrics.text());
    }
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_page_to_read() {
        let metrics = Metrics::new();
        for (method, path, status) in [
            (Method::GET, "/metrics", 200),
            (Method::HEAD, "/metrics", 200),
            (Method::POST, "/metrics", 405),
            (Method::GET, "/", 404),
            (Method::GET, "/metrics/x", 404),
        ] {
            assert_eq!(reply(&method, path, &metrics).status(), status, "{method} {path}");
        }
    }
}
