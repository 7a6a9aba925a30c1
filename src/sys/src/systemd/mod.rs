//! A client of systemd's manager, for the few calls that control groups need
//! (docs/decisions/0015-systemd-driver.md): blocking, over systemd's own socket, one connection for
//! each operation, so that neither a restart of ours nor a re-execution of systemd's matters.

mod message;
mod wire;

pub use wire::Value;

use crate::error::{Context, Error, Result};
use message::{Call, FIXED, Message};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};
use wire::Writer;

/// Where systemd listens for root, also when no message bus runs.
const SOCKET: &str = "/run/systemd/private";
/// How long an answer, or the end of a job, may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether systemd manages this host: its own documented test (sd_booted), and a socket to ask at.
pub fn is_running() -> bool {
    Path::new("/run/systemd/system").is_dir() && Path::new(SOCKET).exists()
}

/// A property of a unit.
pub type Property<'a> = (&'a str, Value);

/// Starts a transient unit; returns when it has started. `false`: there is one of that name already.
pub fn start_transient(unit: &str, properties: &[Property<'_>]) -> Result<bool> {
    let mut body = Writer::default();
    body.text(unit);
    body.text("replace");
    body.properties(properties);
    // No auxiliary units.
    body.array(8, |_| {});
    let mut manager = Manager::connect()?;
    match manager.call("StartTransientUnit", "ssa(sv)a(sa(sv))", body)? {
        Ok(job) => manager.finished(unit, &job).map(|()| true),
        Err(refusal) if refusal.is("UnitExists") => Ok(false),
        Err(refusal) => Err(refusal.error("start", unit)),
    }
}

/// Starts a unit that systemd knows; returns when it has started.
pub fn start(unit: &str) -> Result<()> {
    let mut manager = Manager::connect()?;
    match manager.call("StartUnit", "ss", two(unit, "replace"))? {
        Ok(job) => manager.finished(unit, &job),
        Err(refusal) => Err(refusal.error("start", unit)),
    }
}

/// Stops a unit and nothing that depends on it; returns when it has stopped. One that is not there
/// is fine.
pub fn stop_alone(unit: &str) -> Result<()> {
    let mut manager = Manager::connect()?;
    match manager.call("StopUnit", "ss", two(unit, "ignore-dependencies"))? {
        Ok(job) => manager.finished(unit, &job),
        Err(refusal) if refusal.is("NoSuchUnit") => Ok(()),
        Err(refusal) => Err(refusal.error("stop", unit)),
    }
}

/// Changes properties of a unit until it ends.
pub fn set_properties(unit: &str, properties: &[Property<'_>]) -> Result<()> {
    let mut body = Writer::default();
    body.text(unit);
    // At run time only: nothing is written below /etc.
    body.u32(1);
    body.properties(properties);
    let done = Manager::connect()?.call("SetUnitProperties", "sba(sv)", body)?;
    done.map(drop).map_err(|refusal| refusal.error("set properties of", unit))
}

fn two(first: &str, second: &str) -> Writer {
    let mut body = Writer::default();
    body.text(first);
    body.text(second);
    body
}

/// A call that systemd refused.
struct Refusal {
    name: String,
    text: String,
}

impl Refusal {
    /// Whether it is `org.freedesktop.systemd1.<name>`.
    fn is(&self, name: &str) -> bool {
        self.name.strip_prefix("org.freedesktop.systemd1.") == Some(name)
    }

    fn error(&self, call: &'static str, unit: &str) -> Error {
        Error::new(call, format!("unit {unit}: {} ({})", self.text, self.name), libc::EREMOTEIO)
    }
}

/// A connection to systemd.
struct Manager {
    socket: OwnedFd,
    /// Bytes that came and belong to no whole message yet.
    buffer: Vec<u8>,
    deadline: Instant,
    /// Jobs that ended before we knew that they are ours.
    ended: Vec<(String, String)>,
}

impl Manager {
    fn connect() -> Result<Self> {
        let name = || SOCKET;
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .context("socket", name)?;
        let address = SocketAddrUnix::new(SOCKET).context("connect", name)?;
        rustix::net::connect(&socket, &address)
            .context("connect", || format!("{SOCKET} (systemd)"))?;
        set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE)).context("setsockopt", name)?;
        let deadline = Instant::now() + PATIENCE;
        let mut manager = Self { socket, buffer: Vec::new(), deadline, ended: Vec::new() };
        manager.authenticate()?;
        Ok(manager)
    }

    /// The kernel tells systemd who we are; what is said here must only agree with that.
    fn authenticate(&mut self) -> Result<()> {
        let id = rustix::process::geteuid().as_raw().to_string();
        let hex: String = id.bytes().map(|digit| format!("{digit:02x}")).collect();
        self.send(format!("\0AUTH EXTERNAL {hex}\r\n").as_bytes())?;
        while !self.buffer.ends_with(b"\r\n") {
            self.receive()?;
        }
        if !self.buffer.starts_with(b"OK ") {
            let said = String::from_utf8_lossy(&self.buffer).trim_end().to_owned();
            return Err(Error::new("log in to systemd", said, libc::EACCES));
        }
        self.buffer.clear();
        self.send(b"BEGIN\r\n")
    }

    /// Calls a method of the manager; returns the object path that the reply holds.
    fn call(
        &mut self,
        member: &'static str,
        signature: &str,
        body: Writer,
    ) -> Result<std::result::Result<String, Refusal>> {
        const SERIAL: u32 = 1;
        self.send(&Call { serial: SERIAL, member, signature, body: body.finish() }.encode())?;
        loop {
            match self.next()? {
                Message::Return { to: SERIAL, path } => return Ok(Ok(path)),
                Message::Error { to: SERIAL, name, text } => {
                    return Ok(Err(Refusal { name, text }));
                }
                Message::JobRemoved { job, result } => self.ended.push((job, result)),
                _ => {}
            }
        }
    }

    /// Waits for the end of a job. systemd sends signals to its own socket without being asked.
    fn finished(&mut self, unit: &str, job: &str) -> Result<()> {
        let mut known = self.ended.iter().find(|(ended, _)| ended == job).map(|end| end.1.clone());
        loop {
            match known {
                Some(result) if result == "done" => return Ok(()),
                Some(result) => {
                    let object = format!("{unit}: the job's result is {result:?}");
                    return Err(Error::new("wait for unit", object, libc::EREMOTEIO));
                }
                None => {}
            }
            known = match self.next()? {
                Message::JobRemoved { job: ended, result } if ended == job => Some(result),
                _ => None,
            };
        }
    }

    fn next(&mut self) -> Result<Message> {
        let damaged = || Error::new("read", "systemd: the message makes no sense", libc::EBADMSG);
        loop {
            if let Some(fixed) = self.buffer.get(..FIXED) {
                let total = message::total(fixed).ok_or_else(damaged)?;
                if self.buffer.len() >= total {
                    let rest = self.buffer.split_off(total);
                    let whole = std::mem::replace(&mut self.buffer, rest);
                    return message::decode(&whole).ok_or_else(damaged);
                }
            }
            self.receive()?;
        }
    }

    fn send(&self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            match rustix::net::send(&self.socket, bytes, SendFlags::NOSIGNAL) {
                Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno).context("send", || "systemd"),
            }
        }
        Ok(())
    }

    /// Takes what is there, waiting for it within our patience.
    fn receive(&mut self) -> Result<()> {
        let late = || Error::new("wait", "systemd: no answer", libc::ETIMEDOUT);
        let left = self.deadline.saturating_duration_since(Instant::now());
        // Zero would mean no limit.
        if left.is_zero() {
            return Err(late());
        }
        set_socket_timeout(&self.socket, Timeout::Recv, Some(left))
            .context("setsockopt", || SOCKET)?;
        let mut buffer = [0_u8; 4096];
        match rustix::io::read(&self.socket, &mut buffer) {
            Ok(0) => Err(Error::new("read", "systemd closed the connection", libc::ECONNRESET)),
            Ok(length) => {
                self.buffer.extend_from_slice(buffer.get(..length).unwrap_or_default());
                Ok(())
            }
            Err(Errno::INTR) => Ok(()),
            Err(Errno::AGAIN) => Err(late()),
            Err(errno) => Err(errno).context("read", || "systemd"),
        }
    }
}
