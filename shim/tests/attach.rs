//! Attachments to a container of the real shim.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test: all of it")]

mod common;

use common::Container;
use orlop_task::{Flows, SessionEnd, Status, attach_session};
use tokio::io::AsyncReadExt;

const MUCH: usize = 8 << 20;

async fn attached(patient: bool) -> (Container, orlop_task::Session) {
    let script = format!("echo begin; head -c {MUCH} /dev/zero; echo end; exit 3");
    let container = Container::create(&["sh", "-c", &script]).await;
    let flows = Flows { stdout: true, patient, ..Flows::default() };
    let client = &container.shim.client;
    let session = attach_session(client, "a", None, flows).await.unwrap();
    client.start("").await.unwrap();
    (container, session)
}

#[tokio::test]
async fn a_patient_attachment_gets_all_however_late_it_reads() {
    let (container, session) = attached(true).await;
    let mut stdout = session.stdout.unwrap();
    let mut first = [0; 6];
    stdout.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"begin\n", "nothing of the beginning is lost");
    // What fits is far less than what comes: it cannot have ended.
    let state = container.shim.client.state("").await.unwrap();
    assert_eq!(state.status, Status::Running);
    let mut rest = Vec::new();
    let (read, end) = tokio::join!(stdout.read_to_end(&mut rest), session.end);
    read.unwrap();
    assert_eq!(rest.len(), MUCH + 4);
    assert!(rest.ends_with(b"\0end\n"));
    assert!(matches!(end.unwrap(), SessionEnd::Exited(exit) if exit.code == 3));
    container.finish().await;
}

#[tokio::test]
async fn a_patient_attachment_whose_reader_goes_lets_the_process_go_on() {
    let (container, session) = attached(true).await;
    drop(session);
    assert_eq!(container.shim.client.wait("").await.unwrap().code, 3);
    container.finish().await;
}

#[tokio::test]
async fn another_that_does_not_read_is_cut_off() {
    let (container, session) = attached(false).await;
    assert_eq!(session.end.await.unwrap(), SessionEnd::FellBehind);
    assert_eq!(container.shim.client.wait("").await.unwrap().code, 3);
    container.finish().await;
}

#[tokio::test]
async fn what_is_left_at_the_end_waits_for_the_reader() {
    let script = "head -c 1100000 /dev/zero; exit 4";
    let container = Container::create(&["sh", "-c", script]).await;
    let flows = Flows { stdout: true, patient: true, ..Flows::default() };
    let client = &container.shim.client;
    let session = attach_session(client, "a", None, flows).await.unwrap();
    client.start("").await.unwrap();
    // More than the pipe holds, and less than pipe, shim and the process's own pipe do.
    assert_eq!(client.wait("").await.unwrap().code, 4);
    let mut all = Vec::new();
    session.stdout.unwrap().read_to_end(&mut all).await.unwrap();
    assert_eq!(all.len(), 1_100_000);
    container.finish().await;
}
