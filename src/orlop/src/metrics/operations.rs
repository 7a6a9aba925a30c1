//! What the libraries do, measured by their spans.
//!
//! A library makes a span with the target [`TARGET`] around a piece of work, named for it
//! (`network.add`, `image.pull`, `shim.start`), and records in it how it ended: the field `outcome`,
//! one word of a small set, `ok` where all went well; a pull also `bytes`. A span that ends without
//! an outcome was cut off.

use super::DURATIONS;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::fmt;
use std::time::Instant;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

/// The target of spans that are measured.
const TARGET: &str = "orlop::operation";

/// Whether a span is one of those.
pub(crate) fn is_operation(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target() == TARGET
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Done {
    operation: &'static str,
    outcome: String,
}

/// The metrics of operations. Clones are the same.
#[derive(Clone)]
pub(crate) struct Operations {
    durations: Family<Done, Histogram, fn() -> Histogram>,
    pulled: Counter,
}

impl Operations {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let operations = Self {
            durations: Family::new_with_constructor(|| Histogram::new(DURATIONS)),
            pulled: Counter::default(),
        };
        registry.register(
            "operation_duration_seconds",
            "Time of network attachments, pulls, shim starts, calls to shims and recovery, by outcome",
            operations.durations.clone(),
        );
        registry.register(
            "image_pulled_bytes",
            "Bytes of layers that pulls fetched from registries",
            operations.pulled.clone(),
        );
        operations
    }
}

/// What is kept about a span until it ends.
struct Running {
    began: Instant,
    outcome: Option<String>,
    bytes: u64,
}

impl Visit for Running {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "bytes" {
            self.bytes = value;
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "outcome" {
            self.outcome = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Operations {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut running = Running { began: Instant::now(), outcome: None, bytes: 0 };
        attributes.record(&mut running);
        span.extensions_mut().insert(running);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(running) = span.extensions_mut().get_mut::<Running>()
        {
            values.record(running);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let Some(Running { began, outcome, bytes }) = span.extensions_mut().remove() else {
            return;
        };
        let outcome = outcome.unwrap_or_else(|| "cut off".to_owned());
        let done = Done { operation: span.name(), outcome };
        self.durations.get_or_create(&done).observe(began.elapsed().as_secs_f64());
        self.pulled.inc_by(bytes);
    }
}

#[cfg(test)]
mod tests {
    use crate::metrics::Metrics;
    use tracing_subscriber::layer::{Layer, SubscriberExt};

    #[test]
    fn a_span_is_counted_when_it_ends() {
        let metrics = Metrics::new();
        let filter = tracing_subscriber::filter::filter_fn(super::is_operation);
        let registry =
            tracing_subscriber::registry().with(metrics.operations.clone().with_filter(filter));
        tracing::subscriber::with_default(registry, || {
            let empty = tracing::field::Empty;
            let span = tracing::error_span!(target: "orlop::operation", "image.pull", outcome = empty, bytes = empty);
            span.record("outcome", "NotFound");
            span.record("bytes", 7_u64);
            drop(span);
            drop(tracing::error_span!(target: "orlop::operation", "shim.start", outcome = empty));
            drop(tracing::error_span!("other", outcome = "ok"));
        });
        let text = metrics.text();
        let count = "orlop_operation_duration_seconds_count";
        for line in [
            format!("{count}{{operation=\"image.pull\",outcome=\"NotFound\"}} 1"),
            format!("{count}{{operation=\"shim.start\",outcome=\"cut off\"}} 1"),
            "orlop_image_pulled_bytes_total 7".to_owned(),
        ] {
            assert!(text.contains(&line), "{line} is not in:\n{text}");
        }
        assert!(!text.contains("other"), "{text}");
    }
}
