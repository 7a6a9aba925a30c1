//! Traces, sent over OTLP where an endpoint is configured.
//!
//! The spans are those of `tracing`: one for each CRI call, made by [`CallObserver`], and below it
//! what the libraries make of their work (see [`crate::metrics`]). With no endpoint there is no
//! exporter and no OpenTelemetry layer.

use crate::config::Traces;
use crate::metrics::CallMetrics;
use anyhow::Context as _;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::{Status as SpanStatus, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};
use orlop_api::Observer;
use std::time::Duration;
use tonic::Code;
use tonic::codegen::http::HeaderMap;
use tracing::field::Empty;
use tracing::{Metadata, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// How long an export, and the last one at the end, may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The target of the spans of calls.
const CALL: &str = "orlop::call";

/// Where traces go; sends what is left when it is closed.
pub(crate) struct Exporter {
    provider: SdkTracerProvider,
}

impl Exporter {
    /// An exporter where there is an endpoint. Needs a tokio runtime; connects when there is
    /// something to send, and drops what cannot be sent.
    pub(crate) fn new(traces: &Traces) -> anyhow::Result<Option<Self>> {
        let Some(endpoint) = &traces.endpoint else { return Ok(None) };
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(PATIENCE)
            .build()
            .with_context(|| format!("traces.endpoint {endpoint:?} cannot be used"))?;
        let share = f64::from(traces.sampled_percent) / 100.0;
        let resource = Resource::builder()
            .with_service_name("orlop")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new("host.name", crate::host::name()))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            // A client that traces its call has it traced.
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(share))))
            .with_resource(resource)
            .build();
        orlop_task::set_trace_context(current_context);
        Ok(Some(Self { provider }))
    }

    /// For the layer that turns `tracing`'s spans into OpenTelemetry's.
    pub(crate) fn tracer(&self) -> SdkTracer {
        self.provider.tracer("orlop")
    }

    /// Sends what is left.
    pub(crate) fn close(self) {
        if let Err(error) = self.provider.shutdown_with_timeout(PATIENCE) {
            tracing::warn!("the last traces were not sent: {error}");
        }
    }
}

/// Whether a span belongs into a trace.
pub(crate) fn is_traced(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && (metadata.target() == CALL || crate::metrics::is_operation(metadata))
}

/// The current span as W3C's `traceparent`, for a shim; `None` where it is not traced.
fn current_context() -> Option<String> {
    struct Parent(Option<String>);
    impl Injector for Parent {
        fn set(&mut self, key: &str, value: String) {
            if key == "traceparent" {
                self.0 = Some(value);
            }
        }
    }
    let mut parent = Parent(None);
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut parent);
    parent.0
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }
    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(|key| key.as_str()).collect()
    }
}

/// Makes a span of every call, and counts it.
pub(crate) struct CallObserver {
    pub(crate) metrics: CallMetrics,
    /// Whether there is an exporter.
    pub(crate) traced: bool,
}

impl Observer for CallObserver {
    fn began(&self, method: &'static str, metadata: &HeaderMap) -> Span {
        self.metrics.began(method);
        // At the highest level, so that no filter of the log takes the fields from its lines.
        let span = tracing::error_span!(
            target: "orlop::call",
            "call",
            method,
            sandbox = Empty,
            container = Empty,
            otel.name = Empty,
            otel.kind = Empty,
        );
        if self.traced {
            span.record("otel.name", method);
            span.record("otel.kind", "server");
            let parent: Context = TraceContextPropagator::new().extract(&Headers(metadata));
            // Fails only where the span has begun already, and then it is its own root.
            let _ = span.set_parent(parent);
            span.set_attribute("rpc.system", "grpc");
            span.set_attribute("rpc.method", method);
        }
        span
    }

    fn ended(&self, method: &'static str, span: &Span, code: Code, took: Duration) {
        self.metrics.ended(method, code, took);
        if self.traced {
            span.set_attribute("rpc.grpc.status_code", i64::from(code as i32));
            if code != Code::Ok {
                span.set_status(SpanStatus::error(crate::metrics::code_name(code)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn off_unless_there_is_an_endpoint() {
        assert!(Exporter::new(&Traces::default()).unwrap().is_none());
        let endpoint = Some("http://127.0.0.1:1".to_owned());
        let exporter = Exporter::new(&Traces { endpoint, ..Traces::default() }).unwrap().unwrap();
        // Nothing was traced, so that nothing has to be sent.
        exporter.close();
    }
}
