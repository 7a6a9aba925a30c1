//! A small synchronous rtnetlink socket, and the operations on links, addresses and routes that
//! pod networks need.
//!
//! A socket belongs to the network namespace in which it was opened, wherever its thread goes
//! afterwards. The kernel answers before `send` returns, so nothing here waits, except the
//! functions that say so.

mod address;
mod error;
mod link;
mod message;
mod route;
mod watch;

pub use address::Address;
pub use error::Error;
pub use link::{Link, Veth};
pub use message::Request;
pub use route::{Route, Scope};
pub use watch::{Change, Watch};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer,
    NetlinkDeserializable, NetlinkHeader,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{SocketAddr, protocols::NETLINK_ROUTE};
use std::io;

/// The kernel never sends a longer datagram than a dump's skb: 32 KiB.
const BUFFER: usize = 64 * 1024;
/// A dump that other changes keep interrupting is given up after as many tries.
const DUMP_TRIES: usize = 16;

/// An rtnetlink socket of one network namespace.
pub struct Socket {
    inner: netlink_sys::Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket").finish_non_exhaustive()
    }
}

impl Socket {
    /// Opens a socket in the network namespace of the calling thread.
    pub fn open() -> Result<Self, Error> {
        let open = || -> io::Result<netlink_sys::Socket> {
            let mut socket = netlink_sys::Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            // Neither exists on old kernels; errors are then shorter and dumps longer.
            let _ = socket.set_ext_ack(true);
            let _ = socket.set_cap_ack(true);
            let _ = socket.set_netlink_get_strict_chk(true);
            Ok(socket)
        };
        let inner = open().map_err(Error::Socket)?;
        Ok(Self { inner, sequence: 0, buffer: vec![0; BUFFER] })
    }

    /// Sends the requests in one go and reads every acknowledgement. The kernel carries out all of
    /// them in order, also those after a failed one; the first error is returned.
    pub fn run(&mut self, requests: &[Request]) -> Result<(), Error> {
        let mut bytes = Vec::with_capacity(requests.len() * 256);
        let first = self.sequence.wrapping_add(1);
        for request in requests {
            self.sequence = self.sequence.wrapping_add(1);
            request.append(&mut bytes, self.sequence, NLM_F_REQUEST | NLM_F_ACK);
        }
        self.inner.send(&bytes, 0).map_err(Error::Socket)?;
        let mut outcome = Ok(());
        let mut left = requests.len();
        while left > 0 {
            let length = self.receive()?;
            for (header, payload) in messages(&self.buffer[..length])? {
                let index = header.sequence_number.wrapping_sub(first) as usize;
                let (NLMSG_ERROR, Some(request)) = (header.message_type, requests.get(index))
                else {
                    continue;
                };
                left -= 1;
                let answer = error::acknowledgement(&header, payload, request.what());
                if outcome.is_ok() {
                    outcome = answer;
                }
            }
        }
        outcome
    }

    /// One object, or `None` where the kernel knows no such object (`ENODEV`).
    fn get(&mut self, request: &Request) -> Result<Option<RouteNetlinkMessage>, Error> {
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        let mut bytes = Vec::with_capacity(256);
        request.append(&mut bytes, sequence, NLM_F_REQUEST);
        self.inner.send(&bytes, 0).map_err(Error::Socket)?;
        loop {
            let length = self.receive()?;
            for (header, payload) in messages(&self.buffer[..length])? {
                if header.sequence_number != sequence {
                    continue;
                }
                if header.message_type != NLMSG_ERROR {
                    return decode(&header, payload).map(Some);
                }
                return match error::acknowledgement(&header, payload, request.what()) {
                    Err(error) if error.errno() == Some(libc::ENODEV) => Ok(None),
                    Err(error) => Err(error),
                    Ok(()) => Ok(None),
                };
            }
        }
    }

    /// All objects that match, read again where a change in between made the list inconsistent.
    fn dump(&mut self, request: &Request) -> Result<Vec<RouteNetlinkMessage>, Error> {
        for _ in 0..DUMP_TRIES {
            if let Some(found) = self.dump_once(request)? {
                return Ok(found);
            }
        }
        Err(Error::Decode(format!("{}: the list kept changing while it was read", request.what())))
    }

    fn dump_once(&mut self, request: &Request) -> Result<Option<Vec<RouteNetlinkMessage>>, Error> {
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        let mut bytes = Vec::with_capacity(128);
        request.append(&mut bytes, sequence, NLM_F_REQUEST | NLM_F_DUMP);
        self.inner.send(&bytes, 0).map_err(Error::Socket)?;
        let (mut found, mut consistent) = (Vec::new(), true);
        loop {
            let length = self.receive()?;
            for (header, payload) in messages(&self.buffer[..length])? {
                if header.sequence_number != sequence {
                    continue;
                }
                consistent &= header.flags & NLM_F_DUMP_INTR == 0;
                match header.message_type {
                    NLMSG_DONE => return Ok(consistent.then_some(found)),
                    NLMSG_ERROR => {
                        error::acknowledgement(&header, payload, request.what())?;
                        return Ok(Some(found));
                    }
                    _ => found.push(decode(&header, payload)?),
                }
            }
        }
    }

    fn receive(&mut self) -> Result<usize, Error> {
        loop {
            match self.inner.recv(&mut &mut self.buffer[..], libc::MSG_TRUNC) {
                Ok(length) if length > self.buffer.len() => self.buffer.resize(length, 0),
                Ok(length) => return Ok(length),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Socket(error)),
            }
        }
    }
}

/// Splits a datagram into messages.
fn messages(mut bytes: &[u8]) -> Result<Vec<(NetlinkHeader, &[u8])>, Error> {
    let mut found = Vec::with_capacity(1);
    while !bytes.is_empty() {
        let buffer =
            NetlinkBuffer::new_checked(bytes).map_err(|error| Error::Decode(error.to_string()))?;
        let mut header = NetlinkHeader::default();
        header.length = buffer.length();
        header.message_type = buffer.message_type();
        header.flags = buffer.flags();
        header.sequence_number = buffer.sequence_number();
        header.port_number = buffer.port_number();
        let length = header.length as usize;
        found.push((header, &bytes[16..length]));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(found)
}

fn decode(header: &NetlinkHeader, payload: &[u8]) -> Result<RouteNetlinkMessage, Error> {
    RouteNetlinkMessage::deserialize(header, payload)
        .map_err(|error| Error::Decode(error.to_string()))
}
