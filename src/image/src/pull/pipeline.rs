//! One layer on its way from compressed bytes to a directory. Every stage has threads of its own
//! with a short queue in between, so that the slowest one is the bound and memory stays small:
//! fetch (async) → keep and sha256 → inflate and parse → sha256 and writers (see `unpack`).

use super::reader::ChunkReader;
use crate::disk::TempFile;
use crate::unpack::{InflateLimits, Limits, UnpackError, Unpacked, decompress, unpack_layer};
use bytes::Bytes;
use orlop_model::Digest;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use tokio::sync::mpsc;

/// Chunks of the blob between two stages.
const CHUNKS: usize = 8;
/// Bytes that are read at once of a blob that is here.
const BLOCK: usize = 256 << 10;

/// What the fetching side sends. A channel that closes without `End` was given up.
pub(crate) enum Feed {
    Data(Bytes),
    End,
}

/// Where the compressed bytes come from.
pub(crate) enum Input {
    /// From a registry; the file gets a copy.
    Stream(mpsc::Receiver<Feed>, File),
    /// From the content store.
    Kept(File),
}

/// What a layer is to be, and within which bounds.
pub(crate) struct Job<'a> {
    pub(crate) blob: &'a Digest,
    pub(crate) diff_id: &'a Digest,
    pub(crate) limits: &'a Limits,
    pub(crate) inflate: &'a InflateLimits,
}

/// Why a layer did not come out. The first cause, not its consequences.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The fetching side gave up; it knows why.
    Aborted,
    /// The blob is not what its digest says.
    Digest(Digest),
    /// Keeping the blob, or a thread, failed.
    Io(io::Error),
    /// The blob was refused or could not be written.
    Unpack(UnpackError),
    /// The inflated layer is not what the configuration says.
    DiffId(Digest),
}

/// A blob that came in, until it has its name.
pub(crate) struct Incoming {
    pub(crate) file: TempFile,
    pub(crate) size: u64,
}

/// Runs a layer through all stages into the empty directory `dest`. Blocking.
pub(crate) fn run(input: Input, job: &Job<'_>, dest: BorrowedFd<'_>) -> Result<Unpacked, Failure> {
    let stop = AtomicBool::new(false);
    let (send, chunks) = sync_channel::<Bytes>(CHUNKS);
    let (kept, unpacked) = std::thread::scope(|scope| {
        let stop = &stop;
        let keeper = std::thread::Builder::new()
            .name("layer-keep".into())
            .spawn_scoped(scope, move || keep(input, &send, stop))
            .map_err(Failure::Io)?;
        let unpacked = decompress(None, ChunkReader::new(chunks), job.inflate)
            .map_err(UnpackError::Read)
            .and_then(|tar| unpack_layer(tar, dest, job.limits));
        if matches!(&unpacked, Err(error) if !is_format(error)) {
            // The rest of the blob cannot change what is wrong.
            stop.store(true, Ordering::Relaxed);
        }
        let kept = keeper
            .join()
            .map_err(|_| Failure::Io(io::Error::other("the thread that keeps a layer panicked")))?;
        Ok((kept, unpacked))
    })?;
    let unpacked = match unpacked {
        Err(error) if !is_format(&error) => return Err(Failure::Unpack(error)),
        other => other,
    };
    // Damage is explained by a blob that is not the right one.
    let digest = kept?;
    if digest != *job.blob {
        return Err(Failure::Digest(digest));
    }
    let unpacked = unpacked.map_err(Failure::Unpack)?;
    let diff_id = Digest::from_sha256(&unpacked.diff_id);
    if diff_id != *job.diff_id {
        return Err(Failure::DiffId(diff_id));
    }
    Ok(unpacked)
}

/// Whether the blob's content, and not the disk or a limit, is at fault, so that it is worth
/// knowing whether it is the right blob.
fn is_format(error: &UnpackError) -> bool {
    matches!(error, UnpackError::Read(_) | UnpackError::Format { .. })
}

/// Digest of the blob, and a copy of it.
fn keep(input: Input, out: &SyncSender<Bytes>, stop: &AtomicBool) -> Result<Digest, Failure> {
    let mut hasher = Sha256::new();
    // After the unpacker gave up on the format, the digest still has to be told.
    let mut out = Some(out);
    let mut pass = |chunk: Bytes| {
        hasher.update(&chunk);
        if out.is_some_and(|out| out.send(chunk).is_err()) {
            out = None;
        }
        if stop.load(Ordering::Relaxed) { Err(Failure::Aborted) } else { Ok(()) }
    };
    match input {
        Input::Stream(mut feed, mut file) => loop {
            match feed.blocking_recv() {
                None => return Err(Failure::Aborted),
                Some(Feed::End) => break,
                Some(Feed::Data(chunk)) => {
                    file.write_all(&chunk).map_err(Failure::Io)?;
                    pass(chunk)?;
                }
            }
        },
        Input::Kept(file) => loop {
            let mut chunk = Vec::with_capacity(BLOCK);
            let read = (&file).take(BLOCK as u64).read_to_end(&mut chunk).map_err(Failure::Io)?;
            if read == 0 {
                break;
            }
            pass(chunk.into())?;
        },
    }
    Ok(Digest::from_sha256(&hasher.finalize().into()))
}
