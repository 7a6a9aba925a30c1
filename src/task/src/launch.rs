//! Starting a shim, and finding a running one again.

use crate::{Client, TaskError};
use std::path::{Path, PathBuf};

/// Starts shims, all from one sealed copy of the shim's binary in memory: no image, container or
/// package upgrade can change what runs, and all shims share its pages.
#[derive(Debug)]
pub struct Launcher {}

/// A shim that runs, and the connection to it.
#[derive(Debug, Clone)]
pub struct Shim {
    /// The connection; clones share it.
    pub client: Client,
    /// The shim's own process id.
    pub pid: u32,
    /// Its socket.
    pub address: PathBuf,
}

impl Launcher {
    /// Copies the shim's binary into a sealed memory file, and makes `<run_dir>/s` (0700) for the sockets.
    pub fn new(_shim_path: &Path, _run_dir: &Path) -> Result<Self, TaskError> {
        todo!()
    }

    /// Starts the shim of container `id`; `bundle` exists and holds `config.json`. Returns as soon
    /// as the process is there: the socket listens already, so the first request simply waits in it.
    pub async fn launch(&self, _id: &str, _bundle: &Path) -> Result<Shim, TaskError> {
        todo!()
    }
}

impl Shim {
    /// Connects to the shim that an earlier daemon left running, by what the bundle says.
    /// [`TaskError::is_gone`] tells that there is none: then `Bundle::exit` may still know the end.
    pub async fn connect(_bundle: &Path) -> Result<Self, TaskError> {
        todo!()
    }
}
