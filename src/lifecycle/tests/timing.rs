//! Where the time of a pod goes. Ignored: a number is for people, not a pass or fail.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{on_a_node, pod, shell};
use orlop_spec::request::NamespaceMode;
use std::time::{Duration, Instant};

#[test]
#[ignore = "prints durations; run with --ignored --nocapture"]
#[allow(clippy::print_stderr, reason = "that is what it is for")]
fn where_the_time_goes() {
    on_a_node(|node| {
        let daemon = node.start();
        let rt = daemon.rt();
        daemon.pull(node);
        for network in [NamespaceMode::Node, NamespaceMode::Pod] {
            let mut times: Vec<[Duration; 7]> = Vec::new();
            for n in 0..20 {
                let mut config = pod(node, &format!("{network:?}{n}"));
                config.hostname = "timed".into();
                config.security.namespaces.network = network.clone();
                let mut laps = Vec::new();
                let mut at = Instant::now();
                let mut lap = || {
                    laps.push(at.elapsed());
                    at = Instant::now();
                };
                let sandbox = daemon.wait(rt.run_sandbox(config)).unwrap();
                lap();
                let container = shell(node, "c", "trap 'exit 0' USR1; sleep 1000 & wait");
                let id = daemon.wait(rt.create_container(sandbox.as_str(), container)).unwrap();
                lap();
                daemon.wait(rt.start_container(id.as_str())).unwrap();
                lap();
                daemon.wait(rt.exec_sync(id.as_str(), vec!["true".into()], None)).unwrap();
                lap();
                daemon.wait(rt.stop_container(id.as_str(), 0)).unwrap();
                lap();
                daemon.wait(rt.stop_sandbox(sandbox.as_str())).unwrap();
                lap();
                daemon.wait(rt.remove_sandbox(sandbox.as_str())).unwrap();
                lap();
                times.push(laps.try_into().unwrap());
            }
            let names = [
                "run sandbox",
                "create",
                "start",
                "exec",
                "stop container",
                "stop sandbox",
                "remove sandbox",
            ];
            for (index, name) in names.iter().enumerate() {
                let mut column: Vec<_> = times.iter().map(|laps| laps[index]).collect();
                column.sort();
                eprintln!(
                    "{network:?} {name}: min {:?} p50 {:?} max {:?}",
                    column[0], column[10], column[19]
                );
            }
        }
    });
}
