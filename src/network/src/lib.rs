//! Namespaces and CNI: the common plugins in process, any other executed.
//!
//! [`Network`] is the door: it hands out prepared namespaces, attaches a sandbox to the networks
//! that `/etc/cni/net.d` (or the built-in bridge) describes, and undoes both. Everything below it
//! is synchronous and runs on blocking threads: netlink answers in microseconds, and a plugin chain
//! is a sequence by nature.

mod bridge;
mod builtin;
mod cache;
mod capability;
mod conf;
mod config;
mod counters;
mod dial;
mod engine;
mod error;
mod exec;
mod firewall;
mod hostlocal;
mod ipam;
mod loopback;
mod masquerade;
mod netns;
mod network;
mod plugin;
mod pool;
mod portmap;
mod ptp;
mod request;
mod result;
mod ruleset;
mod sysctl;
#[cfg(test)]
mod tests;
mod tuning;
mod user;
mod version;
mod veth;
mod watch;

pub use config::{BuiltinBridge, NetworkConfig};
pub use counters::{InterfaceCounters, Traffic, interface_counters};
pub use dial::{tcp_sockets, tcp_sockets_in};
pub use error::NetworkError;
pub use network::{Network, inspect};
pub use plugin::{Call, Capabilities, Plugin, PluginError};
pub use request::{
    AttachRequest, Attached, Attachment, DetachRequest, DnsSettings, Namespaces, NetworkStatus,
    Place, PortMapping, Protocol,
};
pub use result::{CniResult, Dns, Interface, Ip, Route};
pub use user::{UserNetwork, UserSubnet, free_subnet, subnets_of_host};
