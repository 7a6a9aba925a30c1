//! From a process's output to where it belongs.

use super::attach::Attachments;
use super::format::Stream;
use super::log::CriLog;
use crate::poll::Poller;
use rustix::io::Errno;
use std::os::fd::OwnedFd;

/// Where a stream goes. All output of a container passes [`Output::pump`], where whoever watches
/// (attach) is served too.
#[derive(Debug)]
pub(crate) enum Sink {
    /// Nobody wants it.
    Discard,
    /// The log of the process, under this name.
    Log(Stream),
    /// We keep so many bytes ourselves; what is more is dropped.
    Keep { bytes: Vec<u8>, limit: usize },
    /// A FIFO that somebody else reads, and what it had no room for yet.
    Fifo { fd: OwnedFd, pending: Vec<u8> },
}

/// One stream.
#[derive(Debug)]
pub(crate) struct Output {
    /// Our end of the pipe, or the terminal's master.
    pub(crate) source: OwnedFd,
    pub(crate) sink: Sink,
    /// Whether the poller waits for room in the sink rather than for bytes from the source.
    pub(crate) blocked: bool,
}

/// How much is moved at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Bytes, about.
    pub(crate) budget: usize,
    /// The process has ended: what it left is no more than a pipe's worth, and watchers that have no
    /// room for it get it later.
    pub(crate) hurried: bool,
}

/// How a pump came to rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    /// Nothing more to read now.
    Idle,
    /// The budget is used up; there may be more.
    More,
    /// The reader of the FIFO must read first.
    Blocked,
    /// Every writer is gone, everything is delivered.
    Ended,
}

impl Output {
    pub(crate) fn new(source: OwnedFd, sink: Sink) -> Self {
        Self { source, sink, blocked: false }
    }

    /// Moves up to about `budget` bytes.
    pub(crate) fn pump(
        &mut self,
        log: Option<&mut CriLog>,
        (index, watchers, poller): (usize, &mut Attachments, &Poller),
        buffer: &mut [u8],
        pace: Pace,
    ) -> Flow {
        let mut log = log;
        let mut moved = 0;
        loop {
            if !self.flush() {
                return Flow::Blocked;
            }
            if !watchers.flush(poller, index) && !pace.hurried {
                return Flow::Blocked;
            }
            if moved >= pace.budget {
                return Flow::More;
            }
            match rustix::io::read(&self.source, &mut *buffer) {
                Ok(0) => return Flow::Ended,
                Ok(count) => {
                    moved += count;
                    let bytes = buffer.get(..count).unwrap_or_default();
                    self.deliver(log.as_deref_mut(), bytes);
                    watchers.show(index, bytes);
                    // A short read means that the pipe is empty: no second call to learn that.
                    if count < buffer.len()
                        && !watchers.wait_for_reader()
                        && !matches!(&self.sink, Sink::Fifo { pending, .. } if !pending.is_empty())
                    {
                        return Flow::Idle;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Flow::Idle,
                // A terminal answers EIO once nobody holds its other side.
                Err(_) => return Flow::Ended,
            }
        }
    }

    fn deliver(&mut self, log: Option<&mut CriLog>, bytes: &[u8]) {
        match &mut self.sink {
            Sink::Discard => {}
            Sink::Log(stream) => {
                if let Some(log) = log {
                    log.write(*stream, bytes);
                }
            }
            Sink::Keep { bytes: kept, limit } => {
                let room = limit.saturating_sub(kept.len()).min(bytes.len());
                kept.extend_from_slice(bytes.get(..room).unwrap_or_default());
            }
            Sink::Fifo { pending, .. } => pending.extend_from_slice(bytes),
        }
    }

    /// Writes what the FIFO has room for; true when nothing is left.
    fn flush(&mut self) -> bool {
        let Sink::Fifo { fd, pending } = &mut self.sink else { return true };
        while !pending.is_empty() {
            match rustix::io::write(&*fd, pending) {
                Ok(written) => {
                    pending.drain(..written);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return false,
                // The FIFO is of no use any more; the process must not suffer for it.
                Err(_) => {
                    self.sink = Sink::Discard;
                    return true;
                }
            }
        }
        true
    }

    /// Whether bytes are on their way that only wait for the reader of the FIFO.
    pub(crate) fn waits_for_reader(&self) -> bool {
        matches!(&self.sink, Sink::Fifo { pending, .. } if !pending.is_empty())
    }
}
