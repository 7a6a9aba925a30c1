//! cgroup limits and device rules.

use crate::request::Resources;
use crate::{CgroupLayout, DeviceKind, HostFeatures, Inputs, ResolvedDevice};
use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType, LinuxHugepageLimit,
    LinuxMemory, LinuxPids, LinuxResources,
};

/// Nodes that every container may use: null, zero, full, random, urandom, tty, console, ptmx, and
/// all of pts. (major, minor); −1 is any.
const DEFAULT_DEVICES: [(i64, i64); 9] =
    [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (136, -1)];

/// The limits of a container.
pub(crate) fn resources(inputs: &Inputs<'_>) -> LinuxResources {
    let mut resources = limits(&inputs.container.resources, inputs.host);
    resources.set_devices(Some(if inputs.container.security.privileged {
        vec![rule(true, LinuxDeviceType::A, None, None, "rwm")]
    } else {
        device_rules(inputs.devices)
    }));
    resources
}

/// A request's limits in OCI's words, without device rules; also for updates of a container.
pub fn limits(asked: &Resources, host: &HostFeatures) -> LinuxResources {
    let mut resources = LinuxResources::default();
    resources.set_cpu(cpu(asked)).set_memory(memory(asked, host));
    if host.hugetlb && !asked.hugepage_limits.is_empty() {
        resources.set_hugepage_limits(Some(asked.hugepage_limits.iter().map(hugepages).collect()));
    }
    if let Some(pids) = asked.pids {
        let mut limit = LinuxPids::default();
        limit.set_limit(if pids == 0 { -1 } else { pids });
        resources.set_pids(Some(limit));
    }
    if let Some(weight) = asked.blkio_weight {
        let mut block = LinuxBlockIo::default();
        block.set_weight(Some(weight));
        resources.set_block_io(Some(block));
    }
    if !asked.unified.is_empty() {
        resources.set_unified(Some(asked.unified.clone().into_iter().collect()));
    }
    resources
}

fn cpu(asked: &Resources) -> Option<LinuxCpu> {
    let list = |text: &String| (!text.is_empty()).then(|| text.clone());
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(asked.cpu_shares)
        .set_quota(asked.cpu_quota)
        .set_period(asked.cpu_period)
        .set_cpus(list(&asked.cpuset_cpus))
        .set_mems(list(&asked.cpuset_mems));
    (cpu != LinuxCpu::default()).then_some(cpu)
}

/// Without a word on swap, a memory limit is one on memory and swap together.
fn memory(asked: &Resources, host: &HostFeatures) -> Option<LinuxMemory> {
    let mut memory = LinuxMemory::default();
    memory.set_limit(asked.memory_limit).set_reservation(asked.memory_reservation);
    if asked.oom_kill_disable && host.cgroup != CgroupLayout::V2 {
        memory.set_disable_oom_killer(Some(true));
    }
    if host.swap {
        memory.set_swap(asked.memory_swap_limit.or(asked.memory_limit));
    }
    (memory != LinuxMemory::default()).then_some(memory)
}

fn hugepages((size, limit): &(String, u64)) -> LinuxHugepageLimit {
    let mut oci = LinuxHugepageLimit::default();
    oci.set_page_size(size.clone()).set_limit(i64::try_from(*limit).unwrap_or(i64::MAX));
    oci
}

fn rule(
    allow: bool,
    kind: LinuxDeviceType,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(allow)
        .set_typ(Some(kind))
        .set_major(major)
        .set_minor(minor)
        .set_access(Some(access.to_owned()));
    rule
}

/// Everything denied first; then mknod of anything (harmless without use), the standard nodes and
/// the container's own devices.
pub(crate) fn device_rules(devices: &[ResolvedDevice]) -> Vec<LinuxDeviceCgroup> {
    let mut rules = vec![
        rule(false, LinuxDeviceType::A, None, None, "rwm"),
        rule(true, LinuxDeviceType::C, None, None, "m"),
        rule(true, LinuxDeviceType::B, None, None, "m"),
    ];
    rules.extend(DEFAULT_DEVICES.iter().map(|&(major, minor)| {
        rule(true, LinuxDeviceType::C, Some(major), (minor >= 0).then_some(minor), "rwm")
    }));
    rules.extend(devices.iter().map(|device| {
        rule(
            true,
            kind(device),
            Some(i64::from(device.major)),
            Some(i64::from(device.minor)),
            &device.permissions,
        )
    }));
    rules
}

fn kind(device: &ResolvedDevice) -> LinuxDeviceType {
    match device.kind {
        DeviceKind::Char => LinuxDeviceType::C,
        DeviceKind::Block => LinuxDeviceType::B,
    }
}

/// Nodes to make beside the standard ones.
pub(crate) fn devices(devices: &[ResolvedDevice]) -> Vec<LinuxDevice> {
    devices
        .iter()
        .map(|device| {
            let mut oci = LinuxDevice::default();
            oci.set_path(device.container_path.clone())
                .set_typ(kind(device))
                .set_major(i64::from(device.major))
                .set_minor(i64::from(device.minor))
                .set_file_mode(Some(device.mode & 0o7777))
                .set_uid(Some(device.uid))
                .set_gid(Some(device.gid));
            oci
        })
        .collect()
}
