//! One client's connection: frames in, frames out, never blocking.

use crate::error::Refusal;
use crate::poll::{Poller, Token};
use orlop_task::protocol::ttrpc::{Request, Response, Status};
use orlop_task::ttrpc::{self, Code, Kind};
use prost::Message;
use rustix::io::Errno;
use std::os::fd::OwnedFd;

/// Where an answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReplyTo {
    pub(crate) conn: u32,
    pub(crate) stream: u32,
}

/// An answer: the message's bytes, or a refusal.
pub(crate) type Reply = Result<Vec<u8>, Refusal>;

/// Bytes that a client may leave unread before it is cut off.
const MAX_BACKLOG: usize = 16 << 20;
/// Buffers above this size are given back.
const KEEP: usize = 8 * 1024;

/// A connection, as server or as client.
#[derive(Debug)]
pub(crate) struct Conn {
    socket: OwnedFd,
    token: Token,
    input: Vec<u8>,
    output: Vec<u8>,
    waiting: bool,
}

/// A frame that came in.
#[derive(Debug)]
pub(crate) enum Incoming {
    Request(u32, Request),
    Response(u32, Response),
    /// Something that parses as a frame but not as a message; the answer is due on this stream.
    Bad(u32, Refusal),
}

/// The connection is over.
#[derive(Debug)]
pub(crate) struct Closed;

impl Conn {
    /// Takes a connected, non-blocking socket.
    pub(crate) fn new(poller: &Poller, socket: OwnedFd, token: Token) -> Result<Self, Errno> {
        poller.readable(&socket, token)?;
        Ok(Self { socket, token, input: Vec::new(), output: Vec::new(), waiting: false })
    }

    /// Reads what has come and takes the frames out of it. Frames that came whole are handed out
    /// even when the connection ends behind them.
    pub(crate) fn receive(
        &mut self,
        buffer: &mut [u8],
        frames: &mut Vec<Incoming>,
    ) -> Result<(), Closed> {
        let mut end = Ok(());
        loop {
            match rustix::io::read(&self.socket, &mut *buffer) {
                Ok(0) => end = Err(Closed),
                Ok(count) => {
                    self.input.extend_from_slice(buffer.get(..count).unwrap_or_default());
                    if count == buffer.len() && self.input.len() < ttrpc::MAX_MESSAGE {
                        continue;
                    }
                }
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => {}
                Err(_) => end = Err(Closed),
            }
            break;
        }
        let mut taken = 0;
        loop {
            let rest = self.input.get(taken..).unwrap_or_default();
            match ttrpc::split(rest) {
                Ok(Some((header, message, length))) => {
                    frames.push(parse(header, message));
                    taken += length;
                }
                Ok(None) => break,
                Err(_) => {
                    end = Err(Closed);
                    break;
                }
            }
        }
        self.input.drain(..taken);
        if self.input.is_empty() && self.input.capacity() > KEEP {
            self.input = Vec::new();
        }
        end
    }

    /// Queues an answer and sends what the socket takes.
    pub(crate) fn answer(
        &mut self,
        poller: &Poller,
        stream: u32,
        reply: Reply,
    ) -> Result<(), Closed> {
        let response = match reply {
            Ok(payload) => Response { status: None, payload },
            Err(Refusal { code, message }) => Response {
                status: Some(Status { code: code as i32, message, details: Vec::new() }),
                payload: Vec::new(),
            },
        };
        if ttrpc::encode(stream, Kind::Response, &response, &mut self.output).is_err() {
            let status = Status {
                code: Code::ResourceExhausted as i32,
                message: "answer is too long".into(),
                ..Status::default()
            };
            let short = Response { status: Some(status), payload: Vec::new() };
            ttrpc::encode(stream, Kind::Response, &short, &mut self.output).map_err(|_| Closed)?;
        }
        self.send(poller)
    }

    /// Queues a request and sends what the socket takes.
    pub(crate) fn call(
        &mut self,
        poller: &Poller,
        stream: u32,
        request: &Request,
    ) -> Result<(), Closed> {
        ttrpc::encode(stream, Kind::Request, request, &mut self.output).map_err(|_| Closed)?;
        self.send(poller)
    }

    /// Sends what the socket takes.
    pub(crate) fn send(&mut self, poller: &Poller) -> Result<(), Closed> {
        let mut sent = 0;
        while let Some(rest) = self.output.get(sent..).filter(|rest| !rest.is_empty()) {
            match rustix::net::send(&self.socket, rest, rustix::net::SendFlags::NOSIGNAL) {
                Ok(count) => sent += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => return Err(Closed),
            }
        }
        self.output.drain(..sent);
        if self.output.is_empty() && self.output.capacity() > KEEP {
            self.output = Vec::new();
        }
        if self.output.len() > MAX_BACKLOG {
            return Err(Closed);
        }
        let waiting = !self.output.is_empty();
        if waiting != self.waiting {
            self.waiting = waiting;
            poller.rearm(&self.socket, self.token, waiting).map_err(|_| Closed)?;
        }
        Ok(())
    }
}

fn parse(header: ttrpc::Header, message: &[u8]) -> Incoming {
    let parsed = match header.kind {
        Kind::Request => {
            Request::decode(message).map(|request| Incoming::Request(header.stream, request))
        }
        Kind::Response => {
            Response::decode(message).map(|response| Incoming::Response(header.stream, response))
        }
        Kind::Data => {
            return Incoming::Bad(
                header.stream,
                Refusal::new(Code::Unimplemented, "streams are not supported"),
            );
        }
    };
    parsed.unwrap_or_else(|error| {
        Incoming::Bad(header.stream, Refusal::invalid(format!("message does not parse: {error}")))
    })
}
