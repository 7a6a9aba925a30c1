//! Clients of the streaming server: the real crictl, also on a pseudo-terminal, and raw sockets that
//! say what no proper client says.

use crate::process::until;
use crate::{World, tool};
use k8s_cri::v1::{AttachRequest, ExecRequest, PortForwardRequest};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::Winsize;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

/// Both ways that a client can come.
pub const TRANSPORTS: [&str; 2] = ["spdy", "websocket"];

impl World {
    /// crictl inside the world's network, where the streaming server's loopback is.
    pub fn crictl_inside(&self, arguments: &[&str]) -> Command {
        let mut command = self.inside(tool("crictl"));
        let endpoint = format!("unix://{}", self.socket().display());
        command.args(["--config", "/dev/null", "-r", &endpoint, "-i", &endpoint]);
        command.args(["--timeout", "60s"]).args(arguments);
        command
    }

    /// A connection to the streaming server, made in the world's network.
    pub fn connect(&self, address: &str) -> TcpStream {
        let (netns, address) = (self.netns_path(), address.to_owned());
        // A thread of its own, which ends in that namespace.
        let thread = std::thread::spawn(move || {
            let netns = File::open(netns).expect("the world's namespace");
            let kind = rustix::thread::LinkNameSpaceType::Network;
            rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&netns), Some(kind))
                .expect("the namespace can be entered");
            TcpStream::connect(address).expect("the streaming server listens")
        });
        thread.join().expect("connected")
    }

    /// The URL that Exec gives.
    pub async fn exec_url(&self, container: &str, command: &[&str]) -> String {
        let request = ExecRequest {
            container_id: container.to_owned(),
            cmd: command.iter().map(|word| (*word).to_owned()).collect(),
            stdin: true,
            stdout: true,
            stderr: true,
            tty: false,
        };
        let (mut runtime, _) = self.services().await;
        runtime.exec(request).await.expect("a URL").into_inner().url
    }

    /// The URL that Attach gives.
    pub async fn attach_url(&self, container: &str) -> String {
        let request = AttachRequest {
            container_id: container.to_owned(),
            stdin: false,
            stdout: true,
            stderr: true,
            tty: false,
        };
        let (mut runtime, _) = self.services().await;
        runtime.attach(request).await.expect("a URL").into_inner().url
    }

    /// The URL that PortForward gives.
    pub async fn forward_url(&self, pod: &str) -> String {
        let request = PortForwardRequest { pod_sandbox_id: pod.to_owned(), port: vec![] };
        let (mut runtime, _) = self.services().await;
        runtime.port_forward(request).await.expect("a URL").into_inner().url
    }

    /// A raw SPDY connection to a URL, upgraded.
    pub fn spdy(&self, url: &str) -> Raw {
        let mut raw = self.ask(url, SPDY);
        let head = raw.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        raw
    }

    /// Sends a request's head with these headers and nothing more.
    pub fn ask(&self, url: &str, headers: &str) -> Raw {
        let rest = url.strip_prefix("http://").expect("a plain URL");
        let (address, path) = rest.split_once('/').expect("a path");
        let mut socket = self.connect(address);
        let head = format!("POST /{path} HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n");
        // A server that has heard enough hangs up before the end.
        let _ = socket.write_all(head.as_bytes());
        Raw(socket)
    }
}

/// The headers of an upgrade to SPDY.
pub const SPDY: &str = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\nContent-Length: 0\r\n";

/// A connection on which anything can be said.
pub struct Raw(pub TcpStream);

impl Raw {
    /// The answer's head.
    pub fn head(&mut self) -> String {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            match self.0.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                other => panic!("{other:?} after {:?}", String::from_utf8_lossy(&head)),
            }
        }
        String::from_utf8(head).expect("text")
    }

    /// Everything until the server hangs up.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // A reset is an end too.
        let _ = self.0.read_to_end(&mut bytes);
        bytes
    }

    /// Sends bytes; false when the server does not take them any more.
    pub fn say(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).is_ok()
    }

    /// Opens the streams of a remote command: 1 error, 3 stdin, 5 stdout, 7 stderr.
    pub fn open_streams(&mut self, kinds: &[&str]) {
        let mut zlib = Zlib::default();
        for (index, kind) in kinds.iter().enumerate() {
            let stream = 2 * index as u32 + 1;
            assert!(self.say(&zlib.syn_stream(stream, &[("streamtype", kind)])));
        }
    }
}

/// Header blocks without compression: zlib has a form for that, and every inflater takes it.
#[derive(Default)]
pub struct Zlib {
    begun: bool,
}

impl Zlib {
    /// A SYN_STREAM frame.
    pub fn syn_stream(&mut self, stream: u32, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut text = (headers.len() as u32).to_be_bytes().to_vec();
        for word in headers.iter().flat_map(|(name, value)| [name, value]) {
            text.extend((word.len() as u32).to_be_bytes());
            text.extend(word.as_bytes());
        }
        let mut block = if self.begun { vec![] } else { vec![0x78, 0x01] };
        self.begun = true;
        let length = text.len() as u16;
        block.push(0);
        block.extend(length.to_le_bytes());
        block.extend((!length).to_le_bytes());
        block.extend(text);
        let mut body = stream.to_be_bytes().to_vec();
        body.extend([0, 0, 0, 0, 0, 0]);
        body.extend(block);
        control(1, &body)
    }
}

/// A control frame.
pub fn control(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80, 3];
    frame.extend(kind.to_be_bytes());
    frame.extend((body.len() as u32).to_be_bytes());
    frame.extend(body);
    frame
}

/// A data frame.
pub fn data(stream: u32, bytes: &[u8]) -> Vec<u8> {
    let mut frame = stream.to_be_bytes().to_vec();
    frame.extend((bytes.len() as u32).to_be_bytes());
    frame.extend(bytes);
    frame
}

/// A program on a pseudo-terminal, or on pipes, whose output gathers while it runs. Killed when
/// dropped.
pub struct Talk {
    child: Child,
    input: Option<File>,
    master: Option<File>,
    output: Arc<Mutex<Vec<u8>>>,
}

impl Talk {
    /// Starts a program with a terminal of 80 by 24 as its own.
    pub fn on_terminal(command: &Command) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo-terminal");
        grantpt(&master).expect("granted");
        unlockpt(&master).expect("unlocked");
        let name = ptsname(&master, Vec::new()).expect("a name").into_string().expect("plain");
        let slave =
            || File::options().read(true).write(true).open(Path::new(&name)).expect("slave");
        // `setsid --ctty` makes it the program's controlling terminal, whose size changes it hears of.
        let mut wrapped = Command::new("setsid");
        wrapped.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        let child =
            wrapped.stdin(slave()).stdout(slave()).stderr(slave()).spawn().expect("started");
        let master = File::from(master);
        let talk = Self {
            child,
            input: Some(master.try_clone().expect("clone")),
            output: Arc::default(),
            master: Some(master),
        };
        talk.resize(80, 24);
        talk.gather(talk.master.as_ref().expect("there").try_clone().expect("clone"));
        talk
    }

    /// Starts a program on pipes.
    pub fn on_pipes(mut command: Command) -> Self {
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = spawned.spawn().expect("started");
        let input = child.stdin.take().map(|pipe| File::from(std::os::fd::OwnedFd::from(pipe)));
        let (out, err) = (child.stdout.take().expect("out"), child.stderr.take().expect("err"));
        let talk = Self { child, input, master: None, output: Arc::default() };
        talk.gather(File::from(std::os::fd::OwnedFd::from(out)));
        talk.gather(File::from(std::os::fd::OwnedFd::from(err)));
        talk
    }

    fn gather(&self, mut from: File) {
        let output = Arc::clone(&self.output);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // A terminal answers EIO when its other side has closed.
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                output.lock().expect("no panic").extend_from_slice(&buffer[..count]);
            }
        });
    }

    /// Changes the terminal's size.
    pub fn resize(&self, columns: u16, rows: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(self.master.as_ref().expect("a terminal"), size)
            .expect("resized");
    }

    /// Types.
    pub fn write(&mut self, text: &str) {
        self.input.as_mut().expect("open").write_all(text.as_bytes()).expect("written");
    }

    /// Ends the input.
    pub fn close(&mut self) {
        self.input = None;
    }

    /// What it said so far.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().expect("no panic")).into_owned()
    }

    /// Waits for a text.
    pub fn expect(&self, text: &str) {
        until(&format!("{text:?} in the output"), || self.said().contains(text));
    }

    /// Waits for the end; the exit code.
    pub fn ended(&mut self) -> i32 {
        let mut status = None;
        until("the client to end", || {
            status = self.child.try_wait().expect("waited");
            status.is_some()
        });
        status.and_then(|status| status.code()).unwrap_or(-1)
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.kill();
    }
}
