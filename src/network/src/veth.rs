//! What `bridge` and `ptp` share: the veth pair, the pod's side of it, and the checks.

use crate::sysctl;
use crate::{Call, CniResult, PluginError, Route, netns};
use ipnet::IpNet;
use orlop_sys::netlink::{self, Change, Link, Request, Socket, Veth, Watch};
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// How long a bridge port may take to come up, and detection of duplicate addresses to finish.
const PORT_LIMIT: Duration = Duration::from_millis(2550);
const SETTLE_LIMIT: Duration = Duration::from_secs(10);
/// Tries to find a free name for the host's end.
const NAME_TRIES: usize = 10;

pub(crate) fn netlink_error(error: netlink::Error) -> PluginError {
    PluginError::new(error.to_string())
}

/// Opens the sandbox's namespace.
pub(crate) fn open_netns(call: &Call<'_>) -> Result<OwnedFd, PluginError> {
    let path = call.netns.ok_or_else(|| PluginError::new("the network namespace is missing"))?;
    netns::open(path).map_err(|error| {
        PluginError::new(format!("open network namespace {}: {error}", path.display()))
    })
}

/// `aa:bb:…`, as results have it.
pub(crate) fn mac_text(mac: &[u8]) -> String {
    mac.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

/// Reads a hardware address of six bytes.
pub(crate) fn parse_mac(text: &str) -> Result<[u8; 6], PluginError> {
    let bytes: Option<Vec<u8>> = text
        .split([':', '-'])
        .map(|part| {
            Some(part)
                .filter(|p| p.len() == 2 && !p.starts_with('+'))
                .and_then(|p| u8::from_str_radix(p, 16).ok())
        })
        .collect();
    bytes
        .and_then(|bytes| <[u8; 6]>::try_from(bytes).ok())
        .ok_or_else(|| PluginError::config(format!("mac {text:?} is not six bytes in hexadecimal")))
}

/// What a pair is made of.
pub(crate) struct Pair<'a> {
    pub netns: &'a OwnedFd,
    pub master: Option<u32>,
    pub mtu: Option<u32>,
    pub mac: Option<[u8; 6]>,
    pub up: bool,
}

/// Makes the pair; the host's end has a random name, which is returned. Router advertisements on
/// the host's end are refused: they would come from the pod (CVE-2020-10749).
pub(crate) fn create(
    host: &mut Socket,
    ifname: &str,
    pair: &Pair<'_>,
) -> Result<String, PluginError> {
    for _ in 0..NAME_TRIES {
        let name = format!("veth{:08x}", rand::random::<u32>());
        let veth = Veth {
            name: &name,
            master: pair.master,
            up: pair.up,
            peer: ifname,
            peer_netns: pair.netns.as_fd(),
            peer_mac: pair.mac,
            mtu: pair.mtu,
        };
        match host.run(&[Request::add_veth(&veth)]) {
            Ok(()) => {
                refuse_advertisements(&name)?;
                return Ok(name);
            }
            Err(error) if error.errno() == Some(rustix::io::Errno::EXIST.raw_os_error()) => {
                if host.link_by_name(&name).map_err(netlink_error)?.is_none() {
                    return Err(PluginError::new(format!(
                        "the sandbox already has an interface {ifname:?}"
                    )));
                }
            }
            Err(error) => return Err(netlink_error(error)),
        }
    }
    Err(PluginError::new("no free name for a veth was found"))
}

/// Sets `accept_ra` of an interface of the calling thread's namespace to 0.
pub(crate) fn refuse_advertisements(name: &str) -> Result<(), PluginError> {
    let root =
        sysctl::root().map_err(|error| PluginError::io(format!("open /proc/sys: {error}")))?;
    match sysctl::write(&root, &format!("net/ipv6/conf/{name}/accept_ra"), "0") {
        // A kernel without IPv6 has no advertisements.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => {
            Err(PluginError::io(format!("refuse router advertisements on {name}: {error}")))
        }
        Ok(()) => Ok(()),
    }
}

/// Forwards packets between the interfaces of this namespace.
pub(crate) fn enable_forwarding(ipv4: bool) -> Result<(), PluginError> {
    let key = if ipv4 { "net/ipv4/ip_forward" } else { "net/ipv6/conf/all/forwarding" };
    let enable = || -> std::io::Result<()> {
        let root = sysctl::root()?;
        if sysctl::read(&root, key)? == "1" { Ok(()) } else { sysctl::write(&root, key, "1") }
    };
    enable().map_err(|error| PluginError::io(format!("enable forwarding ({key}): {error}")))
}

/// Settings of the pod's interface that only bridge has.
pub(crate) struct Tuning {
    /// Whether IPv6 addresses are probed for duplicates.
    pub detect_duplicates: bool,
}

/// Gives the pod's interface its addresses and routes and brings it up. Runs inside the pod's
/// namespace. Returns the interface.
pub(crate) fn configure(
    ifname: &str,
    result: &CniResult,
    tuning: Option<&Tuning>,
) -> Result<Link, PluginError> {
    let mut socket = Socket::open().map_err(netlink_error)?;
    let link = find(&mut socket, ifname)?;
    let has_v6 = result.ips.iter().any(|ip| ip.address.addr().is_ipv6());
    set_sysctls(ifname, has_v6, tuning)?;
    let mut requests: Vec<Request> = result
        .ips
        .iter()
        .map(|ip| Request::add_address(&link, ip.address.addr(), ip.address.prefix_len()))
        .collect();
    requests.push(Request::set_up(&link, true));
    socket.run(&requests).map_err(netlink_error)?;
    if result.ips.iter().any(|ip| ip.gateway.is_some_and(|gateway| gateway.is_ipv6())) {
        settle(&mut socket, &link)?;
    }
    let routes: Vec<Request> =
        result.routes.iter().map(|route| add_route(&link, route, result)).collect();
    if !routes.is_empty() {
        socket.run(&routes).map_err(netlink_error)?;
    }
    // Asking for the link makes the kernel take note of its carrier now. Until it does, what is sent
    // is dropped.
    find(&mut socket, ifname)
}

fn set_sysctls(ifname: &str, has_v6: bool, tuning: Option<&Tuning>) -> Result<(), PluginError> {
    let root =
        sysctl::root().map_err(|error| PluginError::io(format!("open /proc/sys: {error}")))?;
    // These only make things better; a kernel may lack them.
    if let Some(tuning) = tuning {
        if tuning.detect_duplicates {
            let _ = sysctl::write(&root, &format!("net/ipv6/conf/{ifname}/enhanced_dad"), "1");
        }
        let detect = if tuning.detect_duplicates { "1" } else { "0" };
        let _ = sysctl::write(&root, &format!("net/ipv6/conf/{ifname}/accept_dad"), detect);
        let _ = sysctl::write(&root, &format!("net/ipv4/conf/{ifname}/arp_notify"), "1");
    }
    if !has_v6 {
        return Ok(());
    }
    for name in ["lo", ifname] {
        let key = format!("net/ipv6/conf/{name}/disable_ipv6");
        if sysctl::read(&root, &key).is_ok_and(|value| value != "0") {
            sysctl::write(&root, &key, "0")
                .map_err(|error| PluginError::io(format!("enable IPv6 ({key}): {error}")))?;
        }
    }
    Ok(())
}

fn add_route(link: &Link, route: &Route, result: &CniResult) -> Request {
    let v4 = route.dst.addr().is_ipv4();
    let own = result.ips.iter().filter_map(|ip| ip.gateway).find(|gateway| gateway.is_ipv4() == v4);
    Request::add_route(link, &to_route(link, route.dst, route.gw.or(own)), false)
}

pub(crate) fn to_route(link: &Link, destination: IpNet, gateway: Option<IpAddr>) -> netlink::Route {
    netlink::Route {
        destination: destination.network(),
        prefix: destination.prefix_len(),
        gateway,
        source: None,
        index: link.index,
        scope: netlink::Scope::Universe,
        advertised: false,
    }
}

/// Waits until no address is probed any more. A duplicate is not an error here, as with the
/// reference plugins; the wait ends then.
fn settle(socket: &mut Socket, link: &Link) -> Result<(), PluginError> {
    let settled = |socket: &mut Socket| -> Result<bool, netlink::Error> {
        Ok(socket.addresses(link)?.iter().all(|address| !address.unsettled || address.duplicate))
    };
    if settled(socket).map_err(netlink_error)? {
        return Ok(());
    }
    let mut watch = Watch::open().map_err(netlink_error)?;
    match watch.wait(SETTLE_LIMIT, "addresses settle", |_| settled(socket)) {
        Ok(()) | Err(netlink::Error::Timeout(_)) => Ok(()),
        Err(error) => Err(netlink_error(error)),
    }
}

/// The interface of that name, or an error.
pub(crate) fn find(socket: &mut Socket, name: &str) -> Result<Link, PluginError> {
    socket
        .link_by_name(name)
        .map_err(netlink_error)?
        .ok_or_else(|| PluginError::new(format!("interface {name:?} is gone")))
}

/// The host's end, once it carries packets.
pub(crate) fn wait_running(host: &mut Socket, name: &str) -> Result<Link, PluginError> {
    let link = find(host, name)?;
    if link.running {
        return Ok(link);
    }
    let mut watch = Watch::open().map_err(netlink_error)?;
    let mut found = link;
    let waited = watch.wait(PORT_LIMIT, &format!("bridge port {name} comes up"), |changes| {
        for change in changes {
            match change {
                Change::Link(link) if link.index == found.index => found.running = link.running,
                Change::Other => {
                    found.running = host.link_by_name(name)?.is_some_and(|link| link.running)
                }
                _ => {}
            }
        }
        Ok(found.running)
    });
    waited.map_err(netlink_error).map(|()| found)
}

/// Deletes an interface of the sandbox; both it and the namespace may be gone. True if it was there.
pub(crate) fn delete(call: &Call<'_>) -> Result<bool, PluginError> {
    let Some(path) = call.netns.filter(|path| netns::is_namespace(path)) else { return Ok(false) };
    let netns = match netns::open(path) {
        Ok(netns) => netns,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => {
            return Err(PluginError::io(format!(
                "open network namespace {}: {error}",
                path.display()
            )));
        }
    };
    let deleted = netns::inside_net(&netns, || -> Result<bool, netlink::Error> {
        let mut socket = Socket::open()?;
        let Some(link) = socket.link_by_name(call.ifname)? else { return Ok(false) };
        socket.run(&[Request::delete_link(&link)])?;
        Ok(true)
    });
    deleted
        .map_err(|error| PluginError::io(format!("enter the network namespace: {error}")))?
        .map_err(netlink_error)
}

/// CHECK of the sandbox's side: interface, hardware address, addresses, routes. Returns the interface.
pub(crate) fn check_inside(call: &Call<'_>, result: &CniResult) -> Result<Link, PluginError> {
    let mut socket = Socket::open().map_err(netlink_error)?;
    let link = find(&mut socket, call.ifname)?;
    let sandbox = call.netns.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
    let entry = result.interfaces.iter().find(|i| i.name == call.ifname && i.sandbox == sandbox);
    let entry = entry.ok_or_else(|| {
        PluginError::new(format!("prevResult has no interface {:?} in {sandbox}", call.ifname))
    })?;
    if link.kind != "veth" {
        return Err(PluginError::new(format!(
            "interface {:?} is of kind {:?}, not veth",
            link.name, link.kind
        )));
    }
    if !entry.mac.is_empty() && entry.mac != mac_text(&link.mac) {
        let (has, expected) = (mac_text(&link.mac), &entry.mac);
        return Err(PluginError::new(format!(
            "interface {:?} has hardware address {has}, not {expected}",
            link.name
        )));
    }
    let addresses = socket.addresses(&link).map_err(netlink_error)?;
    for ip in &result.ips {
        let (addr, prefix) = (ip.address.addr(), ip.address.prefix_len());
        if !addresses.iter().any(|address| address.ip == addr && address.prefix == prefix) {
            return Err(PluginError::new(format!(
                "interface {:?} does not have address {}",
                link.name, ip.address
            )));
        }
    }
    let routes = socket.routes().map_err(netlink_error)?;
    for route in &result.routes {
        let (destination, prefix) = (route.dst.network(), route.dst.prefix_len());
        let there = routes.iter().any(|r| {
            r.destination == destination
                && r.prefix == prefix
                && (prefix == 0 || route.gw.is_none() || r.gateway == route.gw)
        });
        if !there {
            return Err(PluginError::new(format!(
                "the sandbox does not have a route to {}",
                route.dst
            )));
        }
    }
    Ok(link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs() {
        assert_eq!(parse_mac("00:1a:FF:02:03:04").unwrap(), [0, 0x1a, 0xff, 2, 3, 4]);
        assert_eq!(mac_text(&parse_mac("00-1a-ff-02-03-04").unwrap()), "00:1a:ff:02:03:04");
        for bad in [
            "",
            "00:1a:ff:02:03",
            "00:1a:ff:02:03:04:05",
            "0:1:2:3:4:5",
            "zz:00:00:00:00:00",
            "+1:00:00:00:00:00",
        ] {
            assert!(parse_mac(bad).is_err(), "{bad}");
        }
    }
}
