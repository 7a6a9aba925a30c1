//! A container's counters in containerd's two forms: one for hosts with unified cgroups, one for all others.

use super::Container;
use crate::error::Refusal;
use orlop_sys::cgroup::{Layout, Usage};
use orlop_task::names::{URL_METRICS, URL_METRICS_V2};
use orlop_task::protocol::stats as v1;
use orlop_task::protocol::stats2 as v2;
use prost::Message;
use prost_types::Any;

impl Container {
    /// Its counters, in the form that belongs to the host.
    pub(crate) fn metrics(&self, layout: Layout) -> Result<Any, Refusal> {
        let usage = self.cgroup.usage()?;
        Ok(match layout {
            Layout::V2 => Any {
                type_url: URL_METRICS_V2.to_owned(),
                value: unified(&usage, self.oom_kills).encode_to_vec(),
            },
            Layout::V1 | Layout::Hybrid => {
                Any { type_url: URL_METRICS.to_owned(), value: legacy(&usage).encode_to_vec() }
            }
        })
    }
}

/// 0 is containerd's word for no limit on processes.
fn limit(limit: u64) -> u64 {
    if limit == u64::MAX { 0 } else { limit }
}

fn legacy(usage: &Usage) -> v1::Metrics {
    let (periods, throttled_periods, throttled_time) = usage.throttling;
    let (pg_fault, pg_maj_fault) = usage.page_faults;
    let memory = v1::MemoryEntry {
        usage: usage.memory_usage,
        limit: usage.memory_limit,
        ..v1::MemoryEntry::default()
    };
    v1::Metrics {
        pids: Some(v1::PidsStat { current: usage.pids, limit: limit(usage.pids_limit) }),
        cpu: Some(v1::CpuStat {
            usage: Some(v1::CpuUsage {
                total: usage.cpu_ns,
                kernel: usage.cpu_system_ns,
                user: usage.cpu_user_ns,
                per_cpu: Vec::new(),
            }),
            throttling: Some(v1::Throttle { periods, throttled_periods, throttled_time }),
        }),
        memory: Some(v1::MemoryStat {
            rss: usage.memory_rss,
            pg_fault,
            pg_maj_fault,
            total_inactive_file: usage.memory_inactive_file,
            usage: Some(memory),
            swap: Some(v1::MemoryEntry { usage: usage.swap_usage, ..v1::MemoryEntry::default() }),
            ..v1::MemoryStat::default()
        }),
    }
}

fn unified(usage: &Usage, oom_kill: u64) -> v2::Metrics {
    let (nr_periods, nr_throttled, throttled_ns) = usage.throttling;
    let (pgfault, pgmajfault) = usage.page_faults;
    v2::Metrics {
        pids: Some(v2::PidsStat { current: usage.pids, limit: limit(usage.pids_limit) }),
        cpu: Some(v2::CpuStat {
            usage_usec: usage.cpu_ns / 1000,
            user_usec: usage.cpu_user_ns / 1000,
            system_usec: usage.cpu_system_ns / 1000,
            nr_periods,
            nr_throttled,
            throttled_usec: throttled_ns / 1000,
        }),
        memory: Some(v2::MemoryStat {
            anon: usage.memory_rss,
            inactive_file: usage.memory_inactive_file,
            pgfault,
            pgmajfault,
            usage: usage.memory_usage,
            usage_limit: usage.memory_limit,
            swap_usage: usage.swap_usage,
        }),
        memory_events: Some(v2::MemoryEvents { oom_kill }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let usage = Usage {
            cpu_ns: 3_000,
            cpu_user_ns: 2_000,
            throttling: (5, 4, 7_000),
            memory_usage: 11,
            memory_limit: u64::MAX,
            page_faults: (2, 1),
            pids: 3,
            pids_limit: u64::MAX,
            ..Usage::default()
        };
        let old = legacy(&usage);
        let new = unified(&usage, 9);
        let (old_cpu, new_cpu) = (old.cpu.unwrap(), new.cpu.unwrap());
        assert_eq!(old_cpu.usage.unwrap().total, new_cpu.usage_usec * 1000);
        assert_eq!(old_cpu.throttling.unwrap().throttled_time, new_cpu.throttled_usec * 1000);
        assert_eq!(old.memory.unwrap().usage.unwrap().usage, new.memory.unwrap().usage);
        assert_eq!((old.pids.unwrap().limit, new.pids.unwrap().limit), (0, 0));
        assert_eq!(new.memory_events.unwrap().oom_kill, 9);
        // containerd's numbers, which nothing else here would notice: usage is field 32 of field 4.
        let memory = v2::Metrics {
            memory: Some(v2::MemoryStat { usage: 1, ..v2::MemoryStat::default() }),
            ..v2::Metrics::default()
        };
        assert_eq!(memory.encode_to_vec(), [0x22, 3, 0x80, 2, 1]);
    }
}
