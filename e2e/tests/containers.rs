//! What a container is given: limits, users, profiles, logs; seen from inside it and from the host.

use orlop_e2e::World;
use orlop_e2e::process::until;
use serde_json::json;

#[test]
fn memory_is_limited_and_an_oom_kill_is_told() {
    let mut world = World::new();
    let image = world.busybox();
    let pod_config = world.pod("oom", json!({}));
    let pod = world.run_pod(&pod_config);
    let limit = json!({"linux": {"resources": {"memory_limit_in_bytes": 33_554_432}}});
    let bomb =
        world.container("bomb", &image, &["sh", "-c", "x=a; while true; do x=$x$x; done"], limit);
    let id = world.run_container(&pod, &pod_config, &bomb);
    let status = world.wait_exited(&id);
    assert_eq!(
        (status["exitCode"].as_i64(), status["reason"].as_str()),
        (Some(137), Some("OOMKilled")),
        "{status}"
    );
}

#[test]
fn exit_codes_and_reasons() {
    let mut world = World::new();
    let image = world.busybox();
    let pod_config = world.pod("codes", json!({}));
    let pod = world.run_pod(&pod_config);
    for (name, script, code, reason) in [
        ("zero", "exit 0", 0, "Completed"),
        ("three", "exit 3", 3, "Error"),
        ("kill", "kill -9 $$", 137, "Error"),
    ] {
        // Process 1 of a namespace ignores even its own SIGKILL: the shell that dies is its child.
        let script = if name == "kill" { "sh -c 'kill -9 $$'; exit $?" } else { script };
        let id = world.run_container(
            &pod,
            &pod_config,
            &world.container(name, &image, &["sh", "-c", script], json!({})),
        );
        let status = world.wait_exited(&id);
        assert_eq!(
            (status["exitCode"].as_i64(), status["reason"].as_str()),
            (Some(code), Some(reason)),
            "{status}"
        );
        assert!(status["finishedAt"].as_str() >= status["startedAt"].as_str(), "{status}");
    }
}

#[test]
fn confined_by_default() {
    let mut world = World::new();
    let image = world.busybox();
    let pod_config = world.pod("confined", json!({}));
    let pod = world.run_pod(&pod_config);
    let more = json!({"linux": {"security_context": {"namespace_options": {"pid": 1}, "seccomp": {"profile_type": 0}, "no_new_privs": true,
        "masked_paths": ["/proc/version", "/sys/firmware"], "readonly_paths": ["/proc/sys"]}}});
    let id = world.run_container(
        &pod,
        &pod_config,
        &world.container("c", &image, &["sleep", "1000"], more),
    );
    let inside = |command: &str| {
        world.crictl(&["exec", "--sync", &id, "sh", "-c", &format!("exec 2>/dev/null; {command}")])
    };
    let status = inside("cat /proc/1/status; cat /proc/self/status");
    let lines = |key: &str| {
        status
            .lines()
            .filter_map(|line| line.strip_prefix(key))
            .map(|v| v.trim().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(lines("CapInh:"), ["0000000000000000", "0000000000000000"]);
    assert_eq!(lines("CapAmb:"), ["0000000000000000", "0000000000000000"]);
    assert_eq!(lines("CapEff:"), ["00000000a80425fb", "00000000a80425fb"]);
    assert_eq!(lines("Seccomp:"), ["2", "2"]);
    assert_eq!(lines("NoNewPrivs:"), ["1", "1"]);
    assert_eq!(inside("ls /proc/self/fd | wc -l"), "4", "0, 1, 2 and the directory that ls reads");
    assert_eq!(inside("cat /proc/version | wc -c"), "0");
    assert_eq!(inside("ls /sys/firmware | wc -l"), "0");
    assert_eq!(inside("echo x >/proc/sys/kernel/hostname || echo refused"), "refused");
    assert_eq!(inside("mount -t tmpfs none /tmp 2>/dev/null || echo refused"), "refused");
    assert_eq!(
        inside(
            "mknod /tmp/sda b 8 0 && dd if=/tmp/sda of=/dev/null count=1 2>/dev/null || echo refused"
        ),
        "refused"
    );
    assert_eq!(inside("cat /proc/1/comm"), "sleep");
}

#[test]
fn users_and_groups() {
    let mut world = World::new();
    let image = world.busybox();
    let pod_config = world.pod("users", json!({}));
    let pod = world.run_pod(&pod_config);
    for (name, context, id_line) in [
        ("root", json!({}), "uid=0(root) gid=0(root)"),
        (
            "number",
            json!({"run_as_user": {"value": 1000}}),
            "uid=1000(web) gid=1000(web) groups=1000(web),50000(extra)",
        ),
        (
            "name",
            json!({"run_as_username": "web"}),
            "uid=1000(web) gid=1000(web) groups=1000(web),50000(extra)",
        ),
        (
            "group",
            json!({"run_as_user": {"value": 33}, "run_as_group": {"value": 44}}),
            "uid=33(www-data) gid=44",
        ),
        (
            "strict",
            json!({"run_as_user": {"value": 1000}, "supplemental_groups": [7], "supplemental_groups_policy": 1}),
            "uid=1000(web) gid=1000(web) groups=7,1000(web)",
        ),
        ("stranger", json!({"run_as_user": {"value": 4242}}), "uid=4242 gid=0(root)"),
    ] {
        let more = json!({"linux": {"security_context": context}});
        let id = world.run_container(
            &pod,
            &pod_config,
            &world.container(name, &image, &["sleep", "1000"], more),
        );
        let seen = world.crictl(&["exec", "--sync", &id, "id"]);
        let sorted = |line: &str| {
            let mut words: Vec<String> =
                line.replace("groups=", "groups= ").split([' ', ',']).map(str::to_owned).collect();
            words.sort();
            words.dedup();
            words
        };
        let (wanted, have) = (sorted(id_line), sorted(&seen));
        assert!(wanted.iter().all(|word| have.contains(word)), "{name}: {seen}, wanted {id_line}");
    }
}

#[test]
fn logs_have_the_cri_form_and_are_reopened() {
    let mut world = World::new();
    let image = world.busybox();
    let pod_config = world.pod("logs", json!({}));
    let pod = world.run_pod(&pod_config);
    let script = "echo out; echo err >&2; printf 'no newline'; head -c 20000 /dev/zero | tr '\\0' x; echo; while [ ! -e /go ]; do usleep 20000; done; echo after; sleep 1000";
    let id = world.run_container(
        &pod,
        &pod_config,
        &world.container("c", &image, &["sh", "-c", script], json!({})),
    );
    until("the long line", || world.log_file("logs", "c").lines().count() >= 4);
    let log = world.log_file("logs", "c");
    let fields: Vec<Vec<&str>> = log.lines().map(|line| line.splitn(4, ' ').collect()).collect();
    assert!(
        fields.iter().any(|f| f[1..] == ["stdout", "F", "out"])
            && fields.iter().any(|f| f[1..] == ["stderr", "F", "err"]),
        "{log}"
    );
    let long: Vec<_> = fields.iter().filter(|f| f[1] == "stdout" && f[3].len() > 1000).collect();
    assert!(
        long.iter().any(|f| f[2] == "P") && long.iter().all(|f| f[3].len() <= 16384),
        "a long line comes in parts of 16 KiB"
    );

    let path = world.path("logs/logs/c.log");
    std::fs::rename(&path, world.path("logs/logs/c.log.1")).unwrap();
    world.crictl(&["logs", "--reopen", &id]);
    let _ = world.try_crictl(&["exec", "--sync", &id, "touch", "/go"]);
    until("a line in the new file", || world.log_file("logs", "c").contains("after"));
}

#[test]
fn shared_pid_namespace_has_our_init() {
    let mut world = World::new();
    let image = world.busybox();
    let context = json!({"security_context": {"namespace_options": {"pid": 0}}});
    let pod_config = world.pod("shared", json!({"linux": context}));
    let pod = world.run_pod(&pod_config);
    let mut ids = vec![];
    for name in ["a", "b"] {
        let more = json!({"linux": context});
        ids.push(world.run_container(
            &pod,
            &pod_config,
            &world.container(
                name,
                &image,
                &["sleep", if name == "a" { "1111" } else { "2222" }],
                more,
            ),
        ));
    }
    let seen = world.crictl(&["exec", "--sync", &ids[0], "ps", "-o", "args"]);
    assert!(seen.contains("sleep 1111") && seen.contains("sleep 2222"), "{seen}");
}

#[test]
fn the_pod_has_its_files_and_memory() {
    let mut world = World::new();
    let image = world.busybox();
    let pod_config = world.pod("files", json!({"dns_config": {"servers": ["10.1.2.3"], "searches": ["a.example"], "options": ["ndots:3"]}}));
    let pod = world.run_pod(&pod_config);
    let first = world.run_container(
        &pod,
        &pod_config,
        &world.container("a", &image, &["sleep", "1000"], json!({})),
    );
    let second = world.run_container(
        &pod,
        &pod_config,
        &world.container("b", &image, &["sleep", "1000"], json!({})),
    );
    let inside =
        |id: &str, command: &str| world.crictl(&["exec", "--sync", id, "sh", "-c", command]);
    assert_eq!(
        inside(&first, "hostname; cat /etc/hostname; echo $HOSTNAME"),
        "files\nfiles\nfiles"
    );
    let resolv = inside(&first, "cat /etc/resolv.conf");
    assert!(
        ["nameserver 10.1.2.3", "search a.example", "options ndots:3"]
            .iter()
            .all(|line| resolv.contains(line)),
        "{resolv}"
    );
    inside(&first, "echo shared >/dev/shm/x");
    assert_eq!(
        inside(&second, "cat /dev/shm/x; df -m /dev/shm | tail -1 | awk '{print $2}'"),
        "shared\n64"
    );
    assert_eq!(inside(&first, "cat /proc/sys/net/ipv4/ip_unprivileged_port_start"), "0");
    // In CRI an unset PID mode means the pod's: processes see each other.
    let same = |ns: &str| {
        inside(&first, &format!("readlink /proc/self/ns/{ns}"))
            == inside(&second, &format!("readlink /proc/self/ns/{ns}"))
    };
    assert!(same("net") && same("ipc") && same("uts") && same("pid") && !same("mnt"));
}
