//! The conversation between the two halves, one message per packet.

use super::error::{At, Result, StageError, Step};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What the child says.
#[derive(Debug)]
pub(super) enum Message {
    /// Something could not be done and is not needed to start.
    Warning(String),
    /// The terminal's master.
    Console(OwnedFd),
    /// The shim may run hooks now; it answers with the container's state.
    Hooks,
    /// All is done but the exec.
    Ready,
    /// It failed, and ends.
    Failed(StageError),
    /// The end of the stream: executed, or dead.
    End,
}

const WARNING: u8 = b'W';
const CONSOLE: u8 = b'C';
const READY: u8 = b'R';
const HOOKS: u8 = b'H';
const FAILED: u8 = b'E';
const GO: u8 = b'G';
const LONGEST: usize = 8192;
/// The longest state that hooks are told; a packet of this size fits a socket's buffer.
const STATE: usize = 128 * 1024;

/// The shim's end (which does not block) and the child's.
pub(super) fn pair() -> Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .at(Step::Spawn, || "control socket")
}

/// The next message of the child; `None` when there is none yet.
pub(super) fn receive(control: BorrowedFd<'_>) -> Result<Option<Message>> {
    let mut buffer = [0_u8; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = loop {
        match recvmsg(control, &mut [IoSliceMut::new(&mut buffer)], &mut ancillary, flags) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(None),
            Err(Errno::CONNRESET) => return Ok(Some(Message::End)),
            other => break other.at(Step::Lost, || "control socket")?,
        }
    };
    let descriptor = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    let message = buffer.get(..received.bytes).unwrap_or_default();
    let Some((&tag, rest)) = message.split_first() else { return Ok(Some(Message::End)) };
    let text = || String::from_utf8_lossy(rest).into_owned();
    Ok(Some(match (tag, descriptor) {
        (WARNING, _) => Message::Warning(text()),
        (READY, _) => Message::Ready,
        (HOOKS, _) => Message::Hooks,
        (CONSOLE, Some(fd)) => Message::Console(fd),
        (FAILED, _) => Message::Failed(
            serde_json::from_slice(rest)
                .unwrap_or_else(|_| StageError::refuse(Step::Lost, "message", text())),
        ),
        _ => return Err(StageError::refuse(Step::Lost, "control socket", "an unknown message")),
    }))
}

/// Tells the child to go on.
pub(super) fn send_go(control: BorrowedFd<'_>) -> Result<()> {
    rustix::net::send(control, &[GO], SendFlags::NOSIGNAL)
        .map(drop)
        .at(Step::Lost, || "control socket")
}

/// Waits for "go"; an error when the shim is gone.
pub(super) fn wait_go(control: BorrowedFd<'_>) -> Result<()> {
    let mut buffer = [0_u8; 1];
    loop {
        match rustix::io::read(control, &mut buffer) {
            Ok(1) if buffer == [GO] => return Ok(()),
            Err(Errno::INTR) => {}
            Ok(_) | Err(_) => return Err(StageError::refuse(Step::Lost, "shim", "it has gone")),
        }
    }
}

/// Lets the shim run its hooks; the container's state, for the child's own.
pub(super) fn wait_hooks(control: BorrowedFd<'_>) -> Result<Vec<u8>> {
    send(control, HOOKS, &[])?;
    let mut buffer = vec![0_u8; STATE];
    loop {
        match rustix::io::read(control, &mut buffer) {
            Ok(length) if length > 0 => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Errno::INTR) => {}
            Ok(_) | Err(_) => return Err(StageError::refuse(Step::Lost, "shim", "it has gone")),
        }
    }
}

/// Tells the child that it may run its own hooks, with the container's state.
pub(super) fn send_state(control: BorrowedFd<'_>, state: &[u8]) -> Result<()> {
    if state.len() > STATE {
        let cause = "the annotations are too long to be passed on";
        return Err(StageError::refuse(Step::Hook, "state", cause));
    }
    rustix::net::send(control, state, SendFlags::NOSIGNAL)
        .map(drop)
        .at(Step::Lost, || "control socket")
}

pub(super) fn send_ready(control: BorrowedFd<'_>) -> Result<()> {
    send(control, READY, &[])
}

pub(super) fn send_warning(control: BorrowedFd<'_>, text: &str) -> Result<()> {
    send(control, WARNING, text.as_bytes())
}

/// The last word; whether it arrives does not matter any more.
pub(super) fn send_failure(control: BorrowedFd<'_>, error: &StageError) {
    let mut error = error.clone();
    // Paths can be 4 KiB each; the message must fit one packet.
    truncate(&mut error.message, LONGEST / 2);
    truncate(&mut error.object, LONGEST / 8);
    let _ = send(control, FAILED, &serde_json::to_vec(&error).unwrap_or_default());
}

fn truncate(text: &mut String, length: usize) {
    let mut end = length.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
}

/// Hands over the terminal's master.
pub(super) fn send_console(control: BorrowedFd<'_>, master: &OwnedFd) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = [master.as_fd()];
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(control, &[IoSlice::new(&[CONSOLE])], &mut ancillary, SendFlags::NOSIGNAL)
        .map(drop)
        .at(Step::Terminal, || "control socket")
}

fn send(control: BorrowedFd<'_>, tag: u8, rest: &[u8]) -> Result<()> {
    let mut message = Vec::with_capacity(1 + rest.len());
    message.push(tag);
    message.extend_from_slice(rest.get(..LONGEST - 1).unwrap_or(rest));
    rustix::net::send(control, &message, SendFlags::NOSIGNAL)
        .map(drop)
        .at(Step::Lost, || "control socket")
}
