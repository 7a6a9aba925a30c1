//! What pods' networks need: tried in a network namespace that ends with its thread.

use super::report::Finding;
use crate::config::Config;
use orlop_network::NetworkStatus;
use orlop_sys::netlink::{Request, Socket, Veth};
use orlop_sys::nft::{BaseChain, Batch, ChainKind, Family, Hook, Nft, Table};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::path::Path;

pub(super) fn all(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    match std::thread::spawn(tries).join() {
        Ok(tried) => findings.extend(tried),
        Err(_) => findings.push(
            Finding::lacking("network", "the tries did not end").costs("nothing is known about it"),
        ),
    }
    findings.push(forwarding());
    findings.push(cni(&orlop_network::inspect(&config.network_config())));
    findings.extend(ports(config));
    findings
}

/// In a namespace of this thread's own.
fn tries() -> Vec<Finding> {
    let essential = |what: &str, error: String, cost: &str| {
        Finding::essential(what, error)
            .costs(cost)
            .remedy("load the kernel module, or use a kernel that has it")
    };
    if let Err(error) = orlop_sys::ns::unshare_network() {
        return vec![
            Finding::lacking("network namespaces", error.to_string())
                .costs("pods get no network; bridge, veth and nftables were not tried")
                .remedy("run this check as root"),
        ];
    }
    let mut findings = vec![Finding::fine("network namespace", "made")];
    let outcome = |what: &str, tried: Result<(), String>, cost: &str| match tried {
        Ok(()) => Finding::fine(what, "works"),
        Err(error) => essential(what, error, cost),
    };
    findings.push(outcome(
        "bridge",
        bridge(),
        "the built-in network and the plugin bridge do not work",
    ));
    findings.push(outcome("veth", veth(), "pods have no interface"));
    let tables = [(Family::Ipv4, "nftables, IPv4 NAT"), (Family::Ipv6, "nftables, IPv6 NAT")];
    for (family, what) in tables {
        let cost = "host ports and masquerade do not work";
        findings.push(match nat(family) {
            Ok(()) => Finding::fine(what, "works"),
            Err(error) => Finding::lacking(what, error)
                .costs(cost)
                .remedy("modprobe nf_tables nft_chain_nat nf_nat"),
        });
    }
    findings
}

fn bridge() -> Result<(), String> {
    let mut netlink = Socket::open().map_err(|error| error.to_string())?;
    netlink.run(&[Request::add_bridge("check0", None, false)]).map_err(|error| error.to_string())
}

fn veth() -> Result<(), String> {
    let own = orlop_sys::ns::open(Path::new("/proc/thread-self/ns/net"))
        .map_err(|error| error.to_string())?;
    let mut netlink = Socket::open().map_err(|error| error.to_string())?;
    let veth = Veth {
        name: "check1",
        peer: "check2",
        peer_netns: own.as_fd(),
        peer_mac: None,
        mtu: None,
        master: None,
        up: false,
    };
    netlink.run(&[Request::add_veth(&veth)]).map_err(|error| error.to_string())
}

fn nat(family: Family) -> Result<(), String> {
    let table = Table { family, name: "orlop-check" };
    let base =
        BaseChain { kind: ChainKind::Nat, hook: Hook::Postrouting, priority: 100, drop: false };
    let mut batch = Batch::new(None);
    batch.create_table(table, "").add_chain(table, "check", Some(base));
    Nft::open().and_then(|mut nft| nft.commit(batch)).map_err(|error| error.to_string())
}

fn forwarding() -> Finding {
    let path = "/proc/sys/net/ipv4/ip_forward";
    match std::fs::read_to_string(path) {
        Ok(text) if text.trim() == "1" => Finding::fine("IPv4 forwarding", "on"),
        Ok(_) => Finding::note("IPv4 forwarding", "off")
            .costs("the plugins bridge and ptp turn it on when the first pod starts"),
        Err(error) => Finding::lacking("IPv4 forwarding", error.to_string())
            .costs("pods reach nothing beyond this host"),
    }
}

/// The network that pods would get.
fn cni(status: &NetworkStatus) -> Finding {
    if status.ready {
        return Finding::fine("pod network", status.message.clone());
    }
    Finding::lacking("pod network", format!("{}: {}", status.reason, status.message))
        .costs("pods that do not use the host's network wait")
        .remedy("install a network that writes a CNI configuration, or enable network.bridge")
}

/// Addresses that the daemon would listen on.
fn ports(config: &Config) -> Vec<Finding> {
    let wanted = config.addresses().into_iter();
    wanted.map(|(key, address)| port(&key, address)).collect()
}

fn port(key: &str, address: SocketAddr) -> Finding {
    match TcpListener::bind(address) {
        Ok(_) => Finding::fine(key, format!("{address} is free")),
        Err(error) => Finding::lacking(key, format!("{address}: {error}"))
            .costs("the daemon cannot listen there, unless it does already")
            .remedy(format!("stop what listens there, or change {key}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::report::Level;

    #[test]
    fn a_port_in_use_is_found() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap();
        assert_eq!(port("metrics.address", address).level, Level::Lacking);
        drop(held);
        assert_eq!(port("metrics.address", address).level, Level::Fine);
    }
}
