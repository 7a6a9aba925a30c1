//! The values of one pod's metrics.

use super::table::metric;
use crate::v1;
use orlop_lifecycle::SandboxView;
use orlop_lifecycle::stats::{ContainerDetail, LayerFs, Pressure, SandboxDetail};
use orlop_model::Timestamp;

const SECOND: u64 = 1_000_000_000;
const MICROS: u64 = 1_000_000;
/// What the kernel takes where a container says nothing.
const DEFAULT_PERIOD: u64 = 100_000;
const DEFAULT_SHARES: u64 = 1024;

/// Values of one container, or of the pod itself.
struct Values {
    base: Vec<String>,
    at: Timestamp,
    metrics: Vec<v1::Metric>,
}

impl Values {
    /// Adds a value, if there is one. A name that is not in the table, or other labels than the
    /// table has, are mistakes of this file that its test finds.
    fn add(&mut self, name: &str, labels: &[&str], value: impl Into<Option<u64>>) {
        let (Some(metric), Some(value)) = (metric(name), value.into()) else { return };
        debug_assert_eq!(metric.labels.len(), labels.len(), "{name}");
        let own = labels.iter().map(|label| (*label).to_owned());
        self.metrics.push(v1::Metric {
            name: metric.name.to_owned(),
            timestamp: self.at.0,
            metric_type: metric.kind.into(),
            label_values: self.base.iter().cloned().chain(own).collect(),
            value: Some(v1::UInt64Value { value }),
        });
    }
}

pub(super) fn of_pod(pod: &SandboxDetail, layers: Option<&LayerFs>) -> v1::PodSandboxMetrics {
    let metadata = &pod.sandbox.config.metadata;
    let base = vec![
        String::new(),
        pod.sandbox.cgroup_parent.clone(),
        String::new(),
        pod.sandbox.id.to_string(),
        metadata.namespace.clone(),
        metadata.name.clone(),
    ];
    let mut values = Values { base, at: pod.at, metrics: Vec::new() };
    network(&mut values, pod);
    let containers = pod.containers.iter();
    v1::PodSandboxMetrics {
        pod_sandbox_id: pod.sandbox.id.to_string(),
        metrics: values.metrics,
        container_metrics: containers
            .map(|container| of_container(container, &pod.sandbox, layers))
            .collect(),
    }
}

fn of_container(
    container: &ContainerDetail,
    sandbox: &SandboxView,
    layers: Option<&LayerFs>,
) -> v1::ContainerMetrics {
    let view = &container.stats.container;
    let metadata = &sandbox.config.metadata;
    let base = vec![
        view.config.metadata.name.clone(),
        view.cgroup.clone(),
        view.image_name.clone(),
        view.id.to_string(),
        metadata.namespace.clone(),
        metadata.name.clone(),
    ];
    let mut values = Values { base, at: container.stats.at, metrics: Vec::with_capacity(64) };
    cpu(&mut values, container);
    memory(&mut values, container);
    pressure(&mut values, container);
    disk(&mut values, container);
    layer(&mut values, container, layers);
    processes(&mut values, container);
    limits(&mut values, container);
    v1::ContainerMetrics { container_id: view.id.to_string(), metrics: values.metrics }
}

fn network(values: &mut Values, pod: &SandboxDetail) {
    for interface in pod.network.iter().flatten() {
        let label = [interface.name.as_str()];
        for (way, traffic) in [("receive", &interface.received), ("transmit", &interface.sent)] {
            for (what, value) in [
                ("bytes", traffic.bytes),
                ("errors", traffic.errors),
                ("packets_dropped", traffic.dropped),
                ("packets", traffic.packets),
            ] {
                values.add(&format!("container_network_{way}_{what}_total"), &label, value);
            }
        }
    }
}

fn cpu(values: &mut Values, container: &ContainerDetail) {
    let detail = &container.detail;
    let used = container.stats.sample.cpu_ns.map(|ns| ns / SECOND);
    values.add("container_cpu_usage_seconds_total", &["total"], used);
    let (user, system) = detail.cpu_split_ns.unzip();
    values.add("container_cpu_user_seconds_total", &[], user.map(|ns| ns / SECOND));
    values.add("container_cpu_system_seconds_total", &[], system.map(|ns| ns / SECOND));
    if let Some((periods, throttled, time)) = detail.throttling {
        values.add("container_cpu_cfs_periods_total", &[], periods);
        values.add("container_cpu_cfs_throttled_periods_total", &[], throttled);
        values.add("container_cpu_cfs_throttled_seconds_total", &[], time / SECOND);
    }
}

fn memory(values: &mut Values, container: &ContainerDetail) {
    let detail = &container.detail;
    values.add("container_memory_failcnt", &[], detail.memory_failures);
    values.add("container_memory_kernel_usage", &[], detail.memory_kernel);
    values.add("container_memory_max_usage_bytes", &[], detail.memory_peak);
    values.add("container_oom_events_total", &[], detail.oom_kills);
    for (size, now, most) in &detail.huge_pages {
        values.add("container_hugetlb_usage_bytes", &[size], *now);
        values.add("container_hugetlb_max_usage_bytes", &[size], *most);
    }
    let Some(memory) = &container.stats.sample.memory else { return };
    values.add("container_memory_cache", &[], memory.cache);
    values.add("container_memory_mapped_file", &[], memory.mapped);
    values.add("container_memory_rss", &[], memory.anonymous);
    values.add("container_memory_swap", &[], memory.swap);
    values.add("container_memory_usage_bytes", &[], memory.usage);
    values.add("container_memory_working_set_bytes", &[], memory.working_set());
    for (scope, faults) in ["container", "hierarchy"].into_iter().zip(memory.faults) {
        values.add("container_memory_failures_total", &["pgfault", scope], faults.all);
        values.add("container_memory_failures_total", &["pgmajfault", scope], faults.major);
    }
}

fn pressure(values: &mut Values, container: &ContainerDetail) {
    let sample = &container.stats.sample;
    let mut add = |what: &str, pressure: Option<&Pressure>| {
        let Some(pressure) = pressure else { return };
        for (how, stall) in [("waiting", pressure.some), ("stalled", pressure.full)] {
            let name = format!("container_pressure_{what}_{how}_seconds_total");
            values.add(&name, &[], stall.total_us / MICROS);
        }
    };
    add("cpu", sample.cpu_pressure.as_ref());
    add("memory", sample.memory_pressure.as_ref());
    add("io", sample.io_pressure.as_ref());
}

fn disk(values: &mut Values, container: &ContainerDetail) {
    for (name, traffic) in &container.devices {
        let (major, minor) = (traffic.device.0.to_string(), traffic.device.1.to_string());
        for (operation, bytes) in [("Read", traffic.bytes.0), ("Write", traffic.bytes.1)] {
            let labels = [name.as_str(), &major, &minor, operation];
            values.add("container_blkio_device_usage_total", &labels, bytes);
        }
        values.add("container_fs_reads_bytes_total", &[name], traffic.bytes.0);
        values.add("container_fs_writes_bytes_total", &[name], traffic.bytes.1);
        values.add("container_fs_reads_total", &[name], traffic.requests.0);
        values.add("container_fs_writes_total", &[name], traffic.requests.1);
    }
}

fn layer(values: &mut Values, container: &ContainerDetail, layers: Option<&LayerFs>) {
    let Some(fs) = layers else { return };
    let device = [fs.device.as_str()];
    values.add("container_fs_limit_bytes", &device, fs.bytes);
    values.add("container_fs_inodes_total", &device, fs.inodes.0);
    values.add("container_fs_inodes_free", &device, fs.inodes.1);
    let used = container.stats.writable.map(|usage| usage.bytes);
    values.add("container_fs_usage_bytes", &device, used);
}

fn processes(values: &mut Values, container: &ContainerDetail) {
    let found = &container.processes;
    values.add("container_processes", &[], found.count);
    values.add("container_file_descriptors", &[], found.descriptors);
    values.add("container_sockets", &[], found.sockets);
    values.add("container_ulimits_soft", &["max_open_files"], found.open_files_limit);
    let (threads, most) = container.detail.tasks.unzip();
    values.add("container_threads", &[], threads);
    values.add(
        "container_threads_max",
        &[],
        most.map(|most| if most == u64::MAX { 0 } else { most }),
    );
}

fn limits(values: &mut Values, container: &ContainerDetail) {
    let view = &container.stats.container;
    let seconds = |at: Timestamp| u64::try_from(at.0).unwrap_or(0) / SECOND;
    values.add("container_last_seen", &[], seconds(container.stats.at));
    let started = (view.started_at.0 != 0).then(|| seconds(view.started_at));
    values.add("container_start_time_seconds", &[], started);
    let limits = &view.resources;
    let bytes = |limit: Option<i64>| u64::try_from(limit.unwrap_or(0)).unwrap_or(0);
    values.add("container_spec_cpu_period", &[], limits.cpu_period.unwrap_or(DEFAULT_PERIOD));
    let quota = limits.cpu_quota.and_then(|quota| u64::try_from(quota).ok());
    values.add("container_spec_cpu_quota", &[], quota);
    values.add("container_spec_cpu_shares", &[], limits.cpu_shares.unwrap_or(DEFAULT_SHARES));
    values.add("container_spec_memory_limit_bytes", &[], bytes(limits.memory_limit));
    // CRI has no reservation.
    values.add("container_spec_memory_reservation_limit_bytes", &[], 0);
    let swap = limits.memory_swap_limit.or(limits.memory_limit);
    values.add("container_spec_memory_swap_limit_bytes", &[], bytes(swap));
}
