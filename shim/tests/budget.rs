//! What a shim may cost.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test: all of it"
)]

mod common;

use common::{Container, process_json};
use orlop_task::exec_sync;
use std::time::Instant;

/// PSS in kB that a shim may have (design: 0.5 MiB), as the average of [`SHIMS`], which share the
/// pages of one binary. Asserted for a release build only, named by `ORLOP_TEST_SHIM`.
const ALLOWED: u64 = 512;
const SHIMS: usize = 10;

fn pss(container: &Container) -> u64 {
    let text = container.shim_proc("smaps_rollup", "Pss:").unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

async fn exec_true(container: &Container, n: usize) {
    let process = process_json(&["true"]);
    let output =
        exec_sync(&container.shim.client, &format!("e{n}"), &process, None, 1 << 20).await.unwrap();
    assert_eq!(output.exit_code, 0);
}

/// The shim forgets an exec a moment after exec_sync has returned.
async fn forgotten(container: &Container) {
    while !container.shim.client.details().await.unwrap().exec_ids.is_empty() {}
}

#[tokio::test]
async fn threads_and_descriptors_do_not_grow() {
    let container = Container::run(&["sleep", "1000"]).await;
    exec_true(&container, 0).await;
    forgotten(&container).await;
    let fds = container.shim_fds();
    let mut times = Vec::new();
    for n in 1..=200 {
        let start = Instant::now();
        exec_true(&container, n).await;
        times.push(start.elapsed());
    }
    forgotten(&container).await;
    times.sort_unstable();
    println!(
        "exec_sync of true: min {:?}, p50 {:?}, p90 {:?}; {fds} descriptors",
        times[0], times[100], times[180]
    );
    assert_eq!(container.shim_fds(), fds);
    assert_eq!(container.shim_proc("status", "Threads:").unwrap(), "1");
    container.finish().await;
}

#[tokio::test]
async fn memory() {
    let mut containers = Vec::new();
    for _ in 0..SHIMS {
        let container = Container::run(&["sleep", "1000"]).await;
        exec_true(&container, 0).await;
        containers.push(container);
    }
    let all: Vec<u64> = containers.iter().map(pss).collect();
    let average = all.iter().sum::<u64>() / all.len() as u64;
    println!("PSS of {SHIMS} shims: {average} kB each");
    if std::env::var_os("ORLOP_TEST_SMAPS").is_some() {
        println!(
            "{}",
            std::fs::read_to_string(format!("/proc/{}/smaps", containers[0].shim.pid)).unwrap()
        );
    }
    for container in containers {
        container.finish().await;
    }
    if std::env::var_os("ORLOP_TEST_SHIM").is_some() {
        assert!(average <= ALLOWED, "PSS {average} kB");
    }
}
