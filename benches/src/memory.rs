//! Memory and processor time of everything that is not the workload.

use crate::Peer;
use std::fs;

/// The daemon and its helpers, now. A helper has one of the names and is in the daemon's network namespace (a shim) or
/// the child of one that is (a pause): other runtimes may be at work on the same machine.
fn processes(peer: &Peer) -> Vec<u32> {
    let network = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let ours = network(peer.pid);
    let named: Vec<u32> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse::<u32>().ok()?;
            let comm = fs::read_to_string(entry.path().join("comm")).ok()?;
            // The kernel keeps 15 characters of a name.
            let known = |helper: &String| helper.get(..15).unwrap_or(helper) == comm.trim();
            (pid != peer.pid && peer.helpers.iter().any(known)).then_some(pid)
        })
        .collect();
    let shims: Vec<u32> = named.iter().copied().filter(|pid| network(*pid) == ours).collect();
    let parent = |pid: u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        field(&text, "PPid:") as u32
    };
    let kept = named.into_iter().filter(|pid| shims.contains(pid) || shims.contains(&parent(*pid)));
    std::iter::once(peer.pid).chain(kept).collect()
}

fn field(text: &str, name: &str) -> f64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
        .unwrap_or(0.0)
}

/// Proportional set size in MiB: (daemon, helpers).
pub fn pss(peer: &Peer) -> (f64, f64) {
    let one = |pid: &u32| {
        field(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default(), "Pss:")
            / 1024.0
    };
    let all = processes(peer);
    (one(&all[0]), all[1..].iter().map(one).sum())
}

/// Resident set of the daemon in MiB.
pub fn daemon_rss(peer: &Peer) -> f64 {
    field(&fs::read_to_string(format!("/proc/{}/status", peer.pid)).unwrap_or_default(), "VmRSS:")
        / 1024.0
}

/// Processor time so far, in seconds.
pub fn cpu(peer: &Peer) -> f64 {
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let one = |pid: &u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields: Vec<&str> =
            text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let at = |n: usize| fields.get(n).and_then(|word| word.parse::<f64>().ok()).unwrap_or(0.0);
        (at(11) + at(12)) / ticks
    };
    processes(peer).iter().map(one).sum()
}
