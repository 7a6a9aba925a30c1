//! What a workload finds.

use crate::stage::{InitRequest, Stdio, spawn_init};
use crate::world::{SELF, World, process};
use orlop_sys::process::Exit;
use serde_json::json;
use std::io::Read;
use std::os::fd::AsFd;

#[test]
fn it_lives_in_namespaces_of_its_own() {
    let world = World::new(
        "echo $$; hostname; for n in pid ipc uts mnt net; do readlink /proc/self/ns/$n; done; readlink /proc/self/ns/user",
    );
    let output = world.output();
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines.get(..2), Some(["1", "box"].as_slice()), "{output}");
    for (name, inside) in ["pid", "ipc", "uts", "mnt", "net"].iter().zip(&lines[2..]) {
        let ours = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_ne!(ours.display().to_string(), **inside);
    }
}

#[test]
fn its_mounts_are_those_of_the_spec() {
    let output = World::new("cat /proc/self/mountinfo; ls /; touch /x && echo written").output();
    for (target, kind) in [
        ("/", "overlay"),
        ("/proc", "proc"),
        ("/dev", "tmpfs"),
        ("/dev/pts", "devpts"),
        ("/dev/shm", "tmpfs"),
        ("/dev/mqueue", "mqueue"),
        ("/sys", "sysfs"),
    ] {
        let found = output.lines().any(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            fields.get(4) == Some(&target) && line.contains(&format!(" - {kind} "))
        });
        assert!(found, "{target}: {output}");
    }
    assert!(!output.contains("shared:") && !output.contains("master:"), "{output}");
    assert!(output.ends_with("written\n"), "{output}");
}

#[test]
fn it_sees_its_own_groups_and_no_other() {
    let world = World::new(
        "cat /proc/self/cgroup; ls /sys/fs/cgroup; cat /sys/fs/cgroup/memory/cgroup.procs /sys/fs/cgroup/cgroup.procs 2>/dev/null; exit 0",
    );
    let output = world.output();
    let path = world.cgroup.path().display().to_string();
    let inside = output.lines().filter(|line| line.ends_with(&path)).count();
    let hierarchies = output.lines().filter(|line| line.contains(":/")).count();
    // The named v1 hierarchy of a service manager is not ours to use.
    assert!(inside + 1 >= hierarchies && inside > 0, "{output}");
    assert!(output.lines().any(|line| line == "1"), "{output}");
}

#[test]
fn a_cgroup_namespace_begins_at_its_own_groups() {
    let world = World::with(
        "cat /proc/self/cgroup; ls /sys/fs/cgroup | head -n 1; readlink /proc/self/ns/cgroup",
        |spec| {
            spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "cgroup" }));
        },
    );
    let output = world.output();
    assert!(output.lines().filter(|line| line.ends_with(":/")).count() > 0, "{output}");
    assert!(!output.contains("orlop-test"), "{output}");
    let ours = std::fs::read_link("/proc/self/ns/cgroup").unwrap().display().to_string();
    assert!(!output.contains(&ours), "{output}");
}

#[test]
fn namespaces_are_joined_by_path() {
    let first = World::new("read x");
    let (init, hold) = first.hold();
    let second =
        World::with("hostname; readlink /proc/self/ns/pid; echo $$; cat /proc/1/comm", |spec| {
            let path = |name: &str| format!("/proc/{}/ns/{name}", init.child.pid);
            spec["linux"]["namespaces"] = json!([
                { "type": "mount" },
                { "type": "pid", "path": path("pid") },
                { "type": "uts", "path": path("uts") },
                { "type": "ipc", "path": path("ipc") },
                { "type": "network", "path": path("net") },
            ]);
            spec["hostname"] = json!("ignored");
        });
    let output = second.output();
    let theirs = std::fs::read_link(format!("/proc/{}/ns/pid", init.child.pid)).unwrap();
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines.first(), Some(&"box"), "{output}");
    assert_eq!(lines.get(1), Some(&theirs.display().to_string().as_str()), "{output}");
    assert_ne!(lines.get(2), Some(&"1"), "{output}");
    // Process 1 is the other container's.
    assert_eq!(lines.get(3), Some(&"sh"), "{output}");
    drop(hold);
    init.child.pidfd.wait().unwrap();
}

#[test]
fn its_devices_are_the_standard_ones() {
    let output = World::new("ls -l /dev; echo x >/dev/null; head -c 3 /dev/zero | od -An -tx1; (: </dev/kmsg) 2>&1; mknod /tmp/k c 1 11 && (: </tmp/k) 2>&1; exit 0").output();
    for line in [
        "fd -> /proc/self/fd",
        "stdin -> /proc/self/fd/0",
        "ptmx -> pts/ptmx",
        "core -> /proc/kcore",
    ] {
        assert!(output.contains(line), "{line}: {output}");
    }
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        assert!(
            output
                .lines()
                .any(|line| line.starts_with("crw-rw-rw-") && line.ends_with(&format!(" {name}"))),
            "{name}: {output}"
        );
    }
    assert!(output.contains("00 00 00"), "{output}");
    assert!(output.contains("/tmp/k: Operation not permitted"), "{output}");
}

#[test]
fn its_privileges_are_those_of_the_spec() {
    let output = World::new("grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status").output();
    let value = |key: &str| {
        output
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(":\t"))
            .unwrap_or_default()
    };
    let caps = format!(
        "{:016x}",
        1 << 0 | 1 << 1 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 10 | 1 << 27_u64
    );
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(value(set), caps, "{set}: {output}");
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(value(set), "0000000000000000", "{set}: {output}");
    }
    assert_eq!((value("NoNewPrivs"), value("Seccomp")), ("1", "2"));
}

#[test]
fn the_filter_refuses_what_the_profile_does() {
    // With the capability, so that only the filter can refuse.
    let script = "unshare -m true 2>&1; chroot / true 2>&1; mount -t tmpfs x /tmp 2>&1; exit 0";
    let world = World::with(script, |spec| {
        for set in ["bounding", "permitted", "effective"] {
            spec["process"]["capabilities"][set] = json!(["CAP_SYS_ADMIN", "CAP_SYS_CHROOT"]);
        }
    });
    let output = world.output();
    assert_eq!(
        output.matches("Operation not permitted").count()
            + output.matches("ermission denied").count(),
        3,
        "{output}"
    );
}

#[test]
fn a_filter_also_works_without_no_new_privs() {
    let world = World::with("grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status", |spec| {
        spec["process"]["noNewPrivileges"] = json!(false);
    });
    assert_eq!(world.output(), "NoNewPrivs:\t0\nSeccomp:\t2\n");
}

#[test]
fn it_runs_as_the_user_with_the_groups_and_the_mask() {
    let world = World::with(
        "id -u; id -g; grep Groups /proc/self/status; umask; grep -E 'Cap(Prm|Eff|Amb)' /proc/self/status; pwd",
        |spec| {
            spec["process"]["user"] =
                json!({ "uid": 1000, "gid": 1001, "additionalGids": [1001, 7, 8], "umask": 0o27 });
            spec["process"]["cwd"] = json!("/home/user");
            spec["process"]["capabilities"]["ambient"] = json!(["CAP_NET_BIND_SERVICE"]);
            spec["process"]["capabilities"]["inheritable"] = json!(["CAP_NET_BIND_SERVICE"]);
        },
    );
    let output = world.output();
    assert!(output.starts_with("1000\n1001\nGroups:\t7 8 1001 \n0027\n"), "{output}");
    // Only what is ambient survives the exec of a plain user.
    assert_eq!(output.matches("0000000000000400").count(), 3, "{output}");
    assert!(output.ends_with("/home/user\n"), "{output}");
}

#[test]
fn masked_paths_are_empty_and_read_only_paths_cannot_be_written() {
    let script = "wc -c </proc/keys; stat -c %t:%T /proc/keys; ls /sys/firmware | wc -l;
        (echo x >/proc/keys) && echo harmless; touch /sys/firmware/x 2>&1; (echo 1 >/proc/sys/kernel/hostname) 2>&1; exit 0";
    let output = World::new(script).output();
    assert!(output.starts_with("0\n1:3\n0\nharmless\n"), "{output}");
    assert_eq!(output.matches("Read-only file system").count(), 2, "{output}");
}

#[test]
fn it_inherits_three_descriptors() {
    let output = World::new("ls -l /proc/self/fd | wc -l; ls /proc/self/fd").output();
    // ls itself has the directory as 3.
    assert!(output.ends_with("0\n1\n2\n3\n"), "{output}");
}

#[test]
fn binds_are_as_asked() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("file"), "from outside\n").unwrap();
    let world = World::with(
        "cat /data/file /etc/config/deep/file; touch /data/x 2>&1; touch /rw/made; grep -E ' /(data|rw) ' /proc/self/mountinfo",
        |spec| {
            let source = outside.path().display().to_string();
            let mounts = spec["mounts"].as_array_mut().unwrap();
            mounts.push(json!({ "destination": "/data", "type": "bind", "source": source, "options": ["rbind", "ro", "rprivate"] }));
            mounts.push(json!({ "destination": "/rw", "type": "bind", "source": source, "options": ["rbind", "rw", "nosuid", "noexec"] }));
            mounts.push(json!({ "destination": "/etc/config/deep/file", "source": format!("{source}/file"), "options": ["bind"] }));
        },
    );
    let output = world.run().unwrap().output;
    assert!(output.starts_with("from outside\nfrom outside\n"), "{output}");
    assert!(output.contains("/data/x: Read-only file system"), "{output}");
    assert!(output.contains("/rw rw,nosuid,noexec"), "{output}");
    assert!(outside.path().join("made").exists());
}

#[test]
fn the_root_can_be_read_only_and_parameters_are_set() {
    let world = World::with(
        "touch /x 2>&1; cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax; exit 0",
        |spec| {
            spec["root"]["readonly"] = json!(true);
            spec["linux"]["sysctl"] =
                json!({ "net.ipv4.ip_forward": "1", "kernel.msgmax": "9000" });
        },
    );
    assert_eq!(world.output(), "touch: /x: Read-only file system\n1\n9000\n");
}

#[test]
fn limits_that_may_not_be_raised_are_a_warning() {
    let world = World::with("ulimit -n; ulimit -c", |spec| {
        spec["process"]["rlimits"] = json!([
            { "type": "RLIMIT_NOFILE", "soft": 512, "hard": 1024 },
            { "type": "RLIMIT_NPROC", "soft": 9_000_000_000_u64, "hard": 9_000_000_000_u64 },
            { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 },
        ]);
        spec["process"]["oomScoreAdj"] = json!(500);
    });
    let outcome = world.run().unwrap();
    assert_eq!(outcome.output, "512\n0\n");
}

#[test]
fn a_terminal_is_its_own_console() {
    let world = World::new("tty; stty size; ls -l /dev/console | cut -c1; echo done");
    let staged = world.start(Stdio::Terminal { size: Some((33, 77)) }).unwrap();
    let mut master = std::fs::File::from(staged.console.unwrap());
    let mut output = Vec::new();
    let mut buffer = [0; 1024];
    // The master reports EIO when the last holder of the other end has gone.
    while let Ok(length) = master.read(&mut buffer) {
        output.extend_from_slice(&buffer[..length]);
    }
    staged.child.pidfd.wait().unwrap();
    let output = String::from_utf8(output).unwrap();
    assert!(output.contains("/dev/pts/0") || output.contains("/dev/console"), "{output}");
    assert!(output.contains("33 77"), "{output}");
    assert!(output.contains("done"), "{output}");
}

#[test]
fn an_exec_joins_everything() {
    let world = World::new("read x");
    let (init, hold) = world.hold();
    let script = "hostname; grep -E '^(CapEff|CapInh|NoNewPrivs|Seccomp:)' /proc/self/status; cat /proc/self/cgroup; readlink /proc/self/ns/pid; ls /proc/self/fd";
    let outcome = world.exec(&init, &process(&world, script)).unwrap();
    assert_eq!(outcome.exit, Exit::Code(0), "{}", outcome.output);
    assert!(outcome.output.starts_with("box\nCapInh:\t0000000000000000\nCapEff:\t00000000080004eb\nNoNewPrivs:\t1\nSeccomp:\t2\n"), "{}", outcome.output);
    assert!(outcome.output.contains(&world.cgroup.path().display().to_string()));
    let theirs = std::fs::read_link(format!("/proc/{}/ns/pid", init.child.pid)).unwrap();
    assert!(outcome.output.contains(&theirs.display().to_string()));
    assert!(outcome.output.ends_with("0\n1\n2\n3\n"), "{}", outcome.output);
    drop(hold);
    init.child.pidfd.wait().unwrap();
    let error = world.exec(&init, &process(&world, "true")).unwrap_err();
    assert!(error.message.contains("has ended"), "{}", error.message);
}

#[test]
fn an_exec_works_in_the_hosts_process_namespace() {
    let world = World::with("read x", |spec| {
        spec["linux"]["namespaces"] = json!([{ "type": "mount" }, { "type": "uts" }]);
        spec["mounts"].as_array_mut().unwrap().retain(|mount| {
            mount["destination"] != "/sys" && mount["destination"] != "/sys/fs/cgroup"
        });
    });
    let (init, hold) = world.hold();
    let outcome = world.exec(&init, &process(&world, "hostname; echo $$")).unwrap();
    let lines: Vec<&str> = outcome.output.lines().collect();
    assert_eq!(lines.first(), Some(&"box"));
    assert!(lines[1].parse::<i32>().unwrap() > 50, "{}", outcome.output);
    drop(hold);
    init.child.pidfd.wait().unwrap();
}

#[test]
fn the_built_in_init_reaps_and_ends_when_told() {
    let world = World::with("unused", |spec| {
        spec["mounts"] = json!([]);
        spec["linux"]["maskedPaths"] = json!([]);
        spec["linux"]["readonlyPaths"] = json!([]);
    });
    let spec = world.oci();
    let mut staged = spawn_init(&InitRequest {
        spec: &spec,
        bundle: world.dir.path(),
        rootfs: &[],
        stdio: Stdio::Fds([None; 3]),
        cgroup: Some(&world.cgroup),
        init_only: true,
        reaper: false,
        hooks: None,
        self_exe: SELF.as_fd(),
    })
    .unwrap();
    staged.wait_ready().unwrap();
    staged.release().unwrap();
    staged.wait_running().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", staged.child.pid)).unwrap();
    println!(
        "{}",
        status
            .lines()
            .filter(|line| line.starts_with("VmRSS") || line.starts_with("Rss"))
            .collect::<Vec<_>>()
            .join(" ")
    );
    staged.child.pidfd.send_signal(15).unwrap();
    assert_eq!(staged.child.pidfd.wait().unwrap(), Exit::Code(0));
}

#[test]
fn a_user_namespace_maps_its_root() {
    let world = World::with(
        "id -u; cat /proc/self/uid_map; ls -l /dev/null; echo x >/dev/null && echo fine",
        |spec| {
            spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
            let map = json!([{ "containerID": 0, "hostID": 0, "size": 65536 }]);
            spec["linux"]["uidMappings"] = map.clone();
            spec["linux"]["gidMappings"] = map;
        },
    );
    let output = world.output();
    assert!(output.starts_with("0\n"), "{output}");
    assert!(output.ends_with("fine\n"), "{output}");
}

#[test]
fn a_memory_kill_ends_the_workload_only() {
    let world = World::with("dd if=/dev/zero of=/dev/null bs=64M count=1; echo $?", |spec| {
        spec["linux"]["resources"]["memory"] = json!({ "limit": 16_777_216, "swap": 16_777_216 });
    });
    let outcome = world.run().unwrap();
    assert!(outcome.output.ends_with("137\n"), "{}", outcome.output);
    assert_eq!(world.cgroup.oom_kills().unwrap(), 1);
}
