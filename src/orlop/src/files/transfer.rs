//! Tar streams between the service and this process.

use crate::container::said;
use orlop_api::engine_v1 as v1;
use std::io::{self, Read, Write};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tonic::Streaming;

/// Bytes in one message.
const CHUNK: usize = 256 << 10;
/// Messages that wait for the other side.
pub(super) const QUEUE: usize = 8;

/// Standard output, for bytes.
pub(super) fn stdout() -> io::Result<tokio::fs::File> {
    let own = rustix::stdio::stdout().try_clone_to_owned()?;
    Ok(tokio::fs::File::from_std(std::fs::File::from(own)))
}

/// Writes the archive; its bytes.
pub(super) async fn to_writer(
    mut chunks: Streaming<v1::Chunk>,
    mut out: impl AsyncWrite + Unpin,
) -> anyhow::Result<u64> {
    let mut total = 0;
    while let Some(chunk) = chunks.message().await.map_err(said)? {
        total += chunk.data.len() as u64;
        out.write_all(&chunk.data).await?;
    }
    out.flush().await?;
    Ok(total)
}

/// An archive that comes in messages, for a thread that reads it.
pub(super) struct Incoming {
    chunks: mpsc::Receiver<io::Result<Vec<u8>>>,
    present: io::Cursor<Vec<u8>>,
}

/// Takes the messages as they are read, until the reader has what it needs.
pub(super) fn incoming(mut stream: Streaming<v1::Chunk>) -> Incoming {
    let (send, chunks) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        loop {
            let next = match stream.message().await {
                Ok(None) => return,
                Ok(Some(chunk)) => Ok(chunk.data),
                Err(status) => Err(io::Error::other(status.message().to_owned())),
            };
            let failed = next.is_err();
            if send.send(next).await.is_err() || failed {
                return;
            }
        }
    });
    Incoming { chunks, present: io::Cursor::default() }
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.present.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            match self.chunks.blocking_recv() {
                Some(chunk) => self.present = io::Cursor::new(chunk?),
                None => return Ok(0),
            }
        }
    }
}

/// An archive that a thread writes, in messages.
pub(super) struct Outgoing {
    send: mpsc::Sender<v1::CopyRequest>,
    buffer: Vec<u8>,
    /// Bytes so far.
    pub(super) total: u64,
}

impl Outgoing {
    pub(super) fn new(send: mpsc::Sender<v1::CopyRequest>) -> Self {
        Self { send, buffer: Vec::with_capacity(CHUNK), total: 0 }
    }
}

impl Write for Outgoing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = CHUNK - self.buffer.len();
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.buffer.extend_from_slice(taken);
        self.total += taken.len() as u64;
        if self.buffer.len() == CHUNK {
            self.flush()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let data = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        let request = v1::CopyRequest { data, ..v1::CopyRequest::default() };
        self.send.blocking_send(request).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
