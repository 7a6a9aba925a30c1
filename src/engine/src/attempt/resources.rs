//! Limits, in the words of the rooms below.

use crate::spec::Resources;
use orlop_spec::request;

/// Microseconds in which a share of CPUs is counted.
const PERIOD: u64 = 100_000;

/// Limits as lifecycle takes them.
pub(crate) fn resources(spec: &Resources) -> request::Resources {
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let memory = spec.memory.filter(|bytes| *bytes != 0).map(signed);
    let (period, quota) = match spec.nano_cpus.filter(|cpus| *cpus != 0) {
        Some(cpus) => (Some(PERIOD), Some(signed(cpus / 10_000))),
        None => (spec.cpu_period, spec.cpu_quota),
    };
    request::Resources {
        cpu_period: period.filter(|period| *period != 0),
        cpu_quota: quota.filter(|quota| *quota != 0),
        cpu_shares: spec.cpu_shares.filter(|shares| *shares != 0),
        memory_limit: memory,
        // As much swap as memory, where only that is limited.
        memory_swap_limit: spec
            .memory_swap
            .filter(|bytes| *bytes != 0)
            .or(memory.map(|bytes| bytes.saturating_mul(2))),
        oom_score_adj: spec.oom_score_adj,
        cpuset_cpus: spec.cpuset_cpus.clone(),
        cpuset_mems: spec.cpuset_mems.clone(),
        pids: spec.pids,
        memory_reservation: spec.memory_reservation.filter(|bytes| *bytes != 0).map(signed),
        blkio_weight: spec.blkio_weight.filter(|weight| *weight != 0),
        oom_kill_disable: spec.oom_kill_disable,
        ..request::Resources::default()
    }
}
