//! A layer's tar stream becomes a directory for overlayfs. The stream is hostile: everything is
//! done by descriptors below the destination and no symbolic link is ever followed.

mod apply;
mod archive;
mod attributes;
mod error;
mod finish;
mod inflate;
mod limits;
mod listing;
mod path;
mod slab;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tree;
mod writer;
mod writers;

use std::io::Read;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::Scope;

use sha2::{Digest as _, Sha256};

use apply::Applier;
use archive::Reader;
use slab::{Chunk, Stream};
use writers::{Progress, Writers};

pub use error::UnpackError;
pub use finish::{adopt_parents, copy_attributes};
pub use inflate::{Compression, Inflate, InflateLimits, decompress};
pub use limits::Limits;
#[doc(hidden)]
pub use listing::list;

/// What a layer turned out to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Members of the archive that were applied (whiteouts included).
    pub entries: u64,
    /// Sum of the sizes of all regular files, in bytes as a reader of the files sees them.
    pub bytes: u64,
    /// Inodes made in the destination: hard links count once.
    pub inodes: u64,
    /// Directories that no member of the archive describes but that a member lies in, relative to
    /// the destination, parents before children. They were made 0755 root:root; see
    /// [`adopt_parents`].
    pub implicit_dirs: Vec<PathBuf>,
    /// Whether a member describes the root itself. It is never in `implicit_dirs`; if it is not
    /// described it is 0755 root:root.
    pub root_described: bool,
    /// The layer hides all layers below: overlayfs does not look for the mark on a layer's root,
    /// so the list of lower directories has to end here.
    pub opaque_root: bool,
    /// SHA-256 of the whole stream: the layer's diffID.
    pub diff_id: [u8; 32],
}

/// Unpacks the uncompressed tar stream of one layer into the empty directory `dest`.
/// Reads to the end of the stream. Starts threads of its own, which end before it returns; blocks
/// on `tar` and on the disk. Nothing is durable yet afterwards: call [`sync_tree`]. After an error
/// `dest` holds a part of the layer.
pub fn unpack_layer(
    tar: impl Read,
    dest: BorrowedFd<'_>,
    limits: &Limits,
) -> Result<Unpacked, UnpackError> {
    prepare(dest)?;
    let progress = Progress::default();
    let umask = orlop_sys::fs::umask();
    std::thread::scope(|scope| {
        let (hasher, hashing) = spawn_hasher(scope)?;
        let writers = Writers::spawn(scope, limits.writers, umask, &progress)?;
        let reader = Reader::new(Stream::new(tar, Some(hasher)), limits);
        let mut applier = Applier::new(reader, dest, writers, limits);
        let applied = applier.run();
        let Applier { reader, tree, writers, entries, bytes, .. } = applier;
        // Ends the hasher.
        drop(reader);
        let written = writers.finish();
        applied?;
        written?;
        let finished = finish::finish(dest, &tree)?;
        let diff_id = hashing
            .join()
            .map_err(|_| UnpackError::Read(std::io::Error::other("the hashing thread panicked")))?;
        Ok(Unpacked {
            entries,
            bytes,
            inodes: progress.inodes(),
            implicit_dirs: finished.implicit,
            root_described: finished.root_described,
            opaque_root: finished.opaque_root,
            diff_id,
        })
    })
}

/// Takes away what new files would inherit from the destination.
fn prepare(dest: BorrowedFd<'_>) -> Result<(), UnpackError> {
    let root = tree::open_directory(dest, b"", rustix::fs::OFlags::RDONLY)?;
    rustix::fs::fchmod(&root, rustix::fs::Mode::from_raw_mode(0o700))
        .map_err(|error| UnpackError::io("set the mode of", ".", error.into()))
}

type Hashing<'scope> = std::thread::ScopedJoinHandle<'scope, [u8; 32]>;

fn spawn_hasher<'scope>(
    scope: &'scope Scope<'scope, '_>,
) -> Result<(std::sync::mpsc::SyncSender<Chunk>, Hashing<'scope>), UnpackError> {
    let (sender, chunks): (_, Receiver<Chunk>) = sync_channel(8);
    let hash = move || {
        let mut hasher = Sha256::new();
        for chunk in chunks {
            hasher.update(&*chunk);
        }
        hasher.finalize().into()
    };
    let thread = std::thread::Builder::new().name("unpack-hash".to_owned());
    let thread = thread
        .spawn_scoped(scope, hash)
        .map_err(|error| UnpackError::io("start a thread for", ".", error))?;
    Ok((sender, thread))
}

/// Makes an unpacked tree durable: data and names.
pub fn sync_tree(dest: BorrowedFd<'_>) -> Result<(), UnpackError> {
    orlop_sys::fs::sync_fs(dest).map_err(|source| UnpackError::io("sync", ".", source))
}
