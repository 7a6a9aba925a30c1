//! A registry that misbehaves in ways a real one cannot be brought to.

use super::parts::ImageParts;
use crate::registry::sha256;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: String,
    headers: Vec<(String, String)>,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Default)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// Close the connection after so many bytes of the body.
    pub(super) cut: Option<usize>,
    /// After that, keep it open and say nothing until the server ends.
    pub(super) hang: bool,
}

impl Reply {
    pub(super) fn new(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let headers = headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Self { status, headers, body: body.to_vec(), ..Self::default() }
    }
}

type Handler = Box<dyn Fn(&Request) -> Option<Reply> + Send + Sync>;

struct Shared {
    content: Mutex<HashMap<String, (String, Vec<u8>)>>,
    handler: Handler,
    seen: Mutex<Vec<Request>>,
    ended: AtomicBool,
    hanging: Mutex<Vec<TcpStream>>,
}

pub(super) struct Fake {
    shared: Arc<Shared>,
    pub(super) port: u16,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Fake {
    /// Serves what is put in, except for requests that `handler` answers itself.
    pub(super) fn start(
        handler: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            content: Mutex::default(),
            handler: Box::new(handler),
            seen: Mutex::default(),
            ended: AtomicBool::new(false),
            hanging: Mutex::default(),
        });
        let serve = shared.clone();
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if serve.ended.load(Ordering::SeqCst) {
                    return;
                }
                let (stream, serve) = (stream.unwrap(), serve.clone());
                std::thread::spawn(move || serve.answer(stream));
            }
        });
        Self { shared, port, thread: Some(thread) }
    }

    pub(super) fn plain() -> Self {
        Self::start(|_| None)
    }

    pub(super) fn name(&self, repository: &str) -> String {
        format!("127.0.0.1:{}/{repository}", self.port)
    }

    pub(super) fn put_image(&self, repository: &str, tag: &str, image: &ImageParts) {
        for blob in image.blobs() {
            self.put(
                &format!("/v2/{repository}/blobs/{}", sha256(&blob)),
                "application/octet-stream",
                &blob,
            );
        }
        self.put_manifest(repository, tag, image.media_type, &image.manifest);
    }

    pub(super) fn put_manifest(&self, repository: &str, tag: &str, media_type: &str, bytes: &[u8]) {
        for name in [tag.to_owned(), sha256(bytes).to_string()] {
            self.put(&format!("/v2/{repository}/manifests/{name}"), media_type, bytes);
        }
    }

    pub(super) fn put(&self, path: &str, media_type: &str, bytes: &[u8]) {
        let entry = (media_type.to_owned(), bytes.to_vec());
        self.shared.content.lock().unwrap().insert(path.to_owned(), entry);
    }

    /// All requests so far.
    pub(super) fn seen(&self) -> Vec<Request> {
        self.shared.seen.lock().unwrap().clone()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        self.shared.hanging.lock().unwrap().clear();
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Shared {
    fn answer(&self, mut stream: TcpStream) {
        let Some(request) = read(&stream) else { return };
        self.seen.lock().unwrap().push(request.clone());
        let reply = (self.handler)(&request).unwrap_or_else(|| self.stored(&request));
        let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", reply.status);
        for (name, value) in &reply.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("Content-Length: {}\r\n\r\n", reply.body.len());
        let body = &reply.body[..reply.cut.unwrap_or(reply.body.len())];
        let _ = stream.write_all(head.as_bytes());
        if request.method != "HEAD" {
            let _ = stream.write_all(body);
        }
        if reply.hang {
            self.hanging.lock().unwrap().push(stream);
        }
    }

    fn stored(&self, request: &Request) -> Reply {
        if request.path == "/v2/" {
            return Reply::new(200, &[], b"{}");
        }
        let content = self.content.lock().unwrap();
        let Some((media_type, bytes)) = content.get(&request.path) else {
            let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
            return Reply::new(404, &[("Content-Type", "application/json")], body);
        };
        let digest = sha256(bytes).to_string();
        let mut headers =
            vec![("Content-Type", media_type.as_str()), ("Docker-Content-Digest", &digest)];
        let range = request.header("range").and_then(|range| range.strip_prefix("bytes="));
        let Some(from) = range.and_then(|range| range.strip_suffix('-')) else {
            return Reply::new(200, &headers, bytes);
        };
        let from: usize = from.parse().unwrap();
        let content_range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
        headers.push(("Content-Range", &content_range));
        Reply::new(206, &headers, &bytes[from..])
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?);
    // What is matched on is the path; token services are told apart by their query.
    let (path, query) = match target.split_once('?') {
        Some((path, query)) if !path.starts_with("/token") => (path.to_owned(), query.to_owned()),
        _ => (target.to_owned(), String::new()),
    };
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Some(Request { method, path, query, headers })
}
