//! Pods, containers and images, counted when asked. All from memory.

use orlop_image::ImageStore;
use orlop_lifecycle::{ContainerFilter, ContainerState, Runtime, SandboxFilter, SandboxState};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// Who is counted.
pub(super) struct Objects {
    pub(super) runtime: Runtime,
    pub(super) images: ImageStore,
}

/// The same, once recovery is through.
pub(super) struct Collected(pub(super) Arc<OnceLock<Objects>>);

impl fmt::Debug for Collected {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Collected")
    }
}

const CONTAINERS: [ContainerState; 4] = [
    ContainerState::Created,
    ContainerState::Running,
    ContainerState::Exited,
    ContainerState::Unknown,
];

impl Collector for Collected {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let ready = self.0.get();
        gauge(
            &mut encoder,
            "ready",
            "1 once recovery is through and calls are served",
            i64::from(ready.is_some()),
        )?;
        let Some(Objects { runtime, images }) = ready else { return Ok(()) };
        let sandboxes = runtime.sandboxes(&SandboxFilter::default()).unwrap_or_default();
        let count = |state| sandboxes.iter().filter(|found| found.state == state).count();
        let states = [("ready", SandboxState::Ready), ("notready", SandboxState::NotReady)];
        let states = states.map(|(name, state)| (name, count(state)));
        gauges(&mut encoder, "pods", "Pod sandboxes by state", &states)?;
        let containers = runtime.containers(&ContainerFilter::default()).unwrap_or_default();
        let count = |state| containers.iter().filter(|found| found.state == state).count();
        let states = CONTAINERS.map(|state| (state.as_str(), count(state)));
        gauges(&mut encoder, "containers", "Containers by state", &states)?;
        let network = i64::from(runtime.status().network_ready);
        gauge(&mut encoder, "network_ready", "1 where pods can get a network", network)?;
        gauge(&mut encoder, "images", "Images in the store", number(images.list().len() as u64))?;
        let usage = images.usage();
        gauge(
            &mut encoder,
            "image_store_bytes",
            "Bytes that images take on disk",
            number(usage.bytes),
        )?;
        gauge(
            &mut encoder,
            "image_store_inodes",
            "Inodes that images take on disk",
            number(usage.inodes),
        )
    }
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: i64) -> fmt::Result {
    let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    ConstGauge::new(value).encode(metric)
}

fn gauges(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    states: &[(&'static str, usize)],
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (state, count) in states {
        let labels = [("state", *state)];
        ConstGauge::new(number(*count as u64)).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}
