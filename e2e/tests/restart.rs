//! The daemon is killed and comes back: no container notices, nothing is forgotten.

use orlop_e2e::World;
use orlop_e2e::process::until;
use serde_json::json;

/// A container that counts into its log, ten times a second.
const COUNT: &str = "i=0; while true; do echo line $i; i=$((i+1)); usleep 20000; done";

/// The numbers behind `line` in a CRI log, each record checked against the grammar.
fn numbers(log: &str) -> Vec<u64> {
    log.lines()
        .map(|line| {
            let fields: Vec<&str> = line.splitn(4, ' ').collect();
            assert!(
                fields.len() == 4
                    && fields[0].contains('T')
                    && fields[1] == "stdout"
                    && fields[2] == "F",
                "{line}"
            );
            fields[3]
                .strip_prefix("line ")
                .and_then(|n| n.parse().ok())
                .unwrap_or_else(|| panic!("{line}"))
        })
        .collect()
}

#[test]
fn kill_9_and_back() {
    let mut world = World::new();
    let image = world.busybox();
    let pod_config = world.pod("busy", json!({}));
    let pod = world.run_pod(&pod_config);
    let counter = world.run_container(
        &pod,
        &pod_config,
        &world.container("counter", &image, &["sh", "-c", COUNT], json!({})),
    );
    let script = "trap 'exit 7' TERM; echo up; while [ ! -e /end ]; do usleep 20000; done; exit 42";
    let ender = world.run_container(
        &pod,
        &pod_config,
        &world.container("ender", &image, &["sh", "-c", script], json!({})),
    );
    until("the first lines", || numbers(&world.log_file("busy", "counter")).len() > 5);

    let before = world.status(&counter)["startedAt"].clone();
    // The ender ends while no daemon lives: its root is reached as anyone on the host can.
    let pid = pid_of(&world, &ender);
    world.kill();
    std::fs::write(format!("/proc/{pid}/root/end"), "").expect("a file in the container");
    until("the ender's end", || !std::path::Path::new(&format!("/proc/{pid}")).exists());
    let lines = numbers(&world.log_file("busy", "counter")).len();
    until("lines written with no daemon", || {
        numbers(&world.log_file("busy", "counter")).len() > lines + 5
    });
    world.start();

    let status = world.status(&counter);
    assert_eq!(status["state"], "CONTAINER_RUNNING");
    assert_eq!(status["startedAt"], before);
    assert_eq!(world.crictl(&["exec", "--sync", &counter, "echo", "still here"]), "still here");
    let ended = world.wait_exited(&ender);
    assert_eq!(ended["exitCode"], 42, "{ended}");
    let seen = numbers(&world.log_file("busy", "counter"));
    assert_eq!(seen, (0..seen.len() as u64).collect::<Vec<_>>(), "the log has a gap");

    world.crictl(&["stop", "--timeout", "0", &counter]);
    assert_eq!(world.status(&counter)["exitCode"], 137);
    world.crictl(&["stopp", &pod]);
    world.crictl(&["rmp", &pod]);
}

#[test]
fn ten_kills_in_a_row_lose_nothing() {
    let mut world = World::new();
    let image = world.busybox();
    let pod_config = world.pod("tough", json!({}));
    let pod = world.run_pod(&pod_config);
    let counter = world.run_container(
        &pod,
        &pod_config,
        &world.container("counter", &image, &["sh", "-c", COUNT], json!({})),
    );
    for _ in 0..10 {
        world.kill();
        world.start();
        assert_eq!(world.status(&counter)["state"], "CONTAINER_RUNNING");
    }
    let seen = numbers(&world.log_file("tough", "counter"));
    assert_eq!(seen, (0..seen.len() as u64).collect::<Vec<_>>(), "the log has a gap");
}

#[test]
fn a_kill_in_the_middle_of_work_leaves_whole_objects_or_none() {
    let mut world = World::new();
    let image = world.busybox();
    for round in 0..5 {
        let name = format!("middle-{round}");
        let config = world.pod(&name, json!({}));
        let file = world.file(&name, &config);
        let socket = world.socket();
        let running = std::thread::spawn(move || {
            let endpoint = format!("unix://{}", socket.display());
            let arguments = ["--config", "/dev/null", "-r", &endpoint, "runp", &file];
            orlop_e2e::process::output(
                std::process::Command::new(orlop_e2e::tool("crictl")).args(arguments),
            )
        });
        // The kill comes at another moment each time: after as many looks at the list as the round's number.
        for _ in 0..round {
            world.crictl(&["pods", "-q"]);
        }
        world.kill();
        let _ = running.join();
        world.start();
        for pod in world.crictl(&["pods", "-q"]).lines() {
            let pod_config = world.pod(&name, json!({}));
            let state = world.crictl(&["inspectp", "-o", "json", pod]);
            if state.contains("SANDBOX_READY") {
                let id = world.run_container(
                    pod,
                    &pod_config,
                    &world.container("c", &image, &["sleep", "1000"], json!({})),
                );
                assert_eq!(world.crictl(&["exec", "--sync", &id, "echo", "whole"]), "whole");
            }
            world.crictl(&["stopp", pod]);
            world.crictl(&["rmp", pod]);
        }
    }
}

/// After a reboot: no process, no mount, nothing under /run; the records are of another boot.
#[test]
fn a_reboot_makes_exited_containers_of_the_records() {
    let mut world = World::new();
    let image = world.busybox();
    let pod_config = world.pod("before", json!({}));
    let pod = world.run_pod(&pod_config);
    let id = world.run_container(
        &pod,
        &pod_config,
        &world.container("c", &image, &["sleep", "1000"], json!({})),
    );
    let pid = pid_of(&world, &id);
    world.kill();
    world.lose_what_a_reboot_loses();
    // Who inherits the dead is the machine's affair: a zombie is as gone as can be.
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z "), "{state}");
    world.start();
    let status = world.status(&id);
    assert_eq!(status["state"], "CONTAINER_EXITED", "{status}");
    assert_ne!(status["exitCode"], 0, "{status}");
    assert!(world.crictl(&["inspectp", &pod]).contains("SANDBOX_NOTREADY"));
    // The address is free again: the same pod comes back as the kubelet would bring it.
    let next = world.pod("before", json!({"metadata": {"attempt": 1}}));
    let again = world.run_pod(&next);
    world.crictl(&["rmp", "-f", &pod]);
    world.crictl(&["rmp", "-f", &again]);
}

fn pid_of(world: &World, container: &str) -> u64 {
    let text = world.crictl(&["inspect", "-o", "json", container]);
    let inspect: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    inspect["info"]["pid"].as_u64().unwrap_or_else(|| panic!("no pid in {inspect}"))
}
