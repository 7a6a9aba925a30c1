//! The systemd cgroup driver, with the real systemd: a kubelet's view of units, limits and what is left. `scripts/guest`
//! runs these in a guest with cgroup v2 alone; elsewhere they are not run.

use orlop_e2e::World;
use orlop_e2e::process::{output, run, until};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

fn systemctl(arguments: &[&str]) -> String {
    run(Command::new("systemctl").args(arguments))
}

/// The unit's properties, in the order asked for.
fn properties(unit: &str, names: &[&str]) -> Vec<String> {
    let shown = systemctl(&["show", "--property", &names.join(","), unit]);
    let value = |name: &&str| {
        let line = shown.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
        line.unwrap_or("(none)").to_owned()
    };
    names.iter().map(value).collect()
}

/// Units whose name holds `text`, loaded or not.
fn units(text: &str) -> String {
    let pattern = format!("*{text}*");
    let listed = output(Command::new("systemctl").args([
        "list-units",
        "--all",
        "--plain",
        "--no-legend",
        &pattern,
    ]));
    String::from_utf8_lossy(&listed.stdout).into_owned()
}

/// The pod's slice in the test's world, and its directory.
fn slice(world: &World) -> (String, PathBuf) {
    let name = world.path("").file_name().unwrap().to_str().unwrap().to_owned();
    let mut path = PathBuf::from("/sys/fs/cgroup");
    let mut so_far = String::new();
    for part in name.split('-') {
        so_far = if so_far.is_empty() { part.to_owned() } else { format!("{so_far}-{part}") };
        path.push(format!("{so_far}.slice"));
    }
    (format!("{name}.slice"), path)
}

fn read(dir: &Path, file: &str) -> String {
    let path = dir.join(file);
    let text = std::fs::read_to_string(&path);
    text.unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}

const LIMITS: [(&str, &str); 6] = [
    ("memory.max", "67108864"),
    ("memory.swap.max", "0"),
    ("cpu.max", "25000 50000"),
    ("cpu.weight", "59"),
    ("cpuset.cpus", "0"),
    ("pids.max", "max"),
];

fn limited() -> Value {
    json!({"linux": {"resources": {
        "memory_limit_in_bytes": 67_108_864, "memory_swap_limit_in_bytes": 67_108_864,
        "cpu_quota": 25_000, "cpu_period": 50_000, "cpu_shares": 512, "cpuset_cpus": "0",
        "unified": {"memory.high": "60000000"}
    }}})
}

fn check_limits(dir: &Path) {
    for (file, value) in LIMITS {
        assert_eq!(read(dir, file), value, "{file}");
    }
    assert_eq!(read(dir, "memory.high"), "59998208", "whole pages");
}

#[test]
#[ignore = "needs systemd and cgroup v2 alone: scripts/guest"]
fn a_container_is_a_scope_in_the_pods_slice() {
    let mut world = World::new();
    let image = world.busybox();
    let pod_config = world.pod("scope", json!({}));
    let pod = world.run_pod(&pod_config);
    let config = world.container("c", &image, &["sleep", "1000"], limited());
    let id = world.run_container(&pod, &pod_config, &config);
    let (parent, dir) = slice(&world);
    let scope = format!("orlop-{id}.scope");
    let names =
        ["ActiveState", "Slice", "Delegate", "MemoryMax", "CPUWeight", "TasksMax", "AllowedCPUs"];
    assert_eq!(
        properties(&scope, &names),
        ["active", &parent, "yes", "67108864", "59", "infinity", "0"]
    );
    let dir = dir.join(&scope);
    let pid = world.status(&id)["pid"].as_u64();
    let procs = read(&dir, "cgroup.procs");
    assert_eq!(procs.lines().count(), 1, "only the container's own process: {procs}");
    if let Some(pid) = pid {
        assert_eq!(procs, pid.to_string());
    }
    check_limits(&dir);

    // systemd reads its units again and writes what they say: that must be the same.
    systemctl(&["daemon-reload"]);
    check_limits(&dir);
    // A change of anything near makes it write them, too.
    systemctl(&["set-property", "--runtime", &parent, "CPUWeight=50", "IOWeight=50"]);
    check_limits(&dir);
    let denied = "mknod /tmp/m c 1 1 && dd if=/tmp/m of=/dev/null bs=1 count=1 2>/dev/null || echo denied; echo x >/dev/null && echo usable";
    let said = world.crictl(&["exec", "--sync", &id, "sh", "-c", denied]);
    assert_eq!(said, "denied\nusable", "device rules outlive a reload");

    // An exec is in the scope as well.
    let own = world.crictl(&["exec", "--sync", &id, "cat", "/proc/self/cgroup"]);
    assert_eq!(own, "0::/", "the container's view begins at its own group");

    world.crictl(&["stop", "--timeout", "0", &id]);
    until("the scope to go", || units(&id).is_empty());
    assert!(!dir.exists());
    world.crictl(&["rmp", "-f", &pod]);
    until("the slice to go", || units(&parent).is_empty());
}

#[test]
#[ignore = "needs systemd and cgroup v2 alone: scripts/guest"]
fn scopes_outlive_the_daemon_and_are_cleared_by_the_next() {
    let mut world = World::new();
    let image = world.busybox();
    let pod_config = world.pod("restart", json!({}));
    let pod = world.run_pod(&pod_config);
    let config = world.container("c", &image, &["sleep", "1000"], limited());
    let id = world.run_container(&pod, &pod_config, &config);
    let (parent, dir) = slice(&world);
    world.kill();
    systemctl(&["daemon-reexec"]);
    world.start();
    assert_eq!(properties(&format!("orlop-{id}.scope"), &["ActiveState"]), ["active"]);
    check_limits(&dir.join(format!("orlop-{id}.scope")));
    assert_eq!(world.crictl(&["exec", "--sync", &id, "echo", "alive"]), "alive");
    world.crictl(&["rmp", "-f", &pod]);
    until("all units to go", || units(&id).is_empty() && units(&parent).is_empty());
}

#[test]
#[ignore = "needs systemd and cgroup v2 alone: scripts/guest"]
fn an_oom_kill_leaves_no_failed_unit() {
    let mut world = World::new();
    let image = world.busybox();
    let pod_config = world.pod("oom", json!({}));
    let pod = world.run_pod(&pod_config);
    let limit = json!({"linux": {"resources": {"memory_limit_in_bytes": 33_554_432, "memory_swap_limit_in_bytes": 33_554_432}}});
    let bomb = ["sh", "-c", "x=a; while true; do x=$x$x; done"];
    let id = world.run_container(
        &pod,
        &pod_config,
        &world.container("bomb", &image, &bomb, limit.clone()),
    );
    let status = world.wait_exited(&id);
    assert_eq!(
        (status["exitCode"].as_i64(), status["reason"].as_str()),
        (Some(137), Some("OOMKilled")),
        "{status}"
    );
    until("the scope to go", || units(&id).is_empty());

    // The kill of one process is the container's own matter: systemd does not end the others.
    let survivor =
        ["sh", "-c", "sh -c 'x=a; while true; do x=$x$x; done'; echo $? >/code; sleep 1000"];
    let id = world.run_container(
        &pod,
        &pod_config,
        &world.container("survivor", &image, &survivor, limit),
    );
    until("the child to be killed", || {
        let said = world.try_crictl(&["exec", "--sync", &id, "cat", "/code"]).stdout;
        said.trim_ascii() == b"137"
    });
    assert_eq!(world.status(&id)["state"].as_str(), Some("CONTAINER_RUNNING"));
}

#[test]
#[ignore = "needs systemd and cgroup v2 alone: scripts/guest"]
fn a_kubelets_slices_stay_and_pods_without_a_parent_get_their_own() {
    let mut world = World::new();
    let image = world.busybox();
    let (parent, dir) = slice(&world);
    // A kubelet makes the pod's slice before the pod, and removes it after.
    systemctl(&["start", &parent]);
    let pod_config = world.pod("kubelet", json!({}));
    let pod = world.run_pod(&pod_config);
    let config = world.container("c", &image, &["sleep", "1000"], json!({}));
    let id = world.run_container(&pod, &pod_config, &config);
    assert!(dir.join(format!("orlop-{id}.scope")).exists());
    world.crictl(&["rmp", "-f", &pod]);
    assert_eq!(properties(&parent, &["ActiveState"]), ["active"]);
    systemctl(&["stop", &parent]);

    let mut pod_config = world.pod("orphan", json!({}));
    pod_config["linux"].as_object_mut().unwrap().remove("cgroup_parent");
    let pod = world.run_pod(&pod_config);
    let id = world.run_container(&pod, &pod_config, &config);
    let own = format!("orlop-{pod}.slice");
    assert_eq!(properties(&format!("orlop-{id}.scope"), &["Slice"]), std::slice::from_ref(&own));
    assert_eq!(properties(&own, &["ActiveState"]), ["active"]);
    world.crictl(&["rmp", "-f", &pod]);
    until("its units to go", || units(&pod).is_empty() && units(&id).is_empty());
}

#[test]
#[ignore = "needs systemd and cgroup v2 alone: scripts/guest"]
fn the_driver_is_told_and_annotations_reach_no_unit() {
    let mut world = World::new();
    let image = world.busybox();
    assert!(world.crictl(&["runtime-config"]).to_lowercase().contains("systemd"));
    let evil = json!({"annotations": {
        "org.systemd.property.DeviceAllow": "['/dev/mem', 'rwm']",
        "org.systemd.property.Description": "'mine'"
    }});
    let pod_config = world.pod("evil", evil.clone());
    let pod = world.run_pod(&pod_config);
    let mut config = world.container("c", &image, &["sleep", "1000"], json!({}));
    config["annotations"] = evil["annotations"].clone();
    let id = world.run_container(&pod, &pod_config, &config);
    let found = properties(&format!("orlop-{id}.scope"), &["Description", "DeviceAllow"]);
    // systemd says nothing of a list without entries.
    assert_eq!(found, [&format!("Orlop container orlop-{id}.scope"), "(none)"]);
    let mut bad = world.pod("bad", json!({}));
    bad["linux"]["cgroup_parent"] = "/kubepods/pod1".into();
    let error = world.crictl_error(&["runp", &world.file("pod-bad", &bad)]);
    assert!(error.contains(".slice"), "{error}");
}

#[test]
#[ignore = "needs AppArmor: scripts/guest"]
fn the_default_apparmor_profile_confines_and_does_not_hinder() {
    let mut world = World::new();
    let image = world.busybox();
    // A process namespace each, so that process 1 is the container's own.
    let own = json!({"linux": {"security_context": {"namespace_options": {"pid": 1}}}});
    let pod_config = world.pod("apparmor", own.clone());
    let pod = world.run_pod(&pod_config);
    let profile = |kind: u32, name: &str| {
        json!({"linux": {"security_context": {
        "namespace_options": {"pid": 1},
        "apparmor": {"profile_type": kind, "localhost_ref": name},
        "capabilities": {"add_capabilities": ["SYS_ADMIN"]}}}})
    };
    let start = |name: &str, more: Value| {
        let config = world.container(name, &image, &["sleep", "1000"], more);
        world.run_container(&pod, &pod_config, &config)
    };
    let current = |id: &str| {
        world.crictl(&[
            "exec",
            "--sync",
            id,
            "cat",
            "/proc/1/attr/current",
            "/proc/self/attr/current",
        ])
    };
    let default = start("default", profile(0, ""));
    assert_eq!(current(&default), "orlop-default (enforce)\norlop-default (enforce)");
    let unnamed = start("unnamed", own);
    assert_eq!(current(&unnamed), "orlop-default (enforce)\norlop-default (enforce)");
    let free = start("free", profile(1, ""));
    assert_eq!(current(&free), "unconfined\nunconfined");

    // Capable of mounting, but for the profile. The same without it shows that the test can fail.
    let inside = |id: &str, script: &str| {
        world.crictl(&["exec", "--sync", id, "sh", "-c", &format!("exec 2>/dev/null; {script}")])
    };
    let mount = "mount -t tmpfs none /tmp && echo mounted || echo refused";
    assert_eq!(
        (inside(&default, mount), inside(&free, mount)),
        ("refused".into(), "mounted".into())
    );
    let ordinary = "sleep 100 & kill $! && echo killed; echo x >/tmp/x && cat /tmp/x; (echo net | nc -l -p 1234) >/dev/null & until nc 127.0.0.1 1234 </dev/null; do usleep 50000; done; ps | grep -c sleep >/dev/null && echo seen; echo 1 >/proc/self/oom_score_adj && echo written";
    assert_eq!(inside(&unnamed, ordinary), "killed\nx\nnet\nseen\nwritten");

    let config =
        world.container("absent", &image, &["sleep", "1000"], profile(2, "no-such-profile"));
    let config = world.file("absent", &config);
    let made =
        world.try_crictl(&["create", &pod, &config, &world.file("pod-apparmor", &pod_config)]);
    let said = String::from_utf8_lossy(&made.stderr).into_owned();
    assert!(!made.status.success() && said.contains("no-such-profile"), "{said}");
}
