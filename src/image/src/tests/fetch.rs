//! Files by HTTP, from servers that mean no good.

use super::fake::{Fake, Reply};
use super::open;
use crate::{PullErrorKind, Validators};

async fn fetch(
    address: &str,
    known: &Validators,
) -> (Result<Option<Validators>, PullErrorKind>, Vec<u8>) {
    let temp = tempfile::tempdir().unwrap();
    let mut out = Vec::new();
    let done = open(temp.path()).fetch(address, known, &mut out).await;
    (done, out)
}

#[tokio::test]
async fn what_is_known_is_not_sent_again() {
    let fake = Fake::start(|request| match request.header("if-none-match") {
        Some("\"1\"") => Some(Reply::new(304, &[], b"")),
        _ => Some(Reply::new(200, &[("ETag", "\"1\"")], b"text")),
    });
    let address = format!("http://127.0.0.1:{}/f", fake.port);
    let (found, out) = fetch(&address, &Validators::default()).await;
    let found = found.unwrap().unwrap();
    assert_eq!((found.etag.as_deref(), out.as_slice()), (Some("\"1\""), b"text".as_slice()));
    let (again, out) = fetch(&address, &found).await;
    assert_eq!((again.unwrap(), out.len()), (None, 0));
}

#[tokio::test]
async fn redirects_take_no_credentials_along() {
    let far = Fake::start(|_| Some(Reply::new(200, &[], b"far")));
    let there = format!("http://127.0.0.1:{}/f", far.port);
    let near = Fake::start(move |request| {
        let location = match request.path.as_str() {
            "/far" => there.clone(),
            "/user" => there.replace("127", "me:word@127"),
            "/file" => "file:///etc/passwd".to_owned(),
            "/same" => "/end".to_owned(),
            "/end" => return Some(Reply::new(200, &[], b"near")),
            _ => "/round".to_owned(),
        };
        Some(Reply::new(302, &[("Location", &location)], b""))
    });
    let at = |path: &str| format!("http://me:hush@127.0.0.1:{}{path}", near.port);
    let none = Validators::default();
    assert_eq!(fetch(&at("/far"), &none).await.1, b"far");
    assert_eq!(near.seen()[0].header("authorization"), Some("Basic bWU6aHVzaA=="));
    assert_eq!(far.seen()[0].header("authorization"), None);
    assert_eq!(fetch(&at("/same"), &none).await.1, b"near");
    assert_eq!(near.seen()[2].header("authorization"), Some("Basic bWU6aHVzaA=="));
    for path in ["/user", "/file", "/round"] {
        let (refused, out) = fetch(&at(path), &none).await;
        let text = refused.unwrap_err().to_string();
        assert!(out.is_empty() && text.contains("redirect"), "{path}: {text}");
        assert!(!text.contains("hush") && !text.contains("registry"), "{path}: {text}");
    }
}

#[tokio::test]
async fn half_a_file_is_none() {
    let fake =
        Fake::start(|_| Some(Reply { cut: Some(3), ..Reply::new(200, &[], b"longer than that") }));
    let address = format!("http://127.0.0.1:{}/f", fake.port);
    let (cut, _) = fetch(&address, &Validators::default()).await;
    assert!(matches!(cut, Err(PullErrorKind::Fetch { .. })), "{cut:?}");
}
