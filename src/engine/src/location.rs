//! Where a container's streams are. A command that has this goes to the shim itself: no daemon and no
//! lock is between somebody who types and the program.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Where the streams of a container are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Location {
    /// The container's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What the shim knows its present attempt by; empty: it has none.
    pub task: String,
    /// The attempt's bundle, which says where the shim listens and has the FIFO `stdin`.
    pub bundle: Option<PathBuf>,
    /// Its program runs.
    pub running: bool,
    /// It has a terminal.
    pub tty: bool,
    /// Its standard input is open to whoever attaches.
    pub stdin: bool,
    /// Its log, in CRI's format, over all attempts; `None`: it keeps none.
    pub log: Option<PathBuf>,
}

/// A command that waits to be started.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecLocation {
    /// Where the container is; it runs.
    pub location: Location,
    /// What the command is to be called in the shim. It begins with [`ExecLocation::PREFIX`].
    pub exec_id: String,
    /// The OCI process, in JSON.
    pub process: String,
}

impl ExecLocation {
    /// Commands with such names belong to a command line and not to a daemon: they live on when a
    /// daemon ends or begins.
    pub const PREFIX: &str = orlop_task::CLIENT_EXEC;
}
