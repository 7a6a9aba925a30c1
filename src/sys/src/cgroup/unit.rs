//! Groups that systemd manages: a container's is a scope, a pod's a slice. systemd makes and removes
//! the directory; what it would write into it must be what we write, so every limit that it knows
//! goes to it as a property, and then to the files as everywhere else.

use super::limits::weight;
use crate::error::{Error, Result};
use crate::process::Placeholder;
use crate::systemd::{self, Property, Value};
use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources};
use std::path::PathBuf;

/// No limit, as systemd writes it.
const INFINITY: u64 = u64::MAX;

/// A unit, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unit {
    /// Holds processes.
    Scope { name: String, slice: String },
    /// Holds units; stays until it is stopped.
    Slice { name: String },
}

impl Unit {
    /// From `slice:prefix:name` (a scope, or a slice when the name ends in `.slice`), or the plain
    /// name of a slice. `None` for what is a path or not valid.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.contains(['/', '\0']) {
            return None;
        }
        match text.split(':').collect::<Vec<_>>().as_slice() {
            [name] if name.ends_with(".slice") => {
                slice_path(name)?;
                Some(Self::Slice { name: (*name).to_owned() })
            }
            [slice, prefix, name] => {
                let slice = if slice.is_empty() { "system.slice" } else { slice };
                slice_path(slice)?;
                if name.is_empty() || matches!(*name, "." | "..") {
                    return None;
                }
                if name.ends_with(".slice") {
                    return Some(Self::Slice { name: (*name).to_owned() });
                }
                let name = if prefix.is_empty() {
                    format!("{name}.scope")
                } else {
                    format!("{prefix}-{name}.scope")
                };
                Some(Self::Scope { name, slice: slice.to_owned() })
            }
            _ => None,
        }
    }

    /// Its directory below the root of the hierarchy.
    pub(super) fn path(&self) -> Option<PathBuf> {
        match self {
            Self::Slice { name } => slice_path(name),
            Self::Scope { name, slice } => Some(slice_path(slice)?.join(name)),
        }
    }

    /// The slices from the outermost to this unit itself, where it is one.
    pub(super) fn slices(&self) -> Vec<String> {
        let (Self::Slice { name } | Self::Scope { slice: name, .. }) = self;
        let Some(path) = slice_path(name) else { return Vec::new() };
        path.iter().skip(1).map(|part| part.to_string_lossy().into_owned()).collect()
    }

    /// Has systemd make it. A scope begins with a process: what is returned holds the place until
    /// the container's own process is there.
    pub(super) fn start(&self, resources: Option<&LinuxResources>) -> Result<Option<Placeholder>> {
        match self {
            Self::Slice { name } => {
                let description = Value::Text(format!("Orlop pod slice {name}"));
                let properties = [("Description", description), no_dependencies()];
                if !systemd::start_transient(name, &properties)? {
                    systemd::start(name)?;
                }
                Ok(None)
            }
            Self::Scope { name, slice } => {
                let placeholder = Placeholder::new()?;
                let mut properties = vec![
                    ("Description", Value::Text(format!("Orlop container {name}"))),
                    ("Slice", Value::Text(slice.clone())),
                    ("Delegate", Value::Flag(true)),
                    // Also one that ended badly is forgotten.
                    ("CollectMode", Value::Text("inactive-or-failed".into())),
                    // Device rules are ours: systemd's would have to agree with every access, too.
                    ("DevicePolicy", Value::Text("auto".into())),
                    no_dependencies(),
                ];
                const ACCOUNTING: [&str; 4] =
                    ["CPUAccounting", "MemoryAccounting", "IOAccounting", "TasksAccounting"];
                properties.extend(ACCOUNTING.map(|name| (name, Value::Flag(true))));
                let asked = resources.map(limits).transpose()?.unwrap_or_default();
                // systemd's own default is a share of the host's processes.
                if !asked.iter().any(|(name, _)| *name == "TasksMax") {
                    properties.push(("TasksMax", Value::Number(INFINITY)));
                }
                properties.extend(asked);
                let pid = placeholder.pid().cast_unsigned();
                properties.push(("PIDs", Value::Numbers(vec![pid])));
                if systemd::start_transient(name, &properties)? {
                    Ok(Some(placeholder))
                } else {
                    Err(Error::new("start", format!("unit {name}: it exists"), libc::EEXIST))
                }
            }
        }
    }

    /// Tells systemd of changed limits.
    pub(super) fn update(&self, resources: &LinuxResources) -> Result<()> {
        let properties = limits(resources)?;
        if properties.is_empty() {
            return Ok(());
        }
        let (Self::Slice { name } | Self::Scope { name, .. }) = self;
        systemd::set_properties(name, &properties)
    }

    /// Makes systemd forget it, once its directory is empty or gone. A scope is told, too: of a group
    /// that is removed before systemd has looked at it, systemd never learns that it is empty.
    pub(super) fn forget(&self) -> Result<()> {
        let (Self::Slice { name } | Self::Scope { name, .. }) = self;
        systemd::stop_alone(name)
    }
}

/// Without this a unit waits for the end of the boot, and ends with the beginning of the shutdown.
fn no_dependencies() -> Property<'static> {
    ("DefaultDependencies", Value::Flag(false))
}

/// `a-b.slice` lies in `a.slice`; `-.slice` is the root.
pub(super) fn slice_path(slice: &str) -> Option<PathBuf> {
    let mut path = PathBuf::from("/");
    let stem = slice.strip_suffix(".slice")?;
    if stem == "-" {
        return Some(path);
    }
    let mut so_far = String::new();
    for part in stem.split('-') {
        if part.is_empty() || part.contains('/') {
            return None;
        }
        if !so_far.is_empty() {
            so_far.push('-');
        }
        so_far.push_str(part);
        path.push(format!("{so_far}.slice"));
    }
    Some(path)
}

/// The limits that systemd knows, as properties.
fn limits(resources: &LinuxResources) -> Result<Vec<Property<'static>>> {
    let mut found = Vec::new();
    if let Some(cpu) = resources.cpu() {
        cpu_limits(cpu, &mut found)?;
    }
    if let Some(memory) = resources.memory() {
        memory_limits(memory, &mut found);
    }
    match resources.pids().as_ref().map(oci_spec::runtime::LinuxPids::limit) {
        None | Some(0) => {}
        Some(limit) => found.push(("TasksMax", Value::Number(unsigned(limit)))),
    }
    for (key, value) in resources.unified().iter().flatten() {
        unified(key, value.trim(), &mut found)?;
    }
    Ok(found)
}

/// What is below zero is no limit.
fn unsigned(limit: i64) -> u64 {
    u64::try_from(limit).unwrap_or(INFINITY)
}

fn cpu_limits(cpu: &LinuxCpu, found: &mut Vec<Property<'static>>) -> Result<()> {
    if cpu.idle() == Some(1) {
        // The number that stands for "idle".
        found.push(("CPUWeight", Value::Number(0)));
    } else if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        found.push(("CPUWeight", Value::Number(weight(shares))));
    }
    let period = cpu.period().filter(|period| *period != 0);
    if let Some(quota) = cpu.quota().filter(|quota| *quota != 0) {
        quota_limits(unsigned(quota), period.unwrap_or(100_000), found);
    } else if let Some(period) = period {
        found.push(("CPUQuotaPeriodUSec", Value::Number(period)));
    }
    for (name, list) in [("AllowedCPUs", cpu.cpus()), ("AllowedMemoryNodes", cpu.mems())] {
        if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
            found.push((name, Value::Bytes(bitmap(list)?)));
        }
    }
    Ok(())
}

fn quota_limits(quota: u64, period: u64, found: &mut Vec<Property<'static>>) {
    const SECOND: u64 = 1_000_000;
    // systemd keeps whole percents of a CPU: rather a little more than was asked than less.
    const STEP: u64 = SECOND / 100;
    let a_second = match quota {
        INFINITY => INFINITY,
        _ => quota.saturating_mul(SECOND).div_ceil(period).next_multiple_of(STEP),
    };
    found.push(("CPUQuotaPeriodUSec", Value::Number(period)));
    found.push(("CPUQuotaPerSecUSec", Value::Number(a_second)));
}

fn memory_limits(memory: &LinuxMemory, found: &mut Vec<Property<'static>>) {
    let limit = memory.limit().filter(|limit| *limit != 0);
    if let Some(limit) = limit {
        found.push(("MemoryMax", Value::Number(unsigned(limit))));
    }
    if let Some(low) = memory.reservation().filter(|low| *low != 0) {
        found.push(("MemoryLow", Value::Number(unsigned(low))));
    }
    if let Some(swap) = memory.swap().filter(|swap| *swap != 0) {
        // OCI counts memory and swap together. What makes no sense is refused where the files are written.
        let alone = match (unsigned(swap), limit.map(unsigned)) {
            (INFINITY, _) | (_, Some(INFINITY)) => INFINITY,
            (swap, Some(limit)) => swap.saturating_sub(limit),
            (_, None) => return,
        };
        found.push(("MemorySwapMax", Value::Number(alone)));
    }
}

/// Files that systemd would otherwise write over.
fn unified(key: &str, value: &str, found: &mut Vec<Property<'static>>) -> Result<()> {
    let wrong = || Error::new("limit", format!("unified {key}={value:?}"), libc::EINVAL);
    let number = |text: &str| -> Result<u64> {
        match text {
            "max" => Ok(INFINITY),
            _ => text.parse().map_err(|_| wrong()),
        }
    };
    let name = match key {
        "memory.max" => "MemoryMax",
        "memory.high" => "MemoryHigh",
        "memory.low" => "MemoryLow",
        "memory.min" => "MemoryMin",
        "memory.swap.max" => "MemorySwapMax",
        "memory.zswap.max" => "MemoryZSwapMax",
        "pids.max" => "TasksMax",
        "cpu.weight" => "CPUWeight",
        "cpuset.cpus" | "cpuset.mems" => {
            let name = if key == "cpuset.cpus" { "AllowedCPUs" } else { "AllowedMemoryNodes" };
            found.push((name, Value::Bytes(bitmap(value)?)));
            return Ok(());
        }
        "cpu.max" => {
            let (quota, period) = value.split_once(' ').unwrap_or((value, "100000"));
            let period = period.parse().ok().filter(|period| *period != 0).ok_or_else(wrong)?;
            quota_limits(number(quota)?, period, found);
            return Ok(());
        }
        "memory.oom.group" => {
            let policy = if value == "1" { "kill" } else { "continue" };
            found.push(("OOMPolicy", Value::Text(policy.to_owned())));
            return Ok(());
        }
        // io and hugetlb are only written by systemd where it was told to; misc and rdma never.
        _ => return Ok(()),
    };
    found.push((name, Value::Number(number(value)?)));
    Ok(())
}

/// A list such as `0-2,5` as bits, the lowest number in the lowest bit of the first byte.
fn bitmap(list: &str) -> Result<Vec<u8>> {
    /// More than any kernel's NR_CPUS.
    const MOST: usize = 1 << 16;
    let wrong =
        || Error::new("limit", format!("list {list:?}: use a form like 0-2,5"), libc::EINVAL);
    let number = |text: &str| -> Result<usize> {
        text.trim().parse().ok().filter(|number| *number < MOST).ok_or_else(wrong)
    };
    let mut bits = Vec::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        for bit in number(first)?..=number(last)? {
            if bits.len() <= bit / 8 {
                bits.resize(bit / 8 + 1, 0);
            }
            if let Some(byte) = bits.get_mut(bit / 8) {
                *byte |= 1 << (bit % 8);
            }
        }
    }
    Ok(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let scope = Unit::parse("kubepods-pod1.slice:orlop:abc").unwrap();
        let (name, slice) = ("orlop-abc.scope".to_owned(), "kubepods-pod1.slice".to_owned());
        assert_eq!(scope, Unit::Scope { name, slice });
        assert_eq!(scope.slices(), ["kubepods.slice", "kubepods-pod1.slice"]);
        let path = "/kubepods.slice/kubepods-pod1.slice/orlop-abc.scope";
        assert_eq!(scope.path(), Some(path.into()));
        let slice = Unit::parse("orlop-pod.slice").unwrap();
        assert_eq!(slice.path(), Some("/orlop.slice/orlop-pod.slice".into()));
        assert_eq!(slice.slices(), ["orlop.slice", "orlop-pod.slice"]);
        for text in
            ["/a/b.slice", "a", "a.slice:p:", "a.slice:p:..", "a:p:c", "a--b.slice", "b.scope"]
        {
            assert_eq!(Unit::parse(text), None, "{text}");
        }
    }

    fn properties(json: &str) -> Vec<Property<'static>> {
        let mut found = limits(&serde_json::from_str(json).unwrap()).unwrap();
        found.sort_by_key(|(name, _)| *name);
        found
    }

    #[test]
    fn limits_become_properties() {
        let found = properties(
            r#"{"cpu":{"shares":1024,"quota":12345,"period":100000,"cpus":"0-2,9"},
                "memory":{"limit":1000,"swap":3000,"reservation":500},"pids":{"limit":-1},
                "unified":{"memory.high":"900","io.max":"8:0 rbps=1"}}"#,
        );
        assert_eq!(
            found,
            [
                ("AllowedCPUs", Value::Bytes(vec![0b111, 0b10])),
                ("CPUQuotaPerSecUSec", Value::Number(130_000)),
                ("CPUQuotaPeriodUSec", Value::Number(100_000)),
                ("CPUWeight", Value::Number(100)),
                ("MemoryHigh", Value::Number(900)),
                ("MemoryLow", Value::Number(500)),
                ("MemoryMax", Value::Number(1000)),
                ("MemorySwapMax", Value::Number(2000)),
                ("TasksMax", Value::Number(u64::MAX)),
            ]
        );
        assert_eq!(properties(r#"{"pids":{"limit":0},"memory":{"limit":0}}"#), []);
        let none = properties(r#"{"cpu":{"quota":-1},"memory":{"limit":-1,"swap":-1}}"#);
        let numbers: Vec<_> = none.iter().map(|(_, value)| value.clone()).collect();
        assert_eq!(numbers.iter().filter(|v| **v == Value::Number(INFINITY)).count(), 3);
    }

    #[test]
    fn lists_that_make_no_sense() {
        for list in ["x", "1-", "70000", "-1", "1,,2"] {
            assert!(bitmap(list).is_err(), "{list}");
        }
    }
}
