//! Many times over, and nothing grows: attachments that are cut off, probes that leave a daemonised
//! child, pods that come and go. `ORLOP_SOAK=full` runs the numbers that a release is judged by.

use k8s_cri::v1::ExecSyncRequest;
use orlop_e2e::World;
use orlop_e2e::process::until;
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often everything is looked at.
const SAMPLES: usize = 10;

/// What is counted at one moment.
#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    descriptors: f64,
    shim_descriptors: f64,
    threads: f64,
    mounts: f64,
    cgroups: f64,
    addresses: f64,
    memory: f64,
    shim_memory: f64,
}

/// The numbers with their names, and what each may grow by over the whole run.
fn numbers(sample: &Sample) -> [(&'static str, f64, f64); 8] {
    const MIB: f64 = 1024.0;
    [
        ("descriptors", sample.descriptors, 1.0),
        ("the shim's descriptors", sample.shim_descriptors, 0.5),
        // The pool for blocking work comes and goes with the load.
        ("threads", sample.threads, 8.0),
        ("mounts", sample.mounts, 0.5),
        ("cgroups", sample.cgroups, 0.5),
        ("addresses", sample.addresses, 0.5),
        ("memory (KiB)", sample.memory, 12.0 * MIB),
        ("the shim's memory (KiB)", sample.shim_memory, 256.0),
    ]
}

struct Watch<'a> {
    world: &'a World,
    shim: u32,
    first: Option<Sample>,
    samples: Vec<Sample>,
}

impl<'a> Watch<'a> {
    fn new(world: &'a World, shim: u32) -> Self {
        Self { world, shim, first: None, samples: Vec::new() }
    }

    fn look(&self) -> Sample {
        let (pid, shim) = (self.world.pid(), self.shim);
        let entries = |path: &str| std::fs::read_dir(path).map_or(0, Iterator::count) as f64;
        let lines = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let name = self.world.path("").file_name().expect("a name").to_string_lossy().into_owned();
        let cgroups = orlop_e2e::process::output(
            std::process::Command::new("find")
                .args(["/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified", "-type", "d", "-path"])
                .arg(format!("*{name}*")),
        );
        Sample {
            descriptors: entries(&format!("/proc/{pid}/fd")),
            shim_descriptors: entries(&format!("/proc/{shim}/fd")),
            threads: entries(&format!("/proc/{pid}/task")),
            // Only those of this world: others come and go beside it.
            mounts: lines(&format!("/proc/{pid}/mountinfo"))
                .lines()
                .filter(|line| line.contains(&name))
                .count() as f64,
            cgroups: String::from_utf8_lossy(&cgroups.stdout).lines().count() as f64,
            addresses: addresses(&self.world.path("cni-cache/networks")),
            memory: memory(pid),
            shim_memory: memory(shim),
        }
    }

    /// Takes a sample once what the last cycle left is gone, or will not go.
    fn sample(&mut self) {
        let first = *self.first.get_or_insert(self.look());
        let patience = Instant::now() + Duration::from_secs(15);
        let counts = |sample: &Sample| {
            let Sample { descriptors, shim_descriptors, mounts, cgroups, addresses, .. } = *sample;
            [descriptors, shim_descriptors, mounts, cgroups, addresses]
        };
        let mut now = self.look();
        while counts(&now).iter().zip(counts(&first)).any(|(now, first)| *now > first)
            && Instant::now() < patience
        {
            std::thread::park_timeout(Duration::from_millis(200));
            now = self.look();
        }
        self.samples.push(now);
    }

    /// Fits a line through each number and judges what it grows by over the whole run. The first
    /// samples are left out: memory finds its level first.
    fn judge(&self, what: &str) {
        let samples = &self.samples[self.samples.len() / 3..];
        for (index, (name, first, allowed)) in numbers(&samples[0]).into_iter().enumerate() {
            let series: Vec<f64> = samples.iter().map(|sample| numbers(sample)[index].1).collect();
            let growth = slope(&series) * SAMPLES as f64;
            let last = series[series.len() - 1];
            println!("{what}: {name}: {first} to {last}, slope over the run {growth:.2}");
            assert!(growth <= allowed, "{what}: {name} grow by {growth:.2}: {series:?}");
        }
    }
}

/// Of the least squares line through equally spaced values.
fn slope(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let (mid, mean) = ((count - 1.0) / 2.0, values.iter().sum::<f64>() / count);
    let over: f64 = values.iter().enumerate().map(|(at, v)| (at as f64 - mid) * (v - mean)).sum();
    let under: f64 = (0..values.len()).map(|at| (at as f64 - mid).powi(2)).sum();
    over / under
}

fn addresses(networks: &Path) -> f64 {
    let dirs = std::fs::read_dir(networks).into_iter().flatten().flatten();
    let names = dirs.flat_map(|dir| std::fs::read_dir(dir.path()).into_iter().flatten().flatten());
    let is_address = |name: &std::ffi::OsString| {
        name.to_str().is_some_and(|name| name.parse::<std::net::IpAddr>().is_ok())
    };
    names.filter(|entry| is_address(&entry.file_name())).count() as f64
}

/// Resident, in KiB.
fn memory(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0.0)
}

fn times(few: usize, full: usize) -> usize {
    if std::env::var("ORLOP_SOAK").is_ok_and(|value| value == "full") { full } else { few }
}

/// The shim of a container: the process whose working directory is its bundle.
fn shim_of(world: &World, id: &str) -> u32 {
    let bundle = world.path("run/bundles").join(id);
    let record = std::fs::read_to_string(bundle.join("shim.json")).expect("a shim");
    let record: serde_json::Value = serde_json::from_str(&record).expect("JSON");
    record["pid"].as_u64().expect("a pid") as u32
}

fn talker(world: &mut World) -> (String, u32) {
    let image = world.busybox();
    let pod_config = world.pod("soak", json!({}));
    let pod = world.run_pod(&pod_config);
    let script = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done";
    let config = world.container("c", &image, &["sh", "-c", script], json!({"stdin": true}));
    let id = world.run_container(&pod, &pod_config, &config);
    let shim = shim_of(world, &id);
    (id, shim)
}

#[tokio::test(flavor = "multi_thread")]
async fn attachments_cut_off_leave_nothing() {
    let mut world = tokio::task::block_in_place(World::new);
    let (id, shim) = tokio::task::block_in_place(|| talker(&mut world));
    let total = times(200, 5000);
    let mut watch = Watch::new(&world, shim);
    tokio::task::block_in_place(|| watch.sample());
    for _ in 0..SAMPLES {
        for _ in 0..total / SAMPLES {
            let url = world.attach_url(&id).await;
            let mut raw = world.spdy(&url);
            raw.open_streams(&["error", "stdout", "stderr"]);
            // Cut off without a word.
            drop(raw);
        }
        tokio::task::block_in_place(|| watch.sample());
    }
    watch.judge(&format!("{total} attachments"));
    tokio::task::block_in_place(|| drop(world));
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_that_leave_a_child_leave_nothing_else() {
    let mut world = tokio::task::block_in_place(World::new);
    let (id, shim) = tokio::task::block_in_place(|| talker(&mut world));
    let total = times(100, 2000);
    let (runtime, _) = world.services().await;
    let mut watch = Watch::new(&world, shim);
    tokio::task::block_in_place(|| watch.sample());
    for _ in 0..SAMPLES {
        let mut batch = tokio::task::JoinSet::new();
        for _ in 0..total / SAMPLES {
            let (mut runtime, container_id) = (runtime.clone(), id.clone());
            batch.spawn(async move {
                let cmd = ["sh", "-c", "sleep 20 & echo ok"].map(str::to_owned).to_vec();
                let request = ExecSyncRequest { container_id, cmd, timeout: 0 };
                runtime.exec_sync(request).await
            });
            if batch.len() >= 10 {
                probed(batch.join_next().await.expect("one"));
            }
        }
        while let Some(done) = batch.join_next().await {
            probed(done);
        }
        tokio::task::block_in_place(|| watch.sample());
    }
    watch.judge(&format!("{total} probes"));
    tokio::task::block_in_place(|| drop(world));
}

type Probe = Result<tonic::Response<k8s_cri::v1::ExecSyncResponse>, tonic::Status>;

fn probed(done: Result<Probe, tokio::task::JoinError>) {
    let answer = done.expect("no panic").expect("a probe that succeeds").into_inner();
    assert_eq!((answer.stdout.as_slice(), answer.exit_code), (&b"ok\n"[..], 0));
}

#[test]
fn pods_that_come_and_go_leave_nothing() {
    let mut world = World::new();
    let (_, shim) = talker(&mut world);
    let image = world.busybox();
    let total = times(20, 2000);
    let mut watch = Watch::new(&world, shim);
    let cycle = |number: usize| {
        let config = world.pod(&format!("cycle-{number}"), json!({}));
        let pod = world.run_pod(&config);
        let container = world.container("c", &image, &["true"], json!({}));
        world.run_container(&pod, &config, &container);
        world.crictl(&["rmp", "-f", &pod]);
    };
    // The pool of namespaces is filled with the first one.
    cycle(total);
    until("the first pod to be gone", || world.crictl(&["pods", "-q"]).lines().count() == 1);
    watch.sample();
    for round in 0..SAMPLES {
        for number in 0..total / SAMPLES {
            cycle(round * total + number);
        }
        watch.sample();
    }
    watch.judge(&format!("{total} pods"));
}
