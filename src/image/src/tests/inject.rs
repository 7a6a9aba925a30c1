//! The kernel kills the process, or fails a call, at every system call of a pull and of a removal
//! that matters to the disk (strace's fault injection): what is found after is whole or absent.
//!
//! A spread sample by default; all of it with `ORLOP_TEST_ALL_FAULTS=1`.

use super::crash::{check_whole_or_absent, parts};
use super::fake::Fake;
use super::registry::command;
use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;

/// Calls that change the disk or make changes durable.
const CALLS: [&str; 20] = [
    "openat",
    "write",
    "pwrite64",
    "rename",
    "renameat",
    "renameat2",
    "mkdir",
    "mkdirat",
    "unlink",
    "unlinkat",
    "rmdir",
    "fsync",
    "fdatasync",
    "syncfs",
    "ftruncate",
    "fchmod",
    "fchown",
    "utimensat",
    "fallocate",
    "linkat",
];
/// What a call may fail with, by call.
const ERRORS: [(&str, &[&str]); 9] = [
    ("openat", &["EMFILE", "ENOSPC", "EIO"]),
    ("mkdir", &["ENOSPC"]),
    ("rename", &["EIO", "ENOSPC"]),
    ("renameat", &["EIO", "ENOSPC"]),
    ("unlinkat", &["EIO"]),
    ("fsync", &["EIO"]),
    ("fdatasync", &["EIO", "ENOSPC"]),
    ("syncfs", &["EIO", "ENOSPC"]),
    ("pwrite64", &["ENOSPC", "EIO"]),
];
/// Points for each call in a sample.
const SAMPLE: usize = 2;

fn all() -> bool {
    std::env::var_os("ORLOP_TEST_ALL_FAULTS").is_some()
}

/// This test binary, as a child that pulls and removes, under strace.
fn child(root: &Path, name: &str, arguments: &[&str], log: &Path) -> std::process::Command {
    let this = std::env::current_exe().unwrap();
    let mut strace = command("timeout");
    strace
        .args(["-s", "KILL", "120", "strace", "-f", "-qq", "-o"])
        .arg(log)
        .args(arguments)
        .arg(this)
        .args(["--exact", "tests::crash::crash_child", "--nocapture"])
        .env("ORLOP_TEST_CRASH_ROOT", root)
        .env("ORLOP_TEST_CRASH_IMAGE", name)
        .env("ORLOP_TEST_CRASH_LENIENT", "1")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    strace
}

/// How often each call is made by the thread that makes it most often: strace counts by thread.
fn counts(name: &str) -> HashMap<String, usize> {
    let temp = tempfile::tempdir().unwrap();
    let log = temp.path().join("log");
    let trace = format!("trace={}", CALLS.join(","));
    let done = child(temp.path(), name, &["-e", &trace], &log).status().unwrap();
    assert!(done.success(), "strace works here: {done:?}");
    let mut by_thread: HashMap<(String, String), usize> = HashMap::new();
    for line in std::fs::read_to_string(log).unwrap().lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Some((call, _)) = rest.trim_start().split_once('(') else { continue };
        *by_thread.entry((thread.to_owned(), call.to_owned())).or_default() += 1;
    }
    let mut most = HashMap::new();
    for ((_, call), count) in by_thread {
        let entry = most.entry(call).or_insert(0);
        *entry = count.max(*entry);
    }
    most
}

/// Which of `count` calls are hit.
fn points(count: usize) -> Vec<usize> {
    if all() || count <= SAMPLE {
        return (1..=count).collect();
    }
    // The first ones load the program; what matters comes in the middle and at the end.
    (1..=SAMPLE).map(|n| n * count / (SAMPLE + 1) + 1).collect()
}

#[tokio::test]
async fn killed_at_every_call() {
    let fake = Fake::plain();
    fake.put_image("x", "1", &parts());
    let name = fake.name("x:1");
    let counts = counts(&name);
    let (mut points_seen, mut killed) = (0, 0);
    for call in CALLS {
        for when in points(counts.get(call).copied().unwrap_or(0)) {
            let temp = tempfile::tempdir().unwrap();
            let inject = format!("inject={call}:signal=KILL:when={when}");
            let arguments = ["-e", &format!("trace={call}"), "-e", &inject];
            let status =
                child(temp.path(), &name, &arguments, &temp.path().join("log")).status().unwrap();
            points_seen += 1;
            killed += usize::from(!status.success());
            check_whole_or_absent(temp.path(), &name, &inject).await;
        }
    }
    // Not every thread makes the same calls in every run, but most runs must end early.
    assert!(points_seen > 10 && killed * 2 > points_seen, "{killed} of {points_seen}");
}

#[tokio::test]
async fn calls_that_fail() {
    let fake = Fake::plain();
    fake.put_image("x", "1", &parts());
    let name = fake.name("x:1");
    let counts = counts(&name);
    for (call, errors) in ERRORS {
        for (error, when) in errors.iter().flat_map(|e| {
            points(counts.get(call).copied().unwrap_or(0)).into_iter().map(move |n| (e, n))
        }) {
            let temp = tempfile::tempdir().unwrap();
            let inject = format!("inject={call}:error={error}:when={when}");
            let arguments = ["-e", &format!("trace={call}"), "-e", &inject];
            let status =
                child(temp.path(), &name, &arguments, &temp.path().join("log")).status().unwrap();
            // 137: it hung and was killed.
            assert_ne!(status.code(), Some(137), "{inject}");
            check_whole_or_absent(temp.path(), &name, &inject).await;
        }
    }
}
