//! One layer on its way from compressed bytes to a directory: keep and sha256, inflate, sha256,
//! unpack: each stage on a thread of its own with a short queue in between, so that the slowest
//! one is the bound and memory stays small. Every byte is touched once by each stage.

use super::reader::{BlockReader, ChunkReader, Sniffed};
use crate::disk::TempFile;
use crate::unpack::{Limits, UnpackError, Unpacked, unpack_layer};
use bytes::Bytes;
use orlop_model::Digest;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::ScopedJoinHandle;
use tokio::sync::mpsc;

/// Chunks of the blob between two stages.
const CHUNKS: usize = 8;
/// Bytes of an inflated block, and blocks between two stages.
const BLOCK: usize = 256 << 10;
const BLOCKS: usize = 4;

/// What the fetching side sends. A channel that closes without `End` was given up.
pub(crate) enum Feed {
    Data(Bytes),
    End,
}

/// Where the compressed bytes come from, and whether they are to be kept.
pub(crate) enum Input {
    /// From a registry; the file gets a copy.
    Stream(mpsc::Receiver<Feed>, File),
    /// From the content store.
    Kept(File),
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
    /// The compression is damaged.
    Inflate(io::Error),
    /// The archive was refused or could not be written.
    Unpack(UnpackError),
    /// The inflated layer is not what the configuration says.
    DiffId(Digest),
}

/// Runs a layer through all stages. Blocking.
pub(crate) fn run(
    input: Input,
    blob: &Digest,
    diff_id: &Digest,
    dest: BorrowedFd<'_>,
    limits: &Limits,
) -> Result<Unpacked, Failure> {
    let stop = AtomicBool::new(false);
    let (chunks, from_keep) = sync_channel::<Bytes>(CHUNKS);
    let (blocks, from_inflate) = sync_channel::<Vec<u8>>(BLOCKS);
    let (hashed, from_hash) = sync_channel::<Vec<u8>>(BLOCKS);
    let (spent, reuse) = sync_channel::<Vec<u8>>(2 * BLOCKS + 2);
    let cap = limits.bytes.saturating_add(limits.bytes / 8).saturating_add(1 << 30);
    let (kept, inflated, hash, unpacked) = std::thread::scope(|scope| {
        let stop = &stop;
        let keep = spawn(scope, "layer-keep", move || keep(input, &chunks, stop))?;
        let inflate =
            spawn(scope, "layer-inflate", move || inflate(from_keep, &blocks, &reuse, cap))?;
        let hash = spawn(scope, "layer-hash", move || hash_blocks(&from_inflate, &hashed))?;
        let mut reader = BlockReader::new(from_hash, spent);
        let unpacked = unpack_layer(&mut reader, dest, limits).and_then(|unpacked| {
            // What follows the archive belongs to the digest.
            io::copy(&mut reader, &mut io::sink()).map(|_| unpacked).map_err(UnpackError::Read)
        });
        if matches!(&unpacked, Err(error) if !is_format(error)) {
            // The rest of the blob cannot change what is wrong.
            stop.store(true, Ordering::Relaxed);
        }
        drop(reader);
        Ok((join(keep)?, join(inflate)?, join(hash)?, unpacked))
    })
    .map_err(Failure::Io)?;
    let unpacked = match unpacked {
        Err(error) if !is_format(&error) => return Err(Failure::Unpack(error)),
        other => other,
    };
    // Damage anywhere below is explained by a blob that is not the right one.
    let digest = kept?;
    if digest != *blob {
        return Err(Failure::Digest(digest));
    }
    inflated.map_err(Failure::Inflate)?;
    let unpacked = unpacked.map_err(Failure::Unpack)?;
    if hash != *diff_id {
        return Err(Failure::DiffId(hash));
    }
    Ok(unpacked)
}

/// Whether the archive, and not the disk, is at fault, so that it is worth knowing whether the
/// blob is the right one.
fn is_format(error: &UnpackError) -> bool {
    matches!(error, UnpackError::Read(_) | UnpackError::Format { .. })
}

fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    name: &str,
    work: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    std::thread::Builder::new().name(name.into()).spawn_scoped(scope, work)
}

fn join<T>(handle: ScopedJoinHandle<'_, T>) -> io::Result<T> {
    handle.join().map_err(|_| io::Error::other("a stage of the layer pipeline panicked"))
}

/// Stage 1: digest of the blob, and a copy of it.
fn keep(input: Input, out: &SyncSender<Bytes>, stop: &AtomicBool) -> Result<Digest, Failure> {
    let mut hasher = Sha256::new();
    // After a later stage gave up on the format, the digest still has to be told.
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

/// Stage 2: whatever compression the first bytes show.
fn inflate(
    chunks: Receiver<Bytes>,
    out: &SyncSender<Vec<u8>>,
    reuse: &Receiver<Vec<u8>>,
    cap: u64,
) -> io::Result<()> {
    let mut chunks = ChunkReader::new(chunks);
    match chunks.sniff() {
        Sniffed::Gzip => pump(flate2::bufread::MultiGzDecoder::new(chunks), out, reuse, cap),
        Sniffed::Zstd => {
            const WINDOW_LOG: u32 = 27;
            let mut decoder = zstd::stream::read::Decoder::with_buffer(chunks)?;
            decoder.window_log_max(WINDOW_LOG)?;
            pump(decoder, out, reuse, cap)
        }
        Sniffed::Plain => pump(chunks, out, reuse, cap),
    }
}

fn pump(
    mut from: impl Read,
    out: &SyncSender<Vec<u8>>,
    reuse: &Receiver<Vec<u8>>,
    cap: u64,
) -> io::Result<()> {
    let mut total = 0;
    loop {
        let mut block = reuse.try_recv().unwrap_or_default();
        block.resize(BLOCK, 0);
        let mut filled = 0;
        while filled < BLOCK {
            match from.read(&mut block[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if filled == 0 {
            return Ok(());
        }
        total += filled as u64;
        if total > cap {
            return Err(io::Error::other(format!(
                "it inflates to more than the limit of {cap} bytes"
            )));
        }
        block.truncate(filled);
        if out.send(block).is_err() {
            // A later stage has an error of its own.
            return Ok(());
        }
    }
}

/// Stage 3: digest of the archive.
fn hash_blocks(blocks: &Receiver<Vec<u8>>, out: &SyncSender<Vec<u8>>) -> Digest {
    let mut hasher = Sha256::new();
    while let Ok(block) = blocks.recv() {
        hasher.update(&block);
        if out.send(block).is_err() {
            break;
        }
    }
    Digest::from_sha256(&hasher.finalize().into())
}

/// A blob that came in, until it has its name.
pub(crate) struct Incoming {
    pub(crate) file: TempFile,
    pub(crate) size: u64,
}
