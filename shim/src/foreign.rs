//! A keeper's side of a shim of another maker: the connection to it, and which answer is for whom.

use crate::error::Refusal;
use crate::poll::{Poller, Token};
use crate::rpc::{Conn, Incoming, Reply, ReplyTo};
use orlop_task::names::{TASK_V2, TASK_V3};
use orlop_task::protocol::ttrpc::{Request, Response};
use orlop_task::ttrpc::Code;
use orlop_task::{Bundle, ForeignRuntime};
use prost::Message;
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// What is kept of a foreign shim's own log, bytes. The bundle is in memory.
const LONGEST_LOG: u64 = 64 << 10;

/// What to do with an answer of the foreign shim. Keys are those of processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The container is created.
    Created(u32),
    /// An exec is known and can be started.
    Added(u32),
    /// The process runs.
    Started(u32),
    /// The process has ended.
    Waited(u32),
    /// The container is deleted.
    Deleted,
    /// Everything is frozen, or thawed.
    Frozen(ReplyTo, bool),
    /// Says which process the foreign shim is.
    Connected,
    /// The foreign shim ends, if it has no other container.
    ShutDown,
    /// The client gets it as it is.
    Pass(ReplyTo),
    /// Nobody waits for it.
    Nothing,
}

/// The foreign shim.
#[derive(Debug)]
pub(crate) struct Foreign {
    pub(crate) runtime: ForeignRuntime,
    conn: Option<Conn>,
    /// Its own complaints: the FIFO, the file that they go to, and how much room that has left.
    log: Option<(OwnedFd, std::fs::File, u64)>,
    service: &'static str,
    stream: u32,
    calls: BTreeMap<u32, Purpose>,
    /// How far the deletion of the container is.
    pub(crate) deletion: Deletion,
    /// It was told to end; until when that is waited for (milliseconds, monotonic).
    pub(crate) leaving: Option<u64>,
    /// Its process id, where it is this container's alone.
    pub(crate) pid: i32,
}

/// How far a deletion is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deletion {
    NotAsked,
    Asked,
    Done,
}

impl Foreign {
    pub(crate) fn new(runtime: ForeignRuntime) -> Self {
        Self {
            runtime,
            conn: None,
            log: None,
            service: TASK_V2,
            stream: 1,
            calls: BTreeMap::new(),
            deletion: Deletion::NotAsked,
            leaving: None,
            pid: 0,
        }
    }

    /// Starts the foreign shim, or finds that of the pod, and connects to it. Nobody is served
    /// meanwhile: without it there is nothing to say.
    pub(crate) fn begin(&mut self, poller: &Poller, bundle: &Bundle) -> Result<(), Refusal> {
        let own = bundle.address().map_err(Refusal::internal)?;
        let fifo = self.runtime.prepare(bundle).map_err(Refusal::internal)?;
        self.log = Some(open_log(poller, &fifo).map_err(Refusal::internal)?);
        // Events may come through a program of ours as well: this one, while we live.
        let publisher = PathBuf::from(format!("/proc/{}/exe", std::process::id()));
        let started = self.runtime.start(bundle, &own, &publisher);
        let bootstrap = started.map_err(|error| Refusal::precondition(error.to_string()))?;
        self.service = if bootstrap.version >= 3 { TASK_V3 } else { TASK_V2 };
        let socket = connect(&bootstrap.address).map_err(|errno| {
            let text = format!(
                "runtime handler {:?}: its shim does not listen at {}: {errno}",
                self.runtime.handler,
                bootstrap.address.display()
            );
            Refusal::precondition(text)
        })?;
        self.conn = Some(Conn::new(poller, socket, Token::Foreign).map_err(Refusal::internal)?);
        Ok(())
    }

    /// Keeps what the foreign shim complains of, for people; there is an end to it.
    pub(crate) fn log_ready(&mut self, buffer: &mut [u8]) {
        let Some((fifo, file, room)) = &mut self.log else { return };
        while let Ok(length @ 1..) = rustix::io::read(&*fifo, &mut *buffer) {
            let kept = length.min(usize::try_from(*room).unwrap_or(usize::MAX));
            // The disk may be full: the container goes on.
            let _ = file.write_all(buffer.get(..kept).unwrap_or_default());
            *room = room.saturating_sub(kept as u64);
        }
    }

    /// Whether there is a shim to talk to.
    pub(crate) fn is_connected(&self) -> bool {
        self.conn.is_some()
    }

    /// Sends a request. A connection that breaks here is seen by the poller too.
    pub(crate) fn call(
        &mut self,
        poller: &Poller,
        method: &str,
        request: &impl Message,
        purpose: Purpose,
    ) -> Result<(), Refusal> {
        self.call_raw(poller, method, request.encode_to_vec(), purpose)
    }

    /// Sends a request whose message is encoded already.
    pub(crate) fn call_raw(
        &mut self,
        poller: &Poller,
        method: &str,
        payload: Vec<u8>,
        purpose: Purpose,
    ) -> Result<(), Refusal> {
        let Some(conn) = &mut self.conn else {
            let text = format!("the shim of runtime handler {:?} has gone", self.runtime.handler);
            return Err(Refusal::new(Code::Unavailable, text));
        };
        let request = Request {
            service: self.service.to_owned(),
            method: method.to_owned(),
            payload,
            timeout_nano: 0,
            metadata: Vec::new(),
        };
        self.calls.insert(self.stream, purpose);
        let stream = self.stream;
        self.stream = self.stream.wrapping_add(2);
        conn.call(poller, stream, &request)
            .map_err(|_| Refusal::new(Code::Unavailable, "the foreign shim does not read"))
    }

    /// Takes what has come: answers with their purposes, and whether the connection has ended.
    pub(crate) fn receive(
        &mut self,
        poller: &Poller,
        buffer: &mut [u8],
    ) -> (Vec<(Purpose, Reply)>, bool) {
        let mut frames = Vec::new();
        let Some(conn) = &mut self.conn else { return (Vec::new(), false) };
        let ended = conn.receive(buffer, &mut frames).is_err() || conn.send(poller).is_err();
        if ended {
            self.conn = None;
        }
        let mut answers = Vec::new();
        for frame in frames {
            let (stream, answer) = match frame {
                Incoming::Response(stream, response) => (stream, outcome(response)),
                Incoming::Bad(stream, refusal) => (stream, Err(refusal)),
                // A shim does not call its client.
                Incoming::Request(..) => continue,
            };
            if let Some(purpose) = self.calls.remove(&stream) {
                answers.push((purpose, answer));
            }
        }
        (answers, ended)
    }

    /// Whoever waits for an answer that will not come.
    pub(crate) fn forsaken(&mut self) -> Vec<Purpose> {
        std::mem::take(&mut self.calls).into_values().collect()
    }
}

fn outcome(response: Response) -> Reply {
    match response.status {
        Some(status) if status.code != 0 => {
            Err(Refusal::new(Code::from_number(status.code), status.message))
        }
        _ => Ok(response.payload),
    }
}

fn open_log(poller: &Poller, path: &Path) -> std::io::Result<(OwnedFd, std::fs::File, u64)> {
    // Both ends: the shim's going must not leave us with the end of a file for ever.
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fifo = rustix::fs::open(path, flags, Mode::empty())?;
    poller.readable(&fifo, Token::ForeignLog)?;
    let file = std::fs::File::create(path.with_file_name("shim.log"))?;
    Ok((fifo, file, LONGEST_LOG))
}

fn connect(address: &Path) -> Result<OwnedFd, rustix::io::Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(address)?)?;
    Ok(socket)
}
