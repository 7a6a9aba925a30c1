//! What an operator can choose. Every default works with no file at all.

use ipnet::IpNet;
use std::path::PathBuf;
use std::time::Duration;

/// Where CNI lives on this host and how the built-in parts behave.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// Directory of network configurations (`*.conflist`, `*.conf`, `*.json`), `/etc/cni/net.d`.
    pub conf_dir: PathBuf,
    /// Directories where plugins are looked up, in order; nothing outside them is ever executed.
    pub bin_dirs: Vec<PathBuf>,
    /// Cache of results, `/var/lib/cni`; files are in its `results`, named and written as libcni does.
    pub cache_dir: PathBuf,
    /// Where host-local keeps addresses unless a network has a `dataDir` of its own,
    /// `/var/lib/cni/networks`.
    pub ipam_dir: PathBuf,
    /// Live state: pinned namespaces and the journal of attachments, `/run/orlop`.
    pub run_dir: PathBuf,
    /// How many sets of namespaces are kept ready; 0 makes each on demand.
    pub pool_size: usize,
    /// How long one executed plugin may run.
    pub plugin_timeout: Duration,
    /// The network that is used where `conf_dir` has no configuration.
    pub builtin: BuiltinBridge,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            conf_dir: "/etc/cni/net.d".into(),
            bin_dirs: vec!["/opt/cni/bin".into(), "/usr/lib/cni".into()],
            cache_dir: "/var/lib/cni".into(),
            ipam_dir: "/var/lib/cni/networks".into(),
            run_dir: "/run/orlop".into(),
            pool_size: 8,
            plugin_timeout: Duration::from_secs(60),
            builtin: BuiltinBridge::default(),
        }
    }
}

/// The built-in network: one bridge, masquerade, host ports.
#[derive(Debug, Clone)]
pub struct BuiltinBridge {
    /// Whether pods get this network where no configuration is found; otherwise the network is not
    /// ready until one appears.
    pub enabled: bool,
    /// Name of the bridge device, at most 15 characters.
    pub bridge: String,
    /// The pods' IPv4 subnet; the bridge has its first address.
    pub subnet: IpNet,
    /// The pods' IPv6 subnet, used where the host has IPv6.
    pub subnet6: Option<IpNet>,
}

impl Default for BuiltinBridge {
    fn default() -> Self {
        // Chosen away from what Kubernetes, Docker, Podman and common guides use.
        let v4 = std::net::Ipv4Addr::new(10, 189, 0, 0);
        // A unique local prefix (RFC 4193) with a fixed, arbitrarily drawn global id.
        let v6 = std::net::Ipv6Addr::new(0xfd6f, 0x726c, 0x6f70, 0, 0, 0, 0, 0);
        Self {
            enabled: true,
            bridge: "orlop0".into(),
            subnet: ipnet::Ipv4Net::new_assert(v4, 16).into(),
            subnet6: Some(ipnet::Ipv6Net::new_assert(v6, 64).into()),
        }
    }
}
