//! IPAM from ranges, with the state on disk that the reference plugin `host-local` keeps: one file
//! per address, named by it, with container and interface inside; `last_reserved_ip.N` per range
//! set; one lock file. Either implementation can go on where the other stopped.

mod config;
mod range;
mod store;

use crate::{Call, CniResult, Dns, Ip, PluginError};
use config::Config;
pub(crate) use range::next as next_address;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use store::Store;

/// Reserves one address of every range set.
pub(crate) fn add(call: &Call<'_>) -> Result<CniResult, PluginError> {
    let config = Config::read(call)?;
    let dns = match &config.resolv_conf {
        Some(path) => read_resolv_conf(path)?,
        None => Dns::default(),
    };
    let store = Store::open(&config.data_dir, call.network)?;
    let mut requested: BTreeSet<IpAddr> = config.requested.iter().copied().collect();
    let mut ips = Vec::with_capacity(config.ranges.len());
    let outcome = reserve_all(&config, &store, call, &mut requested, &mut ips);
    let outcome = outcome.and_then(|()| {
        if requested.is_empty() {
            return Ok(());
        }
        let left: Vec<_> = requested.iter().map(ToString::to_string).collect();
        Err(PluginError::new(format!(
            "host-local: no range has the requested addresses {}",
            left.join(", ")
        )))
    });
    if let Err(error) = outcome {
        for ip in ips.iter().map(|ip: &Ip| ip.address.addr()) {
            let _ = store.release_address(ip, call.container_id, call.ifname);
        }
        return Err(error);
    }
    Ok(CniResult { ips, routes: config.routes, dns, ..CniResult::default() })
}

fn reserve_all(
    config: &Config,
    store: &Store,
    call: &Call<'_>,
    requested: &mut BTreeSet<IpAddr>,
    ips: &mut Vec<Ip>,
) -> Result<(), PluginError> {
    for (index, set) in config.ranges.iter().enumerate() {
        let wanted = requested.iter().find(|ip| set.range_of(**ip).is_some()).copied();
        if let Some(ip) = wanted {
            requested.remove(&ip);
        }
        let ip = store
            .reserve(set, index, wanted, call.container_id, call.ifname)
            .map_err(|error| PluginError::new(format!("host-local: range set {index}: {error}")))?;
        ips.push(ip);
    }
    Ok(())
}

/// Gives back every address of the container's interface; none is fine.
pub(crate) fn del(call: &Call<'_>) -> Result<(), PluginError> {
    let config = Config::read(call)?;
    let store = Store::open(&config.data_dir, call.network)?;
    let known: Vec<IpAddr> = call
        .prev_result
        .map(|result| result.ips.iter().map(|ip| ip.address.addr()).collect())
        .unwrap_or_default();
    store.release(&known, call.container_id, call.ifname)
}

/// Whether the container's interface has an address.
pub(crate) fn check(call: &Call<'_>) -> Result<(), PluginError> {
    let config = Config::read(call)?;
    let store = Store::open(&config.data_dir, call.network)?;
    if store.owned_by(call.container_id, call.ifname)?.is_empty() {
        let id = call.container_id;
        return Err(PluginError::new(format!(
            "host-local: container {id} has no address in network {}",
            call.network
        )));
    }
    Ok(())
}

/// Gives back the addresses of containers that are not in `live`. Only for a network that is ours alone.
pub(crate) fn collect(data_dir: &Path, network: &str, live: &[String]) -> Result<(), PluginError> {
    if data_dir.join(network).is_dir() {
        Store::open(data_dir, network)?.retain(live)?;
    }
    Ok(())
}

fn read_resolv_conf(path: &Path) -> Result<Dns, PluginError> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        PluginError::io(format!("host-local: read resolvConf {}: {error}", path.display()))
    })?;
    Ok(parse_resolv_conf(&text))
}

fn parse_resolv_conf(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        let mut words = line.split_whitespace();
        let (Some(key), mut values) = (words.next(), words.map(str::to_owned).peekable()) else {
            continue;
        };
        if values.peek().is_none() {
            continue;
        }
        match key {
            "nameserver" => dns.nameservers.extend(values.next()),
            "domain" => dns.domain = values.next().unwrap_or_default(),
            "search" => dns.search.extend(values),
            "options" => dns.options.extend(values),
            _ => {}
        }
    }
    dns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf() {
        let dns = parse_resolv_conf(
            "# x\n nameserver 10.0.0.1 x\nnameserver\nsearch a b\ndomain d\noptions ndots:5 rotate\n;y\n",
        );
        assert_eq!(dns.nameservers, ["10.0.0.1"]);
        assert_eq!(dns.search, ["a", "b"]);
        assert_eq!((dns.domain.as_str(), dns.options.len()), ("d", 2));
    }
}
