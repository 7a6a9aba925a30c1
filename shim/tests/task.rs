//! The real shim binary with busybox containers.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test: all of it"
)]

mod common;

use common::{Container, log_path, process_json, texts};
use orlop_task::protocol::shim::CreateOptions;
use orlop_task::ttrpc::Code;
use orlop_task::{
    Bundle, CreateRequest, ExecError, ExecRequest, Shim, Status, TaskError, exec_sync,
};
use serde_json::json;
use std::time::Duration;

const CAP: usize = 1 << 20;

fn code(error: &TaskError) -> Code {
    error.code()
}

#[tokio::test]
async fn a_container_from_create_to_delete() {
    let container =
        Container::create(&["sh", "-c", "echo out; echo err >&2; printf last; exit 7"]).await;
    let client = &container.shim.client;
    let state = client.state("").await.unwrap();
    assert_eq!((state.status, state.exit), (Status::Created, None));
    let pid = client.start("").await.unwrap();
    assert_eq!(pid, state.pid);
    let exit = client.wait("").await.unwrap();
    assert_eq!(exit.code, 7);
    // Everything is in the log before the end is told; order holds within a stream.
    let mut log = container.log();
    log.sort();
    assert_eq!(log, ["stderr F err", "stdout F out", "stdout P last"]);
    let record = Bundle::new(&container.bundle).exit_record().unwrap().unwrap();
    assert_eq!((record.code, record.exited_at, record.oom_killed), (7, exit.at.0, false));
    assert_eq!(client.state("").await.unwrap().exit, Some(exit));
    assert_eq!(code(&client.start("").await.unwrap_err()), Code::FailedPrecondition);
    client.kill("", 15, false).await.unwrap();
    container.finish().await;
}

#[tokio::test]
async fn signals_end_with_128_plus_n() {
    let container = Container::run(&["sleep", "1000"]).await;
    let client = container.shim.client.clone();
    let early = tokio::spawn(async move { client.wait("").await });
    let client = &container.shim.client;
    assert_eq!(code(&client.delete("").await.unwrap_err()), Code::FailedPrecondition);
    client.kill("", 9, false).await.unwrap();
    assert_eq!(early.await.unwrap().unwrap().code, 137);
    container.finish().await;
}

#[tokio::test]
async fn a_created_container_can_be_deleted() {
    let container = Container::create(&["sleep", "1000"]).await;
    let client = &container.shim.client;
    assert_eq!(client.delete("").await.unwrap().code, 137);
    container.reaped().await;
}

#[tokio::test]
async fn start_tells_why_an_entrypoint_does_not_run() {
    for (args, words) in [(["/nope"], "/nope"), (["/etc/passwd"], "/etc/passwd")] {
        let container = Container::create(&args).await;
        let client = &container.shim.client;
        let error = client.start("").await.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(client.wait("").await.unwrap().code, 128);
        client.delete("").await.unwrap();
        container.reaped().await;
    }
}

#[tokio::test]
async fn a_failed_create_leaves_a_shim_without_container() {
    let container = Container::launch(
        |spec| {
            spec["mounts"].as_array_mut().unwrap().push(json!({
                "destination": "/data", "type": "bind", "source": "/no/such/source", "options": ["bind"]
            }));
        },
        &["true"],
    )
    .await;
    let client = &container.shim.client;
    let error = client.create(&container.bundle, container.request()).await.unwrap_err();
    assert!(error.to_string().contains("/no/such/source"), "{error}");
    assert!(client.state("").await.unwrap_err().is_not_found());
    client.shutdown(false).await.unwrap();
    container.reaped().await;
}

#[tokio::test]
async fn exec_sync_collects_output_and_status() {
    let container = Container::run(&["sleep", "1000"]).await;
    let client = &container.shim.client;
    let script = "echo out; echo err >&2; exit 3";
    let output =
        exec_sync(client, "e1", &process_json(&["sh", "-c", script]), None, CAP).await.unwrap();
    assert_eq!(
        (output.stdout.as_slice(), output.stderr.as_slice()),
        (b"out\n".as_slice(), b"err\n".as_slice())
    );
    assert_eq!((output.exit_code, output.truncated), (3, false));

    let big = exec_sync(
        client,
        "e2",
        &process_json(&["sh", "-c", "yes | head -c 3000000"]),
        None,
        100_000,
    )
    .await
    .unwrap();
    assert_eq!((big.stdout.len(), big.truncated, big.exit_code), (100_000, true, 0));

    let error = exec_sync(client, "e3", &process_json(&["/nope"]), None, CAP).await.unwrap_err();
    assert!(error.to_string().contains("/nope"), "{error}");

    let limit = Duration::from_millis(200);
    let error = exec_sync(client, "e4", &process_json(&["sleep", "1000"]), Some(limit), CAP)
        .await
        .unwrap_err();
    assert!(matches!(error, ExecError::TimedOut(_)));
    assert_eq!(client.pids().await.unwrap().len(), 1, "the command has been killed and reaped");
    container.finish().await;
}

#[tokio::test]
async fn a_grandchild_that_keeps_the_pipe_does_not_hold_exec_sync() {
    let container = Container::run(&["sleep", "1000"]).await;
    let client = &container.shim.client;
    let process = process_json(&["sh", "-c", "echo hi; sleep 999 &"]);
    let output = exec_sync(client, "e1", &process, None, CAP).await.unwrap();
    assert_eq!(output.stdout, b"hi\n");
    container.finish().await;
}

#[tokio::test]
async fn a_dropped_exec_sync_kills_its_command() {
    let container = Container::run(&["sleep", "1000"]).await;
    let client = &container.shim.client;
    let process = process_json(&["sh", "-c", "echo started; exec sleep 1000"]);
    {
        let exec = exec_sync(client, "e1", &process, None, CAP);
        tokio::pin!(exec);
        let running = async {
            while !client.state("e1").await.is_ok_and(|state| state.status == Status::Running) {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = &mut exec => panic!("sleep does not end"),
            () = running => {}
        }
    }
    // Its end, or that it is gone altogether.
    match client.wait("e1").await {
        Ok(exit) => assert_eq!(exit.code, 137),
        Err(error) => assert!(error.is_not_found(), "{error}"),
    }
    container.finish().await;
}

#[tokio::test]
async fn execs_end_with_their_container() {
    let container = Container::run(&["sleep", "1000"]).await;
    let client = &container.shim.client;
    let request = ExecRequest {
        exec_id: "e1".to_owned(),
        process: process_json(&["sleep", "1000"]),
        ..ExecRequest::default()
    };
    client.exec(request.clone()).await.unwrap();
    assert_eq!(code(&client.exec(request).await.unwrap_err()), Code::AlreadyExists);
    client.start("e1").await.unwrap();
    assert_eq!(client.details().await.unwrap().exec_ids, ["e1"]);
    client.kill("", 9, false).await.unwrap();
    assert_eq!(client.wait("e1").await.unwrap().code, 137);
    client.wait("").await.unwrap();
    client.delete("e1").await.unwrap();
    container.finish().await;
}

#[tokio::test]
async fn the_shim_outlives_its_client_and_is_found_again() {
    let container =
        Container::run(&["sh", "-c", "while true; do echo tick; usleep 10000; done"]).await;
    let bundle = container.bundle.clone();
    let lines = container.log().len();
    let (pid, _) = container.shim.client.pids_of_shim().await.unwrap();
    let again = Shim::connect(&bundle).await.unwrap();
    assert_eq!((again.pid, again.pid), (pid, container.shim.pid));
    let record = Bundle::new(&bundle).shim().unwrap().unwrap();
    assert_eq!(record.pid.unsigned_abs(), pid);
    assert_eq!(orlop_sys::process::start_time(record.pid).unwrap(), record.start_time);
    while container.log().len() <= lines {
        again.client.state("").await.unwrap();
    }
    container.finish().await;
    assert!(Shim::connect(&bundle).await.unwrap_err().is_gone());
}

#[tokio::test]
async fn the_log_goes_on_across_a_reopen() {
    let container = Container::run(&[
        "sh",
        "-c",
        "i=0; while [ $i -lt 300 ]; do echo $i; i=$((i+1)); usleep 1000; done",
    ])
    .await;
    let client = &container.shim.client;
    let path = log_path(container.dir.path());
    let rotated = container.dir.path().join("0.log.1");
    while container.log().len() < 20 {
        tokio::task::yield_now().await;
    }
    std::fs::rename(&path, &rotated).unwrap();
    client.reopen_log().await.unwrap();
    client.wait("").await.unwrap();
    let all: Vec<String> = texts(&rotated).into_iter().chain(texts(&path)).collect();
    let want: Vec<String> = (0..300).map(|n| format!("stdout F {n}")).collect();
    assert_eq!(all, want);
    assert!(!texts(&path).is_empty());
    std::fs::remove_file(&path).unwrap();
    assert_eq!(code(&client.reopen_log().await.unwrap_err()), Code::FailedPrecondition);
    assert!(!path.exists(), "no file for a container that does not run");
    container.finish().await;
}

#[tokio::test]
async fn a_kill_for_memory_is_told() {
    let container = Container::launch(
        |spec| {
            spec["linux"]["resources"] = json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}})
        },
        &["dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"],
    )
    .await;
    let client = &container.shim.client;
    client.create(&container.bundle, container.request()).await.unwrap();
    client.start("").await.unwrap();
    assert_eq!(client.wait("").await.unwrap().code, 137);
    assert!(client.details().await.unwrap().oom_killed);
    assert!(Bundle::new(&container.bundle).exit_record().unwrap().unwrap().oom_killed);
    container.finish().await;
}

#[tokio::test]
async fn a_terminal_has_its_size_and_goes_to_the_log() {
    let container = Container::launch(
        |spec| {
            spec["process"]["terminal"] = json!(true);
            spec["process"]["consoleSize"] = json!({"height": 33, "width": 44});
        },
        &["sh", "-c", "stty size; read line; stty size; echo done"],
    )
    .await;
    let client = &container.shim.client;
    let fifo = container.dir.path().join("stdin");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let request = CreateRequest {
        terminal: true,
        stdin: fifo.to_string_lossy().into_owned(),
        stderr: String::new(),
        ..container.request()
    };
    client.create(&container.bundle, request).await.unwrap();
    client.start("").await.unwrap();
    while container.log().is_empty() {
        tokio::task::yield_now().await;
    }
    client.resize_pty("", 80, 25).await.unwrap();
    let sender = tokio::net::unix::pipe::OpenOptions::new().open_sender(&fifo).unwrap();
    sender.writable().await.unwrap();
    sender.try_write(b"go\n").unwrap();
    assert_eq!(client.wait("").await.unwrap().code, 0);
    assert_eq!(
        container.log(),
        ["stdout F 33 44", "stdout F go", "stdout F 25 80", "stdout F done"]
    );
    container.finish().await;
}

#[tokio::test]
async fn stdin_reaches_the_process_and_ends() {
    let container = Container::launch(|_| {}, &["cat"]).await;
    let client = &container.shim.client;
    let fifo = container.dir.path().join("stdin");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let request =
        CreateRequest { stdin: fifo.to_string_lossy().into_owned(), ..container.request() };
    client.create(&container.bundle, request).await.unwrap();
    client.start("").await.unwrap();
    let sender = tokio::net::unix::pipe::OpenOptions::new().open_sender(&fifo).unwrap();
    sender.writable().await.unwrap();
    sender.try_write(b"one\ntwo\n").unwrap();
    client.close_stdin("").await.unwrap();
    assert_eq!(client.wait("").await.unwrap().code, 0);
    assert_eq!(container.log(), ["stdout F one", "stdout F two"]);
    container.finish().await;
}

#[tokio::test]
async fn pause_stats_update_pids() {
    let container = Container::run(&["sleep", "1000"]).await;
    let client = &container.shim.client;
    client.pause().await.unwrap();
    assert_eq!(client.state("").await.unwrap().status, Status::Paused);
    assert_eq!(code(&client.pause().await.unwrap_err()), Code::FailedPrecondition);
    client.resume().await.unwrap();
    assert_eq!(client.state("").await.unwrap().status, Status::Running);
    let stats = client.stats().await.unwrap();
    assert!(stats.cpu.unwrap().usage.unwrap().total > 0);
    assert!(stats.memory.unwrap().usage.unwrap().usage > 0);
    assert_eq!(client.pids().await.unwrap(), [client.state("").await.unwrap().pid]);
    client
        .update(serde_json::to_vec(&json!({"memory": {"limit": 64 << 20}})).unwrap())
        .await
        .unwrap();
    assert_eq!(client.stats().await.unwrap().memory.unwrap().usage.unwrap().limit, 64 << 20);
    container.finish().await;
}

#[tokio::test]
async fn an_own_init_reaps_and_waits() {
    let container = Container::launch(|spec| spec["mounts"] = json!([]), &["unused"]).await;
    let client = &container.shim.client;
    let options = CreateOptions { init: true, exit_on_delete: true, ..CreateOptions::default() };
    client
        .create(&container.bundle, CreateRequest { options, ..CreateRequest::default() })
        .await
        .unwrap();
    client.start("").await.unwrap();
    assert_eq!(client.state("").await.unwrap().status, Status::Running);
    client.kill("", 15, false).await.unwrap();
    client.wait("").await.unwrap();
    container.finish().await;
}

#[tokio::test]
async fn wrong_requests_are_refused() {
    let container = Container::launch(|_| {}, &["true"]).await;
    let client = &container.shim.client;
    for (stdout, want) in [
        ("binary:///bin/logger", Code::InvalidArgument),
        ("cri:///no/such/dir/0.log", Code::FailedPrecondition),
        ("/etc/passwd", Code::InvalidArgument),
    ] {
        let request = CreateRequest { stdout: stdout.to_owned(), ..CreateRequest::default() };
        assert_eq!(
            code(&client.create(&container.bundle, request).await.unwrap_err()),
            want,
            "{stdout}"
        );
    }
    assert!(client.start("").await.unwrap_err().is_not_found());
    client.create(&container.bundle, container.request()).await.unwrap();
    let again = client.create(&container.bundle, container.request()).await.unwrap_err();
    assert_eq!(code(&again), Code::AlreadyExists);
    assert!(client.wait("nobody").await.unwrap_err().is_not_found());
    container.finish().await;
}
