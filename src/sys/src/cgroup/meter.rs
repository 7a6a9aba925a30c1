//! Counters for stats, by path: nothing is held open between two readings, so that a thousand groups
//! cost no descriptors.
//!
//! A reading takes as few files as there are: [`Meter::sample`] six on v1 and hybrid (three of them
//! pressure), nine on v2. What the host does not count is `None`, never a made-up zero.

use super::files::{keyed, number, read};
use super::hierarchy::{self, Legacy};
use super::lifecycle::procs_of;
use super::{Hierarchies, Layout};
use crate::error::{Context, Result};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::path::{Path, PathBuf};

/// A group that is measured; it need not exist, and then nothing is counted.
#[derive(Debug, Clone)]
pub struct Meter {
    layout: Layout,
    legacy: Vec<Legacy>,
    unified: Option<PathBuf>,
}

/// What a stats call reports.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sample {
    /// CPU time used since the group exists, nanoseconds.
    pub cpu_ns: Option<u64>,
    /// Memory.
    pub memory: Option<Memory>,
    /// Stalls for want of CPU; `None` where the kernel does not count them.
    pub cpu_pressure: Option<Pressure>,
    /// Stalls for want of memory.
    pub memory_pressure: Option<Pressure>,
    /// Stalls on input and output.
    pub io_pressure: Option<Pressure>,
}

/// Memory of a group and all below it, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// Charged in all.
    pub usage: u64,
    /// The limit in force, which may be that of a group above; `u64::MAX` is none.
    pub limit: u64,
    /// File pages that the kernel would drop first; usage without them is the working set.
    pub inactive_file: u64,
    /// File pages.
    pub cache: u64,
    /// Anonymous memory.
    pub anonymous: u64,
    /// Mapped file pages.
    pub mapped: u64,
    /// Swap in use; `None` where swap is not counted.
    pub swap: Option<u64>,
    /// Swap that may be used, without memory; `u64::MAX` is no limit.
    pub swap_limit: Option<u64>,
    /// Page faults in this group alone, and in it with those below: all, and those that read a disk.
    pub faults: [Faults; 2],
}

/// Page faults.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// All of them.
    pub all: u64,
    /// Those that had to wait for a disk.
    pub major: u64,
}

impl Memory {
    /// What cannot be had back without harm.
    pub fn working_set(&self) -> u64 {
        self.usage.saturating_sub(self.inactive_file)
    }

    /// What is left below the limit; `None` without one.
    pub fn available(&self) -> Option<u64> {
        (self.limit != u64::MAX).then(|| self.limit.saturating_sub(self.working_set()))
    }
}

/// Pressure stall information (the kernel's `accounting/psi`).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// Some process stalled.
    pub some: Stall,
    /// All of them stalled at once.
    pub full: Stall,
}

/// Time lost to stalls.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stall {
    /// Share of the last 10, 60 and 300 seconds, percent.
    pub average: [f64; 3],
    /// In all, microseconds.
    pub total_us: u64,
}

/// What the metrics calls report beside a [`Sample`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Detail {
    /// CPU time in user mode and in the kernel, nanoseconds.
    pub cpu_split_ns: Option<(u64, u64)>,
    /// Scheduler periods, throttled ones among them, and nanoseconds spent throttled.
    pub throttling: Option<(u64, u64, u64)>,
    /// The most memory that was charged at once, bytes.
    pub memory_peak: Option<u64>,
    /// How often the memory limit was hit.
    pub memory_failures: Option<u64>,
    /// Memory of the kernel for this group, bytes.
    pub memory_kernel: Option<u64>,
    /// Processes killed for memory.
    pub oom_kills: Option<u64>,
    /// Tasks, and their limit (`u64::MAX` is none).
    pub tasks: Option<(u64, u64)>,
    /// Traffic with block devices.
    pub devices: Vec<DeviceTraffic>,
    /// Huge pages: page size such as `2MB`, bytes now, most bytes at once.
    pub huge_pages: Vec<(String, u64, u64)>,
}

/// Traffic with one block device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeviceTraffic {
    /// Its number.
    pub device: (u32, u32),
    /// Bytes read and written.
    pub bytes: (u64, u64),
    /// Requests for reading and writing.
    pub requests: (u64, u64),
}

impl Hierarchies {
    /// A meter for the group at `path`, which is written as for [`super::Cgroup::open`].
    pub fn meter(&self, path: &str) -> Option<Meter> {
        Some(self.meter_at(&hierarchy::parse_path(path)?))
    }

    /// A meter for the parent of the group at `path`.
    pub fn meter_above(&self, path: &str) -> Option<Meter> {
        let path = hierarchy::parse_path(path)?;
        let parent = path.parent().filter(|parent| parent.parent().is_some())?;
        Some(self.meter_at(parent))
    }

    fn meter_at(&self, path: &Path) -> Meter {
        let (legacy, unified) = self.directories(path);
        Meter { layout: self.layout, legacy, unified }
    }
}

impl Meter {
    /// The counters of stats.
    pub fn sample(&self) -> Sample {
        let pressure = |file| {
            let text = read(self.unified.as_deref()?, file).ok()?;
            Some(parse_pressure(&text))
        };
        Sample {
            cpu_ns: self.cpu_ns(),
            memory: self.memory(),
            cpu_pressure: pressure("cpu.pressure"),
            memory_pressure: pressure("memory.pressure"),
            io_pressure: pressure("io.pressure"),
        }
    }

    /// The counters of metrics.
    pub fn detail(&self) -> Detail {
        match self.v2() {
            Some(dir) => detail_v2(dir),
            None => self.detail_v1(),
        }
    }

    /// Processes in it and below.
    pub fn procs(&self) -> Result<Vec<i32>> {
        let first = self.legacy.first().map(|legacy| legacy.mount.as_path());
        // One hierarchy knows them all; the unified one moves them without a race.
        procs_of(self.unified.as_deref().or(first).into_iter())
    }

    /// Sets the OOM score adjustment of every process in it and below.
    pub fn set_oom_score_adj(&self, score: i32) -> Result<()> {
        let open = |pid: i32| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let dir = rustix::fs::open(format!("/proc/{pid}"), flags, Mode::empty()).ok()?;
            Some((pid, dir))
        };
        let dirs: Vec<_> = self.procs()?.into_iter().filter_map(open).collect();
        // A number that is still listed was so while its directory was opened, which stays that
        // process's whatever becomes of the number.
        let listed = self.procs()?;
        for (pid, dir) in dirs.iter().filter(|(pid, _)| listed.contains(pid)) {
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            let written = rustix::fs::openat(dir, "oom_score_adj", flags, Mode::empty())
                .and_then(|file| rustix::io::write(&file, score.to_string().as_bytes()));
            match written {
                // It has ended meanwhile.
                Ok(_) | Err(Errno::NOENT | Errno::SRCH) => {}
                Err(errno) => {
                    return Err(errno)
                        .context("write", || format!("oom_score_adj of process {pid}"));
                }
            }
        }
        Ok(())
    }

    fn v2(&self) -> Option<&Path> {
        self.unified.as_deref().filter(|_| self.layout == Layout::V2)
    }

    fn legacy(&self, controller: &str) -> Option<&Path> {
        let has = |legacy: &&Legacy| legacy.controllers.iter().any(|name| name == controller);
        self.legacy.iter().find(has).map(|legacy| legacy.mount.as_path())
    }

    fn cpu_ns(&self) -> Option<u64> {
        match self.v2() {
            Some(dir) => Some(keyed(&read(dir, "cpu.stat").ok()?, "usage_usec")? * 1000),
            None => number(self.legacy("cpuacct")?, "cpuacct.usage"),
        }
    }

    fn memory(&self) -> Option<Memory> {
        match self.v2() {
            Some(dir) => memory_v2(dir),
            None => memory_v1(self.legacy("memory")?),
        }
    }

    fn detail_v1(&self) -> Detail {
        let mut detail = Detail::default();
        if let Some(dir) = self.legacy("cpuacct") {
            let user = number(dir, "cpuacct.usage_user");
            detail.cpu_split_ns = user.zip(number(dir, "cpuacct.usage_sys"));
        }
        if let Some(text) = self.legacy("cpu").and_then(|dir| read(dir, "cpu.stat").ok()) {
            let key = |key| keyed(&text, key).unwrap_or(0);
            detail.throttling =
                Some((key("nr_periods"), key("nr_throttled"), key("throttled_time")));
        }
        if let Some(dir) = self.legacy("memory") {
            detail.memory_peak = number(dir, "memory.max_usage_in_bytes");
            detail.memory_failures = number(dir, "memory.failcnt");
            detail.memory_kernel = number(dir, "memory.kmem.usage_in_bytes");
            detail.oom_kills =
                read(dir, "memory.oom_control").ok().and_then(|text| keyed(&text, "oom_kill"));
        }
        detail.tasks = self.legacy("pids").and_then(tasks);
        if let Some(dir) = self.legacy("blkio") {
            let file = |name| read(dir, name).unwrap_or_default();
            detail.devices = devices_v1(
                &file("blkio.throttle.io_service_bytes_recursive"),
                &file("blkio.throttle.io_serviced_recursive"),
            );
        }
        if let Some(dir) = self.legacy("hugetlb") {
            detail.huge_pages = huge_pages(dir, "usage_in_bytes", "max_usage_in_bytes");
        }
        detail
    }
}

fn tasks(dir: &Path) -> Option<(u64, u64)> {
    Some((number(dir, "pids.current")?, number(dir, "pids.max").unwrap_or(u64::MAX)))
}

/// v1 says "no limit" with the largest multiple of a page.
fn unlimited(limit: u64) -> u64 {
    if limit >= 0x7fff_ffff_ffff_0000 { u64::MAX } else { limit }
}

fn memory_v1(dir: &Path) -> Option<Memory> {
    let usage = number(dir, "memory.usage_in_bytes")?;
    let text = read(dir, "memory.stat").ok()?;
    let key = |key| keyed(&text, key).unwrap_or(0);
    let limit = keyed(&text, "hierarchical_memory_limit").map_or(u64::MAX, unlimited);
    // Only where swap is counted is there a limit of the sum of both.
    let sum = keyed(&text, "hierarchical_memsw_limit").map(unlimited);
    Some(Memory {
        usage,
        limit,
        inactive_file: key("total_inactive_file"),
        cache: key("total_cache"),
        anonymous: key("total_rss"),
        mapped: key("total_mapped_file"),
        swap: sum.and_then(|_| keyed(&text, "total_swap")),
        swap_limit: sum.map(|sum| if sum == u64::MAX { sum } else { sum.saturating_sub(limit) }),
        faults: [
            Faults { all: key("pgfault"), major: key("pgmajfault") },
            Faults { all: key("total_pgfault"), major: key("total_pgmajfault") },
        ],
    })
}

fn memory_v2(dir: &Path) -> Option<Memory> {
    let usage = number(dir, "memory.current")?;
    let text = read(dir, "memory.stat").ok()?;
    let key = |key| keyed(&text, key).unwrap_or(0);
    let faults = Faults { all: key("pgfault"), major: key("pgmajfault") };
    Some(Memory {
        usage,
        limit: number(dir, "memory.max").unwrap_or(u64::MAX),
        inactive_file: key("inactive_file"),
        cache: key("file"),
        anonymous: key("anon"),
        mapped: key("file_mapped"),
        swap: number(dir, "memory.swap.current"),
        swap_limit: number(dir, "memory.swap.max"),
        faults: [faults; 2],
    })
}

fn detail_v2(dir: &Path) -> Detail {
    let mut detail = Detail { tasks: tasks(dir), ..Detail::default() };
    if let Ok(text) = read(dir, "cpu.stat") {
        let micros = |key| keyed(&text, key).map(|micros| micros * 1000);
        detail.cpu_split_ns = micros("user_usec").zip(micros("system_usec"));
        // Without the cpu controller there is time, but nothing that throttles.
        let throttled = keyed(&text, "nr_periods").zip(keyed(&text, "nr_throttled"));
        detail.throttling = throttled
            .zip(micros("throttled_usec"))
            .map(|((periods, throttled), time)| (periods, throttled, time));
    }
    detail.memory_peak = number(dir, "memory.peak");
    if let Ok(text) = read(dir, "memory.events") {
        detail.memory_failures = keyed(&text, "max");
        detail.oom_kills = keyed(&text, "oom_kill");
    }
    detail.memory_kernel = read(dir, "memory.stat").ok().and_then(|text| keyed(&text, "kernel"));
    detail.devices = devices_v2(&read(dir, "io.stat").unwrap_or_default());
    detail.huge_pages = huge_pages(dir, "current", "max_usage");
    detail
}

/// `hugetlb.2MB.current` and its like; the sizes are those of the files that there are.
fn huge_pages(dir: &Path, now: &str, most: &str) -> Vec<(String, u64, u64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix("hugetlb.")) else {
            continue;
        };
        let Some((size, file)) = rest.split_once('.').filter(|(_, file)| *file == now) else {
            continue;
        };
        if let Some(bytes) = number(dir, &format!("hugetlb.{size}.{file}")) {
            // v2 has no high-water mark: what is there now is the least that it was.
            let peak = number(dir, &format!("hugetlb.{size}.{most}")).unwrap_or(bytes);
            found.push((size.to_owned(), bytes, peak));
        }
    }
    found.sort();
    found
}

fn device(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Lines of `8:0 Read 4096`.
fn devices_v1(bytes: &str, requests: &str) -> Vec<DeviceTraffic> {
    let mut found: Vec<DeviceTraffic> = Vec::new();
    let mut note = |text: &str, set: fn(&mut DeviceTraffic, &str, u64)| {
        for line in text.lines() {
            let mut fields = line.split_ascii_whitespace();
            let Some(device) = fields.next().and_then(device) else { continue };
            let (Some(kind), Some(value)) =
                (fields.next(), fields.next().and_then(|text| text.parse().ok()))
            else {
                continue;
            };
            let at = found.iter().position(|known| known.device == device).unwrap_or_else(|| {
                found.push(DeviceTraffic { device, ..DeviceTraffic::default() });
                found.len() - 1
            });
            if let Some(traffic) = found.get_mut(at) {
                set(traffic, kind, value);
            }
        }
    };
    note(bytes, |traffic, kind, value| match kind {
        "Read" => traffic.bytes.0 = value,
        "Write" => traffic.bytes.1 = value,
        _ => {}
    });
    note(requests, |traffic, kind, value| match kind {
        "Read" => traffic.requests.0 = value,
        "Write" => traffic.requests.1 = value,
        _ => {}
    });
    found
}

/// Lines of `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`.
fn devices_v2(text: &str) -> Vec<DeviceTraffic> {
    let line = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let mut traffic =
            DeviceTraffic { device: device(fields.next()?)?, ..DeviceTraffic::default() };
        for field in fields {
            let Some((key, value)) = field.split_once('=') else { continue };
            let Ok(value) = value.parse() else { continue };
            match key {
                "rbytes" => traffic.bytes.0 = value,
                "wbytes" => traffic.bytes.1 = value,
                "rios" => traffic.requests.0 = value,
                "wios" => traffic.requests.1 = value,
                _ => {}
            }
        }
        Some(traffic)
    };
    text.lines().filter_map(line).collect()
}

/// Lines of `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`; the one for `full` may be missing.
fn parse_pressure(text: &str) -> Pressure {
    let mut pressure = Pressure::default();
    for line in text.lines() {
        let mut fields = line.split_ascii_whitespace();
        let stall = match fields.next() {
            Some("some") => &mut pressure.some,
            Some("full") => &mut pressure.full,
            _ => continue,
        };
        for (key, value) in fields.filter_map(|field| field.split_once('=')) {
            let average = || value.parse().unwrap_or(0.0);
            match key {
                "avg10" => stall.average[0] = average(),
                "avg60" => stall.average[1] = average(),
                "avg300" => stall.average[2] = average(),
                "total" => stall.total_us = value.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
    pressure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_device_counters() {
        let bytes = "8:0 Read 4096\n8:0 Write 10\n8:0 Sync 1\n8:16 Write 7\nTotal 4113\n";
        let requests = "8:0 Read 1\n8:0 Write 2\n8:16 Write 3\n";
        let expected = [
            DeviceTraffic { device: (8, 0), bytes: (4096, 10), requests: (1, 2) },
            DeviceTraffic { device: (8, 16), bytes: (0, 7), requests: (0, 3) },
        ];
        assert_eq!(devices_v1(bytes, requests), expected);
        let text =
            "8:0 rbytes=4096 wbytes=10 rios=1 wios=2 dbytes=0 dios=0\n8:16 wbytes=7 wios=3\nx\n";
        assert_eq!(devices_v2(text), expected);
        assert!(devices_v1("", "").is_empty() && devices_v2("").is_empty());
    }

    #[test]
    fn pressure_of_old_and_new_kernels() {
        let text = "some avg10=1.50 avg60=0.25 avg300=0.00 total=77\nfull avg10=0.50 avg60=0.00 avg300=0.00 total=9\n";
        let pressure = parse_pressure(text);
        assert_eq!(pressure.some, Stall { average: [1.5, 0.25, 0.0], total_us: 77 });
        assert_eq!((pressure.full.total_us, pressure.full.average[0]), (9, 0.5));
        assert_eq!(parse_pressure("some total=3\n").full, Stall::default());
    }

    #[test]
    fn a_group_that_is_not_there_counts_nothing() {
        let meter = Hierarchies::detect().unwrap().meter("/orlop-no-such-group").unwrap();
        assert_eq!((meter.sample(), meter.detail()), (Sample::default(), Detail::default()));
        assert_eq!(meter.procs().unwrap(), Vec::<i32>::new());
    }

    #[test]
    fn what_is_left_below_a_limit() {
        let memory = Memory { usage: 70, inactive_file: 20, limit: 60, ..Memory::default() };
        assert_eq!((memory.working_set(), memory.available()), (50, Some(10)));
        assert_eq!(Memory { limit: u64::MAX, ..memory }.available(), None);
    }
}
