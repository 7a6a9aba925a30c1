//! Queues between the stages, seen as readers.

use bytes::{Buf, Bytes, BytesMut};
use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender};

/// What the first bytes of a blob say. The declared media type is not asked: registries hold
/// layers with the wrong one, and the digests decide anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sniffed {
    Gzip,
    Zstd,
    Plain,
}

/// Chunks of a blob. Ends where the sender is gone.
pub(super) struct ChunkReader {
    from: Receiver<Bytes>,
    present: Bytes,
}

impl ChunkReader {
    pub(super) fn new(from: Receiver<Bytes>) -> Self {
        Self { from, present: Bytes::new() }
    }

    /// Looks at the first four bytes.
    pub(super) fn sniff(&mut self) -> Sniffed {
        const MAGIC: usize = 4;
        while self.present.len() < MAGIC {
            let Ok(more) = self.from.recv() else { break };
            let mut joined = BytesMut::with_capacity(self.present.len() + more.len());
            joined.extend_from_slice(&self.present);
            joined.extend_from_slice(&more);
            self.present = joined.freeze();
        }
        match &self.present[..] {
            [0x1f, 0x8b, ..] => Sniffed::Gzip,
            // A frame, or one to be skipped, which may come first.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Sniffed::Zstd,
            _ => Sniffed::Plain,
        }
    }
}

impl BufRead for ChunkReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.present.is_empty() {
            match self.from.recv() {
                Ok(chunk) => self.present = chunk,
                Err(_) => break,
            }
        }
        Ok(&self.present)
    }

    fn consume(&mut self, amount: usize) {
        self.present.advance(amount);
    }
}

impl Read for ChunkReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let present = self.fill_buf()?;
        let count = present.len().min(buf.len());
        buf[..count].copy_from_slice(&present[..count]);
        self.consume(count);
        Ok(count)
    }
}

/// Inflated blocks; spent ones go back to be filled again.
pub(super) struct BlockReader {
    from: Receiver<Vec<u8>>,
    spent: SyncSender<Vec<u8>>,
    present: Vec<u8>,
    at: usize,
}

impl BlockReader {
    pub(super) fn new(from: Receiver<Vec<u8>>, spent: SyncSender<Vec<u8>>) -> Self {
        Self { from, spent, present: Vec::new(), at: 0 }
    }
}

impl Read for BlockReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.at == self.present.len() {
            let Ok(next) = self.from.recv() else { return Ok(0) };
            let spent = std::mem::replace(&mut self.present, next);
            self.at = 0;
            // A full queue or a stage that has ended: the block is simply freed.
            let _ = self.spent.try_send(spent);
        }
        let count = buf.len().min(self.present.len() - self.at);
        buf[..count].copy_from_slice(&self.present[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;

    #[test]
    fn sniffs_over_short_chunks() {
        let cases: [(&[&[u8]], Sniffed); 5] = [
            (&[b"\x1f", b"\x8b\x08\0"], Sniffed::Gzip),
            (&[b"\x28\xb5", b"", b"\x2f\xfd"], Sniffed::Zstd),
            (&[b"\x5a\x2a\x4d\x18"], Sniffed::Zstd),
            (&[b"us", b"tar"], Sniffed::Plain),
            (&[], Sniffed::Plain),
        ];
        for (chunks, want) in cases {
            let (send, from) = sync_channel(8);
            for chunk in chunks {
                send.send(Bytes::copy_from_slice(chunk)).unwrap();
            }
            drop(send);
            let mut reader = ChunkReader::new(from);
            assert_eq!(reader.sniff(), want);
            let mut all = Vec::new();
            reader.read_to_end(&mut all).unwrap();
            assert_eq!(all, chunks.concat());
        }
    }
}
