//! The server with clients of every protocol, also those that crictl does not speak. What it streams is
//! made up here, since this crate knows no container; `e2e/tests/streaming.rs` has the real thing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use futures::future::BoxFuture;
use futures::{FutureExt, SinkExt, StreamExt};
use orlop_streaming::spdy::io::Connection;
use orlop_streaming::spdy::session::Role;
use orlop_streaming::{Backend, Outcome, Process, Request, Server, Size, Streams};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// A command that repeats its input, says the size of its terminal, and exits with 3.
struct Echo;

impl Backend for Echo {
    fn exec<'a>(
        &'a self,
        _: &'a str,
        command: Vec<String>,
        streams: Streams,
    ) -> BoxFuture<'a, Result<Process, String>> {
        async move {
            if command[0] != "echo" {
                return Err(format!("there is no {}", command[0]));
            }
            let (stdin, mut read) = duplex(1 << 16);
            let (mut write, stdout) = duplex(1 << 16);
            let (size, mut sizes) = watch::channel(Size::default());
            let work = async move {
                if streams.tty {
                    sizes.changed().await.unwrap();
                    let Size { width, height } = *sizes.borrow();
                    write.write_all(format!("{width}x{height} ").as_bytes()).await.unwrap();
                }
                if streams.stdin {
                    tokio::io::copy(&mut read, &mut write).await.unwrap();
                }
                Outcome::Exited(3)
            };
            Ok(Process {
                stdin: streams.stdin.then(|| Box::new(stdin) as _),
                stdout: Some(Box::new(stdout)),
                stderr: None,
                size: Some(size),
                end: work.boxed(),
                scope: Box::new(()),
            })
        }
        .boxed()
    }

    fn attach<'a>(
        &'a self,
        container: &'a str,
        streams: Streams,
    ) -> BoxFuture<'a, Result<Process, String>> {
        self.exec(container, vec!["echo".to_owned()], streams)
    }

    /// Port 7 is there, no other is.
    fn dial<'a>(&'a self, _: &'a str, port: u16) -> BoxFuture<'a, Result<TcpStream, String>> {
        async move {
            if port != 7 {
                return Err("nobody listens".to_owned());
            }
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (mut peer, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut read, mut write) = peer.split();
                tokio::io::copy(&mut read, &mut write).await.unwrap();
                write.shutdown().await.unwrap();
            });
            Ok(client)
        }
        .boxed()
    }
}

async fn server() -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server::new(&listener, Arc::new(Echo)).unwrap();
    tokio::spawn(server.clone().serve(listener, std::future::pending()));
    server
}

fn exec(server: &Server, command: &str, tty: bool) -> String {
    let streams = Streams { stdin: true, stdout: true, stderr: false, tty };
    let request = Request::Exec { container: "c".into(), command: vec![command.into()], streams };
    server.url(request).unwrap()
}

fn split(url: &str) -> (String, String) {
    let (address, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    (address.to_owned(), path.to_owned())
}

/// A connection that has been upgraded to SPDY.
async fn spdy(url: &str, protocol: &str) -> TcpStream {
    let (address, path) = split(url);
    let mut socket = TcpStream::connect(&address).await.unwrap();
    let head = format!(
        "GET /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: {protocol}\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while !answer.ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut byte).await.unwrap();
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
    socket
}

async fn websocket(url: &str, protocol: Option<&str>) -> WebSocketStream<TcpStream> {
    let (address, path) = split(url);
    let mut request = format!("ws://{address}/{path}").into_client_request().unwrap();
    if let Some(protocol) = protocol {
        let name = "Sec-WebSocket-Protocol";
        request.headers_mut().insert(name, protocol.parse().unwrap());
    }
    let socket = TcpStream::connect(&address).await.unwrap();
    tokio_tungstenite::client_async(request, socket).await.unwrap().0
}

#[tokio::test]
async fn every_version_over_spdy() {
    let server = server().await;
    for (protocol, word) in [
        ("channel.k8s.io", "exit status 3"),
        ("v2.channel.k8s.io", "exit status 3"),
        ("v3.channel.k8s.io", "exit status 3"),
        ("v4.channel.k8s.io", "\"ExitCode\""),
    ] {
        let resizes = !matches!(protocol, "channel.k8s.io" | "v2.channel.k8s.io");
        let socket = spdy(&exec(&server, "echo", resizes), protocol).await;
        let client = Connection::new(Role::Client, 0);
        let talk = async {
            let open =
                |kind: &str| client.open([("streamType", kind)].into_iter().collect()).unwrap();
            let (mut error, mut stdin, mut stdout) = (open("error"), open("stdin"), open("stdout"));
            let mut resize = resizes.then(|| open("resize"));
            if let Some(resize) = &mut resize {
                resize.write_all(b"{\"Width\":80,\"Height\":24}").await.unwrap();
            }
            stdin.write_all(b"hello").await.unwrap();
            stdin.shutdown().await.unwrap();
            let (mut said, mut outcome) = (String::new(), String::new());
            stdout.read_to_string(&mut said).await.unwrap();
            error.read_to_string(&mut outcome).await.unwrap();
            (said, outcome)
        };
        let (said, outcome) = tokio::select! {
            done = client.drive(socket) => panic!("{protocol}: {done:?}"),
            told = talk => told,
        };
        let expected = if resizes { "80x24 hello" } else { "hello" };
        assert_eq!(said, expected, "{protocol}");
        assert!(outcome.contains(word), "{protocol}: {outcome}");
    }
}

#[tokio::test]
async fn every_subprotocol_over_websocket() {
    let server = server().await;
    let text = |channel: char, letters: &str| Message::Text(format!("{channel}{letters}").into());
    let binary = |bytes: &'static [u8]| Message::Binary(bytes.into());
    for (protocol, size, hello, outcome) in [
        (None, binary(b"\x04{\"Width\":80,\"Height\":24}"), binary(b"\0hello"), None),
        (
            Some("channel.k8s.io"),
            binary(b"\x04{\"Width\":80,\"Height\":24}"),
            binary(b"\0hello"),
            None,
        ),
        (
            Some("base64.channel.k8s.io"),
            text('4', "eyJXaWR0aCI6ODAsIkhlaWdodCI6MjR9"),
            text('0', "aGVsbG8="),
            None,
        ),
        (
            Some("v4.channel.k8s.io"),
            binary(b"\x04{\"Width\":80,\"Height\":24}"),
            binary(b"\0hello"),
            None,
        ),
        (
            Some("v5.channel.k8s.io"),
            binary(b"\x04{\"Width\":80,\"Height\":24}"),
            binary(b"\0hello"),
            Some("\"ExitCode\""),
        ),
    ] {
        let mut socket = websocket(&exec(&server, "echo", true), protocol).await;
        socket.send(size).await.unwrap();
        socket.send(hello).await.unwrap();
        let mut said = Vec::new();
        // Base64 of a part is not a part of the base64: each message is decoded by itself.
        let decode = |message: Message| match message {
            Message::Binary(bytes) => (bytes[0], bytes[1..].to_vec()),
            Message::Text(text) => {
                use base64::Engine;
                let engine = base64::engine::general_purpose::STANDARD;
                (text.as_bytes()[0] - b'0', engine.decode(&text.as_bytes()[1..]).unwrap())
            }
            other => panic!("{other:?}"),
        };
        while said != b"80x24 hello" {
            let (channel, bytes) = decode(socket.next().await.unwrap().unwrap());
            assert_eq!(channel, 1, "{protocol:?}: {}", String::from_utf8_lossy(&bytes));
            said.extend(bytes);
        }
        // Only version 5 can end the input, and with that the command.
        let Some(word) = outcome else { continue };
        socket.send(binary(&[255, 0])).await.unwrap();
        let (channel, status) = decode(socket.next().await.unwrap().unwrap());
        assert!(channel == 3 && String::from_utf8_lossy(&status).contains(word));
        let goodbye = socket.next().await.unwrap().unwrap();
        assert!(matches!(goodbye, Message::Close(Some(frame)) if u16::from(frame.code) == 1000));
    }
}

#[tokio::test]
async fn a_command_that_is_not_there() {
    let server = server().await;
    let mut socket = websocket(&exec(&server, "other", false), Some("v4.channel.k8s.io")).await;
    let mut told = String::new();
    while let Some(Ok(Message::Binary(bytes))) = socket.next().await {
        if bytes[0] == 3 {
            told.push_str(&String::from_utf8_lossy(&bytes[1..]));
        }
    }
    assert!(told.contains("there is no other") && told.contains("Failure"), "{told}");
}

#[tokio::test]
async fn ports_by_websocket_channels() {
    let server = server().await;
    let request = Request::PortForward { sandbox: "s".into(), ports: vec![7, 9] };
    let url = server.url(request).unwrap();
    let mut socket = websocket(&url, Some("v4.channel.k8s.io")).await;
    let mut got = [const { Vec::new() }; 4];
    socket.send(Message::Binary((&b"\0hello"[..]).into())).await.unwrap();
    while got[0] != b"\x07\0hello" || got[3] != b"\x09\0nobody listens" {
        match socket.next().await.unwrap().unwrap() {
            Message::Binary(bytes) => got[usize::from(bytes[0])].extend_from_slice(&bytes[1..]),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((got[1].as_slice(), got[2].as_slice()), (&b"\x07\0"[..], &b"\x09\0"[..]));
}

#[tokio::test]
async fn ports_by_pairs_of_streams() {
    let server = server().await;
    let request = Request::PortForward { sandbox: "s".into(), ports: vec![] };
    let socket = spdy(&server.url(request).unwrap(), "portforward.k8s.io").await;
    let client = Connection::new(Role::Client, 0);
    let talk = async {
        let open = |kind: &str, port: &str, id: Option<&str>| {
            let mut headers = vec![("streamType", kind), ("port", port)];
            headers.extend(id.map(|id| ("requestID", id)));
            client.open(headers.into_iter().collect()).unwrap()
        };
        // Two requests at once, one of them from a client so old that it has no numbers for them.
        let (mut error, mut data) = (open("error", "7", Some("0")), open("data", "7", Some("0")));
        let (mut old_error, mut old_data) = (open("error", "9", None), open("data", "9", None));
        data.write_all(b"ping").await.unwrap();
        data.shutdown().await.unwrap();
        let (mut answer, mut fine, mut why) = (String::new(), String::new(), String::new());
        data.read_to_string(&mut answer).await.unwrap();
        error.read_to_string(&mut fine).await.unwrap();
        old_error.read_to_string(&mut why).await.unwrap();
        let _ = old_data.read_to_string(&mut String::new()).await;
        assert_eq!((answer.as_str(), fine.as_str(), why.as_str()), ("ping", "", "nobody listens"));
    };
    tokio::select! {
        done = client.drive(socket) => panic!("{done:?}"),
        () = talk => {}
    }
}
