//! OCI hooks through the shim: when each runs, what it sees, and what its failure does.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod common;

use common::Container;
use orlop_task::TaskError;
use serde_json::{Value, json};
use std::path::Path;

/// A hook that appends a word and its state's status to a file, and what `more` prints.
fn hook(seen: &Path, word: &str, more: &str) -> Value {
    let script = format!(
        "read state; echo {word} $(echo $state | sed 's/.*\"status\":\"\\([a-z]*\\)\".*/\\1/') $({more}) >>{}",
        seen.display()
    );
    json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]})
}

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .lines()
        .map(|line| line.trim().to_owned())
        .collect()
}

#[tokio::test]
async fn each_kind_runs_in_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let seen = dir.path().join("seen");
    let at = |word: &str, more: &str| json!([hook(&seen, word, more)]);
    // This one runs inside: it is the container's own shell, and it writes where the container can.
    let inside = json!([{"path": "/bin/sh", "env": ["PATH=/bin"], "args": ["sh", "-c", "cat >/tmp/state; echo $$ >/tmp/pid"]}]);
    let hooks = json!({
        "prestart": at("prestart", "hostname"),
        "createRuntime": at("createRuntime", ""),
        "createContainer": at("createContainer", "hostname"),
        "startContainer": inside,
        "poststart": at("poststart", ""),
        "poststop": at("poststop", ""),
    });
    let change = |spec: &mut Value| spec["hooks"] = hooks;
    let container =
        Container::launch(change, &["sh", "-c", "cat /tmp/state; echo; sleep 1000"]).await;
    let client = &container.shim.client;
    client.create(&container.bundle, container.request()).await.unwrap();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let mut expected = vec![
        format!("prestart creating {host}"),
        "createRuntime creating".to_owned(),
        // The container's host name is set after its hooks; what tells is that it is not the host's pid 1.
        lines(&seen).get(2).cloned().unwrap_or_default(),
    ];
    assert_eq!(lines(&seen), expected);
    assert!(expected[2].starts_with("createContainer creating"), "{expected:?}");
    let pid = client.start("").await.unwrap();
    expected.push("poststart running".to_owned());
    assert_eq!(lines(&seen), expected);
    while container.log().is_empty() {
        tokio::task::yield_now().await;
    }
    let state: Value =
        serde_json::from_str(container.log()[0].strip_prefix("stdout F ").unwrap()).unwrap();
    assert_eq!((&state["status"], &state["pid"]), (&json!("created"), &json!(pid)));
    assert_eq!((&state["id"], &state["ociVersion"]), (&json!(container.id), &json!("1.2.0")));
    assert_eq!(state["bundle"], json!(container.bundle));
    container.finish().await;
    expected.push("poststop stopped".to_owned());
    assert_eq!(lines(&seen), expected);
}

#[tokio::test]
async fn a_hook_that_fails_ends_the_creation_or_the_start() {
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let failing =
            json!([{"path": "/bin/sh", "args": ["sh", "-c", "echo no such thing; exit 3"]}]);
        let container =
            Container::launch(|spec| spec["hooks"] = json!({ kind: failing }), &["true"]).await;
        let client = &container.shim.client;
        let error = client.create(&container.bundle, container.request()).await.unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("/bin/sh") && text.contains("status 3: no such thing"),
            "{kind}: {text}"
        );
        // Nothing was created: it can be tried again, and the shim ends when asked.
        assert!(client.state("").await.unwrap_err().is_not_found(), "{kind}");
        client.shutdown(false).await.unwrap();
        container.reaped().await;
    }
    for (hook, word) in [
        (json!({"path": "/bin/sh", "args": ["sh", "-c", "exit 3"]}), "status 3"),
        (json!({"path": "/no/such/hook"}), "/no/such/hook"),
        (json!({"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1}), "longer than 1s"),
    ] {
        let container =
            Container::launch(|spec| spec["hooks"] = json!({"startContainer": [hook]}), &["true"])
                .await;
        let client = &container.shim.client;
        client.create(&container.bundle, container.request()).await.unwrap();
        let error = client.start("").await.unwrap_err();
        assert!(
            matches!(&error, TaskError::Refused { message, .. } if message.contains(word)),
            "{error}"
        );
        assert_eq!(client.wait("").await.unwrap().code, 128);
        client.delete("").await.unwrap();
        container.reaped().await;
    }
}

#[tokio::test]
async fn a_hook_after_the_start_may_fail() {
    let failing = json!([{"path": "/bin/false"}]);
    let container = Container::launch(
        |spec| spec["hooks"] = json!({"poststart": failing, "poststop": failing}),
        &["sleep", "1000"],
    )
    .await;
    let client = &container.shim.client;
    client.create(&container.bundle, container.request()).await.unwrap();
    client.start("").await.unwrap();
    let noted = std::fs::read_to_string(container.bundle.join("shim.log")).unwrap();
    assert!(noted.contains("hook /bin/false"), "{noted}");
    container.finish().await;
}
