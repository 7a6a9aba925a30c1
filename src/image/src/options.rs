//! How a store is opened.

use crate::Policy;
use crate::unpack::{InflateLimits, Limits};
use orlop_model::Platform;
use std::path::PathBuf;
use std::time::Duration;

/// Where the store lives and how it pulls. Every default works.
#[derive(Debug, Clone)]
pub struct Options {
    /// Directory of the store, made with mode 0700 where it does not exist.
    pub root: PathBuf,
    /// Registries.
    pub registry: RegistryOptions,
    /// Which entry of a manifest list is pulled.
    pub platform: Platform,
    /// Layers that are fetched and unpacked at once, over all pulls.
    pub concurrent_layers: usize,
    /// Bounds of one unpacked layer.
    pub limits: Limits,
    /// Bounds of inflating one.
    pub inflate: InflateLimits,
    /// Names of images that garbage collection of the kubelet must skip, exact or ending in `*`.
    pub pinned: Vec<String>,
    /// Which images may be pulled and run.
    pub policy: Policy,
}

/// How registries are reached.
#[derive(Debug, Clone)]
pub struct RegistryOptions {
    /// Registries (`host` or `host:port`) that are spoken to in plain HTTP. Loopback addresses
    /// always may be.
    pub insecure: Vec<String>,
    /// Token services beside a registry's own domain that may see its credentials, over HTTPS:
    /// pairs of registry and `host` or `host:port` of the service.
    pub token_hosts: Vec<(String, String)>,
    /// Trees of `<registry>/hosts.toml`, as containerd reads them; the first that has a directory
    /// for a registry counts.
    pub hosts_dirs: Vec<PathBuf>,
    /// A `registries.conf` of version 2, as CRI-O and podman read it. With one, names without a
    /// registry mean what it says, and nothing where it says nothing.
    pub registries_conf: Option<PathBuf>,
    /// Files with credentials like Docker's `config.json`, for pulls that bring none.
    pub auth_files: Vec<PathBuf>,
    /// PEM files of certificate authorities trusted beside the host's own.
    pub ca_files: Vec<PathBuf>,
    /// A transfer that brings no byte for this long is cut and resumed.
    pub stall_timeout: Duration,
    /// Time to make a connection.
    pub connect_timeout: Duration,
    /// Connections for one big blob; 1: never more than one.
    pub layer_connections: usize,
    /// Bytes from which on a blob is big.
    pub parallel_from: u64,
    /// Bytes that are asked of one connection at once.
    pub part_bytes: u64,
    /// How often what may be tried again is tried again.
    pub retries: u32,
    /// Pause before the first repetition; doubled for each further one.
    pub backoff: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            root: PathBuf::from("/var/lib/orlop"),
            registry: RegistryOptions::default(),
            platform: Platform::host(),
            concurrent_layers: std::thread::available_parallelism()
                .map_or(4, |n| n.get().clamp(4, 16)),
            limits: Limits::default(),
            inflate: InflateLimits::default(),
            pinned: Vec::new(),
            policy: Policy::default(),
        }
    }
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            insecure: Vec::new(),
            token_hosts: Vec::new(),
            hosts_dirs: vec!["/etc/containerd/certs.d".into(), "/etc/docker/certs.d".into()],
            registries_conf: None,
            auth_files: Vec::new(),
            ca_files: Vec::new(),
            stall_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            layer_connections: 3,
            parallel_from: 64 << 20,
            part_bytes: 8 << 20,
            retries: 5,
            backoff: Duration::from_millis(200),
        }
    }
}
