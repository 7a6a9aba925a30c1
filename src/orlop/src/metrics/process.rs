//! This process, under the names that every Prometheus client uses.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use rustix::process::{Resource, getrlimit};
use std::fmt;

#[derive(Debug)]
pub(super) struct Process;

/// From `/proc/self/stat`.
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_ticks: u64,
    threads: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    /// The program's name may hold anything; what follows its closing bracket are numbers.
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        // The first one here is the third of the file.
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: number(14)? + number(15)?,
            threads: number(20)?,
            start_ticks: number(22)?,
            virtual_bytes: number(23)?,
            resident_pages: number(24)?,
        })
    }
}

/// Seconds since 1970 at which the kernel started.
fn boot_time() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let Some(stat) = Stat::parse(&text) else { return Ok(()) };
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let cpu = ConstCounter::new(stat.cpu_ticks as f64 / ticks);
        let help = "Processor time of this process in seconds";
        let metric = encoder.encode_descriptor(
            "process_cpu_seconds",
            help,
            None,
            prometheus_client::metrics::MetricType::Counter,
        )?;
        cpu.encode(metric)?;
        let start = boot_time().map_or(0.0, |boot| boot as f64) + stat.start_ticks as f64 / ticks;
        let descriptors = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let resident = stat.resident_pages * rustix::param::page_size() as u64;
        for (name, help, value) in [
            ("process_start_time_seconds", "Start of this process in seconds since 1970", start),
            ("process_resident_memory_bytes", "Memory of this process", resident as f64),
            (
                "process_virtual_memory_bytes",
                "Address space of this process",
                stat.virtual_bytes as f64,
            ),
            ("process_threads", "Threads of this process", stat.threads as f64),
            ("process_open_fds", "Open descriptors of this process", descriptors as f64),
            ("process_max_fds", "Descriptors that this process may open", most as f64),
        ] {
            let metric = encoder.encode_descriptor(
                name,
                help,
                None,
                prometheus_client::metrics::MetricType::Gauge,
            )?;
            ConstGauge::new(value).encode(metric)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces() {
        let text = "42 (a) b) S 1 42 42 0 -1 4194560 1 0 0 0 30 12 0 0 20 0 5 0 777 4096 3 1";
        let expected = Stat {
            cpu_ticks: 42,
            threads: 5,
            start_ticks: 777,
            virtual_bytes: 4096,
            resident_pages: 3,
        };
        assert_eq!(Stat::parse(text), Some(expected));
        assert_eq!(Stat::parse("42 (a"), None);
        assert!(Stat::parse(&std::fs::read_to_string("/proc/self/stat").unwrap()).is_some());
    }
}
