//! ListMetricDescriptors, ListPodSandboxMetrics and its stream: names, labels and units are those of
//! the kubelet's own `/metrics/cadvisor`, which these calls are to replace.
//!
//! CRI has whole numbers only, so seconds are cut. What the host does not count is left out.

mod table;
mod values;

use crate::Api;
use crate::batches::{self, Replies, portions};
use crate::error::ApiError;
use crate::v1;
use std::sync::Arc;
use table::{BASE_LABELS, TABLE};

pub(crate) async fn descriptors(
    api: &Api,
    _: v1::ListMetricDescriptorsRequest,
) -> Result<v1::ListMetricDescriptorsResponse, ApiError> {
    api.engine()?;
    let labels = |own: &[&'static str]| {
        BASE_LABELS.iter().chain(own).map(|label| (*label).to_owned()).collect()
    };
    let descriptor = |metric: &table::Metric| v1::MetricDescriptor {
        name: metric.name.to_owned(),
        help: metric.help.to_owned(),
        label_keys: labels(metric.labels),
    };
    Ok(v1::ListMetricDescriptorsResponse { descriptors: TABLE.iter().map(descriptor).collect() })
}

pub(crate) async fn list(
    api: &Api,
    _: v1::ListPodSandboxMetricsRequest,
) -> Result<v1::ListPodSandboxMetricsResponse, ApiError> {
    let runtime = &api.engine()?.runtime;
    let layers = runtime.layer_fs().await?;
    let found = runtime.sandboxes_detail()?.all().await?;
    let pod_metrics = found.iter().map(|pod| values::of_pod(pod, layers.as_ref())).collect();
    batches::fits(v1::ListPodSandboxMetricsResponse { pod_metrics })
}

pub(crate) async fn stream(
    api: &Api,
    _: v1::StreamPodSandboxMetricsRequest,
) -> Result<Replies<v1::StreamPodSandboxMetricsResponse>, ApiError> {
    let runtime = &api.engine()?.runtime;
    let layers = Arc::new(runtime.layer_fs().await?);
    let wrap = |pod_sandbox_metrics| v1::StreamPodSandboxMetricsResponse { pod_sandbox_metrics };
    let item = move |pod| values::of_pod(&pod, (*layers).as_ref());
    Ok(portions(runtime.sandboxes_detail()?, item, wrap))
}
