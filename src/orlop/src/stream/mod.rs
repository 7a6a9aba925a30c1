//! Streams of containers: `run` and `start` in the foreground, `attach`, `exec`.
//!
//! A door is open only until it is known where the shim is, and the program has begun. From then on
//! command and shim talk without anybody in between: no lock is held while somebody types, and the end
//! of a daemon cuts nobody off.

mod attach;
mod commands;
mod exec;
mod keys;
mod pump;
mod signals;
mod start;
mod talk;
mod terminal;

pub(crate) use attach::locate;
pub(crate) use commands::{attach, exec, run, start};

pub(crate) use crate::container::said;

use anyhow::Context;
use exec::Exec;
use keys::DetachKeys;
use orlop_engine::Location;
use orlop_task::{Bundle, Client};
use serde::de::DeserializeOwned;
use std::path::PathBuf;

/// Which streams are wanted, and how.
#[derive(Debug, Clone)]
pub(crate) struct Attached {
    /// Standard input, where the container has one.
    pub(crate) stdin: bool,
    /// Standard output.
    pub(crate) stdout: bool,
    /// Standard error.
    pub(crate) stderr: bool,
    /// As typed; empty: the usual ones.
    pub(crate) detach_keys: String,
    /// Signals go to the container.
    pub(crate) sig_proxy: bool,
}

impl Attached {
    /// Everything that the container has.
    pub(crate) fn all(stdin: bool) -> Self {
        Self { stdin, stdout: true, stderr: true, detach_keys: String::new(), sig_proxy: true }
    }

    fn keys(&self) -> anyhow::Result<DetachKeys> {
        DetachKeys::parse(&self.detach_keys)
    }
}

/// What a reply carries as JSON.
pub(crate) fn from_json<T: DeserializeOwned>(json: &[u8]) -> anyhow::Result<T> {
    serde_json::from_slice(json)
        .context("the answer cannot be read: do command and daemon differ in version?")
}

/// A connection to the shim of a container, and its bundle.
async fn shim_of(location: &Location) -> anyhow::Result<(Client, PathBuf)> {
    let bundle = location
        .bundle
        .clone()
        .with_context(|| format!("container {} is not running", location.name))?;
    let address = Bundle::new(&bundle).address()?;
    Ok((Client::connect(&location.task, &address).await?, bundle))
}

/// A name that no other client of the shim has.
fn unique() -> String {
    let mut bytes = [0_u8; 8];
    // It fails only where the kernel has no such call.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    format!("{}{:016x}", orlop_task::CLIENT_EXEC, u64::from_ne_bytes(bytes))
}
