//! The daemon dies, the node reboots, records rot: what is found afterwards.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{Node, on_a_node, pod, shell, volume};
use orlop_lifecycle::{ContainerState, SandboxState};
use orlop_spec::request::NamespaceMode;
use std::io::Write;

/// A FIFO that a container reads from, so that its end is in the test's hands.
fn lever(node: &Node) -> std::path::PathBuf {
    let dir = node.dir.path().join("lever");
    std::fs::create_dir_all(&dir).unwrap();
    let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600));
    rustix::fs::mknodat(rustix::fs::CWD, dir.join("fifo"), kind, mode, 0).unwrap();
    dir
}

#[test]
fn containers_outlive_the_daemon() {
    on_a_node(|node| {
        let daemon = node.start();
        daemon.pull(node);
        let mut config = pod(node, "p");
        config.security.namespaces.pid = NamespaceMode::Pod;
        let sandbox = daemon.sandbox(config);
        let lever = lever(node);
        let mut config = shell(node, "ends", "read x < /lever/fifo; echo $x; exit 7");
        config.mounts = vec![volume(&lever, "/lever")];
        let ends = daemon.container(&sandbox, config);
        let stays = daemon.container(&sandbox, shell(node, "stays", "exec sleep 1000"));
        let created = daemon
            .wait(daemon.rt().create_container(&sandbox, shell(node, "waits", "exit 5")))
            .unwrap()
            .to_string();
        let pid = daemon.rt().container(&stays).unwrap().pid;
        drop(daemon);

        std::fs::OpenOptions::new()
            .write(true)
            .open(lever.join("fifo"))
            .unwrap()
            .write_all(b"meanwhile\n")
            .unwrap();
        let daemon = node.start();
        let rt = daemon.rt();
        assert_eq!((daemon.recovered.sandboxes, daemon.recovered.containers), (1, 3));
        assert_eq!((daemon.recovered.unknown, daemon.recovered.orphans), (0, 0));
        assert_eq!(rt.sandbox(&sandbox).unwrap().state, SandboxState::Ready);
        let view = daemon.ended(&ends);
        assert_eq!((view.exit_code, view.reason.as_str()), (7, "Error"));
        let log = std::fs::read_to_string(view.log_path.as_ref().unwrap()).unwrap();
        assert!(log.ends_with(" stdout F meanwhile\n"), "{log}");
        let view = rt.container(&stays).unwrap();
        assert_eq!((view.state, view.pid), (ContainerState::Running, pid));
        assert_eq!(daemon.sh(&stays, "echo back"), "back\n");
        assert_eq!(rt.container(&created).unwrap().state, ContainerState::Created);
        daemon.wait(rt.start_container(&created)).unwrap();
        assert_eq!(daemon.ended(&created).exit_code, 5);
        // The sandbox still works for new containers.
        let more = daemon.container(&sandbox, shell(node, "more", "exit 0"));
        assert_eq!(daemon.ended(&more).reason, "Completed");
        daemon.wait(rt.remove_sandbox(&sandbox)).unwrap();
    });
}

#[test]
fn a_reboot_ends_everything() {
    on_a_node(|node| {
        let daemon = node.start();
        daemon.pull(node);
        let sandbox = daemon.sandbox(pod(node, "p"));
        let container = daemon.container(&sandbox, shell(node, "c", "exec sleep 1000"));
        daemon.kill();
        for dir in ["sandboxes", "containers"] {
            for entry in std::fs::read_dir(node.root().join(dir)).unwrap().flatten() {
                if entry.path().extension().is_some_and(|extension| extension == "json") {
                    let text = std::fs::read_to_string(entry.path()).unwrap();
                    let mut record: serde_json::Value = serde_json::from_str(&text).unwrap();
                    record["data"]["boot_id"] = "another".into();
                    std::fs::write(entry.path(), record.to_string()).unwrap();
                }
            }
        }
        let daemon = node.start();
        let rt = daemon.rt();
        assert_eq!(rt.sandbox(&sandbox).unwrap().state, SandboxState::NotReady);
        let view = rt.container(&container).unwrap();
        assert_eq!((view.state, view.exit_code), (ContainerState::Exited, 255));
        assert_eq!(view.reason, "Unknown");
        assert!(view.finished_at >= view.started_at);
        daemon.wait(rt.remove_sandbox(&sandbox)).unwrap();
    });
}

#[test]
fn what_has_no_record_goes() {
    on_a_node(|node| {
        let daemon = node.start();
        daemon.pull(node);
        let kept = daemon.sandbox(pod(node, "kept"));
        let survivor = daemon.container(&kept, shell(node, "survivor", "exec sleep 1000"));
        let victim = daemon.container(&kept, shell(node, "victim", "exec sleep 1000"));
        let lost = daemon.sandbox(pod(node, "lost"));
        daemon.container(&lost, shell(node, "c", "exec sleep 1000"));
        daemon.kill();
        // One record rots with its copy, one is lost with a power cut.
        for dir in [node.root(), node.run().join("records")] {
            std::fs::write(dir.join(format!("containers/{victim}.json")), b"\0\0\0").unwrap();
        }
        std::fs::remove_file(node.root().join(format!("sandboxes/{lost}.json"))).unwrap();
        let daemon = node.start();
        let rt = daemon.rt();
        assert_eq!(daemon.recovered.bad_records.len(), 1, "{:?}", daemon.recovered);
        assert_eq!((daemon.recovered.sandboxes, daemon.recovered.running), (1, 1));
        assert!(rt.sandbox(&lost).is_err() && rt.container(&victim).is_err());
        assert_eq!(daemon.sh(&survivor, "echo alive"), "alive\n");
        // Their names are free again.
        daemon.container(&kept, shell(node, "victim", "exec sleep 1000"));
        let again = daemon.sandbox(pod(node, "lost"));
        daemon.wait(rt.remove_sandbox(&kept)).unwrap();
        daemon.wait(rt.remove_sandbox(&again)).unwrap();
    });
}

#[test]
fn a_dead_or_frozen_shim() {
    on_a_node(|node| {
        let daemon = node.start();
        daemon.pull(node);
        let sandbox = daemon.sandbox(pod(node, "p"));
        let dies = daemon.container(&sandbox, shell(node, "dies", "exec sleep 1000"));
        let freezes = daemon.container(&sandbox, shell(node, "freezes", "exec sleep 1000"));
        let shim = |id: &str| {
            let record = orlop_task::Bundle::new(node.run().join("bundles").join(id))
                .shim()
                .unwrap()
                .unwrap();
            rustix::process::Pid::from_raw(record.pid).unwrap()
        };
        rustix::process::kill_process(shim(&dies), rustix::process::Signal::KILL).unwrap();
        let view = daemon.ended(&dies);
        assert_eq!((view.exit_code, view.reason.as_str()), (255, "Unknown"));
        let frozen = shim(&freezes);
        rustix::process::kill_process(frozen, rustix::process::Signal::STOP).unwrap();
        daemon.kill();

        let daemon = node.start();
        let rt = daemon.rt();
        assert_eq!(daemon.recovered.unknown, 1);
        assert_eq!(rt.container(&freezes).unwrap().state, ContainerState::Unknown);
        rustix::process::kill_process(frozen, rustix::process::Signal::CONT).unwrap();
        daemon.wait(async {
            while rt.container(&freezes).unwrap().state == ContainerState::Unknown {
                tokio::task::yield_now().await;
            }
        });
        assert_eq!(daemon.sh(&freezes, "echo thawed"), "thawed\n");
        rustix::process::kill_process(frozen, rustix::process::Signal::STOP).unwrap();
        drop(rt);
        daemon.kill();

        let daemon = node.start();
        assert_eq!(daemon.recovered.unknown, 1);
        daemon.wait(daemon.rt().remove_sandbox(&sandbox)).unwrap();
    });
}
