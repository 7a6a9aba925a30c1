//! Every call from its first byte to the last of its answer, told to an [`Observer`].

use crate::DESCRIPTORS;
use http_body::{Frame, SizeHint};
use prost::Message;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tonic::body::Body;
use tonic::codegen::Bytes;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tonic::{Code, Status};
use tower::{Layer, Service};
use tracing::{Instrument, Span};

/// Who is told of calls.
pub trait Observer: Send + Sync + 'static {
    /// A call came in. It is answered inside the span that this returns. `method` is one of CRI's,
    /// or `other`.
    fn began(&self, method: &'static str, metadata: &HeaderMap) -> Span;
    /// The answer of a call ended with this code: [`Code::Cancelled`] also where the client went
    /// away.
    fn ended(&self, method: &'static str, span: &Span, code: Code, took: Duration);
}

/// Nobody.
impl Observer for () {
    fn began(&self, _: &'static str, _: &HeaderMap) -> Span {
        Span::none()
    }
    fn ended(&self, _: &'static str, _: &Span, _: Code, _: Duration) {}
}

/// The last part of a path such as `/runtime.v1.RuntimeService/Version`, where CRI has such a call.
fn method(path: &str) -> &'static str {
    static METHODS: OnceLock<HashMap<String, &'static str>> = OnceLock::new();
    METHODS.get_or_init(methods).get(path).copied().unwrap_or("other")
}

fn methods() -> HashMap<String, &'static str> {
    let files = prost_types::FileDescriptorSet::decode(DESCRIPTORS).unwrap_or_default().file;
    let mut methods = HashMap::new();
    for file in &files {
        for service in &file.service {
            for method in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                // Once in the life of the process, for some forty names.
                methods.insert(path, &*String::leak(method.name().to_owned()));
            }
        }
    }
    methods
}

/// A call that is being answered. Its end is told when it is dropped, whatever the way.
struct Call {
    observer: Arc<dyn Observer>,
    method: &'static str,
    span: Span,
    began: Instant,
    code: Code,
}

impl Drop for Call {
    fn drop(&mut self) {
        self.observer.ended(self.method, &self.span, self.code, self.began.elapsed());
    }
}

/// Tells the observer of every call.
#[derive(Clone)]
pub(crate) struct Observe(pub(crate) Arc<dyn Observer>);

impl<S> Layer<S> for Observe {
    type Service = Observed<S>;
    fn layer(&self, inner: S) -> Observed<S> {
        Observed { inner, observer: Arc::clone(&self.0) }
    }
}

#[derive(Clone)]
pub(crate) struct Observed<S> {
    inner: S,
    observer: Arc<dyn Observer>,
}

impl<S> Service<Request<Body>> for Observed<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let method = method(request.uri().path());
        let span = self.observer.began(method, request.headers());
        let mut call = Call {
            observer: Arc::clone(&self.observer),
            method,
            span: span.clone(),
            began: Instant::now(),
            code: Code::Cancelled,
        };
        let answer = span.in_scope(|| self.inner.call(request)).instrument(span);
        Box::pin(async move {
            let reply = answer.await?;
            let (head, body) = reply.into_parts();
            // A failure has no body: its code is in the head.
            if let Some(status) = Status::from_header_map(&head.headers) {
                call.code = status.code();
            }
            Ok(Response::from_parts(head, Body::new(Answer { body, call })))
        })
    }
}

/// A body that notes the code at its end.
struct Answer {
    body: Body,
    call: Call,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(trailers) = frame.trailers_ref()
            && let Some(status) = Status::from_header_map(trailers)
        {
            self.call.code = status.code();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body::Body as _;
    use std::sync::Mutex;
    use tonic::codegen::http::HeaderValue;

    #[derive(Default)]
    struct Told(Mutex<Vec<(&'static str, Code)>>);

    impl Observer for Told {
        fn began(&self, _: &'static str, _: &HeaderMap) -> Span {
            Span::none()
        }
        fn ended(&self, method: &'static str, _: &Span, code: Code, _: Duration) {
            self.0.lock().unwrap().push((method, code));
        }
    }

    /// A service that answers with this head and these trailers.
    fn serve(
        head: Option<Code>,
        trailers: Option<Code>,
        told: &Arc<Told>,
    ) -> impl Service<Request<Body>, Response = Response<Body>, Error = std::convert::Infallible>
    {
        let code = |code: Code| HeaderValue::from(code as i32);
        let inner = tower::service_fn(move |_: Request<Body>| async move {
            let trailers = trailers
                .map(|is| HeaderMap::from_iter([("grpc-status".parse().unwrap(), code(is))]));
            let mut reply = Response::new(Body::new(Trailers(trailers)));
            if let Some(is) = head {
                reply.headers_mut().insert("grpc-status", code(is));
            }
            Ok(reply)
        });
        Observe(told.clone()).layer(inner)
    }

    struct Trailers(Option<HeaderMap>);

    impl http_body::Body for Trailers {
        type Data = Bytes;
        type Error = Status;
        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Ready(self.0.take().map(|trailers| Ok(Frame::trailers(trailers))))
        }
    }

    fn request(path: &str) -> Request<Body> {
        Request::builder().uri(path).body(Body::empty()).unwrap()
    }

    #[tokio::test]
    async fn the_end_is_told_once_with_its_code() {
        let told = Arc::new(Told::default());
        let version = "/runtime.v1.RuntimeService/Version";
        let mut body =
            serve(None, Some(Code::Ok), &told).call(request(version)).await.unwrap().into_body();
        assert!(told.0.lock().unwrap().is_empty(), "before the answer's end");
        let end = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        assert!(end.unwrap().unwrap().is_trailers());
        drop(body);
        let failed = serve(Some(Code::NotFound), None, &told).call(request(version)).await;
        drop(failed);
        drop(serve(None, Some(Code::Ok), &told).call(request("/x/y")).await);
        drop(serve(None, None, &told).call(request(version)));
        let told = told.0.lock().unwrap();
        let expected = [
            ("Version", Code::Ok),
            ("Version", Code::NotFound),
            ("other", Code::Cancelled),
            ("Version", Code::Cancelled),
        ];
        assert_eq!(*told, expected);
    }

    #[test]
    fn every_call_of_both_services_has_its_name() {
        assert_eq!(methods().len(), 41);
        assert_eq!(method("/runtime.v1.ImageService/PullImage"), "PullImage");
        assert_eq!(method("/runtime.v1.ImageService/Other"), "other");
    }
}
