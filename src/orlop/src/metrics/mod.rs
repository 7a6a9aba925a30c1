//! Metrics in Prometheus' text format, over HTTP.
//!
//! Counters and histograms are kept as things happen: CRI calls by [`calls`], everything else by
//! [`operations`], which listens to the spans that the libraries make of their work. What can be
//! counted at any time (pods, containers, images, this process) is counted by [`objects`] and
//! [`process`] when it is asked for. No label has a value that a client, an image or a pod chooses.

mod calls;
mod listener;
mod objects;
mod operations;
mod process;

pub(crate) use calls::{CallMetrics, name as code_name};
pub(crate) use listener::Listener;
pub(crate) use operations::{Operations, is_operation};

use objects::Objects;
use orlop_image::ImageStore;
use orlop_lifecycle::Runtime;
use prometheus_client::registry::Registry;
use std::sync::{Arc, OnceLock};

/// Upper bounds of durations in seconds: from a call served from memory to a slow pull.
const DURATIONS: [f64; 16] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
];

/// Everything that is measured.
#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Arc<Registry>,
    pub(crate) calls: CallMetrics,
    pub(crate) operations: Operations,
    objects: Arc<OnceLock<Objects>>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(process::Process));
        let ours = registry.sub_registry_with_prefix("orlop");
        let calls = CallMetrics::register(ours);
        let operations = Operations::register(ours);
        let objects = Arc::new(OnceLock::new());
        ours.register_collector(Box::new(objects::Collected(Arc::clone(&objects))));
        Self { registry: Arc::new(registry), calls, operations, objects }
    }

    /// From now on pods, containers and images are counted too.
    pub(crate) fn set_ready(&self, runtime: Runtime, images: ImageStore) {
        let _ = self.objects.set(Objects { runtime, images });
    }

    /// The page.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = prometheus_client::encoding::prometheus_text::encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_of_what_happened() {
        let metrics = Metrics::new();
        metrics.calls.began("Version");
        metrics.calls.ended("Version", tonic::Code::Ok, std::time::Duration::from_millis(3));
        let text = metrics.text();
        for family in [
            "# TYPE orlop_cri_calls_total counter",
            "orlop_cri_calls_total{method=\"Version\",code=\"OK\"} 1",
            "orlop_cri_call_duration_seconds_bucket{method=\"Version\",le=\"0.005\"} 1",
            "# TYPE orlop_cri_call_duration_seconds histogram",
            "# TYPE orlop_cri_calls_in_flight gauge",
            "# TYPE orlop_image_pulled_bytes_total counter",
            "# TYPE process_open_fds gauge",
            "# TYPE process_cpu_seconds_total counter",
        ] {
            assert!(text.contains(family), "{family} is not in:\n{text}");
        }
    }
}
