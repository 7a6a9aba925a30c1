//! What a container's state says in the cases that are easy to get wrong.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{Node, on_a_node, pod, shell};
use orlop_lifecycle::{ContainerState, ErrorKind, SandboxState};
use rustix::process::{Pid, Signal, kill_process};
use std::time::Duration;

fn shim(node: &Node, id: &str) -> Pid {
    let bundle = orlop_task::Bundle::new(node.run().join("bundles").join(id));
    Pid::from_raw(bundle.shim().unwrap().unwrap().pid).unwrap()
}

#[test]
fn a_created_container_whose_init_dies_has_exited() {
    on_a_node(|node| {
        let daemon = node.start();
        let rt = daemon.rt();
        daemon.pull(node);
        let sandbox = daemon.sandbox(pod(node, "p"));
        let create = rt.create_container(&sandbox, shell(node, "waits", "exit 5"));
        let id = daemon.wait(create).unwrap().to_string();
        let view = rt.container(&id).unwrap();
        assert_eq!(view.state, ContainerState::Created);
        let init = Pid::from_raw(view.pid.unwrap().cast_signed()).unwrap();
        kill_process(init, Signal::KILL).unwrap();
        let view = daemon.ended(&id);
        assert_eq!((view.exit_code, view.reason.as_str(), view.started_at.0), (137, "Error", 0));
        assert!(view.message.contains("before it was started"), "{}", view.message);
        let error = daemon.wait(rt.start_container(&id)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition, "{error}");
        // A program that cannot be executed still says why, and not that its init ended.
        let mut config = shell(node, "cannot", "");
        config.command = vec!["/no/such/program".into()];
        let id = daemon.wait(rt.create_container(&sandbox, config)).unwrap().to_string();
        daemon.wait(rt.start_container(&id)).unwrap_err();
        let view = daemon.ended(&id);
        assert_eq!((view.exit_code, view.reason.as_str()), (128, "StartError"));
        assert!(view.message.contains("/no/such/program"), "{}", view.message);
        // One that is over before the answer to its start is there.
        for _ in 0..20 {
            let config = shell(node, "short", "exit 3");
            let id = daemon.container(&sandbox, config);
            let view = daemon.ended(&id);
            assert_eq!((view.exit_code, view.message.as_str()), (3, ""));
            assert!(view.started_at.0 > 0);
            daemon.wait(rt.remove_container(&id)).unwrap();
        }
        daemon.wait(rt.remove_sandbox(&sandbox)).unwrap();
    });
}

#[test]
fn a_start_that_takes_too_long_never_happens() {
    on_a_node(|node| {
        let daemon = node.start_with(|options| options.start_patience = Duration::from_millis(200));
        let rt = daemon.rt();
        daemon.pull(node);
        let sandbox = daemon.sandbox(pod(node, "p"));
        let script = "echo it began; exec sleep 1000";
        let create = rt.create_container(&sandbox, shell(node, "late", script));
        let id = daemon.wait(create).unwrap().to_string();
        let pid = rt.container(&id).unwrap().pid.unwrap();
        // Whatever the request does to a shim that sleeps, it must not be done when it wakes up.
        let shim = shim(node, &id);
        kill_process(shim, Signal::STOP).unwrap();
        let error = daemon.wait(rt.start_container(&id)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        let view = daemon.ended(&id);
        assert_eq!((view.exit_code, view.reason.as_str()), (128, "StartError"));
        assert!(view.message.contains("no answer to start"), "{}", view.message);
        // It may be gone already.
        let _ = kill_process(shim, Signal::CONT);
        let dead = |pid: u32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        };
        daemon.wait(async {
            while !dead(pid) {
                tokio::task::yield_now().await;
            }
        });
        let log = std::fs::read_to_string(view.log_path.as_ref().unwrap()).unwrap_or_default();
        assert_eq!(log, "", "nothing of it began");
        daemon.wait(rt.remove_sandbox(&sandbox)).unwrap();
    });
}

#[test]
fn a_damaged_record_harms_no_running_container() {
    on_a_node(|node| {
        let daemon = node.start();
        daemon.pull(node);
        let sandbox = daemon.sandbox(pod(node, "p"));
        let id = daemon.container(&sandbox, shell(node, "c", "exec sleep 1000"));
        let before = daemon.rt().container(&id).unwrap();
        daemon.kill();
        std::fs::write(node.root().join(format!("containers/{id}.json")), b"\0\0\0").unwrap();
        std::fs::write(node.root().join(format!("sandboxes/{sandbox}.json")), b"").unwrap();
        let daemon = node.start();
        let rt = daemon.rt();
        assert_eq!(daemon.recovered.bad_records.len(), 2, "{:?}", daemon.recovered);
        assert_eq!((daemon.recovered.running, daemon.recovered.orphans), (1, 0));
        assert_eq!(rt.sandbox(&sandbox).unwrap().state, SandboxState::Ready);
        assert_eq!(rt.container(&id).unwrap(), before);
        assert_eq!(daemon.sh(&id, "echo alive"), "alive\n");
        drop(rt);
        daemon.kill();
        // The damage was mended.
        let daemon = node.start();
        assert_eq!(daemon.recovered.bad_records, Vec::<String>::new());
        daemon.wait(daemon.rt().remove_sandbox(&sandbox)).unwrap();
    });
}
