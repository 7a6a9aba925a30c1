//! Host ports, host name and DNS.

use super::text::has_control;
use super::{Result, bad, enumeration, missing};
use crate::v1;
use orlop_spec::request::{DnsConfig, PortMapping, Protocol};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const MAX_HOSTNAME: usize = 64;
const MAX_DNS_ENTRIES: usize = 32;
const MAX_DNS_TEXT: usize = 255;
const MAX_SEARCHES: usize = 2048;

/// Mappings of a pod with a network of its own; those with host port 0 map nothing.
pub(super) fn port_mappings(raw: &[v1::PortMapping]) -> Result<Vec<PortMapping>> {
    let mut taken = BTreeSet::new();
    let mut mappings = Vec::new();
    for (at, mapping) in raw.iter().enumerate() {
        let Some(mapping) = port_mapping(&format!("port_mappings[{at}]"), mapping)? else {
            continue;
        };
        // No address means all addresses of both families.
        let all = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let addresses = mapping.host_ip.map_or_else(|| all.to_vec(), |address| vec![address]);
        let key = |address: IpAddr| (mapping.protocol as u8, address, mapping.host_port);
        if addresses.into_iter().any(|address| !taken.insert(key(address))) {
            let field = format!("port_mappings[{at}].host_port");
            return Err(bad(
                field,
                mapping.host_port,
                "map each host port once for an address and protocol",
            ));
        }
        mappings.push(mapping);
    }
    Ok(mappings)
}

fn port_mapping(field: &str, raw: &v1::PortMapping) -> Result<Option<PortMapping>> {
    let protocol = match enumeration(&format!("{field}.protocol"), raw.protocol)? {
        v1::Protocol::Tcp => Protocol::Tcp,
        v1::Protocol::Udp => Protocol::Udp,
        v1::Protocol::Sctp => Protocol::Sctp,
    };
    let host_port = port(&format!("{field}.host_port"), raw.host_port)?;
    let container_port = port(&format!("{field}.container_port"), raw.container_port)?;
    let host_ip = match raw.host_ip.as_str() {
        "" => None,
        text => Some(text.parse::<IpAddr>().map_err(|_| {
            bad(
                format!("{field}.host_ip"),
                text,
                "use an IPv4 or IPv6 address, or leave it empty for all",
            )
        })?),
    };
    match (host_port, container_port) {
        (0, _) => Ok(None),
        (_, 0) => Err(bad(format!("{field}.container_port"), 0, "use a number from 1 to 65535")),
        _ => Ok(Some(PortMapping {
            protocol,
            container_port,
            host_port,
            // 0.0.0.0 and :: are all addresses of one family, no address is those of both.
            host_ip,
        })),
    }
}

fn port(field: &str, value: i32) -> Result<u16> {
    u16::try_from(value).map_err(|_| bad(field, value, "use a number from 0 to 65535"))
}

/// Empty means the host's name.
pub(super) fn hostname(value: &str) -> Result<String> {
    if value.len() > MAX_HOSTNAME {
        return Err(bad("hostname", value, "use at most 64 bytes"));
    }
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if !value.bytes().all(fits) || value.starts_with(['-', '.']) {
        return Err(bad(
            "hostname",
            value,
            "use letters, digits, '-', '.' and '_', starting with a letter or digit",
        ));
    }
    Ok(value.to_owned())
}

/// Lines of resolv.conf: no text may break out of its line.
pub(super) fn dns(raw: &v1::DnsConfig) -> Result<DnsConfig> {
    for (field, list) in
        [("servers", &raw.servers), ("searches", &raw.searches), ("options", &raw.options)]
    {
        if list.len() > MAX_DNS_ENTRIES {
            let remedy = format!("use at most {MAX_DNS_ENTRIES} entries");
            return Err(bad(
                format!("dns_config.{field}"),
                format!("{} entries", list.len()),
                &remedy,
            ));
        }
        for (at, text) in list.iter().enumerate() {
            dns_text(&format!("dns_config.{field}[{at}]"), text)?;
        }
    }
    if raw.searches.iter().map(|search| search.len() + 1).sum::<usize>() > MAX_SEARCHES {
        return Err(bad("dns_config.searches", "the list", "use at most 2048 bytes in all"));
    }
    for (at, server) in raw.servers.iter().enumerate() {
        let address = server.split_once('%').map_or(server.as_str(), |(address, _zone)| address);
        if address.parse::<IpAddr>().is_err() {
            return Err(bad(
                format!("dns_config.servers[{at}]"),
                server,
                "use an IPv4 or IPv6 address",
            ));
        }
    }
    Ok(DnsConfig {
        servers: raw.servers.clone(),
        searches: raw.searches.clone(),
        options: raw.options.clone(),
    })
}

fn dns_text(field: &str, text: &str) -> Result<()> {
    if text.is_empty() {
        return Err(missing(field, "remove the empty entry"));
    }
    if text.len() > MAX_DNS_TEXT {
        return Err(bad(field, text, "use at most 255 bytes"));
    }
    if has_control(text) || text.contains(char::is_whitespace) || text.contains(['#', ';']) {
        return Err(bad(field, text, "remove control characters, white space, '#' and ';'"));
    }
    Ok(())
}
