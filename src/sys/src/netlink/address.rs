//! Addresses of interfaces.

use super::{Error, Link, Request, Socket};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::net::{IpAddr, Ipv4Addr};

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The address itself.
    pub ip: IpAddr,
    /// Length of its network prefix in bits.
    pub prefix: u8,
    /// Index of its interface.
    pub index: u32,
    /// Whether duplicate address detection still runs, or found a duplicate: it cannot be used.
    pub unsettled: bool,
    /// Whether another host has the address.
    pub duplicate: bool,
}

pub(super) fn family(ip: IpAddr) -> AddressFamily {
    if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn message(link: &Link, ip: IpAddr, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(ip);
    message.header.prefix_len = prefix;
    message.header.index = link.index;
    message.attributes.push(AddressAttribute::Local(ip));
    message.attributes.push(AddressAttribute::Address(ip));
    message
}

/// The last address of the subnet, for subnets that have one.
fn broadcast(ip: Ipv4Addr, prefix: u8) -> Option<Ipv4Addr> {
    (prefix < 31).then(|| Ipv4Addr::from_bits(ip.to_bits() | (u32::MAX >> prefix)))
}

impl Request {
    /// Adds an address.
    pub fn add_address(link: &Link, ip: IpAddr, prefix: u8) -> Self {
        let mut message = message(link, ip, prefix);
        if let IpAddr::V4(ip) = ip {
            message.attributes.extend(broadcast(ip, prefix).map(AddressAttribute::Broadcast));
        }
        let what = format!("add address {ip}/{prefix} to {}", link.name);
        Self::new(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL, what)
    }

    /// Removes an address.
    pub fn delete_address(link: &Link, ip: IpAddr, prefix: u8) -> Self {
        let what = format!("remove address {ip}/{prefix} from {}", link.name);
        Self::new(RouteNetlinkMessage::DelAddress(message(link, ip, prefix)), 0, what)
    }
}

impl Socket {
    /// The addresses of one interface, of both families.
    pub fn addresses(&mut self, link: &Link) -> Result<Vec<Address>, Error> {
        let mut all = self.address_dump(Some(link))?;
        // Kernels before 4.20 ignore the filter.
        all.retain(|address| address.index == link.index);
        Ok(all)
    }

    /// The addresses of all interfaces of the namespace.
    pub fn all_addresses(&mut self) -> Result<Vec<Address>, Error> {
        self.address_dump(None)
    }

    fn address_dump(&mut self, link: Option<&Link>) -> Result<Vec<Address>, Error> {
        let mut filter = AddressMessage::default();
        filter.header.index = link.map_or(0, |link| link.index);
        let what = link
            .map_or("list addresses".to_owned(), |link| format!("list addresses of {}", link.name));
        let request = Request::new(RouteNetlinkMessage::GetAddress(filter), 0, what);
        Ok(self.dump(&request)?.into_iter().filter_map(to_address).collect())
    }
}

pub(super) fn to_address(message: RouteNetlinkMessage) -> Option<Address> {
    let (RouteNetlinkMessage::NewAddress(message) | RouteNetlinkMessage::DelAddress(message)) =
        message
    else {
        return None;
    };
    let bits = u32::from(message.header.flags.bits());
    let (mut ip, mut local, mut flags) = (None, None, AddressFlags::from_bits_retain(bits));
    for attribute in message.attributes {
        match attribute {
            AddressAttribute::Address(address) => ip = Some(address),
            AddressAttribute::Local(address) => local = Some(address),
            AddressAttribute::Flags(all) => flags = all,
            _ => {}
        }
    }
    Some(Address {
        // IFA_ADDRESS is the far end on a point-to-point interface; IFA_LOCAL is ours where present.
        ip: local.or(ip)?,
        prefix: message.header.prefix_len,
        index: message.header.index,
        unsettled: flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed),
        duplicate: flags.contains(AddressFlags::Dadfailed),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcast_is_the_last_address() {
        let ip = Ipv4Addr::new(10, 88, 3, 7);
        assert_eq!(broadcast(ip, 16), Some(Ipv4Addr::new(10, 88, 255, 255)));
        assert_eq!(broadcast(ip, 30), Some(Ipv4Addr::new(10, 88, 3, 7)));
        assert_eq!(broadcast(ip, 31), None);
        assert_eq!(broadcast(ip, 0), Some(Ipv4Addr::BROADCAST));
    }
}
