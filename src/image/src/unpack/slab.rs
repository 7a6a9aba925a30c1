//! The uncompressed stream, read once into shared buffers: the parser looks at headers in place,
//! writers hold on to the parts that are file contents, and one thread hashes them all.

use std::io::{self, Read};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::error::UnpackError;

/// Unit of the tar format; every header starts at a multiple of it.
pub(crate) const BLOCK: usize = 512;

/// Size of one buffer. A multiple of [`BLOCK`], so that a header never spans two.
const SLAB: usize = 256 * 1024;

/// Buffers in flight for one layer: what a slow disk may hold back, 6 MiB.
const SLABS: usize = 24;

/// One buffer; goes back to its pool when the last holder lets go.
#[derive(Debug)]
pub(crate) struct Slab {
    bytes: Vec<u8>,
    home: SyncSender<Vec<u8>>,
}

impl Drop for Slab {
    fn drop(&mut self) {
        // The channel has room for every buffer, and a closed one means that nobody needs them.
        let _ = self.home.try_send(std::mem::take(&mut self.bytes));
    }
}

/// A part of the stream that stays in memory as long as somebody holds it.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    slab: Arc<Slab>,
    start: usize,
    end: usize,
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.slab.bytes[self.start..self.end]
    }
}

/// The stream, cut into slabs. Every slab is also sent to the hasher.
pub(crate) struct Stream<R> {
    source: R,
    hasher: Option<SyncSender<Chunk>>,
    free: Receiver<Vec<u8>>,
    home: SyncSender<Vec<u8>>,
    allocated: usize,
    current: Option<Arc<Slab>>,
    position: usize,
    /// Offset in the stream of the first byte after the current slab.
    slab_end: u64,
    slabs: u64,
    ended: bool,
}

impl<R: Read> Stream<R> {
    /// `hasher` receives everything that is read, in order.
    pub(crate) fn new(source: R, hasher: Option<SyncSender<Chunk>>) -> Self {
        let (home, free) = sync_channel(SLABS);
        Self {
            source,
            hasher,
            free,
            home,
            allocated: 0,
            current: None,
            position: 0,
            slab_end: 0,
            slabs: 0,
            ended: false,
        }
    }

    /// Bytes consumed so far.
    pub(crate) fn offset(&self) -> u64 {
        self.slab_end - self.rest().len() as u64
    }

    /// Slabs read so far.
    pub(crate) fn slabs(&self) -> u64 {
        self.slabs
    }

    fn rest(&self) -> &[u8] {
        self.current.as_ref().map_or(&[], |slab| &slab.bytes[self.position..])
    }

    /// Makes sure that at least one byte is there; false at the end of the stream.
    fn fill(&mut self) -> Result<bool, UnpackError> {
        if !self.rest().is_empty() {
            return Ok(true);
        }
        self.current = None;
        if self.ended {
            return Ok(false);
        }
        let bytes = self.read_slab()?;
        self.slabs += 1;
        self.slab_end += bytes.len() as u64;
        self.position = 0;
        let slab = Arc::new(Slab { bytes, home: self.home.clone() });
        if let Some(hasher) = &self.hasher {
            let end = slab.bytes.len();
            // A hasher that is gone shows when it is joined.
            let _ = hasher.send(Chunk { slab: Arc::clone(&slab), start: 0, end });
        }
        let filled = !slab.bytes.is_empty();
        self.current = Some(slab);
        Ok(filled)
    }

    /// Reads a whole slab, less only at the end of the stream.
    fn read_slab(&mut self) -> Result<Vec<u8>, UnpackError> {
        let mut bytes = self.free_buffer();
        bytes.resize(SLAB, 0);
        let mut filled = 0;
        while filled < SLAB {
            match self.source.read(&mut bytes[filled..]) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(UnpackError::Read(error)),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    /// A new buffer while there are few, else one that the writers have let go of: this is where
    /// the reader waits for a slow disk. Whoever holds a slab has it in a queue that is being
    /// worked off, so that one always comes back.
    fn free_buffer(&mut self) -> Vec<u8> {
        if let Ok(buffer) = self.free.try_recv() {
            return buffer;
        }
        if self.allocated < SLABS {
            self.allocated += 1;
            return Vec::with_capacity(SLAB);
        }
        // The sending side is held by `self.home`: receiving cannot fail.
        self.free.recv().unwrap_or_default()
    }

    /// The next header block; `None` at the end of the stream.
    pub(crate) fn block(&mut self) -> Result<Option<[u8; BLOCK]>, UnpackError> {
        if !self.fill()? {
            return Ok(None);
        }
        let Some(block) = self.rest().first_chunk::<BLOCK>().copied() else {
            return Err(self.cut_off());
        };
        self.position += BLOCK;
        Ok(Some(block))
    }

    /// The next bytes, at least one and at most `most`.
    pub(crate) fn chunk(&mut self, most: u64) -> Result<Chunk, UnpackError> {
        if !self.fill()? {
            return Err(self.cut_off());
        }
        let Some(slab) = &self.current else { return Err(self.cut_off()) };
        let start = self.position;
        let available = (slab.bytes.len() - start) as u64;
        // At most the size of a slab: fits.
        let end = start + available.min(most) as usize;
        let chunk = Chunk { slab: Arc::clone(slab), start, end };
        self.position = end;
        Ok(chunk)
    }

    /// Passes over `count` bytes.
    pub(crate) fn skip(&mut self, mut count: u64) -> Result<(), UnpackError> {
        while count > 0 {
            count -= self.chunk(count)?.len() as u64;
        }
        Ok(())
    }

    /// Passes over the padding after `size` bytes of contents. A writer may leave out the padding
    /// of the very last member, as Go's reader also allows.
    pub(crate) fn skip_padding(&mut self, size: u64) -> Result<(), UnpackError> {
        let mut count = size.next_multiple_of(BLOCK as u64) - size;
        while count > 0 && self.fill()? {
            count -= self.chunk(count)?.len() as u64;
        }
        Ok(())
    }

    /// Copies the next `size` bytes, which the caller has bounded.
    pub(crate) fn bytes(&mut self, size: u64) -> Result<Vec<u8>, UnpackError> {
        let mut bytes = Vec::new();
        let mut left = size;
        while left > 0 {
            let chunk = self.chunk(left)?;
            left -= chunk.len() as u64;
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// Reads what follows the end of the archive, up to `most` bytes.
    pub(crate) fn drain(&mut self, most: u64) -> Result<(), UnpackError> {
        let mut left = most;
        while self.fill()? {
            if left == 0 {
                return Err(UnpackError::Limit { what: "bytes after the archive", limit: most });
            }
            left -= self.chunk(left)?.len() as u64;
        }
        Ok(())
    }

    fn cut_off(&self) -> UnpackError {
        UnpackError::Format { offset: self.slab_end, reason: "the archive is cut off".to_owned() }
    }
}
