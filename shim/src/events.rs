//! Events for containerd, over its ttrpc address. Our own daemon has none and learns everything
//! from its calls.

use crate::poll::{Poller, Token};
use crate::rpc::{Conn, Incoming};
use orlop_model::Timestamp;
use orlop_task::names::EVENTS;
use orlop_task::protocol::forward::{Envelope, ForwardRequest};
use orlop_task::protocol::ttrpc::Request;
use prost::{Message, Name};
use prost_types::Any;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::collections::VecDeque;
use std::path::PathBuf;

/// Events that wait for a connection; the oldest are dropped first.
const MAX_WAITING: usize = 256;

/// The sender of events.
#[derive(Debug)]
pub(crate) struct Publisher {
    address: PathBuf,
    namespace: String,
    conn: Option<Conn>,
    stream: u32,
    waiting: VecDeque<Request>,
}

impl Publisher {
    /// Sends to the socket at `address`, for containerd's `namespace`.
    pub(crate) fn new(address: PathBuf, namespace: String) -> Self {
        Self { address, namespace, conn: None, stream: 1, waiting: VecDeque::new() }
    }

    /// Sends an event, or keeps it until the receiver can be reached.
    pub(crate) fn publish<M: Message + Name>(&mut self, poller: &Poller, topic: &str, event: &M) {
        let now = timestamp(Timestamp::now());
        let envelope = Envelope {
            timestamp: Some(now),
            namespace: self.namespace.clone(),
            topic: topic.to_owned(),
            event: Some(Any { type_url: M::full_name(), value: event.encode_to_vec() }),
        };
        let request = Request {
            service: EVENTS.to_owned(),
            method: "Forward".to_owned(),
            payload: ForwardRequest { envelope: Some(envelope) }.encode_to_vec(),
            timeout_nano: 0,
            metadata: Vec::new(),
        };
        if self.waiting.len() == MAX_WAITING {
            self.waiting.pop_front();
        }
        self.waiting.push_back(request);
        self.flush(poller);
    }

    fn flush(&mut self, poller: &Poller) {
        if self.conn.is_none() {
            self.conn = self.connect(poller);
        }
        while let (Some(conn), Some(request)) = (&mut self.conn, self.waiting.front()) {
            if conn.call(poller, self.stream, request).is_err() {
                self.conn = None;
                break;
            }
            self.stream = self.stream.wrapping_add(2);
            self.waiting.pop_front();
        }
    }

    fn connect(&self, poller: &Poller) -> Option<Conn> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).ok()?;
        let address = SocketAddrUnix::new(&self.address).ok()?;
        // A full queue at the other side fails at once; the next event tries again.
        rustix::net::connect(&socket, &address).ok()?;
        Conn::new(poller, socket, Token::Publisher).ok()
    }

    /// The connection has news: answers (which nobody needs) or its end.
    pub(crate) fn ready(&mut self, poller: &Poller, buffer: &mut [u8]) {
        let mut frames: Vec<Incoming> = Vec::new();
        if let Some(conn) = &mut self.conn
            && (conn.receive(buffer, &mut frames).is_err() || conn.send(poller).is_err())
        {
            self.conn = None;
        }
    }
}

/// As protobuf has it.
pub(crate) fn timestamp(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: at.0.div_euclid(1_000_000_000),
        nanos: i32::try_from(at.0.rem_euclid(1_000_000_000)).unwrap_or(0),
    }
}
