//! Networks that people make: each a bridge of its own, a CNI configuration list like any other, made of
//! the plugins in process.

use crate::hostlocal::next_address;
use crate::veth::netlink_error;
use crate::{NetworkError, PluginError, sysctl, veth};
use ipnet::IpNet;
use orlop_sys::netlink::{Link, Request, Socket};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::path::Path;

/// Where subnets come from that nobody chose: as Docker has it, but its first one, and each of a size
/// that leaves room for 4096 networks.
const POOL4: ([u8; 4], u8, u8) = ([172, 18, 0, 0], 15, 24);
const POOL4_MORE: ([u8; 4], u8, u8) = ([192, 168, 0, 0], 16, 24);
/// A unique local prefix with a fixed, arbitrarily drawn global id.
const POOL6: ([u16; 4], u8) = ([0xfd6f, 0x726c, 0x6f70, 0x100], 56);

/// A bridge network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserNetwork {
    /// Its name to CNI, a part of file names.
    pub name: String,
    /// The bridge's device.
    pub bridge: String,
    /// One of a family at least.
    pub subnets: Vec<UserSubnet>,
    /// Nothing leaves it and nothing comes in.
    pub internal: bool,
    /// What leaves it has the host's address.
    pub masquerade: bool,
    /// 0: the kernel's default.
    pub mtu: u32,
}

/// A subnet of such a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserSubnet {
    /// The whole.
    pub subnet: IpNet,
    /// The bridge's address.
    pub gateway: IpAddr,
    /// Where addresses are taken from that nobody chose; `None`: all of it.
    pub range: Option<IpNet>,
}

impl UserNetwork {
    /// Its configuration list for an interface that is the way out of the sandbox or not, and for
    /// addresses that were chosen.
    pub fn list(&self, default_route: bool, chosen: &[IpAddr]) -> String {
        let ranges: Vec<Value> = self.subnets.iter().map(|one| range(one, chosen)).collect();
        let routes: Vec<Value> = self
            .subnets
            .iter()
            .filter(|_| default_route && !self.internal)
            .map(|one| json!({"dst": if one.subnet.addr().is_ipv4() { "0.0.0.0/0" } else { "::/0" }}))
            .collect();
        let mut plugins = vec![json!({
            "type": "bridge",
            "bridge": self.bridge,
            "isGateway": true,
            "ipMasq": self.masquerade && !self.internal,
            "hairpinMode": true,
            "mtu": self.mtu,
            "capabilities": {"mac": true, "ips": true},
            "ipam": {"type": "host-local", "ranges": ranges, "routes": routes},
        })];
        if !self.internal {
            plugins.push(json!({"type": "portmap", "capabilities": {"portMappings": true}}));
        }
        let policy = if self.internal { "internal" } else { "same-bridge" };
        plugins.push(json!({"type": "firewall", "ingressPolicy": policy}));
        json!({"cniVersion": "1.0.0", "name": self.name, "plugins": plugins}).to_string()
    }

    /// The addresses of the bridge.
    pub fn gateways(&self) -> Vec<IpAddr> {
        self.subnets.iter().map(|one| one.gateway).collect()
    }
}

/// Where an address comes from: the range, unless one outside of it was chosen.
fn range(one: &UserSubnet, chosen: &[IpAddr]) -> Value {
    let mut whole = json!({"subnet": one.subnet.trunc(), "gateway": one.gateway});
    let outside =
        |range: &IpNet| chosen.iter().any(|ip| one.subnet.contains(ip) && !range.contains(ip));
    if let Some(range) = one.range.filter(|range| !outside(range)) {
        let first = range.network();
        whole["rangeStart"] =
            json!(if first == one.subnet.network() { next_address(first) } else { first });
        if range.broadcast() != one.subnet.broadcast() {
            whole["rangeEnd"] = json!(range.broadcast());
        }
    }
    json!([whole])
}

/// A subnet from the pool that overlaps nothing of `used`; `None`: there is none left.
pub fn free_subnet(ipv6: bool, used: &[IpNet]) -> Option<IpNet> {
    let free = |net: &IpNet| {
        used.iter().all(|other| !other.contains(&net.network()) && !net.contains(&other.network()))
    };
    if ipv6 {
        let ([a, b, c, d], prefix) = POOL6;
        let pool = ipnet::Ipv6Net::new([a, b, c, d, 0, 0, 0, 0].into(), prefix).ok()?;
        return pool.subnets(64).ok()?.map(IpNet::from).find(free);
    }
    [POOL4, POOL4_MORE].into_iter().find_map(|(base, prefix, size)| {
        let pool = ipnet::Ipv4Net::new(base.into(), prefix).ok()?;
        pool.subnets(size).ok()?.map(IpNet::from).find(free)
    })
}

/// Networks that this host has addresses in or routes to, without the way out.
pub fn subnets_of_host() -> Result<Vec<IpNet>, NetworkError> {
    let failed = |error: orlop_sys::netlink::Error| NetworkError::Namespace {
        action: "list the host's routes",
        source: std::io::Error::other(error.to_string()),
    };
    let mut socket = Socket::open().map_err(failed)?;
    let routes = socket.routes().map_err(failed)?;
    let addresses = socket.all_addresses().map_err(failed)?;
    let routes = routes.iter().map(|route| (route.destination, route.prefix));
    let addresses = addresses.iter().map(|address| (address.ip, address.prefix));
    let nets = routes.chain(addresses).filter(|(_, prefix)| *prefix > 1);
    Ok(nets.filter_map(|(ip, prefix)| IpNet::new(ip, prefix).ok()).map(|net| net.trunc()).collect())
}

/// The bridge with its addresses, up. It is made with the network, so that the host knows the subnet as
/// taken and a name that is not free is told at once.
pub(crate) fn make_bridge(network: &UserNetwork) -> Result<(), NetworkError> {
    let made = || -> Result<(), PluginError> {
        let mut host = Socket::open().map_err(netlink_error)?;
        let mtu = Some(network.mtu).filter(|mtu| *mtu > 0);
        if host.link_by_name(&network.bridge).map_err(netlink_error)?.is_none() {
            host.run(&[Request::add_bridge(&network.bridge, mtu, false)]).map_err(netlink_error)?;
        }
        let link = veth::find(&mut host, &network.bridge)?;
        if link.kind != "bridge" {
            let name = &network.bridge;
            return Err(PluginError::new(format!("{name:?} exists and is no bridge")));
        }
        veth::refuse_advertisements(&network.bridge)?;
        address(&mut host, &link, network)?;
        host.run(&[Request::set_up(&link, true)]).map_err(netlink_error)
    };
    made().map_err(|source| failed(network, source))
}

fn address(host: &mut Socket, link: &Link, network: &UserNetwork) -> Result<(), PluginError> {
    if network.subnets.iter().any(|one| one.subnet.addr().is_ipv6())
        && let Ok(root) = sysctl::root()
    {
        let key = format!("net/ipv6/conf/{}/disable_ipv6", link.name);
        // A host without IPv6 says so with the address.
        let _ = sysctl::write(&root, &key, "0");
        // Nobody else can have it, and without a port the bridge would never know.
        let _ = sysctl::write(&root, &format!("net/ipv6/conf/{}/accept_dad", link.name), "0");
    }
    let has = host.addresses(link).map_err(netlink_error)?;
    for one in &network.subnets {
        let (ip, prefix) = (one.gateway, one.subnet.prefix_len());
        if !has.iter().any(|address| address.ip == ip && address.prefix == prefix) {
            host.run(&[Request::add_address(link, ip, prefix)]).map_err(netlink_error)?;
        }
    }
    Ok(())
}

/// Removes the bridge and the address files. Nothing there is fine.
pub(crate) fn remove(network: &UserNetwork, ipam_dir: &Path) -> Result<(), NetworkError> {
    let gone = || -> Result<(), PluginError> {
        let mut host = Socket::open().map_err(netlink_error)?;
        let link = host.link_by_name(&network.bridge).map_err(netlink_error)?;
        match link.filter(|link| link.kind == "bridge") {
            Some(link) => host.run(&[Request::delete_link(&link)]).map_err(netlink_error),
            None => Ok(()),
        }
    };
    gone().map_err(|source| failed(network, source))?;
    let files = ipam_dir.join(&network.name);
    match std::fs::remove_dir_all(&files) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(NetworkError::Io { action: "remove", path: files, source })
        }
        _ => Ok(()),
    }
}

fn failed(network: &UserNetwork, source: PluginError) -> NetworkError {
    NetworkError::Plugin { network: network.name.clone(), plugin: "bridge".into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::List;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn subnets_that_are_taken_are_passed_over() {
        let first = free_subnet(false, &[]).unwrap();
        assert_eq!(first, net("172.18.0.0/24"));
        assert_eq!(free_subnet(false, &[first]).unwrap(), net("172.18.1.0/24"));
        // One that holds it, and one that lies in it.
        assert_eq!(free_subnet(false, &[net("172.18.0.0/16")]).unwrap(), net("172.19.0.0/24"));
        assert_eq!(free_subnet(false, &[net("172.18.0.128/25")]).unwrap(), net("172.18.1.0/24"));
        assert_eq!(free_subnet(false, &[net("172.16.0.0/12")]).unwrap(), net("192.168.0.0/24"));
        assert_eq!(free_subnet(false, &[net("172.16.0.0/12"), net("192.168.0.0/16")]), None);
        let first = free_subnet(true, &[]).unwrap();
        assert_eq!(first, net("fd6f:726c:6f70:100::/64"));
        assert_eq!(free_subnet(true, &[first]).unwrap(), net("fd6f:726c:6f70:101::/64"));
    }

    #[test]
    fn lists_are_valid() {
        let mut network = UserNetwork {
            name: "orlop-1".into(),
            bridge: "br-1".into(),
            subnets: vec![UserSubnet {
                subnet: net("10.5.0.0/24"),
                gateway: "10.5.0.1".parse().unwrap(),
                range: Some(net("10.5.0.128/26")),
            }],
            internal: false,
            masquerade: true,
            mtu: 1400,
        };
        let kinds =
            |list: &List| list.plugins.iter().map(|plugin| plugin.kind.clone()).collect::<Vec<_>>();
        let list = List::parse(network.list(true, &[]).as_bytes()).unwrap();
        assert_eq!(kinds(&list), ["bridge", "portmap", "firewall"]);
        let ipam = &list.plugins[0].object["ipam"];
        assert_eq!(ipam["routes"], json!([{"dst": "0.0.0.0/0"}]));
        let range = &ipam["ranges"][0][0];
        assert_eq!(
            (&range["rangeStart"], &range["rangeEnd"]),
            (&json!("10.5.0.128"), &json!("10.5.0.191"))
        );
        let chosen = ["10.5.0.9".parse().unwrap()];
        let list = List::parse(network.list(true, &chosen).as_bytes()).unwrap();
        assert!(list.plugins[0].object["ipam"]["ranges"][0][0].get("rangeStart").is_none());
        let list = List::parse(network.list(false, &[]).as_bytes()).unwrap();
        assert_eq!(list.plugins[0].object["ipam"]["routes"], json!([]));
        network.internal = true;
        let list = List::parse(network.list(true, &[]).as_bytes()).unwrap();
        assert_eq!(kinds(&list), ["bridge", "firewall"]);
        assert_eq!(list.plugins[0].object["ipMasq"], json!(false));
        assert_eq!(list.plugins[0].object["ipam"]["routes"], json!([]));
    }
}
