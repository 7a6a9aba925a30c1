//! FIFOs between the daemon and a shim, beside the shim's socket. Each has a name only until both
//! sides have opened it.

use crate::{Client, TaskError};
use rustix::fs::{FileType, Mode};
use std::io;
use std::path::{Path, PathBuf};

/// A FIFO; its name is removed with this value.
#[derive(Debug)]
pub(crate) struct Fifo(PathBuf);

impl Fifo {
    /// Makes the FIFO of one stream.
    pub(crate) fn make(client: &Client, exec_id: &str, stream: &str) -> Result<Self, TaskError> {
        let dir = client.address().parent().map(Path::to_path_buf).unwrap_or_default();
        let path = dir.join(format!("{}.{exec_id}.{stream}", client.id()));
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .map_err(|errno| failed(&path)(errno.into()))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// For a request.
    pub(crate) fn name(&self) -> String {
        self.0.to_string_lossy().into_owned()
    }
}

impl Drop for Fifo {
    fn drop(&mut self) {
        // Nothing else removes it: what fails here is found by whoever looks for left-overs.
        let _ = std::fs::remove_file(&self.0);
    }
}

pub(crate) fn failed(path: &Path) -> impl FnOnce(io::Error) -> TaskError {
    let path = path.to_owned();
    move |source| TaskError::Bundle { path, source }
}
