//! Where a container is on its networks.

use super::{BRIDGE, NetworkRecord};
use crate::engine::Inner;
use crate::spec::{Endpoint, NetworkMode};
use crate::{Error, Record, Result};
use orlop_spec::request::{DnsConfig, NetworkPlace, PodNetwork};
use std::net::IpAddr;
use std::sync::Arc;

/// As many as a C library asks.
const MAX_SERVERS: usize = 3;

/// The networks of people's that a container is on, in order; the default bridge is one by the name
/// `bridge`.
pub(super) fn endpoints(mode: &NetworkMode) -> Vec<Endpoint> {
    match mode {
        NetworkMode::Named(all) => all.clone(),
        NetworkMode::Bridge => vec![Endpoint { network: BRIDGE.into(), ..Endpoint::default() }],
        NetworkMode::Host | NetworkMode::None | NetworkMode::Container(_) => Vec::new(),
    }
}

/// What a container's pod is attached to. Bridges that a boot has taken away are made again.
pub(crate) async fn pod_network(inner: &Inner, record: &Record) -> Result<PodNetwork> {
    let endpoints = endpoints(&record.spec.network);
    if endpoints.is_empty() {
        return Ok(PodNetwork::None);
    }
    let mut places = Vec::new();
    let mut way_out = None;
    for (number, endpoint) in endpoints.iter().enumerate() {
        let network = network(inner, &endpoint.network)?;
        if let Some(network) = &network {
            inner.network.make_bridge(network.network.clone()).await?;
        }
        // The first one that leads out has the default route and the host's ports.
        let leads_out = network.as_ref().is_none_or(|network| !network.network.internal);
        let first = leads_out && way_out.is_none();
        if first {
            way_out = Some(number);
        }
        places.push(place(inner, network.as_deref(), endpoint, &format!("eth{number}"), first)?);
    }
    Ok(PodNetwork::Places(places))
}

/// `None`: the default bridge.
pub(super) fn network(inner: &Inner, name: &str) -> Result<Option<Arc<NetworkRecord>>> {
    if name == BRIDGE || name == "default" {
        return Ok(None);
    }
    inner.networks.find(name).map(Some)
}

/// An interface on a network.
pub(super) fn place(
    inner: &Inner,
    network: Option<&NetworkRecord>,
    endpoint: &Endpoint,
    interface: &str,
    way_out: bool,
) -> Result<NetworkPlace> {
    let ips: Vec<IpAddr> = endpoint.ip.iter().chain(&endpoint.ip6).copied().collect();
    let list = match network {
        Some(network) => {
            for ip in &ips {
                check(network, *ip)?;
            }
            network.network.list(way_out, &ips)
        }
        None => inner.network.default_bridge(way_out)?,
    };
    let (interface, mac) = (interface.to_owned(), endpoint.mac.clone());
    Ok(NetworkPlace { list, interface, ips, mac, ports: way_out })
}

fn check(network: &NetworkRecord, ip: IpAddr) -> Result<()> {
    let why = if network.network.gateways().contains(&ip) {
        "it is the network's gateway: choose another address"
    } else if network.network.subnets.iter().any(|one| one.subnet.contains(&ip)) {
        return Ok(());
    } else {
        "no subnet of the network has this address: see network inspect"
    };
    let value = format!("{ip} on {}", network.name());
    Err(Error::Invalid { field: "ip", value, why: why.into() })
}

/// The resolvers of a container that is on a network of people's: the responders there. `None`: it is
/// on none.
pub(crate) fn resolvers(inner: &Inner, record: &Record) -> Option<DnsConfig> {
    let mut servers = Vec::new();
    for endpoint in endpoints(&record.spec.network) {
        let network = network(inner, &endpoint.network).ok().flatten();
        // A responder is the same by any of its addresses.
        servers.extend(network.and_then(|network| network.network.gateways().first().copied()));
    }
    servers.truncate(MAX_SERVERS);
    if servers.is_empty() {
        return None;
    }
    let spec = &record.spec;
    let (file, _) = super::of_host();
    let host = |word: &str| super::values(&file, word);
    let search = if spec.dns_search.is_empty() { host("search") } else { spec.dns_search.clone() };
    let mut options =
        if spec.dns_options.is_empty() { host("options") } else { spec.dns_options.clone() };
    if !options.iter().any(|option| option.starts_with("ndots:")) {
        // A name without a dot is a container's.
        options.push("ndots:0".into());
    }
    let servers = servers.iter().map(ToString::to_string).collect();
    Some(DnsConfig { servers, searches: search, options })
}
