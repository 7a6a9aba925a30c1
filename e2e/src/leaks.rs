//! What a test may not leave behind: mounts, namespaces, cgroups, links, addresses, nftables entries, processes.
//! The invariants of `reliability.md` as one list of findings.

use crate::process::output;
use std::path::Path;
use std::process::Command;

fn processes() -> impl Iterator<Item = (u32, std::path::PathBuf)> {
    std::fs::read_dir("/proc").expect("/proc").flatten().filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        Some((pid, entry.path()))
    })
}

/// Every mount, in any mount namespace, at or from a path under `dir`.
fn mounts(dir: &str) -> Vec<String> {
    let mut seen = std::collections::BTreeSet::new();
    let mut found = vec![];
    for (pid, path) in processes() {
        let Ok(namespace) = std::fs::read_link(path.join("ns/mnt")) else { continue };
        if !seen.insert(namespace) {
            continue;
        }
        let table = std::fs::read_to_string(path.join("mountinfo")).unwrap_or_default();
        found.extend(
            table
                .lines()
                .filter(|line| line.contains(dir))
                .map(|line| format!("mount (seen by {pid}): {line}")),
        );
    }
    found
}

/// Shims and workloads that belong to `dir`.
fn leftover_processes(dir: &str) -> Vec<String> {
    processes()
        .filter(|(pid, _)| *pid != std::process::id())
        .filter_map(|(pid, path)| {
            let cwd = std::fs::read_link(path.join("cwd")).unwrap_or_default();
            let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let ours = cwd.starts_with(dir) || line.contains(dir);
            ours.then(|| format!("process {pid}: {line}"))
        })
        .collect()
}

/// Directories of the daemon that must be empty when no pod and image is left. One that is not there is told, too: else a
/// layout that changes would blind this check.
const EMPTY: [&str; 12] = [
    "run/bundles",
    "run/sandboxes",
    "run/s",
    "root/sandboxes",
    "root/containers",
    "root/writable",
    "root/leases",
    "root/snapshots",
    "root/content/blobs/sha256",
    "root/content/ingest",
    "cni-cache/results",
    "cni-cache/networks",
];

/// Those of them that come with the first pod: all or none.
const OF_PODS: [&str; 3] = ["run/bundles", "run/sandboxes", "cni-cache/networks"];

fn leftover_files(dir: &Path) -> Vec<String> {
    // A build alone makes addresses, and neither sandboxes nor bundles.
    let had_pods =
        OF_PODS.iter().any(|sub| dir.join(sub).exists()) && !dir.join("run/build").exists();
    let mut found = vec![];
    for sub in EMPTY {
        match std::fs::read_dir(dir.join(sub)) {
            Ok(entries) if sub == "cni-cache/networks" => {
                found.extend(entries.flatten().flat_map(|network| addresses(&network.path())))
            }
            Ok(entries) => found
                .extend(entries.flatten().map(|entry| format!("file {}", entry.path().display()))),
            Err(_) if !had_pods && OF_PODS.contains(&sub) => {}
            Err(error) => found.push(format!("directory {sub} cannot be looked at: {error}")),
        }
    }
    found
}

/// Reserved addresses: host-local names a file after each; what else it keeps there stays.
fn addresses(network: &Path) -> Vec<String> {
    let names =
        std::fs::read_dir(network).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let reserved = names
        .filter_map(|name| name.into_string().ok())
        .filter(|name| name.parse::<std::net::IpAddr>().is_ok());
    reserved.map(|name| format!("address {name} in {}", network.display())).collect()
}

/// Processes in the cgroups of the test: workloads, whose working directory says nothing of it.
fn confined(dir: &Path) -> Vec<u32> {
    let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let mut found = Command::new("find");
    found.args(["/sys/fs/cgroup", "-name", "cgroup.procs", "-path"]).arg(format!("*{name}*"));
    let files = String::from_utf8_lossy(&output(&mut found).stdout).into_owned();
    let texts = files.lines().filter_map(|file| std::fs::read_to_string(file).ok());
    texts
        .flat_map(|text| text.lines().filter_map(|line| line.parse().ok()).collect::<Vec<_>>())
        .collect()
}

fn kill(pid: u32) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid.cast_signed()) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// Cgroups of the test: every pod's parent is named after its directory.
fn cgroups(dir: &Path) -> Vec<String> {
    let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let found = output(
        Command::new("find")
            .args(["/sys/fs/cgroup", "-type", "d", "-name"])
            .arg(format!("*{name}*")),
    );
    String::from_utf8_lossy(&found.stdout).lines().map(|line| format!("cgroup {line}")).collect()
}

/// Links, addresses and rules in the test's network namespace beyond loopback and the built-in bridge.
fn network(netns: &str) -> Vec<String> {
    let inside = |arguments: &[&str]| {
        let found = output(
            Command::new("nsenter")
                .arg(format!("--net=/run/netns/{netns}"))
                .arg("--")
                .args(arguments),
        );
        String::from_utf8_lossy(&found.stdout).into_owned()
    };
    let links = inside(&["ip", "-o", "link", "show", "type", "veth"]);
    let rules = inside(&["nft", "list", "ruleset"]);
    let mut found: Vec<String> = links.lines().map(|line| format!("link {line}")).collect();
    if !rules.trim().is_empty() {
        found.push(format!("nftables:\n{rules}"));
    }
    found
}

/// Everything of ours that is left of a test whose daemon has stopped.
pub fn find(dir: &Path, netns: &str) -> Vec<String> {
    let text = dir.to_str().expect("a plain path");
    // A network namespace's links go with its last reference, a moment later and without a way to wait for it.
    let gone = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let mut network_left = network(netns);
    while !network_left.is_empty() && std::time::Instant::now() < gone {
        std::thread::park_timeout(std::time::Duration::from_millis(50));
        network_left = network(netns);
    }
    let mut found = mounts(text);
    found.extend(leftover_processes(text));
    found.extend(leftover_files(dir));
    found.extend(cgroups(dir));
    found.extend(network_left);
    found
}

impl crate::World {
    /// What a reboot does to a stopped daemon's pods: their processes end, mounts and everything under /run are gone, and
    /// the boot has another id than the one in the records.
    pub fn lose_what_a_reboot_loses(&mut self) {
        clean(&self.path(""));
        let run = self.path("run");
        crate::process::until("the processes to end", || {
            leftover_processes(run.to_str().expect("a plain path")).is_empty()
        });
        let dirs = cgroups(&self.path(""));
        for dir in dirs.iter().filter_map(|line| line.strip_prefix("cgroup ")) {
            crate::process::run(
                Command::new("find")
                    .args([dir, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"]),
            );
        }
        std::fs::remove_dir_all(&run).expect("nothing is mounted under run");
        std::fs::create_dir(&run).expect("run");
        let ours = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("boot id");
        for kind in ["sandboxes", "containers"] {
            for record in
                std::fs::read_dir(self.path("root").join(kind)).expect("records").flatten()
            {
                let text = std::fs::read_to_string(record.path()).expect("record");
                let changed = text.replace(ours.trim(), "00000000-0000-0000-0000-000000000000");
                assert_ne!(text, changed, "the record names its boot");
                std::fs::write(record.path(), changed).expect("record");
            }
        }
    }
}

/// Ends and unmounts what a failed test left, so that it harms no other.
pub fn clean(dir: &Path) {
    let text = dir.to_str().expect("a plain path");
    for (pid, path) in processes().filter(|(pid, _)| *pid != std::process::id()) {
        let cwd = std::fs::read_link(path.join("cwd")).unwrap_or_default();
        if cwd.starts_with(text) {
            kill(pid);
        }
    }
    confined(dir).into_iter().for_each(kill);
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points: Vec<&str> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|at| at.starts_with(text))
        .collect();
    for point in points.iter().rev() {
        let _ = output(Command::new("umount").args(["-l", point]));
    }
}
