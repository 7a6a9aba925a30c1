//! RuntimeClass handlers: pods in a shim of another maker, `containerd-shim-runc-v2` of Debian's containerd package, with and
//! without a container that holds the pod. Everything that a pod of ours can, these can.

use orlop_e2e::World;
use orlop_e2e::process::{output, until};
use orlop_e2e::streams::Talk;
use serde_json::{Value, json};
use std::path::Path;

const HANDLERS: [&str; 2] = ["plain", "held"];
/// A container that counts into its log.
const COUNT: &str = "i=0; while true; do echo line $i; i=$((i+1)); usleep 20000; done";

fn world() -> World {
    World::configured(|world| {
        let runc = world.path("runc");
        let handler = |name: &str, sandbox: bool| {
            format!(
                "[runtimes.{name}]\ntype = 'io.containerd.runc.v2'\nsandbox = {sandbox}\npod_annotations = ['let.through/*']\n\
                 [runtimes.{name}.options]\nBinaryName = '/usr/sbin/runc'\nRoot = {runc:?}\n"
            )
        };
        handler("plain", false) + &handler("held", true)
    })
}

fn pid_of(world: &World, container: &str) -> u32 {
    let text = world.crictl(&["inspect", "-o", "json", container]);
    let info: Value = serde_json::from_str(&text).expect("crictl prints JSON");
    let pid = info["info"]["pid"].as_u64().expect("a pid");
    u32::try_from(pid).expect("a pid")
}

/// The name of a process's parent, and its number.
fn parent(pid: u32) -> (String, u32) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("a parent");
    let parent: u32 = line.trim().parse().expect("a number");
    let name = std::fs::read_to_string(format!("/proc/{parent}/comm")).expect("it lives");
    (name.trim().to_owned(), parent)
}

#[test]
fn a_pod_lives_in_runcs_shim() {
    let mut world = world();
    let image = world.busybox();
    for handler in HANDLERS {
        let pod_config =
            world.pod(handler, json!({"annotations": {"let.through/a": "1", "kept.back/b": "2"}}));
        let pod = world.run_pod_with(handler, &pod_config);
        let script = "trap 'echo bye; exit 7' TERM; echo out; echo err >&2; hostname; while true; do usleep 20000; done";
        let main = world.run_container(
            &pod,
            &pod_config,
            &world.container("main", &image, &["sh", "-c", script], json!({})),
        );
        let second = world.run_container(
            &pod,
            &pod_config,
            &world.container("second", &image, &["sleep", "1000"], json!({})),
        );

        // It is another maker's shim; a pod that is held has one for all its containers.
        let (name, shim) = parent(pid_of(&world, &main));
        assert!(name.starts_with("containerd-shim"), "{handler}: {name}");
        let (_, other) = parent(pid_of(&world, &second));
        assert_eq!(shim == other, handler == "held", "{handler}: {shim} {other}");

        until("the log", || world.log_file(handler, "main").lines().count() == 3);
        let log = world.log_file(handler, "main");
        for record in [" stdout F out", " stderr F err", &format!(" stdout F {handler}")] {
            assert!(log.lines().any(|line| line.ends_with(record)), "{handler}: {record}: {log}");
        }
        let exec = |command: &str| world.crictl(&["exec", "--sync", &main, "sh", "-c", command]);
        assert_eq!(exec("echo in the container; cat"), "in the container");
        let failed =
            world.crictl_error(&["exec", "--sync", &main, "sh", "-c", "echo no >&2; exit 3"]);
        assert!(failed.contains("exited with 3: no"), "{failed}");
        let late =
            world.crictl_error(&["exec", "--sync", "--timeout", "1", &main, "sleep", "1000"]);
        assert!(late.contains("timed out"), "{late}");
        let absent = world.crictl_error(&["exec", "--sync", &main, "no-such-program"]);
        assert!(absent.contains("no-such-program"), "{absent}");
        // What both of a pod's containers share, and what each has for itself.
        let namespaces = |id: &str| {
            let script = "for kind in net ipc mnt; do readlink /proc/self/ns/$kind; done";
            let all = world.crictl(&["exec", "--sync", id, "sh", "-c", script]);
            all.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let (a, b) = (namespaces(&main), namespaces(&second));
        assert!(a[..2] == b[..2] && a[2] != b[2], "{a:?} {b:?}");

        // Only what the operator lets through reaches the shim.
        let bundle = world.path("run/bundles").join(&main).join("config.json");
        let spec: Value =
            serde_json::from_slice(&std::fs::read(bundle).expect("config.json")).expect("JSON");
        assert_eq!(spec["annotations"]["let.through/a"], "1");
        assert_eq!(spec["annotations"]["kept.back/b"], Value::Null);

        // The log is opened anew where the kubelet rotates it.
        let path = world.path("logs").join(handler).join("main.log");
        std::fs::rename(&path, path.with_extension("old")).expect("rename");
        world.crictl(&["logs", "--reopen", &main]);
        world.crictl(&["stop", "--timeout", "10", &main]);
        assert_eq!(world.status(&main)["exitCode"], 7);
        assert!(
            world.log_file(handler, "main").ends_with(" stdout F bye\n"),
            "{}",
            world.log_file(handler, "main")
        );
        world.crictl(&["rm", &main]);
        world.crictl(&["stopp", &pod]);
        world.crictl(&["rmp", &pod]);
    }
}

#[test]
fn ends_are_told() {
    let mut world = world();
    let image = world.busybox();
    for handler in HANDLERS {
        let pod_config = world.pod(handler, json!({}));
        let pod = world.run_pod_with(handler, &pod_config);
        let run = |name: &str, script: &str, more: Value| {
            world.run_container(
                &pod,
                &pod_config,
                &world.container(name, &image, &["sh", "-c", script], more),
            )
        };
        // A whole pipe of output before the end: not a byte is lost.
        let loud = run(
            "loud",
            "i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done; exit 5",
            json!({}),
        );
        let status = world.wait_exited(&loud);
        assert_eq!(
            (status["exitCode"].as_i64(), status["reason"].as_str()),
            (Some(5), Some("Error")),
            "{status}"
        );
        let log = world.log_file(handler, "loud");
        let numbers: Vec<&str> = log.lines().filter_map(|line| line.rsplit(' ').next()).collect();
        let expected: Vec<String> = (0..20000).map(|n| n.to_string()).collect();
        assert_eq!(numbers, expected);

        let limit = json!({"linux": {"resources": {"memory_limit_in_bytes": 33_554_432}}});
        let bomb = run("bomb", "x=a; while true; do x=$x$x; done", limit);
        let status = world.wait_exited(&bomb);
        assert_eq!(
            (status["exitCode"].as_i64(), status["reason"].as_str()),
            (Some(137), Some("OOMKilled")),
            "{status}"
        );

        // A program that is not there is told by name, and leaves nothing.
        let absent = world.container("absent", &image, &["/no/such/program"], json!({}));
        let file = world.file("absent", &absent);
        let error = world.crictl_error(&["create", &pod, &file, &world.file("pod", &pod_config)]);
        assert!(error.contains("/no/such/program"), "{error}");

        // One that was never started goes with its pod.
        let idle = world.container("idle", &image, &["sleep", "1000"], json!({}));
        world.create_container(&pod, &pod_config, &idle);
        world.crictl(&["rmp", "-f", &pod]);
    }
}

#[test]
fn the_daemon_is_killed_and_nothing_is_lost() {
    let mut world = world();
    let image = world.busybox();
    let mut kept = Vec::new();
    for handler in HANDLERS {
        let pod_config = world.pod(handler, json!({}));
        let pod = world.run_pod_with(handler, &pod_config);
        let counter = world.run_container(
            &pod,
            &pod_config,
            &world.container("counter", &image, &["sh", "-c", COUNT], json!({})),
        );
        let script = "while [ ! -e /end ]; do usleep 20000; done; echo last words; exit 42";
        let ender = world.run_container(
            &pod,
            &pod_config,
            &world.container("ender", &image, &["sh", "-c", script], json!({})),
        );
        until("the first lines", || world.log_file(handler, "counter").lines().count() > 5);
        kept.push((handler, pod, counter, ender));
    }
    let pids: Vec<u32> = kept.iter().map(|(.., ender)| pid_of(&world, ender)).collect();
    world.kill();
    for pid in pids {
        std::fs::write(format!("/proc/{pid}/root/end"), "").expect("a file in the container");
        until("the ender's end", || !Path::new(&format!("/proc/{pid}")).exists());
    }
    for (handler, ..) in &kept {
        let lines = world.log_file(handler, "counter").lines().count();
        until("lines written with no daemon", || {
            world.log_file(handler, "counter").lines().count() > lines + 5
        });
    }
    world.start();
    for (handler, pod, counter, ender) in &kept {
        assert_eq!(world.status(counter)["state"], "CONTAINER_RUNNING");
        assert_eq!(world.crictl(&["exec", "--sync", counter, "echo", "still here"]), "still here");
        assert_eq!(world.wait_exited(ender)["exitCode"], 42);
        assert!(world.log_file(handler, "ender").ends_with(" stdout F last words\n"));
        let log = world.log_file(handler, "counter");
        for (n, line) in log.lines().enumerate() {
            assert!(line.ends_with(&format!(" stdout F line {n}")), "the log has a gap: {line}");
        }
        world.crictl(&["stop", "--timeout", "0", counter]);
        assert_eq!(world.status(counter)["exitCode"], 137);
        world.crictl(&["rmp", "-f", pod]);
    }
}

/// Processes whose command line names this and begins like that.
fn processes(named: &str, name: &str) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").expect("/proc").flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            line.contains(named) && line.split(' ').next().is_some_and(|own| own.ends_with(name))
        })
        .collect()
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it lives");
}

#[test]
fn a_shim_that_dies_takes_its_container_along() {
    let mut world = world();
    let image = world.busybox();
    let pod_config = world.pod("plain", json!({}));
    let pod = world.run_pod_with("plain", &pod_config);
    let command = ["sleep", "1000"];
    // First the foreign shim, then the keeper of another container.
    let first = world.run_container(
        &pod,
        &pod_config,
        &world.container("first", &image, &command, json!({})),
    );
    let pid = pid_of(&world, &first);
    let (name, shim) = parent(pid);
    assert!(name.starts_with("containerd-shim"), "{name}");
    kill(shim);
    assert_eq!(world.wait_exited(&first)["exitCode"], 137);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());

    let second = world.run_container(
        &pod,
        &pod_config,
        &world.container("second", &image, &command, json!({})),
    );
    let pid = pid_of(&world, &second);
    let keepers = processes(&second, "orlop-shim");
    assert_eq!(keepers.len(), 1, "{keepers:?}");
    kill(keepers[0]);
    let status = world.wait_exited(&second);
    assert_eq!(
        (status["exitCode"].as_i64(), status["reason"].as_str()),
        (Some(255), Some("Unknown")),
        "{status}"
    );
    until("the container's end", || !Path::new(&format!("/proc/{pid}")).exists());
    until("the shim's end", || processes(&second, "containerd-shim-runc-v2").is_empty());
    world.crictl(&["rmp", "-f", &pod]);
}

#[test]
fn handlers_are_told_and_unknown_ones_refused() {
    let world = world();
    let status: Value = serde_json::from_str(&world.crictl(&["info", "-o", "json"])).expect("JSON");
    let handlers = status["runtimeHandlers"].as_array().expect("handlers").clone();
    let names: Vec<&str> =
        handlers.iter().map(|handler| handler["name"].as_str().unwrap_or_default()).collect();
    assert_eq!(names, ["", "orlop", "held", "plain"]);
    // Debian 12's runc knows recursive read-only mounts, and no mapped ones.
    let features = &handlers[2]["features"];
    assert!(!features["userNamespaces"].as_bool().unwrap_or(false), "{features}");
    assert_eq!(
        features["recursiveReadOnlyMounts"],
        handlers[0]["features"]["recursiveReadOnlyMounts"]
    );
    let pod = world.file("pod", &world.pod("p", json!({})));
    let error = world.crictl_error(&["runp", "--runtime", "other", &pod]);
    for word in ["other", "orlop", "held", "plain"] {
        assert!(error.contains(word), "{word}: {error}");
    }
}

#[test]
fn streams_reach_a_foreign_container() {
    let mut world = world();
    let image = world.busybox();
    for handler in HANDLERS {
        let pod_config = world.pod(handler, json!({}));
        let pod = world.run_pod_with(handler, &pod_config);
        let script = "while read line; do echo got $line; done; echo input ended; exit 9";
        let more = json!({"stdin": true, "stdin_once": true});
        let config = world.container("main", &image, &["sh", "-c", script], more);
        let id = world.run_container(&pod, &pod_config, &config);

        let done =
            output(&mut world.crictl_inside(&["exec", &id, "sh", "-c", "echo out; echo err >&2"]));
        assert_eq!((done.stdout, done.stderr), (b"out\n".to_vec(), b"err\n".to_vec()));
        let mut talk = Talk::on_terminal(&world.crictl_inside(&["exec", "-it", &id, "sh"]));
        talk.write("echo $((40+2))$(tty)\n");
        talk.expect("42/dev/");
        talk.resize(101, 33);
        until("the new size", || {
            talk.write("stty size\n");
            talk.said().contains("33 101")
        });
        talk.write("exit 0\n");
        assert_eq!(talk.ended(), 0, "{handler}: {}", talk.said());

        // The keeper outlives the daemon, and with it what can be attached to.
        world.kill();
        world.start();
        let mut talk = Talk::on_pipes(world.crictl_inside(&["attach", "-i", &id]));
        until("the attachment", || {
            talk.write("hello\n");
            talk.said().contains("got hello")
        });
        talk.close();
        talk.expect("input ended");
        assert_eq!(world.wait_exited(&id)["exitCode"], 9);
        assert!(world.log_file(handler, "main").contains("stdout F got hello"));
        world.crictl(&["rmp", "-f", &pod]);
    }
}
