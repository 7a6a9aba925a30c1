use super::*;
use crate::process::{Child, Command, Exit, Program};
use rustix::event::{PollFd, PollFlags, poll};
use std::sync::atomic::{AtomicU32, Ordering};

/// A path that no other test has.
fn unique() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("/orlop-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Removes the group at the end of the test, whatever happened.
struct Guard(Cgroup);

impl Guard {
    fn new(json: &str) -> Self {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        let hierarchies = Hierarchies::detect().unwrap();
        Self(Cgroup::create(&hierarchies, &unique(), Some(&resources)).unwrap())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill_all();
        let _ = self.0.delete();
    }
}

fn run(group: &Cgroup, script: &str) -> Child {
    let tasks = group.tasks_files().unwrap();
    let mut command = Command::new(Program::Path(Path::new("/bin/busybox")));
    command.args(["sh", "-c", script]);
    for fd in &tasks {
        command.attach(fd.as_fd());
    }
    if let Some(dir) = group.unified() {
        command.cgroup(dir);
    }
    command.spawn().unwrap()
}

fn value(group: &Cgroup, controller: &str, file: &str) -> Option<String> {
    let dir = group.v2().or_else(|| group.legacy(controller))?;
    Some(files::read(dir, file).unwrap().trim().to_owned())
}

#[test]
fn weights_meet_at_the_ends_and_the_default() {
    for (shares, weight) in [(0, 1), (2, 1), (1024, 100), (262_144, 10_000), (u64::MAX, 10_000)] {
        assert_eq!(limits::weight(shares), weight, "{shares}");
    }
}

#[test]
fn limits_are_set_and_nothing_is_left() {
    let group = Guard::new(
        r#"{"cpu":{"shares":512,"quota":50000,"period":100000,"cpus":"0"},
            "memory":{"limit":67108864,"swap":67108864},"pids":{"limit":33},
            "hugepageLimits":[{"pageSize":"2MB","limit":0}]}"#,
    );
    if group.0.layout == Layout::V2 {
        assert_eq!(value(&group.0, "cpu", "cpu.max").as_deref(), Some("50000 100000"));
    } else {
        assert_eq!(value(&group.0, "cpu", "cpu.shares").as_deref(), Some("512"));
        assert_eq!(value(&group.0, "cpu", "cpu.cfs_quota_us").as_deref(), Some("50000"));
        assert_eq!(value(&group.0, "memory", "memory.limit_in_bytes").as_deref(), Some("67108864"));
        assert_eq!(
            value(&group.0, "memory", "memory.memsw.limit_in_bytes").as_deref(),
            Some("67108864")
        );
        assert_eq!(value(&group.0, "devices", "devices.list").unwrap().lines().count(), 11);
    }
    assert_eq!(value(&group.0, "pids", "pids.max").as_deref(), Some("33"));
    assert_eq!(value(&group.0, "cpuset", "cpuset.cpus").as_deref(), Some("0"));
    // Up and down again, with both limits moving together.
    for bytes in [134_217_728_u64, 33_554_432] {
        let json = format!(r#"{{"memory":{{"limit":{bytes},"swap":{bytes}}}}}"#);
        group.0.update(&serde_json::from_str(&json).unwrap()).unwrap();
        assert_eq!(group.0.usage().unwrap().memory_limit, bytes);
    }
    let directories: Vec<PathBuf> = group
        .0
        .legacy
        .iter()
        .map(|legacy| legacy.mount.clone())
        .chain(group.0.unified_dir().map(Path::to_owned))
        .collect();
    drop(group);
    for directory in directories {
        assert!(!directory.exists(), "{}", directory.display());
    }
}

#[test]
fn a_refused_limit_leaves_nothing() {
    let hierarchies = Hierarchies::detect().unwrap();
    let path = unique();
    let resources = serde_json::from_str(r#"{"cpu":{"cpus":"900-901"}}"#).unwrap();
    let error = Cgroup::create(&hierarchies, &path, Some(&resources)).unwrap_err();
    assert!(error.to_string().contains("cpuset.cpus"), "{error}");
    let (legacy, unified) = hierarchies.directories(Path::new(&path));
    for directory in legacy.iter().map(|legacy| &legacy.mount).chain(unified.as_ref()) {
        assert!(!directory.exists(), "{}", directory.display());
    }
}

#[test]
fn everything_dies_at_once_also_below() {
    let group = Guard::new("{}");
    let child = run(
        &group.0,
        "for i in 1 2 3; do (trap '' TERM; while :; do read x </proc/self/fd/9 2>/dev/null; /bin/busybox true; done) & done; wait",
    );
    assert!(group.0.procs().unwrap().contains(&child.pid));
    group.0.kill_all().unwrap();
    assert_eq!(child.pidfd.wait().unwrap(), Exit::Signal(9));
    group.0.delete().unwrap();
    assert!(group.0.procs().unwrap().is_empty());
    group.0.delete().unwrap();
}

#[test]
fn frozen_processes_stand_still_until_thawed() {
    let group = Guard::new("{}");
    // What it has written, not the time that it has used: User-Mode Linux counts no user time.
    let written = tempfile::NamedTempFile::new().unwrap();
    let script = format!("while :; do echo; done >{}", written.path().display());
    let child = run(&group.0, &script);
    let steps = || written.as_file().metadata().unwrap().len();
    // It runs, it stands still while something else has used more time than that, it runs again.
    let wait_for = |more: &dyn Fn() -> bool| {
        while !more() {
            std::thread::yield_now();
        }
    };
    wait_for(&|| steps() > 0);
    group.0.freeze().unwrap();
    let frozen = steps();
    let busy = std::time::Instant::now();
    wait_for(&|| busy.elapsed().as_millis() > 50);
    assert_eq!(steps(), frozen);
    group.0.thaw().unwrap();
    wait_for(&|| steps() > frozen);
    group.0.kill_all().unwrap();
    assert_eq!(child.pidfd.wait().unwrap(), Exit::Signal(9));
}

#[test]
fn a_memory_kill_is_told_and_counted() {
    let group = Guard::new(r#"{"memory":{"limit":16777216,"swap":16777216}}"#);
    let notifier = group.0.oom_notifier().unwrap();
    assert_eq!(group.0.oom_kills().unwrap(), 0);
    let child = run(&group.0, "exec /bin/busybox dd if=/dev/zero of=/dev/null bs=64M count=1");
    assert_eq!(child.pidfd.wait().unwrap(), Exit::Signal(9));
    let flags = if notifier.is_priority() { PollFlags::PRI } else { PollFlags::IN };
    let mut polled = [PollFd::from_borrowed_fd(notifier.fd(), flags)];
    assert_eq!(poll(&mut polled, None).unwrap(), 1);
    notifier.consume();
    assert_eq!(group.0.oom_kills().unwrap(), 1);
}

#[test]
fn a_group_of_groups_denies_nothing_to_those_below() {
    let hierarchies = Hierarchies::detect().unwrap();
    let path = unique();
    let parent = Guard(Cgroup::create(&hierarchies, &path, None).unwrap());
    let all = serde_json::from_str(r#"{"devices":[{"allow":true,"access":"rwm"}]}"#).unwrap();
    let child = Cgroup::create(&hierarchies, &format!("{path}/c"), Some(&all)).unwrap();
    if child.v2().is_none()
        && let Some(list) = value(&child, "devices", "devices.list")
    {
        assert_eq!(list, "a *:* rwm");
    }
    assert_eq!(run(&child, ": </dev/kmsg && exit 9").pidfd.wait().unwrap(), Exit::Code(9));
    assert!(parent.0.procs().unwrap().is_empty());
}

#[test]
fn devices_outside_the_list_cannot_be_opened() {
    let group = Guard::new(r#"{"devices":[{"allow":false,"access":"rwm"}]}"#);
    let child = run(&group.0, "echo x >/dev/null && read -r x </dev/kmsg && exit 1; exit 4");
    assert_eq!(child.pidfd.wait().unwrap(), Exit::Code(4));
}

/// The program of v2 also works on a unified hierarchy that has no controllers.
#[test]
fn the_device_program_decides_as_the_rules_say() {
    let group = Guard::new(r#"{"devices":[{"allow":true,"access":"rwm"}]}"#);
    let Some(dir) = group.0.unified() else { return };
    let listed: Vec<oci_spec::runtime::LinuxDeviceCgroup> = serde_json::from_str(
        r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":1,"minor":11,"access":"w"}]"#,
    )
    .unwrap();
    let attach = |listed: &[oci_spec::runtime::LinuxDeviceCgroup]| {
        bpf::attach(dir, &bpf::program(&devices::rules(listed).unwrap())).unwrap();
    };
    attach(&listed);
    let script = "echo >/dev/null || exit 1; : </dev/zero || exit 2; (: </dev/kmsg) 2>/dev/null && exit 3; : >>/dev/kmsg || exit 4; exit 9";
    assert_eq!(run(&group.0, script).pidfd.wait().unwrap(), Exit::Code(9));
    // A second program takes the place of the first.
    attach(&serde_json::from_str::<Vec<_>>(r#"[{"allow":true,"access":"rwm"}]"#).unwrap());
    assert_eq!(run(&group.0, ": </dev/kmsg && exit 9").pidfd.wait().unwrap(), Exit::Code(9));
}
