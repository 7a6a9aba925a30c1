//! Stats and metrics: real crictl, and the numbers of the kernel beside them.

use k8s_cri::v1::{ContainerStats, PodSandboxMetrics, PodSandboxStats};
use orlop_e2e::World;
use orlop_e2e::process::until;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// crictl's answer as JSON.
fn crictl(world: &World, arguments: &[&str]) -> Value {
    let text = world.crictl(arguments);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
}

/// The number at `path`, which protobuf's JSON has as text, perhaps in a wrapper.
fn number(value: &Value, path: &str) -> u64 {
    let found = value.pointer(path).unwrap_or_else(|| panic!("no {path} in {value}"));
    let found = found.get("value").unwrap_or(found);
    let number = found.as_str().and_then(|text| text.parse().ok()).or(found.as_u64());
    number.unwrap_or_else(|| panic!("{path} is {found} in {value}"))
}

fn stats_of(world: &World, id: &str) -> Value {
    let found = crictl(world, &["stats", "-a", "-o", "json", "--id", id]);
    assert_eq!(found["stats"].as_array().map(Vec::len), Some(1), "{found}");
    found["stats"][0].clone()
}

#[test]
fn what_a_container_and_its_pod_use() {
    let mut world = World::new();
    let image = world.busybox();
    let pod_config = world.pod("used", json!({"labels": {"app": "used"}}));
    let pod = world.run_pod(&pod_config);
    // Three processes, some CPU time, and 4 MiB of memory that stay.
    let script = "head -c 4194304 /dev/zero >/dev/shm/kept; i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done; \
                  sleep 1000 & sleep 1000 & echo busy; wait";
    let limit = 64 << 20;
    let id = world.run_container(
        &pod,
        &pod_config,
        &world.container(
            "c",
            &image,
            &["sh", "-c", script],
            json!({"labels": {"role": "worker"}, "linux": {"resources": {"memory_limit_in_bytes": limit}}}),
        ),
    );
    until("the work to be done", || world.log_file("used", "c").contains("busy"));

    let stats = stats_of(&world, &id);
    assert_eq!(stats["attributes"]["id"], id.as_str());
    assert_eq!(stats["attributes"]["metadata"]["name"], "c");
    assert_eq!(stats["attributes"]["labels"]["role"], "worker");
    assert!(number(&stats, "/cpu/timestamp") > 0);
    assert!(number(&stats, "/cpu/usageCoreNanoSeconds") > 1_000_000, "{stats}");
    let (usage, working_set) =
        (number(&stats, "/memory/usageBytes"), number(&stats, "/memory/workingSetBytes"));
    assert!((4 << 20..=limit).contains(&working_set) && working_set <= usage, "{stats}");
    assert_eq!(number(&stats, "/memory/availableBytes"), limit - working_set, "{stats}");
    assert!(number(&stats, "/memory/pageFaults") > 0 && stats["memory"]["rssBytes"].is_object());
    let swap = std::path::Path::new("/sys/fs/cgroup/memory/memory.memsw.usage_in_bytes").exists();
    assert!(!swap || stats["swap"]["swapUsageBytes"].is_object(), "{stats}");
    let psi = std::fs::read("/sys/fs/cgroup/unified/cpu.pressure").is_ok();
    if psi {
        for what in ["cpu", "memory", "io"] {
            assert!(stats[what]["psi"]["Some"].is_object(), "{what}: {stats}");
        }
    }
    // A second reading, far enough from the first, tells the rate.
    until("a rate", || stats_of(&world, &id)["cpu"]["usageNanoCores"].is_object());

    // The writable layer is measured in the background; its numbers come with their time.
    world.crictl(&[
        "exec",
        "--sync",
        &id,
        "sh",
        "-c",
        "head -c 8388608 /dev/urandom >/data; mkdir /d",
    ]);
    until("the layer to be measured", || {
        number(&stats_of(&world, &id), "/writableLayer/usedBytes") >= 8 << 20
    });
    let layer = stats_of(&world, &id)["writableLayer"].clone();
    assert!((3..20).contains(&number(&layer, "/inodesUsed")), "{layer}");
    let mountpoint = layer["fsId"]["mountpoint"].as_str().expect("a mountpoint");
    assert!(std::path::Path::new(mountpoint).is_dir(), "{layer}");

    // The pod: its own interface, as the pod itself reads it before and after.
    let sent = || -> u64 {
        let path = "/sys/class/net/eth0/statistics/tx_bytes";
        world.crictl(&["exec", "--sync", &id, "cat", path]).parse().expect("a number")
    };
    let before = sent();
    let found = crictl(&world, &["statsp", "-o", "json", "--id", &pod]);
    let after = sent();
    let linux = &found["stats"][0]["linux"];
    let default = &linux["network"]["defaultInterface"];
    assert_eq!(default["name"], "eth0");
    assert!((before..=after).contains(&number(default, "/txBytes")), "{before} {after} {linux}");
    assert_eq!(number(linux, "/process/processCount"), 3, "{linux}");
    assert_eq!(linux["containers"][0]["attributes"]["id"], id.as_str());
    assert!(number(linux, "/memory/usageBytes") >= 4 << 20, "{linux}");
    assert!(
        number(linux, "/cpu/usageCoreNanoSeconds") >= number(&stats, "/cpu/usageCoreNanoSeconds")
    );

    // Filters, and what has ended: not in lists, but its layer still takes room.
    let listed = |arguments: &[&str]| {
        let all = [&["stats", "-a", "-o", "json"], arguments].concat();
        crictl(&world, &all)["stats"].as_array().map_or(0, Vec::len)
    };
    assert_eq!(listed(&["--label", "role=worker"]), 1);
    assert_eq!(listed(&["--label", "role=other"]), 0);
    assert_eq!(listed(&["-p", &pod]), 1);
    assert_eq!(listed(&["--id", "nothing"]), 0);
    world.crictl(&["stop", "--timeout", "0", &id]);
    assert_eq!(listed(&[]), 0);
    let error = world.crictl_error(&["statsp", "-o", "json", "--id", &pod, "--label", "no"]);
    assert!(!error.is_empty());
}

/// The 56 names of the newest critest, which takes the eleven with a `?` to be missing somewhere.
const NAMES: &str = "container_blkio_device_usage_total container_cpu_cfs_periods_total \
    container_cpu_cfs_throttled_periods_total container_cpu_cfs_throttled_seconds_total \
    container_cpu_system_seconds_total container_cpu_usage_seconds_total container_cpu_user_seconds_total \
    container_file_descriptors container_fs_inodes_free container_fs_inodes_total container_fs_limit_bytes \
    container_fs_reads_bytes_total container_fs_reads_total container_fs_usage_bytes \
    container_fs_writes_bytes_total container_fs_writes_total container_hugetlb_max_usage_bytes? \
    container_hugetlb_usage_bytes? container_last_seen container_memory_cache container_memory_failcnt \
    container_memory_failures_total container_memory_kernel_usage container_memory_mapped_file \
    container_memory_max_usage_bytes container_memory_rss container_memory_swap container_memory_usage_bytes \
    container_memory_working_set_bytes container_network_receive_bytes_total \
    container_network_receive_errors_total container_network_receive_packets_dropped_total \
    container_network_receive_packets_total container_network_transmit_bytes_total \
    container_network_transmit_errors_total container_network_transmit_packets_dropped_total \
    container_network_transmit_packets_total container_oom_events_total \
    container_pressure_cpu_stalled_seconds_total? container_pressure_cpu_waiting_seconds_total? \
    container_pressure_io_stalled_seconds_total? container_pressure_io_waiting_seconds_total? \
    container_pressure_memory_stalled_seconds_total? container_pressure_memory_waiting_seconds_total? \
    container_processes container_sockets container_spec_cpu_period container_spec_cpu_quota? \
    container_spec_cpu_shares container_spec_memory_limit_bytes \
    container_spec_memory_reservation_limit_bytes? container_spec_memory_swap_limit_bytes \
    container_start_time_seconds container_threads container_threads_max container_ulimits_soft?";

/// All metrics of a pod and its containers.
fn metrics_of(world: &World, pod: &str) -> Vec<Value> {
    let all = crictl(world, &["metricsp", "-o", "json"]);
    let pods = all["podMetrics"].as_array().cloned().unwrap_or_default();
    let of = pods.into_iter().find(|found| found["podSandboxId"] == pod).expect("the pod is there");
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let containers = list(&of["containerMetrics"]);
    let own = list(&of["metrics"]).into_iter();
    own.chain(containers.iter().flat_map(|container| list(&container["metrics"]))).collect()
}

#[test]
fn all_metrics_with_their_labels() {
    let mut world = World::new();
    let image = world.busybox();
    let pod_config = world.pod("metered", json!({}));
    let pod = world.run_pod(&pod_config);
    let limits = json!({"cpu_period": 100_000, "cpu_quota": 20_000, "cpu_shares": 1024,
        "memory_limit_in_bytes": 64 << 20, "memory_swap_limit_in_bytes": 64 << 20});
    // Directly: v1 does not know whose buffered writes are.
    let script = "exec 5</bin/busybox; dd if=/dev/zero of=/data bs=1M count=4 oflag=direct; echo ready; exec sleep 1000";
    let id = world.run_container(
        &pod,
        &pod_config,
        &world.container(
            "m",
            &image,
            &["sh", "-c", script],
            json!({"linux": {"resources": limits}}),
        ),
    );
    until("the container to be ready", || world.log_file("metered", "m").contains("ready"));

    let described = crictl(&world, &["metricdescs"]);
    let labels: BTreeMap<String, Vec<String>> = described["descriptors"]
        .as_array()
        .expect("descriptors")
        .iter()
        .map(|descriptor| {
            assert!(descriptor["help"].as_str().is_some_and(|help| !help.is_empty()));
            let keys = serde_json::from_value(descriptor["labelKeys"].clone()).expect("label keys");
            (descriptor["name"].as_str().expect("a name").to_owned(), keys)
        })
        .collect();
    let names: Vec<&str> = NAMES.split_whitespace().collect();
    let wanted: BTreeSet<&str> = names.iter().map(|name| name.trim_end_matches('?')).collect();
    assert_eq!(labels.keys().map(String::as_str).collect::<BTreeSet<_>>(), wanted);
    assert_eq!(wanted.len(), 56);

    until("the layer to be measured", || {
        let found = metrics_of(&world, &pod);
        found.iter().any(|metric| {
            metric["name"] == "container_fs_usage_bytes" && number(metric, "/value") >= 4 << 20
        })
    });
    let found = metrics_of(&world, &pod);
    for metric in &found {
        let name = metric["name"].as_str().expect("a name");
        let values = metric["labelValues"].as_array().map_or(0, Vec::len);
        assert_eq!(values, labels[name].len(), "{metric}");
        assert!(number(metric, "/timestamp") > 0);
    }
    let of = |name: &str| -> Option<&Value> { found.iter().find(|metric| metric["name"] == name) };
    let psi = std::fs::read("/sys/fs/cgroup/unified/cpu.pressure").is_ok();
    let huge = std::path::Path::new("/sys/fs/cgroup/hugetlb").exists();
    // Since Linux 6.10 v1 counts a device's traffic only once somebody has set a limit on it.
    let io = std::fs::read_to_string("/sys/fs/cgroup/blkio/blkio.throttle.io_service_bytes");
    let io = io.map_or(true, |text| text.contains(':'));
    for name in wanted {
        let is_io = ["container_blkio", "container_fs_reads", "container_fs_writes"];
        let is_io = is_io.iter().any(|of| name.starts_with(of));
        let missing = [("hugetlb", huge), ("pressure", psi)];
        let missing = missing.iter().any(|(part, counted)| name.contains(part) && !counted);
        let counted = !missing && (io || !is_io);
        assert_eq!(of(name).is_some(), counted, "{name}");
    }
    let value = |name: &str| number(of(name).unwrap_or_else(|| panic!("no {name}")), "/value");
    assert_eq!(value("container_spec_cpu_quota"), 20_000);
    assert_eq!(value("container_spec_memory_limit_bytes"), 64 << 20);
    assert_eq!((value("container_processes"), value("container_threads")), (1, 1));
    // Three standard streams and the one that the script opened.
    assert_eq!((value("container_file_descriptors"), value("container_sockets")), (4, 0));
    assert!(value("container_fs_limit_bytes") > 8 << 20 && value("container_ulimits_soft") > 0);
    assert!(!io || value("container_fs_writes_bytes_total") > 0);
    let label = |key: &str| {
        let metric = of("container_memory_rss").expect("rss");
        let at = labels["container_memory_rss"].iter().position(|known| known == key);
        metric["labelValues"][at.expect("the label is there")].as_str().unwrap_or_default()
    };
    assert_eq!((label("container"), label("pod"), label("namespace")), ("m", "metered", "e2e"));
    assert_eq!((label("name"), label("image")), (id.as_str(), image.as_str()));
}

#[derive(Clone, PartialEq, prost::Message)]
struct Nothing {}

macro_rules! streamed {
    ($name:ident, $item:ident) => {
        #[derive(Clone, PartialEq, prost::Message)]
        struct $name {
            #[prost(message, repeated, tag = "1")]
            items: Vec<$item>,
        }
    };
}
streamed!(StreamedContainers, ContainerStats);
streamed!(StreamedPods, PodSandboxStats);
streamed!(StreamedMetrics, PodSandboxMetrics);

/// The lists as streams, which no client that we did not write has yet in a form that a test can
/// call: each item once, and the end is the end.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_as_streams() {
    let mut world = tokio::task::block_in_place(World::new);
    let (pods, containers) = tokio::task::block_in_place(|| {
        let image = world.busybox();
        let (mut pods, mut containers) = (BTreeSet::new(), BTreeSet::new());
        for name in ["a", "b"] {
            let config = world.pod(name, json!({}));
            let pod = world.run_pod(&config);
            for name in ["one", "two"] {
                let container = world.container(name, &image, &["sleep", "1000"], json!({}));
                containers.insert(world.run_container(&pod, &config, &container));
            }
            pods.insert(pod);
        }
        (pods, containers)
    });
    let once = |ids: Vec<String>, expected: &BTreeSet<String>| {
        assert_eq!(ids.len(), expected.len());
        assert_eq!(&ids.into_iter().collect::<BTreeSet<_>>(), expected);
    };
    let found: Vec<StreamedContainers> = world.stream("StreamContainerStats", Nothing {}).await;
    let ids = found.iter().flat_map(|reply| &reply.items);
    once(ids.map(|stats| stats.attributes.as_ref().unwrap().id.clone()).collect(), &containers);
    let found: Vec<StreamedPods> = world.stream("StreamPodSandboxStats", Nothing {}).await;
    let ids = found.iter().flat_map(|reply| &reply.items);
    once(ids.map(|stats| stats.attributes.as_ref().unwrap().id.clone()).collect(), &pods);
    let found: Vec<StreamedMetrics> = world.stream("StreamPodSandboxMetrics", Nothing {}).await;
    let ids = found.iter().flat_map(|reply| &reply.items);
    once(ids.map(|metrics| metrics.pod_sandbox_id.clone()).collect(), &pods);
    tokio::task::block_in_place(|| drop(world));
}
