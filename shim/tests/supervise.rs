//! What the shim does by itself: starting again and looking at health, with nobody to tell it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test: all of it"
)]

mod common;

use common::{Container, process_json};
use orlop_task::ttrpc::Code;
use orlop_task::{
    Bundle, HealthCheck, HealthRecord, HealthStatus, Restart, RunsRecord, Status, Supervision,
    exec_sync,
};
use std::os::unix::fs::MetadataExt;

/// A shell that obeys: ends with 5 on SIGUSR1 and with 0 on SIGTERM.
const OBEDIENT: &str =
    "trap 'exit 5' USR1; trap 'exit 0' TERM; echo run; while :; do sleep 1000 & wait; done";

fn supervision(restart: Restart, health: Option<HealthCheck>) -> Supervision {
    Supervision { version: 1, restart, stop_signal: 15, health }
}

/// A created container that is supervised like this.
async fn create(args: &[&str], asked: &Supervision, probe: Option<&[&str]>) -> Container {
    let container = Container::launch(|_| {}, args).await;
    let probe = probe.map(process_json);
    Bundle::new(&container.bundle).write_supervision(asked, probe.as_deref()).unwrap();
    container.shim.client.create(&container.bundle, container.request()).await.unwrap();
    container
}

/// What there is to know about the runs, as soon as `is` holds.
async fn runs(container: &Container, is: impl Fn(&RunsRecord) -> bool) -> RunsRecord {
    let mut seen = 0;
    loop {
        seen = container.shim.client.watch(seen).await.unwrap();
        let now = Bundle::new(&container.bundle).runs().unwrap().unwrap();
        if is(&now) {
            return now;
        }
    }
}

async fn health(container: &Container, status: HealthStatus) -> HealthRecord {
    let mut seen = 0;
    loop {
        seen = container.shim.client.watch(seen).await.unwrap();
        let now = Bundle::new(&container.bundle).health().unwrap().unwrap();
        if now.status == status {
            return now;
        }
    }
}

async fn delete(container: Container) {
    container.shim.client.delete("").await.unwrap();
    container.reaped().await;
}

#[tokio::test]
async fn a_failure_is_followed_by_so_many_further_runs() {
    let asked = supervision(Restart::OnFailure { max: 2 }, None);
    let container = create(&["sh", "-c", "echo run; exit 3"], &asked, None).await;
    container.shim.client.start("").await.unwrap();
    assert_eq!(container.shim.client.wait("").await.unwrap().code, 3);
    assert_eq!(container.log(), ["stdout F run"; 3], "one log for all runs");
    let bundle = Bundle::new(&container.bundle);
    let runs = bundle.runs().unwrap().unwrap();
    assert_eq!((runs.restarts, runs.pid, runs.waiting), (2, 0, false));
    assert_eq!(runs.last.unwrap().code, 3);
    assert_eq!(bundle.exit_record().unwrap().unwrap().code, 3);
    delete(container).await;
}

#[tokio::test]
async fn success_ends_what_is_to_be_started_after_failures() {
    let asked = supervision(Restart::OnFailure { max: 0 }, None);
    let container = create(&["true"], &asked, None).await;
    container.shim.client.start("").await.unwrap();
    assert_eq!(container.shim.client.wait("").await.unwrap().code, 0);
    delete(container).await;
}

#[tokio::test]
async fn an_end_of_its_own_is_followed_by_a_run_and_the_stop_signal_by_none() {
    let asked = supervision(Restart::Always, None);
    let container = create(&["sh", "-c", OBEDIENT], &asked, None).await;
    let client = &container.shim.client;
    let first = client.start("").await.unwrap();
    let waiter = tokio::spawn({
        let client = client.clone();
        async move { client.wait("").await }
    });
    while container.log().is_empty() {
        tokio::task::yield_now().await;
    }
    client.kill("", 10, false).await.unwrap();
    let again = runs(&container, |runs| runs.restarts == 1 && runs.pid != 0).await;
    assert_eq!(again.last.unwrap().code, 5);
    assert_ne!(u32::try_from(again.pid).unwrap(), first);
    let state = client.state("").await.unwrap();
    assert_eq!((state.status, state.pid), (Status::Running, again.pid.unsigned_abs()));
    // The number is that of the new process, which lives in the same control group.
    assert!(client.pids().await.unwrap().contains(&state.pid));
    let output = exec_sync(client, "e1", &process_json(&["echo", "in"]), None, 100).await.unwrap();
    assert_eq!(output.stdout, b"in\n");
    while container.log().len() < 2 {
        tokio::task::yield_now().await;
    }
    client.kill("", 15, false).await.unwrap();
    assert_eq!(waiter.await.unwrap().unwrap().code, 0);
    assert_eq!(Bundle::new(&container.bundle).runs().unwrap().unwrap().restarts, 1);
    delete(container).await;
}

#[tokio::test]
async fn sigkill_through_the_service_is_the_end() {
    let asked = supervision(Restart::Always, None);
    let container = create(&["sleep", "1000"], &asked, None).await;
    container.shim.client.start("").await.unwrap();
    container.shim.client.kill("", 9, true).await.unwrap();
    assert_eq!(container.shim.client.wait("").await.unwrap().code, 137);
    delete(container).await;
}

#[tokio::test]
async fn a_stop_between_two_runs_ends_it() {
    let asked = supervision(Restart::Always, None);
    let container = create(&["false"], &asked, None).await;
    let client = &container.shim.client;
    client.start("").await.unwrap();
    // The pauses double: some run on it is long enough to be met.
    runs(&container, |runs| runs.restarts >= 2 && runs.waiting).await;
    assert_eq!(client.state("").await.unwrap().status, Status::Running);
    client.kill("", 15, false).await.unwrap();
    assert_eq!(client.wait("").await.unwrap().code, 1);
    assert_eq!(client.state("").await.unwrap().status, Status::Stopped);
    delete(container).await;
}

#[tokio::test]
async fn what_never_began_is_not_started_again() {
    let container = create(&["/nope"], &supervision(Restart::Always, None), None).await;
    let error = container.shim.client.start("").await.unwrap_err();
    assert!(error.to_string().contains("/nope"), "{error}");
    assert_eq!(container.shim.client.wait("").await.unwrap().code, 128);
    delete(container).await;
}

#[tokio::test]
async fn a_policy_can_be_changed_while_it_runs() {
    let container =
        create(&["sh", "-c", OBEDIENT], &supervision(Restart::Always, None), None).await;
    let client = &container.shim.client;
    client.start("").await.unwrap();
    while container.log().is_empty() {
        tokio::task::yield_now().await;
    }
    let none = supervision(Restart::No, None);
    Bundle::new(&container.bundle).write_supervision(&none, None).unwrap();
    client.supervise().await.unwrap();
    client.kill("", 10, false).await.unwrap();
    assert_eq!(client.wait("").await.unwrap().code, 5);
    delete(container).await;

    let plain = Container::run(&["sleep", "1000"]).await;
    let refused = plain.shim.client.supervise().await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    plain.finish().await;
}

#[tokio::test]
async fn runs_leave_nothing_in_the_shim() {
    let asked = supervision(Restart::OnFailure { max: 3 }, None);
    let container = create(&["sh", "-c", OBEDIENT], &asked, None).await;
    let client = &container.shim.client;
    client.start("").await.unwrap();
    let mut fds = Vec::new();
    for run in 0..3 {
        while container.log().len() <= run {
            tokio::task::yield_now().await;
        }
        fds.push(container.shim_fds());
        client.kill("", 10, false).await.unwrap();
        runs(&container, |runs| runs.restarts as usize == run + 1 && runs.pid != 0).await;
    }
    assert_eq!(fds, [fds[0]; 3]);
    container.finish().await;
}

const CHECK: HealthCheck =
    HealthCheck { interval: 20, timeout: 60_000, start_period: 0, start_interval: 20, retries: 2 };

#[tokio::test]
async fn health_goes_both_ways() {
    let asked = supervision(Restart::No, Some(CHECK));
    // Sick when the file is there; /tmp is the container's own.
    let look = ["sh", "-c", "echo out; echo err >&2; test ! -e /tmp/sick"];
    let container = create(&["sleep", "1000"], &asked, Some(&look)).await;
    let client = &container.shim.client;
    client.start("").await.unwrap();
    let well = health(&container, HealthStatus::Healthy).await;
    let last = well.log.last().unwrap();
    assert_eq!((last.exit_code, last.output.as_str()), (0, "out\nerr\n"));
    let sicken = process_json(&["sh", "-c", ": > /tmp/sick"]);
    assert_eq!(exec_sync(client, "e1", &sicken, None, 100).await.unwrap().exit_code, 0);
    let sick = health(&container, HealthStatus::Unhealthy).await;
    assert!(sick.failing_streak >= 2);
    assert_eq!(sick.log.last().unwrap().exit_code, 1);
    container.finish().await;
}

#[tokio::test]
async fn a_look_that_takes_too_long_is_killed_and_reaped() {
    let check = HealthCheck { timeout: 50, retries: 1, interval: 100, ..CHECK };
    let asked = supervision(Restart::No, Some(check));
    let look = ["sh", "-c", "echo begun; sleep 1000 & sleep 1000"];
    let container = create(&["sleep", "1000"], &asked, Some(&look)).await;
    let client = &container.shim.client;
    client.start("").await.unwrap();
    let sick = health(&container, HealthStatus::Unhealthy).await;
    assert_eq!(sick.log.last().unwrap().exit_code, -1);
    assert!(sick.log.last().unwrap().output.contains("50 ms"), "{sick:?}");
    assert!(client.details().await.unwrap().exec_ids.is_empty(), "nobody asked for an exec");
    container.finish().await;
}

#[tokio::test]
async fn what_a_look_writes_is_bounded_and_a_missing_command_is_told() {
    for (look, exit_code) in [(&["sh", "-c", "yes | head -c 1000000"][..], 0), (&["/nope"][..], -1)]
    {
        let asked = supervision(Restart::No, Some(HealthCheck { retries: 1, ..CHECK }));
        let container = create(&["sleep", "1000"], &asked, Some(look)).await;
        container.shim.client.start("").await.unwrap();
        let wanted = if exit_code == 0 { HealthStatus::Healthy } else { HealthStatus::Unhealthy };
        let record = health(&container, wanted).await;
        let last = record.log.last().unwrap();
        assert_eq!(last.exit_code, exit_code);
        match exit_code {
            0 => assert_eq!(last.output.len(), 4096),
            _ => assert!(last.output.contains("/nope"), "{}", last.output),
        }
        let file = container.bundle.join("health.json");
        assert!(file.metadata().unwrap().size() < 100_000);
        container.finish().await;
    }
}

#[tokio::test]
async fn health_begins_anew_with_each_run() {
    let asked = supervision(Restart::Always, Some(CHECK));
    let container = create(&["sh", "-c", OBEDIENT], &asked, Some(&["true"])).await;
    let client = &container.shim.client;
    client.start("").await.unwrap();
    health(&container, HealthStatus::Healthy).await;
    client.kill("", 10, false).await.unwrap();
    runs(&container, |runs| runs.restarts == 1 && runs.pid != 0).await;
    health(&container, HealthStatus::Healthy).await;
    container.finish().await;
}
