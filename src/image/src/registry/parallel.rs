//! A big blob over several connections at once, given out in order. Many registries and the networks
//! before them give one connection only a part of what the line can carry.

use super::blob::{BlobSource, BlobStream};
use crate::PullErrorKind as Kind;
use bytes::Bytes;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;

/// Chunks of a part that may wait; a part is bounded by its bytes.
const CHUNKS: usize = 4096;

/// How blobs are cut.
#[derive(Clone)]
pub(super) struct Parallel {
    /// Smaller blobs come over one connection.
    pub(super) from: u64,
    /// Bytes of a part.
    pub(super) part: u64,
    /// Connections for one blob.
    pub(super) width: usize,
    /// Parts that may be fetched ahead, over all blobs: what they hold in memory.
    pub(super) ahead: Arc<Semaphore>,
}

/// A blob on its way, whole and in order.
pub(crate) struct BlobFetch {
    source: BlobSource,
    how: Parallel,
    /// The part that is given out; the whole blob where it is not cut.
    first: BlobStream,
    /// The parts after it.
    ahead: VecDeque<Part>,
    /// First byte that nobody fetches yet.
    next: u64,
}

/// A part that is fetched before its time.
struct Part {
    chunks: mpsc::Receiver<Result<Bytes, Kind>>,
    task: JoinHandle<()>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Part {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl BlobFetch {
    pub(crate) fn new(source: BlobSource) -> Self {
        let how = source.session.parallel();
        let size = source.descriptor.size;
        let cut = how.width > 1 && size >= how.from.max(2 * how.part);
        let end = if cut { how.part } else { size };
        let first = BlobStream::part(&source, 0..end);
        Self { source, how, first, ahead: VecDeque::new(), next: end }
    }

    /// The next bytes; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Kind> {
        if let Some(chunk) = self.first.next().await? {
            if self.next < self.source.descriptor.size {
                if self.first.is_whole() {
                    // The server does not know ranges: it sends everything on this connection.
                    self.next = self.source.descriptor.size;
                    self.first.extend();
                } else {
                    self.fetch_ahead();
                }
            }
            return Ok(Some(chunk));
        }
        loop {
            let Some(part) = self.ahead.front_mut() else {
                // Nobody could be spared: the next part comes over this connection.
                return self.go_on().await;
            };
            match part.chunks.recv().await {
                Some(chunk) => {
                    let chunk = chunk?;
                    self.fetch_ahead();
                    return Ok(Some(chunk));
                }
                None => drop(self.ahead.pop_front()),
            }
        }
    }

    async fn go_on(&mut self) -> Result<Option<Bytes>, Kind> {
        let range = self.take();
        if range.is_empty() {
            return Ok(None);
        }
        self.first = BlobStream::part(&self.source, range);
        self.fetch_ahead();
        self.first.next().await
    }

    /// The next part that nobody fetches.
    fn take(&mut self) -> Range<u64> {
        let size = self.source.descriptor.size;
        let start = self.next;
        // The last part takes the rest, rather than leaving a short one.
        let end = if size - start < 2 * self.how.part { size } else { start + self.how.part };
        self.next = end;
        start..end
    }

    fn fetch_ahead(&mut self) {
        while self.ahead.len() + 1 < self.how.width && self.next < self.source.descriptor.size {
            let Ok(permit) = self.how.ahead.clone().try_acquire_owned() else { return };
            let range = self.take();
            let mut stream = BlobStream::part(&self.source, range);
            let (send, chunks) = mpsc::channel(CHUNKS);
            let task = tokio::spawn(async move {
                loop {
                    let chunk = match stream.next().await {
                        Ok(None) => return,
                        Ok(Some(chunk)) => Ok(chunk),
                        Err(kind) => Err(kind),
                    };
                    let failed = chunk.is_err();
                    if send.send(chunk).await.is_err() || failed {
                        return;
                    }
                }
            });
            self.ahead.push_back(Part { chunks, task, _permit: permit });
        }
    }
}
