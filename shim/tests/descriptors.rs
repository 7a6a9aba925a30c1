//! A shim that runs out of descriptors.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::Container;
use orlop_task::{Bundle, Client};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use std::collections::BTreeSet;

/// How often a process gave up the CPU because it had nothing to do.
fn waits(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn a_client_that_cannot_be_accepted_waits_and_so_does_the_shim() {
    let container = Container::run(&["sleep", "1000"]).await;
    let client = &container.shim.client;
    let bundle = Bundle::new(&container.bundle);
    let pid = bundle.shim().unwrap().unwrap().pid;
    let shim = Pid::from_raw(pid);
    let open: BTreeSet<u64> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect();
    let free = (0..).find(|number| !open.contains(number)).unwrap();
    let none = Rlimit { current: Some(free), maximum: Some(1024) };
    let before = prlimit(shim, Resource::Nofile, none).unwrap();

    let late = Client::connect(&container.id, &bundle.address().unwrap()).await.unwrap();
    let answer = tokio::spawn(async move { late.state("").await });
    client.state("").await.unwrap();
    let slept = waits(pid);
    for _ in 0..200 {
        client.state("").await.unwrap();
    }
    let slept = waits(pid) - slept;
    assert!(slept >= 20, "it slept {slept} times between 200 requests");
    assert!(!answer.is_finished());

    let maximum = Some(1024);
    prlimit(shim, Resource::Nofile, Rlimit { current: before.current.min(maximum), maximum })
        .unwrap();
    answer.await.unwrap().unwrap();
    client.kill("", 9, false).await.unwrap();
    client.wait("").await.unwrap();
    container.finish().await;
}
