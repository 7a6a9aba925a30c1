//! Routes of the main table.

use super::address::family;
use super::{Error, Link, Request, Socket};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How far the destination of a route is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Scope {
    /// Anywhere.
    #[default]
    Universe,
    /// On the link itself.
    Link,
    /// On this host.
    Host,
}

/// A unicast route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Destination; the unspecified address for a default route.
    pub destination: IpAddr,
    /// Length of the destination's prefix in bits.
    pub prefix: u8,
    /// Next hop; absent for what is on the link itself.
    pub gateway: Option<IpAddr>,
    /// Address that packets are sent from.
    pub source: Option<IpAddr>,
    /// Index of the interface.
    pub index: u32,
    /// How far the destination is.
    pub scope: Scope,
    /// Whether a router advertised it.
    pub advertised: bool,
}

fn message(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(route.destination);
    message.header.destination_prefix_length = route.prefix;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.attributes.push(RouteAttribute::Oif(route.index));
    if route.prefix > 0 {
        message.attributes.push(RouteAttribute::Destination(route.destination.into()));
    }
    message.attributes.extend(route.gateway.map(|gateway| RouteAttribute::Gateway(gateway.into())));
    message.attributes.extend(route.source.map(|source| RouteAttribute::PrefSource(source.into())));
    message
}

fn describe(route: &Route, link: &Link) -> String {
    let via = route.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
    format!("{}/{}{via} on {}", route.destination, route.prefix, link.name)
}

impl Request {
    /// Adds a route; with `exclusive` it is an error that one to the destination exists.
    pub fn add_route(link: &Link, route: &Route, exclusive: bool) -> Self {
        let mut message = message(route);
        message.header.protocol = RouteProtocol::Boot;
        message.header.kind = RouteType::Unicast;
        message.header.scope = match route.scope {
            Scope::Universe => RouteScope::Universe,
            Scope::Link => RouteScope::Link,
            Scope::Host => RouteScope::Host,
        };
        let flags = NLM_F_CREATE | if exclusive { NLM_F_EXCL } else { 0 };
        Self::new(
            RouteNetlinkMessage::NewRoute(message),
            flags,
            format!("add route {}", describe(route, link)),
        )
    }

    /// Removes a route.
    pub fn delete_route(link: &Link, route: &Route) -> Self {
        let mut message = message(route);
        message.header.scope = RouteScope::NoWhere;
        Self::new(
            RouteNetlinkMessage::DelRoute(message),
            0,
            format!("remove route {}", describe(route, link)),
        )
    }
}

impl Socket {
    /// The unicast routes of the main table, of both families.
    pub fn routes(&mut self) -> Result<Vec<Route>, Error> {
        let mut found = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut filter = RouteMessage::default();
            filter.header.address_family = family;
            let request = Request::new(RouteNetlinkMessage::GetRoute(filter), 0, "list routes");
            found.extend(self.dump(&request)?.into_iter().filter_map(to_route));
        }
        Ok(found)
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

fn to_route(message: RouteNetlinkMessage) -> Option<Route> {
    let RouteNetlinkMessage::NewRoute(message) = message else { return None };
    let header = &message.header;
    if header.table != RouteHeader::RT_TABLE_MAIN || header.kind != RouteType::Unicast {
        return None;
    }
    let unspecified = match header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let mut route = Route {
        destination: unspecified,
        prefix: header.destination_prefix_length,
        gateway: None,
        source: None,
        index: 0,
        scope: match header.scope {
            RouteScope::Link => Scope::Link,
            RouteScope::Host => Scope::Host,
            _ => Scope::Universe,
        },
        advertised: header.protocol == RouteProtocol::Ra,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => route.destination = ip(address)?,
            RouteAttribute::Gateway(address) => route.gateway = ip(address),
            RouteAttribute::PrefSource(address) => route.source = ip(address),
            RouteAttribute::Oif(index) => route.index = *index,
            _ => {}
        }
    }
    Some(route)
}
