//! `bridge`: a veth pair whose host's end is a port of a bridge.

use crate::hostlocal::next_address;
use crate::veth::{self, Pair, Tuning, netlink_error};
use crate::{Call, CniResult, Interface, Ip, Plugin, PluginError, Route, ipam, masquerade, netns};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use orlop_sys::netlink::{Link, Request, Socket};
use serde::Deserialize;
use serde_json::Value;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

/// The plugin.
pub(crate) struct Bridge;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    #[serde(default = "default_bridge")]
    bridge: String,
    #[serde(default)]
    is_gateway: bool,
    #[serde(default)]
    is_default_gateway: bool,
    #[serde(default)]
    force_address: bool,
    #[serde(default)]
    ip_masq: bool,
    #[serde(default)]
    mtu: u32,
    #[serde(default)]
    hairpin_mode: bool,
    #[serde(default)]
    promisc_mode: bool,
    #[serde(default)]
    vlan: u16,
    #[serde(default, rename = "macspoofchk")]
    mac_spoof_check: bool,
    #[serde(default, rename = "enabledad")]
    detect_duplicates: bool,
    #[serde(default)]
    dns: crate::Dns,
    #[serde(skip)]
    mac: Option<[u8; 6]>,
}

fn default_bridge() -> String {
    "cni0".into()
}

/// Keys that later versions of the reference plugin have and that change what a pod gets: better
/// refused than ignored.
const UNSUPPORTED: [&str; 5] = [
    "vlanTrunk",
    "disableContainerInterface",
    "portIsolation",
    "ipMasqBackend",
    "preserveDefaultVlan",
];

impl Config {
    fn read(call: &Call<'_>) -> Result<Self, PluginError> {
        let mut config = Self::deserialize(call.config).map_err(|error| {
            PluginError::config(format!("bridge: the configuration is not valid: {error}"))
        })?;
        if config.bridge.is_empty() {
            config.bridge = default_bridge();
        }
        config.is_gateway |= config.is_default_gateway;
        if config.vlan > 4094 {
            return Err(PluginError::config(format!(
                "bridge: vlan {} is not between 0 and 4094",
                config.vlan
            )));
        }
        config.mac = requested_mac(call)?;
        Ok(config)
    }

    /// What only matters to ADD.
    fn check(&self, call: &Call<'_>) -> Result<(), PluginError> {
        if self.hairpin_mode && self.promisc_mode {
            return Err(PluginError::config(
                "bridge: hairpinMode and promiscMode cannot be set together: choose one",
            ));
        }
        if self.mac_spoof_check {
            return Err(PluginError::config(
                "bridge: macspoofchk is not supported in process: remove the key",
            ));
        }
        let truthy =
            |value: &Value| !matches!(value, Value::Null | Value::Bool(false) | Value::String(_));
        let set = |key: &str| {
            call.config
                .get(key)
                .is_some_and(|v| truthy(v) && v.as_array().is_none_or(|a| !a.is_empty()))
        };
        match UNSUPPORTED.iter().find(|key| set(key)) {
            Some(key) => {
                Err(PluginError::config(format!("bridge: {key} is not supported: remove the key")))
            }
            None => Ok(()),
        }
    }

    fn mtu(&self) -> Option<u32> {
        Some(self.mtu).filter(|mtu| *mtu > 0)
    }
}

/// The hardware address that the pod's interface shall have: from the runtime, else from the
/// configuration's arguments, else from `CNI_ARGS`.
fn requested_mac(call: &Call<'_>) -> Result<Option<[u8; 6]>, PluginError> {
    let args = call.config.pointer("/args/cni/mac").and_then(Value::as_str).map(str::to_owned);
    let env = call.args.iter().find(|(key, _)| key == "MAC").map(|(_, value)| value.clone());
    let mac =
        [call.runtime.mac.clone(), args, env].into_iter().flatten().find(|mac| !mac.is_empty());
    mac.map(|mac| veth::parse_mac(&mac)).transpose()
}

impl Plugin for Bridge {
    fn kind(&self) -> &'static str {
        "bridge"
    }

    fn add(&self, call: &Call<'_>) -> Result<CniResult, PluginError> {
        let config = Config::read(call)?;
        config.check(call)?;
        let netns = veth::open_netns(call)?;
        let mut host = Socket::open().map_err(netlink_error)?;
        let bridge = ensure_bridge(&mut host, &config)?;
        if ipam::kind(call).is_empty() {
            let mut result = CniResult { dns: config.dns.clone(), ..CniResult::default() };
            connect(call, &config, &mut host, &bridge, &netns, &mut result)?;
            return Ok(result);
        }
        let reserved = ipam::add(call)?;
        let connected = layer3(call, &config, &mut host, &bridge, &netns, reserved);
        if connected.is_err() {
            ipam::del_quietly(call);
        }
        connected
    }

    fn del(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let config = Config::read(call)?;
        if !call.netns_dies {
            veth::delete(call)?;
        }
        ipam::del(call)?;
        if config.ip_masq && !ipam::kind(call).is_empty() {
            masquerade::remove(call.network, call.container_id, call.ifname)?;
        }
        Ok(())
    }

    fn check(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let config = Config::read(call)?;
        ipam::check(call)?;
        let result =
            call.prev_result.ok_or_else(|| PluginError::new("bridge: prevResult is missing"))?;
        if config.ip_masq {
            let addresses: Vec<IpNet> = result.ips.iter().map(|ip| ip.address).collect();
            masquerade::check(call.network, call.container_id, call.ifname, &addresses)?;
        }
        let netns = veth::open_netns(call)?;
        let inside = netns::inside_net(&netns, || veth::check_inside(call, result))
            .map_err(|error| PluginError::io(format!("enter the network namespace: {error}")))??;
        let mut host = Socket::open().map_err(netlink_error)?;
        let bridge = veth::find(&mut host, &config.bridge)?;
        let is_port = |link: &Link| {
            link.master == Some(bridge.index)
                && Some(link.index) == inside.peer
                && link.kind == "veth"
        };
        let ports = host.links().map_err(netlink_error)?;
        if bridge.kind == "bridge" && ports.iter().any(is_port) {
            Ok(())
        } else {
            Err(PluginError::new(format!(
                "no port of bridge {:?} leads to {:?} of the sandbox",
                config.bridge, call.ifname
            )))
        }
    }

    fn collect(&self, network: &str, live: &[String]) -> Result<(), PluginError> {
        masquerade::collect(network, live)
    }
}

/// The bridge, made if it is not there, up, and refusing router advertisements.
fn ensure_bridge(host: &mut Socket, config: &Config) -> Result<Link, PluginError> {
    let name = config.bridge.as_str();
    let link = match host.link_by_name(name).map_err(netlink_error)? {
        Some(link) => link,
        None => {
            match host.run(&[Request::add_bridge(name, config.mtu(), config.vlan != 0)]) {
                // Another attachment was faster.
                Err(error) if error.errno() == Some(rustix::io::Errno::EXIST.raw_os_error()) => {}
                result => result.map_err(netlink_error)?,
            }
            veth::find(host, name)?
        }
    };
    if link.kind != "bridge" {
        let kind = if link.kind.is_empty() { "a device" } else { link.kind.as_str() };
        return Err(PluginError::new(format!(
            "{name:?} exists and is no bridge but {kind}: choose another name for the bridge"
        )));
    }
    veth::refuse_advertisements(name)?;
    let mut requests = Vec::new();
    if config.promisc_mode {
        requests.push(Request::set_promiscuous(&link, true));
    }
    if !link.up {
        requests.push(Request::set_up(&link, true));
    }
    if !requests.is_empty() {
        host.run(&requests).map_err(netlink_error)?;
    }
    Ok(link)
}

/// Makes the pair, configures the pod's end, and fills in the interfaces of the result. Returns
/// the name of the host's end.
fn connect(
    call: &Call<'_>,
    config: &Config,
    host: &mut Socket,
    bridge: &Link,
    netns: &OwnedFd,
    result: &mut CniResult,
) -> Result<String, PluginError> {
    let pair =
        Pair { netns, master: Some(bridge.index), mtu: config.mtu(), mac: config.mac, up: true };
    let name = veth::create(host, call.ifname, &pair)?;
    if config.hairpin_mode || config.vlan != 0 {
        let port = veth::find(host, &name)?;
        let mut requests = vec![Request::set_hairpin(&port, config.hairpin_mode)];
        if config.vlan != 0 {
            requests.push(Request::set_port_vlan(&port, config.vlan));
        }
        host.run(&requests).map_err(netlink_error)?;
    }
    let layer3 = !result.ips.is_empty();
    let tuning = Tuning { detect_duplicates: config.detect_duplicates };
    let inside = netns::inside_net(netns, || {
        veth::configure(call.ifname, result, layer3.then_some(&tuning))
    })
    .map_err(|error| PluginError::io(format!("enter the network namespace: {error}")))??;
    let port = if layer3 { veth::wait_running(host, &name)? } else { veth::find(host, &name)? };
    let interface = |name: &str, mac: &[u8], sandbox: String| Interface {
        name: name.to_owned(),
        mac: veth::mac_text(mac),
        sandbox,
        ..Interface::default()
    };
    let sandbox = call.netns.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
    result.interfaces = vec![
        interface(&bridge.name, &veth::find(host, &bridge.name)?.mac, String::new()),
        interface(&name, &port.mac, String::new()),
        interface(call.ifname, &inside.mac, sandbox),
    ];
    Ok(name)
}

fn layer3(
    call: &Call<'_>,
    config: &Config,
    host: &mut Socket,
    bridge: &Link,
    netns: &OwnedFd,
    reserved: CniResult,
) -> Result<CniResult, PluginError> {
    let mut result = CniResult {
        ips: reserved.ips,
        routes: reserved.routes,
        dns: config.dns.clone(),
        ..CniResult::default()
    };
    let gateways = gateways(config, &mut result);
    if let Err(error) = connect(call, config, host, bridge, netns, &mut result) {
        // The pair may exist half configured.
        let _ = veth::delete(call);
        return Err(error);
    }
    let finished = finish(call, config, host, bridge, &gateways, &mut result);
    if finished.is_err() {
        let _ = veth::delete(call);
    }
    finished.map(|()| result)
}

/// Addresses of the bridge, forwarding, masquerade: what makes the bridge a gateway.
fn finish(
    call: &Call<'_>,
    config: &Config,
    host: &mut Socket,
    bridge: &Link,
    gateways: &[IpNet],
    result: &mut CniResult,
) -> Result<(), PluginError> {
    let on = if config.vlan != 0 && !gateways.is_empty() {
        let link = ensure_vlan_interface(host, config, bridge)?;
        result.interfaces.push(Interface {
            name: link.name.clone(),
            mac: veth::mac_text(&link.mac),
            ..Interface::default()
        });
        link
    } else {
        bridge.clone()
    };
    for gateway in gateways {
        ensure_address(host, &on, *gateway, config.force_address)?;
    }
    for ipv4 in [true, false] {
        if gateways.iter().any(|gateway| gateway.addr().is_ipv4() == ipv4) {
            veth::enable_forwarding(ipv4)?;
        }
    }
    if config.ip_masq {
        let addresses: Vec<IpNet> = result.ips.iter().map(|ip| ip.address).collect();
        masquerade::add(call.network, call.container_id, call.ifname, &addresses)?;
    }
    // Its first address fixes the bridge's hardware address; before, ports may have changed it.
    result.interfaces[0].mac = veth::mac_text(&veth::find(host, &bridge.name)?.mac);
    Ok(())
}

/// Fills in gateways and default routes and returns the addresses that the bridge shall have.
fn gateways(config: &Config, result: &mut CniResult) -> Vec<IpNet> {
    let mut gateways = Vec::new();
    let mut default_found = [false; 2];
    for ip in &mut result.ips {
        ip.interface = Some(2);
        if ip.gateway.is_none() && config.is_gateway {
            ip.gateway = Some(next_address(ip.address.network()));
        }
        let family = usize::from(ip.address.addr().is_ipv6());
        if config.is_default_gateway && !default_found[family] {
            let default = default_destination(ip);
            if !result.routes.iter().any(|route| route.gw.is_some() && route.dst == default) {
                result.routes.push(Route {
                    dst: default,
                    gw: ip.gateway,
                    more: serde_json::Map::new(),
                });
            }
            default_found[family] = true;
        }
        if let (true, Some(gateway)) = (config.is_gateway, ip.gateway) {
            gateways.extend(IpNet::new(gateway, ip.address.prefix_len()).ok());
        }
    }
    // IPv4 first, as the reference sets them.
    gateways.sort_by_key(|gateway| gateway.addr().is_ipv6());
    gateways
}

fn default_destination(ip: &Ip) -> IpNet {
    match ip.address.addr() {
        IpAddr::V4(_) => Ipv4Net::default().into(),
        IpAddr::V6(_) => Ipv6Net::default().into(),
    }
}

/// Gives the interface the gateway's address, unless it has it.
fn ensure_address(
    host: &mut Socket,
    link: &Link,
    wanted: IpNet,
    force: bool,
) -> Result<(), PluginError> {
    let has = host.addresses(link).map_err(netlink_error)?;
    let (ip, prefix) = (wanted.addr(), wanted.prefix_len());
    if has.iter().any(|address| address.ip == ip && address.prefix == prefix) {
        return Ok(());
    }
    for address in has.iter().filter(|address| address.ip.is_ipv4() == ip.is_ipv4()) {
        let net = IpNet::new(address.ip, address.prefix).unwrap_or_else(|_| address.ip.into());
        if ip.is_ipv6() && !net.contains(&ip) && !wanted.contains(&address.ip) {
            continue;
        }
        if !force {
            return Err(PluginError::new(format!(
                "{:?} already has the address {net}, not {wanted}: set forceAddress to replace it",
                link.name
            )));
        }
        host.run(&[Request::delete_address(link, address.ip, address.prefix)])
            .map_err(netlink_error)?;
    }
    match host.run(&[Request::add_address(link, ip, prefix)]) {
        Err(error) if error.errno() == Some(rustix::io::Errno::EXIST.raw_os_error()) => {}
        result => result.map_err(netlink_error)?,
    }
    // Without an address of its own the bridge would take the lowest one of its ports, and change
    // it whenever ports come and go.
    host.run(&[Request::set_mac(link, &link.mac)]).map_err(netlink_error)
}

/// The host's own interface in the VLAN: `bridge.vlan`, a veth pair with both ends on the host.
fn ensure_vlan_interface(
    host: &mut Socket,
    config: &Config,
    bridge: &Link,
) -> Result<Link, PluginError> {
    let name = format!("{}.{}", bridge.name, config.vlan);
    if let Some(link) = host.link_by_name(&name).map_err(netlink_error)? {
        return Ok(link);
    }
    let own = netns::open("/proc/thread-self/ns/net".as_ref())
        .map_err(|error| PluginError::io(format!("open the host's network namespace: {error}")))?;
    let pair = Pair {
        netns: &own,
        master: Some(bridge.index),
        mtu: Some(bridge.mtu),
        mac: None,
        up: true,
    };
    let port = veth::create(host, &name, &pair)?;
    let port = veth::find(host, &port)?;
    let link = veth::find(host, &name)?;
    host.run(&[Request::set_port_vlan(&port, config.vlan), Request::set_up(&link, true)])
        .map_err(netlink_error)?;
    Ok(link)
}
