//! Who watches a container's output beside its log. A watcher that does not keep up is cut off: the
//! container and its log wait for nobody.

use crate::poll::{Poller, Token};
use crate::rpc::ReplyTo;
use rustix::io::Errno;
use std::os::fd::OwnedFd;

/// Watchers of one container at once.
pub(crate) const MAX_ATTACHMENTS: usize = 64;

/// One watcher.
#[derive(Debug)]
struct Attachment {
    /// In its token.
    key: u32,
    /// Who waits for its end.
    to: ReplyTo,
    /// FIFOs for stdout and stderr, each until it is over.
    sinks: [Option<OwnedFd>; 2],
    fell_behind: bool,
}

/// All watchers of a process.
#[derive(Debug, Default)]
pub(crate) struct Attachments(Vec<Attachment>);

impl Attachments {
    pub(crate) fn is_full(&self) -> bool {
        self.0.len() >= MAX_ATTACHMENTS
    }

    /// Adds a watcher and waits for its going.
    pub(crate) fn add(
        &mut self,
        poller: &Poller,
        key: u32,
        to: ReplyTo,
        sinks: [Option<OwnedFd>; 2],
    ) -> Result<(), Errno> {
        for sink in sinks.iter().flatten() {
            poller.hang_up(sink, Token::Attachment(key))?;
        }
        self.0.push(Attachment { key, to, sinks, fell_behind: false });
        Ok(())
    }

    /// Shows what came on stream `index`. One write each: who has no room for all of it has fallen
    /// behind by a whole pipe.
    pub(crate) fn show(&mut self, index: usize, bytes: &[u8]) {
        for attachment in &mut self.0 {
            let Some(Some(sink)) = attachment.sinks.get(index) else { continue };
            let written = loop {
                match rustix::io::write(sink, bytes) {
                    Err(Errno::INTR) => {}
                    other => break other,
                }
            };
            match written {
                Ok(count) if count == bytes.len() => {}
                Ok(_) | Err(Errno::AGAIN) => {
                    attachment.fell_behind = true;
                    attachment.sinks = [None, None];
                }
                Err(_) => attachment.sinks = [None, None],
            }
        }
    }

    /// Nothing more comes on stream `index`.
    pub(crate) fn end(&mut self, index: usize) {
        for attachment in &mut self.0 {
            if let Some(sink) = attachment.sinks.get_mut(index) {
                *sink = None;
            }
        }
    }

    /// A reader has gone.
    pub(crate) fn drop_reader(&mut self, key: u32) {
        for attachment in self.0.iter_mut().filter(|attachment| attachment.key == key) {
            attachment.sinks = [None, None];
        }
    }

    /// Takes out those that are over: who waits, and whether it fell behind.
    pub(crate) fn take_over(&mut self) -> Vec<(ReplyTo, bool)> {
        let over = |one: &Attachment| one.sinks.iter().all(Option::is_none);
        if !self.0.iter().any(over) {
            return Vec::new();
        }
        let (gone, left) = std::mem::take(&mut self.0).into_iter().partition(over);
        self.0 = left;
        let gone: Vec<Attachment> = gone;
        gone.into_iter().map(|one| (one.to, one.fell_behind)).collect()
    }
}
