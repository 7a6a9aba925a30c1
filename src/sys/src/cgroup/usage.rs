//! Counters for stats.

use super::Cgroup;
use super::files::{keyed, number, read};
use crate::error::Result;
use std::path::Path;

/// Numbers for stats; what the host does not count is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time used, nanoseconds.
    pub cpu_ns: u64,
    /// CPU time in user mode, nanoseconds.
    pub cpu_user_ns: u64,
    /// CPU time in the kernel, nanoseconds.
    pub cpu_system_ns: u64,
    /// Periods, and those in which it was throttled, and for how long (nanoseconds).
    pub throttling: (u64, u64, u64),
    /// Memory charged, bytes.
    pub memory_usage: u64,
    /// Memory limit, bytes; `u64::MAX` is none.
    pub memory_limit: u64,
    /// Inactive file pages, bytes: usage minus this is the working set.
    pub memory_inactive_file: u64,
    /// Anonymous memory, bytes.
    pub memory_rss: u64,
    /// Swap used, bytes.
    pub swap_usage: u64,
    /// Minor-and-major, and major page faults.
    pub page_faults: (u64, u64),
    /// Processes and threads.
    pub pids: u64,
    /// Their limit; `u64::MAX` is none.
    pub pids_limit: u64,
}

impl Cgroup {
    /// Reads the counters.
    pub fn usage(&self) -> Result<Usage> {
        let mut usage = Usage::default();
        match self.v2() {
            Some(dir) => v2(dir, &mut usage),
            None => self.v1(&mut usage),
        }
        Ok(usage)
    }

    fn v1(&self, usage: &mut Usage) {
        if let Some(dir) = self.legacy("cpuacct") {
            usage.cpu_ns = number(dir, "cpuacct.usage").unwrap_or(0);
            usage.cpu_user_ns = number(dir, "cpuacct.usage_user").unwrap_or(0);
            usage.cpu_system_ns = number(dir, "cpuacct.usage_sys").unwrap_or(0);
        }
        if let Some(text) = self.legacy("cpu").and_then(|dir| read(dir, "cpu.stat").ok()) {
            let key = |key| keyed(&text, key).unwrap_or(0);
            usage.throttling = (key("nr_periods"), key("nr_throttled"), key("throttled_time"));
        }
        if let Some(dir) = self.legacy("memory") {
            usage.memory_usage = number(dir, "memory.usage_in_bytes").unwrap_or(0);
            usage.memory_limit = number(dir, "memory.limit_in_bytes").map_or(u64::MAX, unlimited);
            let text = read(dir, "memory.stat").unwrap_or_default();
            let key = |key| keyed(&text, key).unwrap_or(0);
            usage.memory_inactive_file = key("total_inactive_file");
            usage.memory_rss = key("total_rss");
            usage.swap_usage = key("total_swap");
            usage.page_faults = (key("total_pgfault"), key("total_pgmajfault"));
        }
        if let Some(dir) = self.legacy("pids") {
            usage.pids = number(dir, "pids.current").unwrap_or(0);
            usage.pids_limit = number(dir, "pids.max").unwrap_or(u64::MAX);
        }
    }
}

/// v1 says "no limit" with the largest multiple of a page.
fn unlimited(limit: u64) -> u64 {
    if limit >= 0x7fff_ffff_ffff_0000 { u64::MAX } else { limit }
}

fn v2(dir: &Path, usage: &mut Usage) {
    let text = read(dir, "cpu.stat").unwrap_or_default();
    let cpu = |key| keyed(&text, key).unwrap_or(0);
    usage.cpu_ns = cpu("usage_usec") * 1000;
    usage.cpu_user_ns = cpu("user_usec") * 1000;
    usage.cpu_system_ns = cpu("system_usec") * 1000;
    usage.throttling = (cpu("nr_periods"), cpu("nr_throttled"), cpu("throttled_usec") * 1000);
    usage.memory_usage = number(dir, "memory.current").unwrap_or(0);
    usage.memory_limit = number(dir, "memory.max").unwrap_or(u64::MAX);
    let text = read(dir, "memory.stat").unwrap_or_default();
    let memory = |key| keyed(&text, key).unwrap_or(0);
    usage.memory_inactive_file = memory("inactive_file");
    usage.memory_rss = memory("anon");
    usage.page_faults = (memory("pgfault"), memory("pgmajfault"));
    usage.swap_usage = number(dir, "memory.swap.current").unwrap_or(0);
    usage.pids = number(dir, "pids.current").unwrap_or(0);
    usage.pids_limit = number(dir, "pids.max").unwrap_or(u64::MAX);
}
