//! The contract between the CNI engine and a plugin that runs in process.
//!
//! A plugin is synchronous and is called on a blocking thread *in the host's network namespace*.
//! It must be idempotent in `del` (also with the namespace gone, and for an ADD that never
//! finished) and must leave the same result and the same state on disk as the reference plugin.

use crate::{CniResult, PortMapping};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One call of one plugin: everything CNI gives to it.
#[derive(Debug)]
pub struct Call<'a> {
    /// `CNI_CONTAINERID`: the sandbox's id.
    pub container_id: &'a str,
    /// `CNI_IFNAME`, usually `eth0`.
    pub ifname: &'a str,
    /// `CNI_NETNS`; absent in `del` where the namespace is gone.
    pub netns: Option<&'a Path>,
    /// `CNI_ARGS`, in order.
    pub args: &'a [(String, String)],
    /// Name of the network.
    pub network: &'a str,
    /// `cniVersion` of the configuration.
    pub cni_version: &'a str,
    /// The plugin's own object as an executed plugin would read it on stdin: with `name`,
    /// `cniVersion`, `runtimeConfig` and `prevResult`.
    pub config: &'a Value,
    /// The capabilities that this plugin's configuration asked for, already chosen.
    pub runtime: &'a Capabilities,
    /// The result of the plugin before this one (in `del` and `check`: of the whole chain, from the cache).
    pub prev_result: Option<&'a CniResult>,
    /// Where host-local keeps addresses by default.
    pub ipam_dir: &'a Path,
    /// Where plugins that are executed are looked up (for `ipam` delegation).
    pub bin_dirs: &'a [PathBuf],
    /// How long an executed plugin may run.
    pub timeout: Duration,
    /// In `del`: the caller drops the namespace right after, and all interfaces in it go with it.
    /// Deleting a veth by hand would wait 16 ms for a grace period of the kernel.
    pub netns_dies: bool,
}

/// `runtimeConfig`, typed where plugins in process read it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Capabilities {
    /// `portMappings`.
    pub port_mappings: Vec<PortMapping>,
    /// `mac`.
    pub mac: Option<String>,
    /// `ips`.
    pub ips: Vec<String>,
    /// `ipRanges`: sets of ranges, as host-local reads them.
    pub ip_ranges: Option<Value>,
    /// Every capability by name, as it is written into `runtimeConfig`.
    pub raw: BTreeMap<String, Value>,
}

/// What a plugin answers instead of a result: a code of the CNI specification and its words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{msg}{}", if details.is_empty() { String::new() } else { format!(": {details}") })]
pub struct PluginError {
    /// Error code: 1 to 99 of the specification, 100 and up of the plugin.
    pub code: u32,
    /// One line: what failed and why.
    pub msg: String,
    /// More, such as what an executed plugin wrote to stderr.
    pub details: String,
}

impl PluginError {
    /// Code of the specification: a field of the configuration cannot be used.
    pub const INVALID_CONFIG: u32 = 7;
    /// Code of the specification: reading or writing failed.
    pub const IO: u32 = 5;
    /// Code of the specification: something cannot be decoded.
    pub const DECODE: u32 = 6;
    /// Code of the specification: try again later.
    pub const TRY_AGAIN: u32 = 11;
    /// Code of this implementation: anything else.
    pub const OTHER: u32 = 100;

    /// An error of no special kind.
    pub fn new(msg: impl Into<String>) -> Self {
        Self { code: Self::OTHER, msg: msg.into(), details: String::new() }
    }

    /// Reading or writing failed.
    pub fn io(msg: impl Into<String>) -> Self {
        Self { code: Self::IO, msg: msg.into(), details: String::new() }
    }

    /// The configuration cannot be used.
    pub fn config(msg: impl Into<String>) -> Self {
        Self { code: Self::INVALID_CONFIG, msg: msg.into(), details: String::new() }
    }
}

/// A plugin that runs in process.
pub trait Plugin: Send + Sync {
    /// The `type` of the configuration that it serves.
    fn kind(&self) -> &'static str;
    /// ADD: the result is what an executed plugin would print (for a chained plugin usually
    /// `prev_result`, unchanged).
    fn add(&self, call: &Call<'_>) -> Result<CniResult, PluginError>;
    /// DEL: succeeds where there is nothing to undo.
    fn del(&self, call: &Call<'_>) -> Result<(), PluginError>;
    /// CHECK: whether what ADD made is still there.
    fn check(&self, call: &Call<'_>) -> Result<(), PluginError>;
    /// GC: drops what belongs to no sandbox of `live`.
    fn collect(&self, network: &str, live: &[String]) -> Result<(), PluginError> {
        let _ = (network, live);
        Ok(())
    }
}
