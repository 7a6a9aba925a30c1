//! Memory and processor time of everything that is not the workload.

use crate::Peer;
use std::fs;

/// The daemon and its helpers, now.
fn processes(peer: &Peer) -> Vec<u32> {
    let mut found = vec![peer.pid];
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        // The kernel keeps 15 characters of a name.
        if peer.helpers.iter().any(|helper| helper.get(..15).unwrap_or(helper) == comm.trim()) {
            found.push(pid);
        }
    }
    found
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
