//! Who watches a container's output beside its log. A watcher that does not keep up is cut off: the
//! container and its log wait for nobody. Unless it is a patient one: somebody runs the container in
//! front of him, and its output goes where he wants it as that of any program does.

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
    sinks: [Sink; 2],
    fell_behind: bool,
    /// The container waits for it.
    patient: bool,
}

/// A FIFO of a watcher.
#[derive(Debug, Default)]
struct Sink {
    fifo: Option<OwnedFd>,
    /// What it had no room for; only of a patient watcher.
    pending: Vec<u8>,
    /// The same FIFO, while the poller waits for room in it.
    awaited: Option<OwnedFd>,
    /// Nothing more comes: it is over with what is pending.
    ending: bool,
}

impl Sink {
    fn close(&mut self, poller: Option<&Poller>) {
        if let (Some(awaited), Some(poller)) = (&self.awaited, poller) {
            poller.forget(awaited);
        }
        // Closing the last duplicate makes the poller forget it as well.
        *self = Self::default();
    }

    /// Writes; how much of it there was room for.
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        let Some(fifo) = &self.fifo else { return Ok(bytes.len()) };
        loop {
            match rustix::io::write(fifo, bytes) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(0),
                other => return other,
            }
        }
    }

    /// Writes what is pending; whether nothing is left.
    fn flush(&mut self, poller: &Poller) -> bool {
        while !self.pending.is_empty() {
            let pending = std::mem::take(&mut self.pending);
            match self.write(&pending) {
                Ok(0) => {
                    self.pending = pending;
                    return false;
                }
                Ok(written) => self.pending = pending.get(written..).unwrap_or_default().to_vec(),
                Err(_) => self.close(Some(poller)),
            }
        }
        if let Some(awaited) = self.awaited.take() {
            poller.forget(&awaited);
        }
        if self.ending {
            self.close(Some(poller));
        }
        true
    }

    /// Waits for room for what is pending.
    fn wait(&mut self, poller: &Poller, token: Token) {
        if self.pending.is_empty() || self.awaited.is_some() {
            return;
        }
        // A descriptor can be registered once, and its hanging up is.
        let room = self.fifo.as_ref().and_then(|fifo| fifo.try_clone().ok());
        match room.filter(|room| poller.writable(room, token).is_ok()) {
            Some(room) => self.awaited = Some(room),
            None => self.close(Some(poller)),
        }
    }
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
        (key, to): (u32, ReplyTo),
        fifos: [Option<OwnedFd>; 2],
        patient: bool,
    ) -> Result<(), Errno> {
        for fifo in fifos.iter().flatten() {
            poller.hang_up(fifo, Token::Attachment(key))?;
        }
        let sinks = fifos.map(|fifo| Sink { fifo, ..Sink::default() });
        self.0.push(Attachment { key, to, sinks, fell_behind: false, patient });
        Ok(())
    }

    fn sinks(&mut self, index: usize) -> impl Iterator<Item = &mut Sink> {
        self.0.iter_mut().filter_map(move |one| one.sinks.get_mut(index))
    }

    /// Shows what came on stream `index`. One write each: who has no room for all of it has fallen
    /// behind by a whole pipe.
    pub(crate) fn show(&mut self, index: usize, bytes: &[u8]) {
        for attachment in &mut self.0 {
            let patient = attachment.patient;
            let Some(sink) = attachment.sinks.get_mut(index) else { continue };
            if sink.fifo.is_none() {
                continue;
            }
            if !sink.pending.is_empty() {
                sink.pending.extend_from_slice(bytes);
                continue;
            }
            match sink.write(bytes) {
                Ok(count) if count == bytes.len() => {}
                Ok(count) if patient => {
                    sink.pending.extend_from_slice(bytes.get(count..).unwrap_or_default());
                }
                Ok(_) => {
                    attachment.fell_behind = true;
                    attachment.sinks.iter_mut().for_each(|sink| sink.close(None));
                }
                Err(_) => attachment.sinks.iter_mut().for_each(|sink| sink.close(None)),
            }
        }
    }

    /// Writes what patient watchers of stream `index` had no room for; whether nothing is left.
    pub(crate) fn flush(&mut self, poller: &Poller, index: usize) -> bool {
        // Every one, also after one that could not.
        let behind = self.sinks(index).filter_map(|sink| (!sink.flush(poller)).then_some(()));
        behind.count() == 0
    }

    /// Waits for room for what is left of stream `index` of the process `key`.
    pub(crate) fn wait(&mut self, poller: &Poller, key: u32, index: usize) {
        let token = Token::OutputSink(key, u8::try_from(index).unwrap_or_default());
        self.sinks(index).for_each(|sink| sink.wait(poller, token));
    }

    /// Whether something waits for a reader.
    pub(crate) fn wait_for_reader(&self) -> bool {
        self.0.iter().flat_map(|one| &one.sinks).any(|sink| !sink.pending.is_empty())
    }

    /// Nothing more comes on stream `index` of the process `key`.
    pub(crate) fn end(&mut self, poller: &Poller, key: u32, index: usize) {
        self.sinks(index).for_each(|sink| sink.ending = true);
        if !self.flush(poller, index) {
            self.wait(poller, key, index);
        }
    }

    /// Nobody is waited for any longer.
    pub(crate) fn close(&mut self, poller: &Poller) {
        let sinks = self.0.iter_mut().flat_map(|one| &mut one.sinks);
        sinks.for_each(|sink| sink.close(Some(poller)));
    }

    /// A reader has gone.
    pub(crate) fn drop_reader(&mut self, poller: &Poller, key: u32) {
        for attachment in self.0.iter_mut().filter(|attachment| attachment.key == key) {
            attachment.sinks.iter_mut().for_each(|sink| sink.close(Some(poller)));
        }
    }

    /// Takes out those that are over: who waits, and whether it fell behind.
    pub(crate) fn take_over(&mut self) -> Vec<(ReplyTo, bool)> {
        let over = |one: &Attachment| one.sinks.iter().all(|sink| sink.fifo.is_none());
        if !self.0.iter().any(over) {
            return Vec::new();
        }
        let (gone, left) = std::mem::take(&mut self.0).into_iter().partition(over);
        self.0 = left;
        let gone: Vec<Attachment> = gone;
        gone.into_iter().map(|one| (one.to, one.fell_behind)).collect()
    }
}
