//! Files of contexts and of roots: everything goes through directory descriptors, so that neither
//! a link in a context nor one in an image leads outside.

pub(crate) mod archive;
pub(crate) mod content;
pub(crate) mod copy;
pub(crate) mod layer;
pub(crate) mod root;
pub(crate) mod select;
pub(crate) mod stat_index;

use std::io;
use std::path::{Path, PathBuf};

/// Unpacks a context that came as an archive, plain or compressed, into an empty directory.
pub fn unpack_context(input: &mut dyn io::Read, dir: &Path) -> io::Result<()> {
    let mut file = std::fs::File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(dir.join(".archive"))?;
    io::copy(input, &mut file)?;
    std::fs::remove_file(dir.join(".archive"))?;
    let other = |error: FileError| io::Error::other(error.to_string());
    let reader = io::Seek::rewind(&mut file).and_then(|()| archive::sniff(&mut file))?;
    let reader = reader.ok_or_else(|| io::Error::other("it is no tar archive"))?;
    let root = root::Root(orlop_sys::fs::open_dir(dir)?);
    let implicit = root::Implicit { uid: 0, gid: 0, mode: 0o755, mtime: 0 };
    archive::unpack(&root, Path::new("/"), reader, &implicit, None).map_err(other)
}

/// What went wrong with a file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// A system call.
    #[error("{op} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        op: &'static str,
        /// On what, as the root or context has it.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Something that cannot be done.
    #[error("{message}")]
    Refused {
        /// Why.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
}

impl FileError {
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::Refused { message: message.into(), hint: None }
    }
}

/// Adds what was tried, and on what.
pub(crate) fn at<E: Into<io::Error>>(
    op: &'static str,
    path: &Path,
) -> impl FnOnce(E) -> FileError + use<E> {
    let path = path.to_owned();
    move |error| FileError::Io { op, path, source: error.into() }
}
