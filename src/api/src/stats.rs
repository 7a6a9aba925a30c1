//! ContainerStats, PodSandboxStats, their lists and streams.

use crate::Api;
use crate::batches::{self, Replies, portions};
use crate::containers::required_id;
use crate::error::ApiError;
use crate::v1;
use crate::view;
use orlop_lifecycle::stats::{
    ContainerStats, InterfaceCounters, Memory, Pressure, SandboxStats, Source, Stall,
};
use orlop_lifecycle::{ContainerFilter, SandboxFilter};
use orlop_model::Timestamp;
use std::path::{Path, PathBuf};

pub(crate) async fn container(
    api: &Api,
    request: v1::ContainerStatsRequest,
) -> Result<v1::ContainerStatsResponse, ApiError> {
    let engine = api.engine()?;
    let id = required_id("container_id", &request.container_id)?;
    let stats = engine.runtime.container_stats(id).await?;
    Ok(v1::ContainerStatsResponse { stats: Some(container_stats(&stats, engine.images.root())) })
}

pub(crate) async fn containers(
    api: &Api,
    request: v1::ListContainerStatsRequest,
) -> Result<v1::ListContainerStatsResponse, ApiError> {
    let root = api.engine()?.images.root();
    let found = select_containers(api, request.filter)?.all().await?;
    let stats = found.iter().map(|stats| container_stats(stats, root)).collect();
    batches::fits(v1::ListContainerStatsResponse { stats })
}

pub(crate) async fn stream_containers(
    api: &Api,
    request: v1::StreamContainerStatsRequest,
) -> Result<Replies<v1::StreamContainerStatsResponse>, ApiError> {
    let root: PathBuf = api.engine()?.images.root().to_owned();
    let wrap = |container_stats| v1::StreamContainerStatsResponse { container_stats };
    let source = select_containers(api, request.filter)?;
    Ok(portions(source, move |stats| container_stats(&stats, &root), wrap))
}

fn select_containers(
    api: &Api,
    raw: Option<v1::ContainerStatsFilter>,
) -> Result<Source<ContainerStats>, ApiError> {
    let raw = raw.unwrap_or_default();
    let given = |text: String| (!text.is_empty()).then_some(text);
    let filter = ContainerFilter {
        id: given(raw.id),
        sandbox: given(raw.pod_sandbox_id),
        state: None,
        labels: raw.label_selector,
    };
    Ok(api.engine()?.runtime.containers_stats(&filter)?)
}

pub(crate) async fn sandbox(
    api: &Api,
    request: v1::PodSandboxStatsRequest,
) -> Result<v1::PodSandboxStatsResponse, ApiError> {
    let engine = api.engine()?;
    let id = required_id("pod_sandbox_id", &request.pod_sandbox_id)?;
    let stats = engine.runtime.sandbox_stats(id).await?;
    Ok(v1::PodSandboxStatsResponse { stats: Some(sandbox_stats(&stats, engine.images.root())) })
}

pub(crate) async fn sandboxes(
    api: &Api,
    request: v1::ListPodSandboxStatsRequest,
) -> Result<v1::ListPodSandboxStatsResponse, ApiError> {
    let root = api.engine()?.images.root();
    let found = select_sandboxes(api, request.filter)?.all().await?;
    let stats = found.iter().map(|stats| sandbox_stats(stats, root)).collect();
    batches::fits(v1::ListPodSandboxStatsResponse { stats })
}

pub(crate) async fn stream_sandboxes(
    api: &Api,
    request: v1::StreamPodSandboxStatsRequest,
) -> Result<Replies<v1::StreamPodSandboxStatsResponse>, ApiError> {
    let root: PathBuf = api.engine()?.images.root().to_owned();
    let wrap = |pod_sandbox_stats| v1::StreamPodSandboxStatsResponse { pod_sandbox_stats };
    let source = select_sandboxes(api, request.filter)?;
    Ok(portions(source, move |stats| sandbox_stats(&stats, &root), wrap))
}

fn select_sandboxes(
    api: &Api,
    raw: Option<v1::PodSandboxStatsFilter>,
) -> Result<Source<SandboxStats>, ApiError> {
    let raw = raw.unwrap_or_default();
    let id = (!raw.id.is_empty()).then_some(raw.id);
    let filter = SandboxFilter { id, state: None, labels: raw.label_selector };
    Ok(api.engine()?.runtime.sandboxes_stats(&filter)?)
}

fn value(value: u64) -> Option<v1::UInt64Value> {
    Some(v1::UInt64Value { value })
}

fn container_stats(stats: &ContainerStats, root: &Path) -> v1::ContainerStats {
    let (container, sample, at) = (&stats.container, &stats.sample, stats.at);
    let swap = sample.memory.as_ref().and_then(|memory| swap(at, memory));
    v1::ContainerStats {
        attributes: Some(v1::ContainerAttributes {
            id: container.id.to_string(),
            metadata: Some(view::container_metadata(container)),
            labels: container.config.labels.clone(),
            annotations: container.config.annotations.clone(),
        }),
        cpu: cpu(at, sample.cpu_ns, stats.nano_cores, sample.cpu_pressure.as_ref()),
        memory: sample.memory.map(|found| memory(at, &found, sample.memory_pressure.as_ref())),
        writable_layer: stats.writable.map(|usage| v1::FilesystemUsage {
            timestamp: usage.at.0,
            fs_id: Some(v1::FilesystemIdentifier { mountpoint: root.display().to_string() }),
            used_bytes: value(usage.bytes),
            inodes_used: value(usage.inodes),
        }),
        swap,
        io: io(at, sample.io_pressure.as_ref()),
    }
}

fn sandbox_stats(stats: &SandboxStats, root: &Path) -> v1::PodSandboxStats {
    let (sandbox, sample, at) = (&stats.sandbox, &stats.sample, stats.at);
    let containers = stats.containers.iter().map(|stats| container_stats(stats, root)).collect();
    v1::PodSandboxStats {
        attributes: Some(v1::PodSandboxAttributes {
            id: sandbox.id.to_string(),
            metadata: Some(view::sandbox_metadata(&sandbox.config.metadata)),
            labels: sandbox.config.labels.clone(),
            annotations: sandbox.config.annotations.clone(),
        }),
        linux: Some(v1::LinuxPodSandboxStats {
            cpu: cpu(at, sample.cpu_ns, stats.nano_cores, sample.cpu_pressure.as_ref()),
            memory: sample.memory.map(|found| memory(at, &found, sample.memory_pressure.as_ref())),
            network: stats.network.as_ref().map(|found| network(at, found)),
            process: Some(v1::ProcessUsage {
                timestamp: at.0,
                process_count: value(stats.processes),
            }),
            containers,
            io: io(at, sample.io_pressure.as_ref()),
        }),
        windows: None,
    }
}

fn cpu(
    at: Timestamp,
    used: Option<u64>,
    nano_cores: Option<u64>,
    pressure: Option<&Pressure>,
) -> Option<v1::CpuUsage> {
    Some(v1::CpuUsage {
        timestamp: at.0,
        usage_core_nano_seconds: value(used?),
        usage_nano_cores: nano_cores.and_then(value),
        psi: pressure.map(psi),
    })
}

fn memory(at: Timestamp, memory: &Memory, pressure: Option<&Pressure>) -> v1::MemoryUsage {
    let faults = memory.faults[1];
    v1::MemoryUsage {
        timestamp: at.0,
        working_set_bytes: value(memory.working_set()),
        available_bytes: memory.available().and_then(value),
        usage_bytes: value(memory.usage),
        rss_bytes: value(memory.anonymous),
        page_faults: value(faults.all),
        major_page_faults: value(faults.major),
        psi: pressure.map(psi),
    }
}

fn swap(at: Timestamp, memory: &Memory) -> Option<v1::SwapUsage> {
    let used = memory.swap?;
    let limit = memory.swap_limit.filter(|limit| *limit != u64::MAX);
    Some(v1::SwapUsage {
        timestamp: at.0,
        swap_available_bytes: limit.and_then(|limit| value(limit.saturating_sub(used))),
        swap_usage_bytes: value(used),
    })
}

fn io(at: Timestamp, pressure: Option<&Pressure>) -> Option<v1::IoUsage> {
    Some(v1::IoUsage { timestamp: at.0, psi: Some(psi(pressure?)) })
}

/// The kernel counts stalls in microseconds, CRI in nanoseconds.
fn psi(pressure: &Pressure) -> v1::PsiStats {
    let data = |stall: &Stall| v1::PsiData {
        total: stall.total_us.saturating_mul(1000),
        avg10: stall.average[0],
        avg60: stall.average[1],
        avg300: stall.average[2],
    };
    v1::PsiStats { full: Some(data(&pressure.full)), some: Some(data(&pressure.some)) }
}

/// The default interface is the one that CNI made first, by the name that CNI gives it; the others
/// are listed beside it.
fn network(at: Timestamp, found: &[InterfaceCounters]) -> v1::NetworkUsage {
    let usage = |counters: &InterfaceCounters| v1::NetworkInterfaceUsage {
        name: counters.name.clone(),
        rx_bytes: value(counters.received.bytes),
        rx_errors: value(counters.received.errors),
        tx_bytes: value(counters.sent.bytes),
        tx_errors: value(counters.sent.errors),
    };
    let default = found.iter().find(|counters| counters.name == "eth0").or(found.first());
    v1::NetworkUsage {
        timestamp: at.0,
        default_interface: default.map(usage),
        interfaces: found
            .iter()
            .filter(|counters| default.is_none_or(|default| default.name != counters.name))
            .map(usage)
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_interface_is_the_default() {
        let names = |names: &[&str]| {
            let found: Vec<_> = names
                .iter()
                .map(|name| InterfaceCounters { name: (*name).into(), ..Default::default() })
                .collect();
            let usage = network(Timestamp(1), &found);
            let others: Vec<_> = usage.interfaces.into_iter().map(|usage| usage.name).collect();
            (usage.default_interface.map(|usage| usage.name).unwrap_or_default(), others)
        };
        assert_eq!(names(&["net1", "eth0"]), ("eth0".to_owned(), vec!["net1".to_owned()]));
        assert_eq!(names(&["a", "b"]), ("a".to_owned(), vec!["b".to_owned()]));
        assert_eq!(names(&[]), (String::new(), vec![]));
    }

    #[test]
    fn swap_and_pressure_in_cris_units() {
        let found = Memory { swap: Some(3), swap_limit: Some(10), ..Memory::default() };
        let usage = swap(Timestamp(1), &found).unwrap();
        assert_eq!(usage.swap_available_bytes.unwrap().value, 7);
        let unlimited = Memory { swap_limit: Some(u64::MAX), ..found };
        assert_eq!(swap(Timestamp(1), &unlimited).unwrap().swap_available_bytes, None);
        assert!(swap(Timestamp(1), &Memory::default()).is_none(), "not counted here");
        let stall = Stall { average: [1.0, 2.0, 3.0], total_us: 5 };
        let psi = psi(&Pressure { some: stall, full: Stall::default() });
        assert_eq!((psi.some.unwrap().total, psi.full.unwrap().total), (5000, 0));
    }
}
