//! Directories of the store, its lock, and names for what is not finished.

use super::{LayerMeta, remove_tree};
use crate::StoreError;
use orlop_model::Digest;
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Start of every name that a start after a crash removes.
const TEMPORARY: &str = "tmp-";

/// The open directories of a store that this process has locked.
pub(crate) struct Layout {
    pub(crate) root: PathBuf,
    root_fd: OwnedFd,
    blobs: OwnedFd,
    snapshots: OwnedFd,
    counter: AtomicU64,
    /// Held until the store is closed.
    _lock: File,
}

impl Layout {
    /// Makes what is missing and takes the lock.
    pub(crate) fn open(root: &Path) -> Result<Self, StoreError> {
        make_dir(root)?;
        // Everything below is reached through this path for the life of the process.
        let root = std::fs::canonicalize(root).map_err(io_error("resolve", root))?;
        let lock = lock(&root)?;
        for name in ["content/blobs/sha256", "content/ingest", "snapshots", "writable", "empty"] {
            make_dir(&root.join(name))?;
        }
        let open = |path: PathBuf| orlop_sys::fs::open_dir(&path).map_err(io_error("open", &path));
        Ok(Self {
            root_fd: open(root.clone())?,
            blobs: open(root.join("content/blobs/sha256"))?,
            snapshots: open(root.join("snapshots"))?,
            root,
            counter: AtomicU64::new(0),
            _lock: lock,
        })
    }

    pub(crate) fn index(&self) -> PathBuf {
        self.root.join("images.redb")
    }

    pub(crate) fn leases(&self) -> PathBuf {
        self.root.join("leases")
    }

    pub(crate) fn writable(&self, key: &str) -> PathBuf {
        self.root.join("writable").join(key)
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join("content/blobs/sha256").join(digest.hex())
    }

    pub(crate) fn snapshot(&self, name: &Digest) -> PathBuf {
        self.root.join("snapshots").join(name.hex())
    }

    /// The unpacked layer, for overlayfs.
    pub(crate) fn layer(&self, name: &Digest) -> PathBuf {
        self.snapshot(name).join("fs")
    }

    /// A directory that is empty.
    pub(crate) fn empty(&self) -> PathBuf {
        self.root.join("empty")
    }

    fn unique(&self) -> String {
        format!("{TEMPORARY}{}", self.counter.fetch_add(1, Ordering::Relaxed))
    }

    /// A new file for a blob on its way in.
    pub(crate) fn ingest(&self) -> io::Result<(TempFile, File)> {
        let path = self.root.join("content/ingest").join(self.unique());
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600))?;
        Ok((TempFile(Some(path)), File::from(file)))
    }

    /// A new directory for a layer on its way in, and its `fs`.
    pub(crate) fn incoming(&self) -> io::Result<(TempDir, OwnedFd)> {
        let path = self.root.join("snapshots").join(self.unique());
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        let temp = TempDir(Some(path.clone()));
        let tree = path.join("fs");
        std::fs::DirBuilder::new().mode(0o755).create(&tree)?;
        let fd = orlop_sys::fs::open_dir(&tree)?;
        // Whatever the umask says.
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755))?;
        Ok((temp, fd))
    }

    /// Takes a layer's name away, so that it can be removed at leisure.
    pub(crate) fn retire(&self, name: &Digest) -> io::Result<TempDir> {
        let path = self.root.join("snapshots").join(self.unique());
        std::fs::rename(self.snapshot(name), &path)?;
        Ok(TempDir(Some(path)))
    }

    /// Gives a finished layer its name.
    pub(crate) fn name_layer(&self, mut layer: TempDir, name: &Digest) -> io::Result<()> {
        std::fs::rename(layer.path(), self.snapshot(name))?;
        layer.0 = None;
        Ok(())
    }

    /// Gives a finished blob its name.
    pub(crate) fn name_blob(&self, mut blob: TempFile, digest: &Digest) -> io::Result<()> {
        std::fs::rename(blob.path(), self.blob(digest))?;
        blob.0 = None;
        Ok(())
    }

    /// Makes the names of layers and blobs durable.
    pub(crate) fn sync_names(&self) -> io::Result<()> {
        orlop_sys::fs::sync_dir(self.snapshots.as_fd())?;
        orlop_sys::fs::sync_dir(self.blobs.as_fd())
    }

    /// Makes all data durable.
    pub(crate) fn sync_data(&self) -> io::Result<()> {
        orlop_sys::fs::sync_fs(&self.snapshots)?;
        let (blobs, layers) =
            (rustix::fs::fstat(&self.blobs)?, rustix::fs::fstat(&self.snapshots)?);
        if blobs.st_dev != layers.st_dev {
            orlop_sys::fs::sync_fs(&self.blobs)?;
        }
        Ok(())
    }

    /// Bytes that can still be written.
    pub(crate) fn free(&self) -> u64 {
        rustix::fs::fstatvfs(&self.snapshots)
            .map_or(0, |fs| fs.f_bavail.saturating_mul(fs.f_frsize))
    }

    /// Says that the store was closed in order.
    pub(crate) fn mark_clean(&self) -> io::Result<()> {
        orlop_sys::fs::atomic_write(self.root_fd.as_fd(), "clean", b"1\n", true)
    }

    /// Whether the store was closed in order; the mark is gone afterwards.
    pub(crate) fn take_clean_mark(&self) -> io::Result<bool> {
        match rustix::fs::unlinkat(&self.root_fd, "clean", rustix::fs::AtFlags::empty()) {
            Ok(()) => {
                orlop_sys::fs::sync_dir(self.root_fd.as_fd())?;
                Ok(true)
            }
            Err(rustix::io::Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// How often the store was opened after a clean stop; 0 where that is not known.
    pub(crate) fn epoch(&self) -> u64 {
        let text = std::fs::read_to_string(self.root.join("epoch"));
        text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    }

    /// Keeps that number. Before anything is committed under it.
    pub(crate) fn set_epoch(&self, epoch: u64) -> io::Result<()> {
        let text = format!("{epoch}\n");
        orlop_sys::fs::atomic_write(self.root_fd.as_fd(), "epoch", text.as_bytes(), true)
    }

    /// Removes what an earlier process did not finish. One entry that resists is reported and left.
    pub(crate) fn remove_leftovers(&self) {
        for dir in ["content/ingest", "snapshots"] {
            let dir = self.root.join(dir);
            for name in names(&dir) {
                if name.starts_with(TEMPORARY) {
                    remove_or_report(&dir.join(name));
                }
            }
        }
    }

    /// The layers that have a name, each with its sealed counts. What is damaged is removed.
    pub(crate) fn layers(&self) -> Vec<(Digest, LayerMeta)> {
        let mut found = Vec::new();
        for (name, digest) in digests(&self.root.join("snapshots")) {
            match read_meta(&self.snapshot(&digest)) {
                Ok(meta) => found.push((digest, meta)),
                // A moment without descriptors, or a store of a later version, is no damage.
                Err(error) if !is_damage(&error) => {
                    tracing::warn!(layer = name, %error, "a layer cannot be used and is left alone");
                }
                Err(error) => {
                    tracing::warn!(layer = name, %error, "removing a layer that is not whole");
                    remove_or_report(&self.snapshot(&digest));
                }
            }
        }
        found
    }

    /// The blobs that have a name, with their sizes.
    pub(crate) fn blobs(&self) -> Vec<(Digest, u64)> {
        let found = digests(&self.root.join("content/blobs/sha256"));
        let sized = |(_, digest): (String, Digest)| {
            let size = std::fs::metadata(self.blob(&digest)).ok()?.len();
            Some((digest, size))
        };
        found.into_iter().filter_map(sized).collect()
    }

    /// Keys of the writable layers on disk.
    pub(crate) fn writables(&self) -> Vec<String> {
        names(&self.root.join("writable"))
    }
}

/// Reads what [`seal`] wrote, and looks whether the layer is beside it.
fn read_meta(snapshot: &Path) -> io::Result<LayerMeta> {
    let bytes = std::fs::read(snapshot.join("meta.json"))?;
    let meta: LayerMeta = serde_json::from_slice(&bytes)?;
    if meta.version != LayerMeta::VERSION {
        return Err(io::Error::other(format!(
            "meta.json has the unknown version {}",
            meta.version
        )));
    }
    if !std::fs::symlink_metadata(snapshot.join("fs"))?.is_dir() {
        return Err(io::Error::new(io::ErrorKind::NotADirectory, "fs is no directory"));
    }
    Ok(meta)
}

/// Whether the error says that the layer itself is not whole.
fn is_damage(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, NotADirectory, NotFound, UnexpectedEof};
    matches!(error.kind(), InvalidData | NotADirectory | NotFound | UnexpectedEof)
}

/// Writes the counts of a layer beside it; durable with the layer itself.
pub(super) fn seal(snapshot: &Path, meta: &LayerMeta) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).open(snapshot.join("meta.json"))?;
    file.write_all(&serde_json::to_vec(meta)?)
}

/// A layer's directory without a name; removed unless it gets one.
pub(crate) struct TempDir(Option<PathBuf>);

impl TempDir {
    pub(crate) fn path(&self) -> &Path {
        self.0.as_deref().unwrap_or(Path::new(""))
    }

    /// Writes the counts beside the tree.
    pub(crate) fn seal(&self, meta: &LayerMeta) -> io::Result<()> {
        seal(self.path(), meta)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            remove_or_report(&path);
        }
    }
}

/// A blob's file without a name; removed unless it gets one.
pub(crate) struct TempFile(Option<PathBuf>);

impl TempFile {
    pub(crate) fn path(&self) -> &Path {
        self.0.as_deref().unwrap_or(Path::new(""))
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            remove_or_report(&path);
        }
    }
}

fn remove_or_report(path: &Path) {
    if let Err(error) = remove_tree(path) {
        tracing::warn!(path = %path.display(), %error, "cannot be removed; the next start tries again");
    }
}

/// Entries of a directory whose names are text.
fn names(dir: &Path) -> Vec<String> {
    match std::fs::read_dir(dir) {
        Ok(entries) => {
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
        }
        Err(error) => {
            tracing::warn!(path = %dir.display(), %error, "cannot be listed");
            Vec::new()
        }
    }
}

/// Entries whose names are the hexadecimal part of a digest.
fn digests(dir: &Path) -> Vec<(String, Digest)> {
    let digest =
        |name: String| Digest::parse(&format!("sha256:{name}")).ok().map(|digest| (name, digest));
    names(dir).into_iter().filter_map(digest).collect()
}

pub(crate) fn io_error(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::Io { op, path: path.to_owned(), source }
}

fn make_dir(path: &Path) -> Result<(), StoreError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(io_error("make directory", path))
}

/// Takes the lock, or says who has it.
fn lock(root: &Path) -> Result<File, StoreError> {
    let path = root.join("lock");
    orlop_sys::fs::lock_file(&path)
        .map_err(io_error("lock", &path))?
        .map_err(|pid| StoreError::Locked { path: root.to_owned(), pid })
}
