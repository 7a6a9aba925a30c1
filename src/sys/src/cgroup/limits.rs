//! Limits, from the OCI section to files of v1 or v2.
//!
//! What is absent stays as it is. A limit whose controller the host does not have is an error, with
//! one exception: huge pages, which the kubelet limits on every pod, whether the host has the
//! controller or not; without it the limit is ignored.

use super::files::{no_controller, number, write};
use super::{Cgroup, devices};
use crate::error::{Error, Result};
use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxPids, LinuxResources,
};
use std::path::Path;

/// Whether the group is new, or has processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    New,
    Update,
}

pub(super) fn apply(group: &Cgroup, resources: &LinuxResources, kind: Kind) -> Result<()> {
    if kind == Kind::New || resources.devices().is_some() {
        devices::apply(group, resources.devices().as_deref().unwrap_or_default())?;
    }
    if let Some(cpu) = resources.cpu() {
        match group.v2() {
            Some(dir) => cpu_v2(dir, cpu)?,
            None => cpu_v1(group, cpu)?,
        }
        cpusets(group, cpu)?;
    }
    if let Some(memory) = resources.memory() {
        match group.v2() {
            Some(dir) => memory_v2(dir, memory)?,
            None => memory_v1(group, memory)?,
        }
    }
    if let Some(pids) = resources.pids() {
        set_pids(group, pids)?;
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        hugepages(group, limit)?;
    }
    if let Some(block) = resources.block_io() {
        block_io(group, block)?;
    }
    if let Some(unified) = resources.unified() {
        set_unified(group, unified)?;
    }
    Ok(())
}

fn cpu_v1(group: &Cgroup, cpu: &LinuxCpu) -> Result<()> {
    let asked = cpu.shares().is_some_and(|shares| shares != 0)
        || cpu.quota().is_some()
        || cpu.period().is_some();
    let Some(dir) = group.legacy("cpu") else {
        return if asked { Err(no_controller("cpu")) } else { Ok(()) };
    };
    if let Some(idle) = cpu.idle() {
        write(dir, "cpu.idle", &idle.to_string())?;
    }
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        write(dir, "cpu.shares", &shares.to_string())?;
    }
    let period = cpu.period().filter(|period| *period != 0).map(|period| period.to_string());
    let quota = cpu.quota().filter(|quota| *quota != 0).map(|quota| quota.to_string());
    // The kernel checks each write against the other value, which may be the old one: if the period
    // is refused, the quota goes first.
    let late_period = match &period {
        Some(period) => write(dir, "cpu.cfs_period_us", period).err().map(|_| period),
        None => None,
    };
    if let Some(quota) = &quota {
        write(dir, "cpu.cfs_quota_us", quota)?;
    }
    if let Some(period) = late_period {
        write(dir, "cpu.cfs_period_us", period)?;
    }
    if let Some(burst) = cpu.burst() {
        write(dir, "cpu.cfs_burst_us", &burst.to_string())?;
    }
    if let Some(period) = cpu.realtime_period().filter(|period| *period != 0) {
        write(dir, "cpu.rt_period_us", &period.to_string())?;
    }
    if let Some(runtime) = cpu.realtime_runtime().filter(|runtime| *runtime != 0) {
        write(dir, "cpu.rt_runtime_us", &runtime.to_string())?;
    }
    Ok(())
}

fn cpu_v2(dir: &Path, cpu: &LinuxCpu) -> Result<()> {
    if let Some(idle) = cpu.idle() {
        write(dir, "cpu.idle", &idle.to_string())?;
    }
    // An idle group has no weight of its own.
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0 && cpu.idle() != Some(1)) {
        write(dir, "cpu.weight", &weight(shares).to_string())?;
    }
    let quota = match cpu.quota() {
        Some(quota) if quota > 0 => Some(quota.to_string()),
        Some(quota) if quota < 0 => Some("max".to_owned()),
        _ => None,
    };
    match (quota, cpu.period().filter(|period| *period != 0)) {
        (Some(quota), Some(period)) => write(dir, "cpu.max", &format!("{quota} {period}"))?,
        (Some(quota), None) => write(dir, "cpu.max", &quota)?,
        (None, Some(period)) => {
            let old = super::files::read(dir, "cpu.max")?;
            let quota = old.split_ascii_whitespace().next().unwrap_or("max");
            write(dir, "cpu.max", &format!("{quota} {period}"))?;
        }
        (None, None) => {}
    }
    if let Some(burst) = cpu.burst() {
        write(dir, "cpu.max.burst", &burst.to_string())?;
    }
    Ok(())
}

/// From v1 shares (2 to 262144, default 1024) to a v2 weight (1 to 10000, default 100), by the curve
/// that the field agreed on: both minima, both defaults and both maxima meet.
pub(super) fn weight(shares: u64) -> u64 {
    let shares = shares.clamp(2, 262_144);
    #[expect(clippy::cast_precision_loss, reason = "at most 262144")]
    let l = (shares as f64).log2();
    let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and 10000"
    )]
    let weight = 10_f64.powf(exponent).ceil() as u64;
    weight.clamp(1, 10_000)
}

fn cpusets(group: &Cgroup, cpu: &LinuxCpu) -> Result<()> {
    for (file, value) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
        let Some(value) = value.as_deref().filter(|value| !value.is_empty()) else { continue };
        let dir =
            group.v2().or_else(|| group.legacy("cpuset")).ok_or_else(|| no_controller("cpuset"))?;
        write(dir, file, value)?;
    }
    Ok(())
}

fn memory_v1(group: &Cgroup, memory: &LinuxMemory) -> Result<()> {
    const LIMIT: &str = "memory.limit_in_bytes";
    const SWAP: &str = "memory.memsw.limit_in_bytes";
    let limit = memory.limit().filter(|limit| *limit != 0);
    let swap = memory.swap().filter(|swap| *swap != 0);
    let Some(dir) = group.legacy("memory") else {
        return if limit.or(swap).is_some() { Err(no_controller("memory")) } else { Ok(()) };
    };
    check_usage(memory, dir, "memory.usage_in_bytes")?;
    let accounted = swap.is_some() && dir.join(SWAP).exists();
    let set_swap = |value: i64| -> Result<()> {
        match (accounted, limit) {
            (true, _) => write(dir, SWAP, &value.to_string()),
            // No swap beyond the limit is what a host without swap accounting cannot promise but often has.
            (false, Some(limit)) if value == limit => Ok(()),
            (false, _) if value < 0 => Ok(()),
            (false, _) => Err(Error::new(
                "limit",
                "swap: the kernel does not account swap: boot with swapaccount=1",
                libc::ENOTSUP,
            )),
        }
    };
    // The sum may never be below the memory limit: upwards it goes first, downwards last.
    let old_sum = if accounted { number(dir, SWAP).unwrap_or(u64::MAX) } else { u64::MAX };
    let up = limit.is_some_and(|limit| limit < 0 || limit.unsigned_abs() > old_sum);
    if let Some(swap) = swap.filter(|_| up) {
        set_swap(swap)?;
    }
    if let Some(limit) = limit {
        write(dir, LIMIT, &limit.to_string())?;
    }
    if let Some(swap) = swap.filter(|_| !up) {
        set_swap(swap)?;
    }
    if let Some(reservation) = memory.reservation().filter(|reservation| *reservation != 0) {
        write(dir, "memory.soft_limit_in_bytes", &reservation.to_string())?;
    }
    if let Some(tcp) = memory.kernel_tcp().filter(|tcp| *tcp != 0) {
        write(dir, "memory.kmem.tcp.limit_in_bytes", &tcp.to_string())?;
    }
    if let Some(swappiness) = memory.swappiness() {
        write(dir, "memory.swappiness", &swappiness.to_string())?;
    }
    if memory.disable_oom_killer() == Some(true) {
        write(dir, "memory.oom_control", "1")?;
    }
    Ok(())
}

fn check_usage(memory: &LinuxMemory, dir: &Path, file: &str) -> Result<()> {
    let Some(limit) =
        memory.limit().and_then(|limit| u64::try_from(limit).ok()).filter(|limit| *limit != 0)
    else {
        return Ok(());
    };
    let used = number(dir, file).unwrap_or(0);
    if memory.check_before_update() == Some(true) && used > limit {
        return Err(Error::new(
            "limit",
            format!("memory {limit}: {used} bytes are in use, give a limit above that"),
            libc::EBUSY,
        ));
    }
    Ok(())
}

fn memory_v2(dir: &Path, memory: &LinuxMemory) -> Result<()> {
    let text = |value: i64| if value < 0 { "max".to_owned() } else { value.to_string() };
    check_usage(memory, dir, "memory.current")?;
    let limit = memory.limit().filter(|limit| *limit != 0);
    if let Some(swap) = memory.swap().filter(|swap| *swap != 0) {
        // OCI counts memory and swap together, v2 swap alone.
        let alone = match (swap, limit) {
            (swap, _) if swap < 0 => "max".to_owned(),
            (swap, Some(limit)) if limit >= 0 && swap >= limit => (swap - limit).to_string(),
            (_, Some(limit)) if limit < 0 => "max".to_owned(),
            _ => {
                return Err(Error::new(
                    "limit",
                    format!(
                        "swap {swap}: it includes memory, so it needs a memory limit at or below it"
                    ),
                    libc::EINVAL,
                ));
            }
        };
        if dir.join("memory.swap.max").exists() || alone != "0" {
            write(dir, "memory.swap.max", &alone)?;
        }
    }
    if let Some(limit) = limit {
        write(dir, "memory.max", &text(limit))?;
    }
    if let Some(reservation) = memory.reservation().filter(|reservation| *reservation != 0) {
        write(dir, "memory.low", &text(reservation))?;
    }
    Ok(())
}

fn set_pids(group: &Cgroup, pids: &LinuxPids) -> Result<()> {
    let value = match pids.limit() {
        0 => return Ok(()),
        limit if limit < 0 => "max".to_owned(),
        limit => limit.to_string(),
    };
    let dir = group.v2().or_else(|| group.legacy("pids")).ok_or_else(|| no_controller("pids"))?;
    write(dir, "pids.max", &value)
}

fn hugepages(group: &Cgroup, limit: &LinuxHugepageLimit) -> Result<()> {
    let size = limit.page_size();
    let value = limit.limit().to_string();
    if size.contains('/') {
        return Err(Error::new("limit", format!("huge page size {size:?}"), libc::EINVAL));
    }
    let (dir, files) = match (group.v2(), group.legacy("hugetlb")) {
        (Some(dir), _)
            if dir.join("hugetlb.2MB.max").exists()
                || dir.join(format!("hugetlb.{size}.max")).exists() =>
        {
            (dir, [format!("hugetlb.{size}.max"), format!("hugetlb.{size}.rsvd.max")])
        }
        (None, Some(dir)) => (
            dir,
            [
                format!("hugetlb.{size}.limit_in_bytes"),
                format!("hugetlb.{size}.rsvd.limit_in_bytes"),
            ],
        ),
        // See the rule at the top of this file.
        _ => return Ok(()),
    };
    let [main, reserved] = files;
    write(dir, &main, &value)?;
    // Reservations are accounted since Linux 5.7.
    if dir.join(&reserved).exists() { write(dir, &reserved, &value) } else { Ok(()) }
}

fn block_io(group: &Cgroup, block: &LinuxBlockIo) -> Result<()> {
    let throttles = [
        (block.throttle_read_bps_device(), "blkio.throttle.read_bps_device", "rbps"),
        (block.throttle_write_bps_device(), "blkio.throttle.write_bps_device", "wbps"),
        (block.throttle_read_iops_device(), "blkio.throttle.read_iops_device", "riops"),
        (block.throttle_write_iops_device(), "blkio.throttle.write_iops_device", "wiops"),
    ];
    let v2 = group.v2();
    let dir = v2.or_else(|| group.legacy("blkio")).ok_or_else(|| no_controller("blkio"))?;
    for (devices, legacy, unified) in throttles {
        for device in devices.iter().flatten() {
            let (major, minor, rate) = (device.major(), device.minor(), device.rate());
            match v2 {
                Some(dir) => write(dir, "io.max", &format!("{major}:{minor} {unified}={rate}"))?,
                None => write(dir, legacy, &format!("{major}:{minor} {rate}"))?,
            }
        }
    }
    if let Some(weight) = block.weight().filter(|weight| *weight != 0) {
        let scaled = 1 + (u64::from(weight).clamp(10, 1000) - 10) * 9999 / 990;
        let files = match v2 {
            Some(_) => [("io.bfq.weight", u64::from(weight)), ("io.weight", scaled)],
            None => [("blkio.bfq.weight", u64::from(weight)), ("blkio.weight", u64::from(weight))],
        };
        let present = files.iter().find(|(file, _)| dir.join(file).exists());
        let (file, value) =
            present.ok_or_else(|| no_controller("io weight (no BFQ or cost scheduler)"))?;
        write(dir, file, &value.to_string())?;
    }
    Ok(())
}

fn set_unified(group: &Cgroup, keys: &std::collections::HashMap<String, String>) -> Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let Some(dir) = group.v2() else {
        return Err(Error::new(
            "limit",
            "unified: this host has cgroup v1: use the v1 fields",
            libc::ENOTSUP,
        ));
    };
    let mut keys: Vec<_> = keys.iter().collect();
    keys.sort();
    for (file, value) in keys {
        if file.contains('/') || file.starts_with("cgroup.") {
            return Err(Error::new(
                "limit",
                format!("unified key {file:?}: only files of controllers"),
                libc::EINVAL,
            ));
        }
        for line in value.lines() {
            write(dir, file, line)?;
        }
    }
    Ok(())
}
