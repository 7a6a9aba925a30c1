//! The queue between network and unpacker, seen as a reader.

use bytes::{Buf, Bytes};
use std::io::{self, Read};
use std::sync::mpsc::Receiver;

/// Chunks of a blob. Ends where the sender is gone.
pub(super) struct ChunkReader {
    from: Receiver<Bytes>,
    present: Bytes,
}

impl ChunkReader {
    pub(super) fn new(from: Receiver<Bytes>) -> Self {
        Self { from, present: Bytes::new() }
    }
}

impl Read for ChunkReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.present.is_empty() {
            let Ok(chunk) = self.from.recv() else { return Ok(0) };
            self.present = chunk;
        }
        let count = self.present.len().min(buf.len());
        buf[..count].copy_from_slice(&self.present[..count]);
        self.present.advance(count);
        Ok(count)
    }
}
