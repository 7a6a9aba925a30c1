//! Files of containers: copied, compared, made into images.

use super::commit;
use super::{EngineCalls, Messages, list};
use crate::engine_v1 as v1;
use crate::error::{ApiError, answer};
use orlop_engine::files::Source;
use std::io::{self, Read, Write};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// Bytes in one message.
const CHUNK: usize = 256 << 10;
/// Such messages that wait for the other side.
const QUEUE: usize = 8;

pub(super) async fn diff(
    calls: &EngineCalls,
    request: v1::ContainerRequest,
) -> Result<v1::JsonList, ApiError> {
    let engine = calls.engine()?;
    let container = engine.find(&request.container)?;
    list(&engine.diff(&container).await?)
}

pub(super) async fn commit(
    calls: &EngineCalls,
    request: v1::CommitRequest,
) -> Result<v1::Name, ApiError> {
    let engine = calls.engine()?;
    let name = commit::commit(&engine, request).await?;
    Ok(v1::Name { name })
}

pub(super) async fn copy_out(
    calls: &EngineCalls,
    request: v1::CopyRequest,
) -> Result<Messages<v1::Chunk>, ApiError> {
    let engine = calls.engine()?;
    let container = engine.find(&request.container)?;
    let source = engine.copy_out(&container, &request.path, request.follow).await?;
    stream("copy_out", source)
}

pub(super) async fn export_root(
    calls: &EngineCalls,
    request: v1::ContainerRequest,
) -> Result<Messages<v1::Chunk>, ApiError> {
    let engine = calls.engine()?;
    let container = engine.find(&request.container)?;
    stream("export_root", engine.export(&container).await?)
}

/// What it is, then its archive.
fn stream(call: &'static str, source: Source) -> Result<Messages<v1::Chunk>, ApiError> {
    let (send, chunks) = mpsc::channel(QUEUE);
    let json = super::json(&source.stat)?.json;
    tokio::task::spawn_blocking(move || {
        let first = v1::Chunk { data: Vec::new(), json };
        if send.blocking_send(Ok(first)).is_err() {
            return;
        }
        let writer = ChunkWriter { send: send.clone(), buffer: Vec::with_capacity(CHUNK) };
        if let Err(error) = source.write(writer)
            && error.kind() != io::ErrorKind::BrokenPipe
            && let Err(status) =
                answer::<()>(call, Err(ApiError::Stream { message: error.to_string() }))
        {
            // Nobody may listen any more.
            let _ = send.blocking_send(Err(status));
        }
    });
    Ok(Box::pin(ReceiverStream::new(chunks)))
}

/// Messages from what is written.
struct ChunkWriter {
    send: mpsc::Sender<Result<v1::Chunk, Status>>,
    buffer: Vec<u8>,
}

impl Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = CHUNK - self.buffer.len();
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.buffer.extend_from_slice(taken);
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
        let sent = self.send.blocking_send(Ok(v1::Chunk { data, json: Vec::new() }));
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

pub(super) async fn copy_in(
    calls: &EngineCalls,
    mut messages: Streaming<v1::CopyRequest>,
) -> Result<v1::Empty, ApiError> {
    let engine = calls.engine()?;
    let cut = |status: Status| ApiError::Stream { message: status.message().to_owned() };
    let first = messages.message().await.map_err(cut)?.unwrap_or_default();
    let container = engine.find(&first.container)?;
    let (send, chunks) = mpsc::channel::<io::Result<Vec<u8>>>(QUEUE);
    let archive = ChunkReader { chunks, present: io::Cursor::new(first.data) };
    let (path, keep) = (first.path, first.archive);
    let working =
        tokio::spawn(async move { engine.copy_in(&container, &path, keep, archive).await });
    loop {
        let next = match messages.message().await {
            Ok(None) => break,
            Ok(Some(message)) => Ok(message.data),
            Err(status) => {
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, status.message().to_owned()))
            }
        };
        let failed = next.is_err();
        // The reader may have an error of its own, or all that it needs.
        if send.send(next).await.is_err() || failed {
            break;
        }
    }
    drop(send);
    working.await.map_err(|error| ApiError::Stream { message: error.to_string() })??;
    Ok(v1::Empty {})
}

/// Messages as a file to read.
struct ChunkReader {
    chunks: mpsc::Receiver<io::Result<Vec<u8>>>,
    present: io::Cursor<Vec<u8>>,
}

impl Read for ChunkReader {
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
