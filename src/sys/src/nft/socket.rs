//! The socket: batches in, answers out.

use super::batch::{Batch, GET_GENERATION, NEW_GENERATION, Operation};
use super::error::hint;
use super::wire::{
    Attributes, HEADER, Message, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP_INTR, NLM_F_REQUEST,
    NLMSG_DONE, NLMSG_ERROR, Writer, messages, u32_at,
};
use super::{NftError, wire::NLM_F_DUMP};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Room for one datagram: the kernel fills at most 32 KiB of a dump at a time.
const DATAGRAM: usize = 64 * 1024;

/// nftables of the network namespace in which the socket was opened.
pub struct Nft {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
    /// An answer may still be on its way, or was not understood.
    broken: bool,
}

impl std::fmt::Debug for Nft {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Nft").finish_non_exhaustive()
    }
}

fn socket_error(action: &'static str) -> impl FnOnce(io::Error) -> NftError {
    move |source| NftError::Socket { action, source }
}

impl Nft {
    /// Opens nftables in the calling thread's network namespace.
    pub fn open() -> Result<Self, NftError> {
        let mut socket = Socket::new(NETLINK_NETFILTER).map_err(NftError::Unavailable)?;
        socket.bind_auto().map_err(socket_error("bind"))?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(socket_error("connect"))?;
        socket.set_ext_ack(true).map_err(socket_error("ask for extended errors"))?;
        socket.set_cap_ack(true).map_err(socket_error("ask for short errors"))?;
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(DATAGRAM), broken: false })
    }

    /// Whether the next answer may be another question's.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Number of the ruleset's present state: every change of it by anybody gives it another.
    /// Fails with [`NftError::Unavailable`] where the kernel has no nftables.
    pub fn generation(&mut self) -> Result<u32, NftError> {
        let operation = Operation { what: "read", object: "generation".to_owned() };
        let request = |writer: &mut Writer, sequence| {
            writer.message(GET_GENERATION, NLM_F_REQUEST, sequence, (0, 0), |_| {});
        };
        let mut generation = None;
        let asked = self.ask(&operation, request, |message| {
            if message.kind == NEW_GENERATION {
                generation = message.attributes().u32(1);
            }
            Ok(())
        });
        match asked {
            Err(NftError::Refused { source, .. })
                if matches!(source.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) =>
            {
                // The subsystem itself is not there.
                Err(NftError::Unavailable(source))
            }
            Err(other) => Err(other),
            Ok(()) => generation.ok_or(NftError::Malformed { what: "generation" }),
        }
    }

    /// Applies a batch whole, or not at all. An empty batch does nothing.
    pub fn commit(&mut self, batch: Batch) -> Result<(), NftError> {
        if batch.is_empty() {
            return Ok(());
        }
        let (bytes, operations) = batch.finish();
        // Until the whole answer is read.
        self.broken = true;
        self.send(&bytes)?;
        let mut first = None;
        let mut acknowledged = false;
        // The kernel has answered when send returns, so the queue holds everything there is.
        while self.receive()? {
            for message in messages(&self.buffer)? {
                if message.kind != NLMSG_ERROR {
                    continue;
                }
                match error_of(&message, |sequence| operations.get(sequence.checked_sub(1)?)) {
                    None => acknowledged = true,
                    Some(error) => first = first.or(Some(error)),
                }
            }
        }
        self.broken = false;
        match first {
            Some(error) => Err(error),
            None if acknowledged => Ok(()),
            None => Err(NftError::Malformed { what: "no acknowledgement of a batch" }),
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), NftError> {
        // A batch is one datagram: the kernel refuses what exceeds the send buffer.
        if bytes.len() > 128 * 1024 {
            rustix::net::sockopt::set_socket_send_buffer_size(self.fd(), bytes.len() * 2)
                .map_err(|errno| socket_error("enlarge the send buffer")(errno.into()))?;
        }
        match self.socket.send(bytes, 0) {
            Ok(length) if length == bytes.len() => Ok(()),
            Ok(_) => Err(NftError::Malformed { what: "a batch was cut when sent" }),
            Err(source) => Err(NftError::Socket { action: "send", source }),
        }
    }

    fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Next datagram into the buffer; false where there is none.
    fn receive(&mut self) -> Result<bool, NftError> {
        self.buffer.clear();
        match self.socket.recv(&mut self.buffer, libc::MSG_DONTWAIT | libc::MSG_TRUNC) {
            Ok(length) if length > self.buffer.len() => {
                Err(NftError::Malformed { what: "a datagram longer than 64 KiB" })
            }
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(source) => Err(NftError::Socket { action: "receive", source }),
        }
    }

    /// Asks a question and hands on each message of the answer.
    /// `Err` with `EINTR` inside: a dump was disturbed by a change and must be repeated.
    pub(super) fn ask(
        &mut self,
        operation: &Operation,
        request: impl FnOnce(&mut Writer, u32),
        mut each: impl FnMut(&Message<'_>) -> Result<(), NftError>,
    ) -> Result<(), NftError> {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let mut writer = Writer::default();
        request(&mut writer, self.sequence);
        let dump = writer.bytes().get(6..8).is_some_and(|flags| {
            u16::from_ne_bytes([flags[0], flags[1]]) & NLM_F_DUMP == NLM_F_DUMP
        });
        self.broken = true;
        self.send(writer.bytes())?;
        let mut outcome = Ok(());
        let mut finished = !dump;
        // Everything is read even after an error, so that nothing is left for the next question.
        while self.receive()? {
            for message in messages(&self.buffer)? {
                if message.sequence != self.sequence {
                    continue;
                }
                finished |= message.kind == NLMSG_DONE || message.kind == NLMSG_ERROR;
                let one = self::answer(&message, operation, &mut each);
                if outcome.is_ok() {
                    outcome = one;
                }
            }
        }
        self.broken = false;
        if !finished && outcome.is_ok() {
            return Err(NftError::Malformed { what: "a dump without an end" });
        }
        outcome
    }

    /// As [`Self::ask`] for a dump, repeated while changes disturb it; `start` forgets what a
    /// disturbed attempt gave.
    pub(super) fn dump<T>(
        &mut self,
        operation: &Operation,
        request: impl Fn(&mut Writer, u32),
        each: impl Fn(&Message<'_>, &mut Vec<T>) -> Result<(), NftError>,
    ) -> Result<Vec<T>, NftError> {
        const ATTEMPTS: u32 = 20;
        for _ in 0..ATTEMPTS {
            let mut found = Vec::new();
            match self.ask(operation, &request, |message| each(message, &mut found)) {
                Err(error) if error.errno() == Some(libc::EINTR) => {}
                Err(error) => return Err(error),
                Ok(()) => return Ok(found),
            }
        }
        Err(NftError::Unsettled { attempts: ATTEMPTS })
    }
}

impl AsRawFd for Nft {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.socket.as_raw_fd()
    }
}

fn answer(
    message: &Message<'_>,
    operation: &Operation,
    each: &mut impl FnMut(&Message<'_>) -> Result<(), NftError>,
) -> Result<(), NftError> {
    if message.flags & NLM_F_DUMP_INTR != 0 && message.kind != NLMSG_ERROR {
        return Err(refused(operation, libc::EINTR, String::new()));
    }
    match message.kind {
        NLMSG_ERROR => error_of(message, |_| Some(operation)).map_or(Ok(()), Err),
        NLMSG_DONE => match u32_at(message.payload, 0).unwrap_or(0) as i32 {
            0 => Ok(()),
            code => Err(refused(operation, -code, String::new())),
        },
        _ => each(message),
    }
}

fn refused(operation: &Operation, errno: i32, words: String) -> NftError {
    let detail = if words.is_empty() { hint(operation.what, errno).to_owned() } else { words };
    NftError::Refused {
        operation: operation.what,
        object: operation.object.clone(),
        source: io::Error::from_raw_os_error(errno),
        detail,
    }
}

/// The error that a message reports, `None` for an acknowledgement.
fn error_of<'a>(
    message: &Message<'_>,
    operation: impl FnOnce(usize) -> Option<&'a Operation>,
) -> Option<NftError> {
    let errno = -(u32_at(message.payload, 0)? as i32);
    if errno == 0 {
        return None;
    }
    let mut words = String::new();
    if message.flags & NLM_F_ACK_TLVS != 0 {
        // Behind the code stands the request's header, and the request too unless capped.
        let request = u32_at(message.payload, 4).unwrap_or(0) as usize;
        let skip = if message.flags & NLM_F_CAPPED != 0 { HEADER } else { request };
        let rest = message.payload.get(4 + skip.next_multiple_of(4)..).unwrap_or_default();
        words = Attributes::new(rest).string(1).unwrap_or_default();
    }
    let whole = Operation { what: "apply", object: "the batch".to_owned() };
    let operation = operation(message.sequence as usize).unwrap_or(&whole);
    Some(refused(operation, errno, words))
}
