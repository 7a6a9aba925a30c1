//! cgroup limits. Zero means unset, as everywhere in CRI.

use super::text::has_control;
use super::{Result, bad};
use crate::v1;
use orlop_spec::request::Resources;
use std::collections::{BTreeMap, BTreeSet};

/// Below this no program can be started.
const MIN_MEMORY: i64 = 512 * 1024;
const SHARES: std::ops::RangeInclusive<i64> = 2..=262_144;
const PERIOD: std::ops::RangeInclusive<i64> = 1_000..=1_000_000;
const MIN_QUOTA: i64 = 1_000;
const MAX_CPU: u32 = 8_191;

/// Limits as a request gives them; `field` is the path to them.
pub(crate) fn resources(field: &str, raw: &v1::LinuxContainerResources) -> Result<Resources> {
    let limits = changed(field, raw)?;
    let swap = format!("{field}.memory_swap_limit_in_bytes");
    check_swap(&swap, limits.memory_swap_limit, limits.memory_limit)?;
    Ok(limits)
}

/// Limits of a request that changes some: the swap limit may be one beside the memory limit that is
/// there already.
pub(crate) fn changed(field: &str, raw: &v1::LinuxContainerResources) -> Result<Resources> {
    let at = |name: &str| format!("{field}.{name}");
    Ok(Resources {
        cpu_period: within(&at("cpu_period"), raw.cpu_period, PERIOD)?,
        cpu_quota: quota(&at("cpu_quota"), raw.cpu_quota)?,
        cpu_shares: within(&at("cpu_shares"), raw.cpu_shares, SHARES)?,
        memory_limit: memory(&at("memory_limit_in_bytes"), raw.memory_limit_in_bytes)?,
        memory_swap_limit: memory(
            &at("memory_swap_limit_in_bytes"),
            raw.memory_swap_limit_in_bytes,
        )?,
        oom_score_adj: Some(oom_score(&at("oom_score_adj"), raw.oom_score_adj)?),
        cpuset_cpus: list(&at("cpuset_cpus"), &raw.cpuset_cpus)?,
        cpuset_mems: list(&at("cpuset_mems"), &raw.cpuset_mems)?,
        hugepage_limits: hugepages(&at("hugepage_limits"), &raw.hugepage_limits)?,
        unified: unified(&at("unified"), &raw.unified)?,
        ..Resources::default()
    })
}

fn within(field: &str, value: i64, range: std::ops::RangeInclusive<i64>) -> Result<Option<u64>> {
    if value == 0 {
        return Ok(None);
    }
    if !range.contains(&value) {
        let remedy =
            format!("use a number from {} to {}, or 0 for unset", range.start(), range.end());
        return Err(bad(field, value, &remedy));
    }
    Ok(Some(value.unsigned_abs()))
}

fn quota(field: &str, value: i64) -> Result<Option<i64>> {
    match value {
        0 => Ok(None),
        -1 => Ok(Some(-1)),
        MIN_QUOTA.. => Ok(Some(value)),
        _ => Err(bad(
            field,
            value,
            "use at least 1000 microseconds, -1 for no limit, or 0 for unset",
        )),
    }
}

fn memory(field: &str, value: i64) -> Result<Option<i64>> {
    match value {
        0 => Ok(None),
        -1 => Ok(Some(-1)),
        MIN_MEMORY.. => Ok(Some(value)),
        _ => Err(bad(field, value, "use at least 524288 bytes, -1 for no limit, or 0 for unset")),
    }
}

fn check_swap(field: &str, swap: Option<i64>, memory: Option<i64>) -> Result<()> {
    match (swap, memory) {
        (None | Some(-1), _) => Ok(()),
        (Some(swap), Some(memory)) if memory > 0 && swap >= memory => Ok(()),
        (Some(swap), Some(memory)) if memory > 0 => {
            let remedy =
                format!("it is memory and swap together: use at least the memory limit, {memory}");
            Err(bad(field, swap, &remedy))
        }
        (Some(swap), _) => {
            Err(bad(field, swap, "set memory_limit_in_bytes too, or use -1 for no limit"))
        }
    }
}

fn oom_score(field: &str, value: i64) -> Result<i32> {
    match i32::try_from(value) {
        Ok(score @ -1000..=1000) => Ok(score),
        _ => Err(bad(field, value, "use a number from -1000 to 1000")),
    }
}

/// A list such as `0-3,7`.
fn list(field: &str, value: &str) -> Result<String> {
    let number =
        |text: &str| text.parse::<u32>().ok().filter(|n| *n <= MAX_CPU && !text.starts_with('+'));
    let part = |part: &str| match part.split_once('-') {
        None => number(part).is_some(),
        Some((from, to)) => {
            matches!((number(from), number(to)), (Some(from), Some(to)) if from <= to)
        }
    };
    if value.is_empty() || value.split(',').all(part) {
        Ok(value.to_owned())
    } else {
        Err(bad(field, value, "use a list of numbers and ranges such as 0-3,7"))
    }
}

fn hugepages(field: &str, raw: &[v1::HugepageLimit]) -> Result<Vec<(String, u64)>> {
    let mut seen = BTreeSet::new();
    let mut limits = Vec::with_capacity(raw.len());
    for (i, limit) in raw.iter().enumerate() {
        let field = format!("{field}[{i}].page_size");
        let size = &limit.page_size;
        let number = ["KB", "MB", "GB"].iter().find_map(|unit| size.strip_suffix(unit));
        let power = number.and_then(|n| n.parse::<u32>().ok()).filter(|n| n.is_power_of_two());
        if power.is_none() || size.starts_with('+') || size.starts_with('0') {
            return Err(bad(field, size, "use a page size of the kernel such as 2MB or 1GB"));
        }
        if !seen.insert(size.as_str()) {
            return Err(bad(field, size, "give each page size once"));
        }
        limits.push((size.clone(), limit.limit));
    }
    Ok(limits)
}

/// Names of cgroup v2 files: no path may leave the container's cgroup.
fn unified(field: &str, raw: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    for (key, value) in raw {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._".contains(&byte);
        let controller = key.split('.').next().unwrap_or_default();
        let shape = key.contains('.')
            && !key.starts_with('.')
            && !key.contains("..")
            && controller != "cgroup";
        if !shape || !key.bytes().all(fits) {
            return Err(bad(
                format!("{field}[{key:?}]"),
                key,
                "use the name of a controller's file such as memory.high",
            ));
        }
        if value.is_empty() || has_control(value) || value.len() > 4096 {
            return Err(bad(format!("{field}[{key:?}]"), value, "use one line of text"));
        }
    }
    Ok(raw.clone())
}
