//! Every metric that there is: the one table that descriptors and values are made from.

use crate::v1::MetricType;

/// The labels that every metric begins with.
pub(super) const BASE_LABELS: [&str; 6] = ["container", "id", "image", "name", "namespace", "pod"];

/// One metric.
#[derive(Debug)]
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: MetricType,
    /// Labels after the [`BASE_LABELS`].
    pub(super) labels: &'static [&'static str],
}

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, help, kind: MetricType::Counter, labels }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, help, kind: MetricType::Gauge, labels }
}

const FS: &[&str] = &["device"];
const NET: &[&str] = &["interface"];
const PAGES: &[&str] = &["pagesize"];

/// All of them, by name.
pub(super) static TABLE: [Metric; 56] = [
    counter(
        "container_blkio_device_usage_total",
        &["device", "major", "minor", "operation"],
        "Bytes read from or written to a block device",
    ),
    counter(
        "container_cpu_cfs_periods_total",
        &[],
        "Scheduler periods in which the container wanted to run",
    ),
    counter(
        "container_cpu_cfs_throttled_periods_total",
        &[],
        "Scheduler periods in which its quota was used up",
    ),
    counter(
        "container_cpu_cfs_throttled_seconds_total",
        &[],
        "Seconds that it waited for the next period",
    ),
    counter("container_cpu_system_seconds_total", &[], "Seconds of CPU time in the kernel"),
    counter("container_cpu_usage_seconds_total", &["cpu"], "Seconds of CPU time in all"),
    counter("container_cpu_user_seconds_total", &[], "Seconds of CPU time outside the kernel"),
    gauge("container_file_descriptors", &[], "Open file descriptors of all its processes"),
    gauge("container_fs_inodes_free", FS, "Free inodes of the file system of its writable layer"),
    gauge("container_fs_inodes_total", FS, "Inodes of the file system of its writable layer"),
    gauge("container_fs_limit_bytes", FS, "Size of the file system of its writable layer in bytes"),
    counter("container_fs_reads_bytes_total", FS, "Bytes read from a block device"),
    counter("container_fs_reads_total", FS, "Completed reads from a block device"),
    gauge("container_fs_usage_bytes", FS, "Bytes that its writable layer takes"),
    counter("container_fs_writes_bytes_total", FS, "Bytes written to a block device"),
    counter("container_fs_writes_total", FS, "Completed writes to a block device"),
    gauge(
        "container_hugetlb_max_usage_bytes",
        PAGES,
        "Most bytes of huge pages that were in use at once",
    ),
    gauge("container_hugetlb_usage_bytes", PAGES, "Bytes of huge pages in use"),
    gauge("container_last_seen", &[], "When it was last looked at, seconds since 1970"),
    gauge("container_memory_cache", &[], "Bytes of page cache"),
    counter("container_memory_failcnt", &[], "How often it came to its memory limit"),
    counter(
        "container_memory_failures_total",
        &["failure_type", "scope"],
        "Page faults, by kind, of its own cgroup or with those below",
    ),
    gauge("container_memory_kernel_usage", &[], "Bytes of kernel memory for it"),
    gauge("container_memory_mapped_file", &[], "Bytes of mapped files"),
    gauge(
        "container_memory_max_usage_bytes",
        &[],
        "Most bytes of memory that were charged at once",
    ),
    gauge("container_memory_rss", &[], "Bytes of anonymous memory"),
    gauge("container_memory_swap", &[], "Bytes of swap in use"),
    gauge("container_memory_usage_bytes", &[], "Bytes of memory charged, with the page cache"),
    gauge(
        "container_memory_working_set_bytes",
        &[],
        "Bytes of memory without what can be dropped at once",
    ),
    counter("container_network_receive_bytes_total", NET, "Bytes received"),
    counter("container_network_receive_errors_total", NET, "Errors in receiving"),
    counter(
        "container_network_receive_packets_dropped_total",
        NET,
        "Received packets that were dropped",
    ),
    counter("container_network_receive_packets_total", NET, "Packets received"),
    counter("container_network_transmit_bytes_total", NET, "Bytes sent"),
    counter("container_network_transmit_errors_total", NET, "Errors in sending"),
    counter(
        "container_network_transmit_packets_dropped_total",
        NET,
        "Packets that were dropped instead of sent",
    ),
    counter("container_network_transmit_packets_total", NET, "Packets sent"),
    counter(
        "container_oom_events_total",
        &[],
        "Processes of it that were killed because memory ran out",
    ),
    counter(
        "container_pressure_cpu_stalled_seconds_total",
        &[],
        "Seconds in which all its tasks waited for a CPU",
    ),
    counter(
        "container_pressure_cpu_waiting_seconds_total",
        &[],
        "Seconds in which some task of it waited for a CPU",
    ),
    counter(
        "container_pressure_io_stalled_seconds_total",
        &[],
        "Seconds in which all its tasks waited for input or output",
    ),
    counter(
        "container_pressure_io_waiting_seconds_total",
        &[],
        "Seconds in which some task of it waited for input or output",
    ),
    counter(
        "container_pressure_memory_stalled_seconds_total",
        &[],
        "Seconds in which all its tasks waited for memory",
    ),
    counter(
        "container_pressure_memory_waiting_seconds_total",
        &[],
        "Seconds in which some task of it waited for memory",
    ),
    gauge("container_processes", &[], "Its processes"),
    gauge("container_sockets", &[], "Open sockets of all its processes"),
    gauge("container_spec_cpu_period", &[], "Scheduler period in microseconds"),
    gauge("container_spec_cpu_quota", &[], "CPU time that it may use in a period, microseconds"),
    gauge("container_spec_cpu_shares", &[], "Its weight when CPUs are short"),
    gauge("container_spec_memory_limit_bytes", &[], "Its memory limit in bytes; 0 is none"),
    gauge(
        "container_spec_memory_reservation_limit_bytes",
        &[],
        "Memory that is reserved for it in bytes; 0 is none",
    ),
    gauge(
        "container_spec_memory_swap_limit_bytes",
        &[],
        "Its limit of memory and swap together in bytes; 0 is none",
    ),
    gauge("container_start_time_seconds", &[], "When it was started, seconds since 1970"),
    gauge("container_threads", &[], "Its threads"),
    gauge("container_threads_max", &[], "How many threads it may have; 0 is no limit"),
    gauge("container_ulimits_soft", &["ulimit"], "Soft limits of its first process"),
];

/// A metric by its name; the names are those of the table.
pub(super) fn metric(name: &str) -> Option<&'static Metric> {
    let at = TABLE.binary_search_by(|metric| metric.name.cmp(name)).ok()?;
    TABLE.get(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_and_described() {
        assert!(TABLE.is_sorted_by(|a, b| a.name < b.name));
        for known in &TABLE {
            assert!(!known.help.is_empty());
            assert_eq!(metric(known.name).unwrap().name, known.name);
        }
    }
}
