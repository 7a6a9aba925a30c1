//! What lifecycle asks and gets.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

/// A set of pinned namespaces, each a bind mount that keeps it alive without a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// Name of the set, its directory under `run_dir/ns`; what [`crate::Network::release`] takes.
    pub slot: String,
    /// The network namespace; loopback is up.
    pub net: PathBuf,
    /// The ipc namespace (also of POSIX message queues).
    pub ipc: PathBuf,
    /// The uts namespace (host and domain name).
    pub uts: PathBuf,
    /// The user namespace that owns them, for a pod with one of its own.
    #[serde(default)]
    pub user: Option<PathBuf>,
}

/// Transport protocol of a host port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// One host port, as the `portMappings` capability of CNI carries it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    /// Port on the host, 1 to 65535.
    pub host_port: u16,
    /// Port in the pod, 1 to 65535.
    pub container_port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
    /// The host's address that is mapped; all where absent.
    #[serde(default, rename = "hostIP", skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
}

/// The `dns` capability of CNI.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsSettings {
    /// Name servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<String>,
    /// Search domains.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub searches: Vec<String>,
    /// Resolver options.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// Attach a sandbox to its networks.
#[derive(Debug, Clone, Default)]
pub struct AttachRequest {
    /// Sandbox id: CNI's container id.
    pub sandbox_id: String,
    /// Its network namespace.
    pub netns: PathBuf,
    /// Pod name.
    pub name: String,
    /// Pod namespace.
    pub namespace: String,
    /// Pod uid.
    pub uid: String,
    /// Host ports.
    pub ports: Vec<PortMapping>,
    /// Pod annotations; `kubernetes.io/ingress-bandwidth` and `…/egress-bandwidth` set the
    /// `bandwidth` capability.
    pub annotations: BTreeMap<String, String>,
    /// The pod's resolver settings, for plugins with the `dns` capability.
    pub dns: DnsSettings,
    /// The pod's cgroup, for plugins with the `cgroupPath` capability.
    pub cgroup: Option<String>,
    /// Interfaces on networks that people chose; `None`: one, on the network of `conf_dir`.
    pub places: Option<Vec<Place>>,
}

impl Attached {
    /// Adds another interface; the first one's network and result stay.
    pub(crate) fn add(&mut self, other: Self) {
        self.ips.extend(other.ips);
        if self.network.is_empty() {
            self.network = other.network;
            self.result = other.result;
        }
    }
}

/// An interface on a network of people's choice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The network, as the text of a CNI configuration list (see [`crate::UserNetwork::list`]).
    pub list: String,
    /// Name of the interface in the sandbox.
    pub interface: String,
    /// Addresses of its own choice, one of a family at most.
    pub ips: Vec<IpAddr>,
    /// Hardware address.
    pub mac: Option<String>,
    /// Whether the sandbox's host ports lead here.
    pub ports: bool,
}

/// An interface that a sandbox has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Sandbox id.
    pub sandbox: String,
    /// Name of the network, as its list has it.
    pub network: String,
    /// Name in the sandbox.
    pub interface: String,
    /// Hardware address; empty: not known.
    pub mac: String,
    /// Addresses with the prefix lengths of their subnets.
    pub addresses: Vec<ipnet::IpNet>,
    /// The gateways of those, in their order.
    pub gateways: Vec<IpAddr>,
}

/// A sandbox that is on its network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// The pod's addresses, in the result's order; the first one is the pod's own.
    pub ips: Vec<IpAddr>,
    /// The result of the whole chain, in the configuration's cniVersion.
    pub result: serde_json::Value,
    /// Name of the network.
    pub network: String,
}

/// Take a sandbox off its networks. What is not known here comes from the cached result.
#[derive(Debug, Clone, Default)]
pub struct DetachRequest {
    /// Sandbox id.
    pub sandbox_id: String,
    /// Its network namespace, where it still exists.
    pub netns: Option<PathBuf>,
    /// Pod name.
    pub name: String,
    /// Pod namespace.
    pub namespace: String,
    /// Pod uid.
    pub uid: String,
    /// It may be on other networks than that of `conf_dir`.
    pub everywhere: bool,
}

/// What Status answers for the condition NetworkReady.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkStatus {
    /// Whether pods can be attached.
    pub ready: bool,
    /// One CamelCase word, empty where ready.
    pub reason: String,
    /// A sentence for people; names the file, line and column of a configuration that cannot be read.
    pub message: String,
    /// Name of the network in use.
    pub network: String,
    /// The configuration file in use; absent with the built-in network.
    pub file: Option<PathBuf>,
}
