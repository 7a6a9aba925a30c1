//! One reading of a container or pod. Blocking.

use super::process::processes;
use super::{ContainerDetail, ContainerStats, Pod, SandboxDetail, SandboxStats, counts};
use crate::container::{Container, cgroup_path};
use crate::context::Context;
use crate::sandbox::Sandbox;
use orlop_model::Timestamp;
use orlop_network::InterfaceCounters;
use orlop_sys::cgroup::{DeviceTraffic, Faults, Memory, Meter, Sample};
use std::time::Instant;

/// A container's stats; of one that has ended, its writable layer.
pub(crate) fn container_stats(context: &Context, container: &Container) -> ContainerStats {
    let view = container.view();
    let meter = context.host.meter(&view.cgroup).filter(|_| counts(container));
    let sample = meter.map(|meter| meter.sample()).unwrap_or_default();
    ContainerStats {
        at: Timestamp::now(),
        nano_cores: container.cpu_rate.note(sample.cpu_ns, Instant::now()),
        sample,
        writable: context.images.writable_usage(view.id.as_str()),
        container: view,
    }
}

/// What a container's metrics are made from.
fn container_detail(context: &Context, container: &Container) -> ContainerDetail {
    let stats = container_stats(context, container);
    let meter = context.host.meter(&stats.container.cgroup);
    let (detail, processes) = meter.map_or_else(Default::default, |meter| {
        (meter.detail(), processes(&meter, stats.container.pid))
    });
    let named = |traffic: &DeviceTraffic| (device_name(traffic.device), *traffic);
    let devices = detail.devices.iter().map(named).collect();
    ContainerDetail { stats, detail, devices, processes }
}

/// `/dev/vda` for 254:0; the number itself where the kernel has no name for it any more.
fn device_name((major, minor): (u32, u32)) -> String {
    let text = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/uevent"));
    let text = text.unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("DEVNAME="));
    name.map_or_else(|| format!("{major}:{minor}"), |name| format!("/dev/{name}"))
}

/// A pod's stats with those of its containers.
pub(crate) fn sandbox_stats(context: &Context, pod: &Pod) -> SandboxStats {
    let containers: Vec<_> =
        pod.containers.iter().map(|container| container_stats(context, container)).collect();
    let sandbox = pod.sandbox.view();
    let meter = context.host.meter_above(&cgroup_path(&sandbox.cgroup_parent, "x"));
    let sample = match meter.filter(|_| pod.alone) {
        Some(meter) => meter.sample(),
        None => sum(containers.iter().map(|stats| &stats.sample)),
    };
    let count = |stats: &ContainerStats| {
        let meter = context.host.meter(&stats.container.cgroup);
        meter.and_then(|meter| meter.procs().ok()).map_or(0, |procs| procs.len() as u64)
    };
    SandboxStats {
        at: Timestamp::now(),
        nano_cores: pod.sandbox.cpu_rate.note(sample.cpu_ns, Instant::now()),
        sample,
        network: network(&pod.sandbox),
        processes: containers.iter().map(count).sum(),
        containers,
        sandbox,
    }
}

/// What a pod's metrics are made from.
pub(crate) fn sandbox_detail(context: &Context, pod: &Pod) -> SandboxDetail {
    SandboxDetail {
        sandbox: pod.sandbox.view(),
        at: Timestamp::now(),
        network: network(&pod.sandbox),
        containers: pod
            .containers
            .iter()
            .map(|container| container_detail(context, container))
            .collect(),
    }
}

fn network(sandbox: &Sandbox) -> Option<Vec<InterfaceCounters>> {
    let view = sandbox.view();
    let read = orlop_network::interface_counters(view.netns.as_deref()?);
    // It may have been released since the view was made.
    read.inspect_err(|error| tracing::debug!(sandbox = %view.id, %error, "no network counters"))
        .ok()
}

/// Of several containers: what adds up is added up, and pressure does not.
fn sum<'a>(samples: impl Iterator<Item = &'a Sample>) -> Sample {
    let add = |a: Option<u64>, b: Option<u64>| match (a, b) {
        (None, None) => None,
        _ => Some(a.unwrap_or(0).saturating_add(b.unwrap_or(0))),
    };
    let faults = |a: Faults, b: Faults| Faults { all: a.all + b.all, major: a.major + b.major };
    let memory = |a: Memory, b: Memory| Memory {
        usage: a.usage + b.usage,
        // One without a limit makes the sum have none.
        limit: a.limit.saturating_add(b.limit),
        inactive_file: a.inactive_file + b.inactive_file,
        cache: a.cache + b.cache,
        anonymous: a.anonymous + b.anonymous,
        mapped: a.mapped + b.mapped,
        swap: add(a.swap, b.swap),
        swap_limit: add(a.swap_limit, b.swap_limit),
        faults: [faults(a.faults[0], b.faults[0]), faults(a.faults[1], b.faults[1])],
    };
    samples.fold(Sample::default(), |sum, next| Sample {
        cpu_ns: add(sum.cpu_ns, next.cpu_ns),
        memory: match (sum.memory, next.memory) {
            (Some(a), Some(b)) => Some(memory(a, b)),
            (a, b) => a.or(b),
        },
        ..Sample::default()
    })
}

/// Meters of this host's hierarchies.
impl crate::host::Host {
    pub(crate) fn meter(&self, cgroup: &str) -> Option<Meter> {
        self.hierarchies().meter(cgroup)
    }

    pub(crate) fn meter_above(&self, cgroup: &str) -> Option<Meter> {
        self.hierarchies().meter_above(cgroup)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums() {
        let memory = |usage, limit, swap| Memory { usage, limit, swap, ..Memory::default() };
        let one =
            Sample { cpu_ns: Some(5), memory: Some(memory(10, 100, Some(1))), ..Sample::default() };
        let two = Sample { memory: Some(memory(20, u64::MAX, None)), ..Sample::default() };
        let found = sum([&one, &two].into_iter());
        assert_eq!((found.cpu_ns, found.memory), (Some(5), Some(memory(30, u64::MAX, Some(1)))));
        assert_eq!(sum(std::iter::empty()), Sample::default());
    }
}
