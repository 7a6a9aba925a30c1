//! `ptp`: a veth pair without a bridge; the host routes to the pod, the pod reaches everything
//! through the host's end.

use crate::veth::{self, Pair, netlink_error};
use crate::{Call, CniResult, Interface, Ip, Plugin, PluginError, ipam, masquerade, netns};
use ipnet::IpNet;
use orlop_sys::netlink::{self, Link, Request, Socket};
use serde::Deserialize;
use std::net::IpAddr;

/// The plugin.
pub(crate) struct Ptp;

#[derive(Debug, Deserialize)]
struct Config {
    #[serde(default, rename = "ipMasq")]
    ip_masq: bool,
    #[serde(default)]
    mtu: u32,
    #[serde(default)]
    dns: crate::Dns,
}

impl Config {
    fn read(call: &Call<'_>) -> Result<Self, PluginError> {
        Self::deserialize(call.config).map_err(|error| {
            PluginError::config(format!("ptp: the configuration is not valid: {error}"))
        })
    }
}

impl Plugin for Ptp {
    fn kind(&self) -> &'static str {
        "ptp"
    }

    fn add(&self, call: &Call<'_>) -> Result<CniResult, PluginError> {
        let config = Config::read(call)?;
        if ipam::kind(call).is_empty() {
            return Err(PluginError::config("ptp: the key \"ipam\" is missing"));
        }
        let result = ipam::add(call)?;
        let connected = connect(call, &config, result);
        if connected.is_err() {
            let _ = veth::delete(call);
            ipam::del_quietly(call);
        }
        connected
    }

    fn del(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let config = Config::read(call)?;
        ipam::del(call)?;
        if !call.netns_dies {
            veth::delete(call)?;
        }
        if config.ip_masq {
            masquerade::remove(call.network, call.container_id, call.ifname)?;
        }
        Ok(())
    }

    fn check(&self, call: &Call<'_>) -> Result<(), PluginError> {
        ipam::check(call)?;
        let result =
            call.prev_result.ok_or_else(|| PluginError::new("ptp: prevResult is missing"))?;
        if Config::read(call)?.ip_masq {
            let addresses: Vec<IpNet> = result.ips.iter().map(|ip| ip.address).collect();
            masquerade::check(call.network, call.container_id, call.ifname, &addresses)?;
        }
        let netns = veth::open_netns(call)?;
        netns::inside_net(&netns, || veth::check_inside(call, result))
            .map_err(|error| PluginError::io(format!("enter the network namespace: {error}")))?
            .map(drop)
    }

    fn collect(&self, network: &str, live: &[String]) -> Result<(), PluginError> {
        masquerade::collect(network, live)
    }
}

fn connect(
    call: &Call<'_>,
    config: &Config,
    mut result: CniResult,
) -> Result<CniResult, PluginError> {
    for ipv4 in [true, false] {
        if result.ips.iter().any(|ip| ip.address.addr().is_ipv4() == ipv4) {
            veth::enable_forwarding(ipv4)?;
        }
    }
    let netns = veth::open_netns(call)?;
    let mut host = Socket::open().map_err(netlink_error)?;
    let pair = Pair {
        netns: &netns,
        master: None,
        mtu: Some(config.mtu).filter(|mtu| *mtu > 0),
        mac: None,
        up: false,
    };
    let name = veth::create(&mut host, call.ifname, &pair)?;
    let outside = veth::find(&mut host, &name)?;
    host.run(&[Request::set_up(&outside, true)]).map_err(netlink_error)?;
    let inside = netns::inside_net(&netns, || -> Result<Link, PluginError> {
        let link = veth::configure(call.ifname, &result, None)?;
        route_through_gateway(&link, &result.ips)?;
        Ok(link)
    })
    .map_err(|error| PluginError::io(format!("enter the network namespace: {error}")))??;
    route_to_pod(&mut host, &outside, &result.ips)?;
    // The host's end is only up now that both are: see [`veth::configure`].
    let outside = veth::find(&mut host, &name)?;
    let sandbox = call.netns.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
    let interface = |name: &str, mac: &[u8], sandbox: String| Interface {
        name: name.to_owned(),
        mac: veth::mac_text(mac),
        sandbox,
        ..Interface::default()
    };
    result.interfaces = vec![
        interface(&name, &outside.mac, String::new()),
        interface(call.ifname, &inside.mac, sandbox),
    ];
    for ip in &mut result.ips {
        ip.interface = Some(1);
    }
    if config.ip_masq {
        let addresses: Vec<IpNet> = result.ips.iter().map(|ip| ip.address).collect();
        masquerade::add(call.network, call.container_id, call.ifname, &addresses)?;
    }
    if config.dns != crate::Dns::default() {
        result.dns = config.dns.clone();
    }
    Ok(result)
}

fn gateway(ip: &Ip) -> Result<IpAddr, PluginError> {
    ip.gateway
        .ok_or_else(|| PluginError::new(format!("ptp: ipam gave no gateway for {}", ip.address)))
}

fn full(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

/// An Ethernet link cannot be told to be point to point, so its routes say it: the subnet is not
/// on the link, only the gateway is.
fn route_through_gateway(link: &Link, ips: &[Ip]) -> Result<(), PluginError> {
    let mut socket = Socket::open().map_err(netlink_error)?;
    let mut requests = Vec::with_capacity(3 * ips.len());
    for ip in ips {
        let (source, gateway) = (Some(ip.address.addr()), gateway(ip)?);
        let subnet = veth::to_route(link, ip.address, None);
        let on_link = netlink::Route {
            destination: gateway,
            prefix: full(gateway),
            source,
            scope: netlink::Scope::Link,
            ..subnet.clone()
        };
        let through = netlink::Route { gateway: Some(gateway), source, ..subnet.clone() };
        requests.push(Request::delete_route(link, &subnet));
        requests.push(Request::add_route(link, &on_link, true));
        requests.push(Request::add_route(link, &through, true));
    }
    socket.run(&requests).map_err(netlink_error)
}

/// The host's end gets the gateway's address, and the host a route to the pod.
fn route_to_pod(host: &mut Socket, link: &Link, ips: &[Ip]) -> Result<(), PluginError> {
    for ip in ips {
        let (gateway, pod) = (gateway(ip)?, ip.address.addr());
        host.run(&[Request::add_address(link, gateway, full(gateway))]).map_err(netlink_error)?;
        let route = veth::to_route(link, IpNet::from(pod), None);
        match host.run(&[Request::add_route(
            link,
            &netlink::Route { scope: netlink::Scope::Host, ..route },
            true,
        )]) {
            Err(error) if error.errno() == Some(rustix::io::Errno::EXIST.raw_os_error()) => {}
            result => result.map_err(netlink_error)?,
        }
    }
    Ok(())
}
