//! From a FIFO to a process's standard input.

use rustix::io::Errno;
use std::os::fd::OwnedFd;

/// What feeds stdin.
#[derive(Debug)]
pub(crate) struct Input {
    /// The FIFO that somebody writes to.
    pub(crate) source: OwnedFd,
    /// Our end of the process's pipe, or the terminal's master; a terminal comes late.
    pub(crate) target: Option<OwnedFd>,
    pending: Vec<u8>,
    /// Close the process's end once the FIFO is empty.
    pub(crate) closing: bool,
    /// Whether the poller waits for room in the target rather than for bytes from the source.
    pub(crate) blocked: bool,
}

/// How a pump came to rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    /// Nothing more to read now.
    Idle,
    /// The process must read first.
    Blocked,
    /// Nothing more will come, or nobody takes it.
    Ended,
}

impl Input {
    pub(crate) fn new(source: OwnedFd, target: Option<OwnedFd>) -> Self {
        Self { source, target, pending: Vec::new(), closing: false, blocked: false }
    }

    /// Moves what there is.
    pub(crate) fn pump(&mut self, buffer: &mut [u8]) -> Flow {
        let Some(target) = &self.target else { return Flow::Idle };
        // One pipe's worth in a turn: others want to be served too.
        for _ in 0..16 {
            while !self.pending.is_empty() {
                match rustix::io::write(target, &self.pending) {
                    Ok(written) => {
                        self.pending.drain(..written);
                    }
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => return Flow::Blocked,
                    Err(_) => return Flow::Ended,
                }
            }
            let room = buffer.len().min(4096);
            match rustix::io::read(&self.source, buffer.get_mut(..room).unwrap_or_default()) {
                Ok(0) => return Flow::Ended,
                Ok(count) => {
                    self.pending.extend_from_slice(buffer.get(..count).unwrap_or_default())
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return if self.closing { Flow::Ended } else { Flow::Idle },
                Err(_) => return Flow::Ended,
            }
        }
        Flow::Idle
    }
}
