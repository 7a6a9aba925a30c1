//! Links: what a pod network needs to know and to do about interfaces.

use super::{Error, Request, Socket};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::link::{
    AfSpecBridge, BridgeFlag, BridgeVlanInfo, BridgeVlanInfoFlags, InfoBridge, InfoBridgePort,
    InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVeth, LinkAttribute, LinkExtentMask,
    LinkFlags, LinkInfo, LinkMessage, State,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::os::fd::{AsRawFd, BorrowedFd};

/// An interface as the kernel shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Index, unique in its namespace.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Hardware address; empty where the interface has none.
    pub mac: Vec<u8>,
    /// Kind as `ip link` names it (`veth`, `bridge`); empty for physical interfaces and loopback.
    pub kind: String,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether it can carry packets now.
    pub running: bool,
    /// Index of the bridge that it is a port of.
    pub master: Option<u32>,
    /// For a veth: index of its peer, in the peer's namespace.
    pub peer: Option<u32>,
    /// How many have asked for promiscuous mode.
    pub promiscuity: u32,
    /// Whether it receives all multicast packets.
    pub all_multicast: bool,
    /// Whether a bridge sends packets back through the port that they came in.
    pub hairpin: bool,
}

/// A pair of connected interfaces, one end here, the other directly in another namespace.
#[derive(Debug)]
pub struct Veth<'a> {
    /// Name of the end in the socket's own namespace.
    pub name: &'a str,
    /// The bridge (index) that this end becomes a port of.
    pub master: Option<u32>,
    /// Whether this end is brought up.
    pub up: bool,
    /// Name of the other end.
    pub peer: &'a str,
    /// Namespace of the other end.
    pub peer_netns: BorrowedFd<'a>,
    /// Hardware address of the other end; the kernel draws one where absent.
    pub peer_mac: Option<[u8; 6]>,
    /// MTU of both ends; the kernel's default where absent.
    pub mtu: Option<u32>,
}

fn new_link(message: LinkMessage, flags: u16, what: String) -> Request {
    Request::new(RouteNetlinkMessage::NewLink(message), flags, what)
}

fn by_index(index: u32, attributes: Vec<LinkAttribute>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes = attributes;
    message
}

impl Request {
    /// Creates a veth pair; both ends exist, or none.
    pub fn add_veth(veth: &Veth<'_>) -> Self {
        let mut peer = LinkMessage::default();
        peer.attributes.push(LinkAttribute::IfName(veth.peer.to_owned()));
        peer.attributes.push(LinkAttribute::NetNsFd(veth.peer_netns.as_raw_fd()));
        // A queue of length 0, as the reference plugins have it: a veth never queues.
        peer.attributes.push(LinkAttribute::TxQueueLen(0));
        if let Some(mac) = veth.peer_mac {
            peer.attributes.push(LinkAttribute::Address(mac.to_vec()));
        }
        let mut message = LinkMessage::default();
        if let Some(mtu) = veth.mtu {
            peer.attributes.push(LinkAttribute::Mtu(mtu));
            message.attributes.push(LinkAttribute::Mtu(mtu));
        }
        message.attributes.push(LinkAttribute::IfName(veth.name.to_owned()));
        message.attributes.push(LinkAttribute::TxQueueLen(0));
        message.attributes.extend(veth.master.map(LinkAttribute::Controller));
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        if veth.up {
            message.header.flags = LinkFlags::Up;
            message.header.change_mask = LinkFlags::Up;
        }
        let what = format!("create veth pair {} and {}", veth.name, veth.peer);
        new_link(message, NLM_F_CREATE | NLM_F_EXCL, what)
    }

    /// Creates a bridge.
    pub fn add_bridge(name: &str, mtu: Option<u32>, vlan_filtering: bool) -> Self {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        message.attributes.extend(mtu.map(LinkAttribute::Mtu));
        let mut info = vec![LinkInfo::Kind(InfoKind::Bridge)];
        if vlan_filtering {
            info.push(LinkInfo::Data(InfoData::Bridge(vec![InfoBridge::VlanFiltering(true)])));
        }
        message.attributes.push(LinkAttribute::LinkInfo(info));
        new_link(message, NLM_F_CREATE | NLM_F_EXCL, format!("create bridge {name}"))
    }

    /// Brings an interface up or down.
    pub fn set_up(link: &Link, up: bool) -> Self {
        let mut message = by_index(link.index, Vec::new());
        message.header.change_mask = LinkFlags::Up;
        message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
        new_link(message, 0, format!("set {} {}", link.name, if up { "up" } else { "down" }))
    }

    /// Sets promiscuous mode.
    pub fn set_promiscuous(link: &Link, on: bool) -> Self {
        Self::set_flag(link, LinkFlags::Promisc, on, "promiscuous mode")
    }

    /// Sets reception of all multicast packets.
    pub fn set_all_multicast(link: &Link, on: bool) -> Self {
        Self::set_flag(link, LinkFlags::Allmulti, on, "all-multicast mode")
    }

    fn set_flag(link: &Link, flag: LinkFlags, on: bool, what: &str) -> Self {
        let mut message = by_index(link.index, Vec::new());
        message.header.change_mask = flag;
        message.header.flags = if on { flag } else { LinkFlags::empty() };
        new_link(message, 0, format!("set {what} of {}", link.name))
    }

    /// Sets the hardware address.
    pub fn set_mac(link: &Link, mac: &[u8]) -> Self {
        let message = by_index(link.index, vec![LinkAttribute::Address(mac.to_vec())]);
        new_link(message, 0, format!("set hardware address of {}", link.name))
    }

    /// Sets the MTU in bytes.
    pub fn set_mtu(link: &Link, mtu: u32) -> Self {
        let message = by_index(link.index, vec![LinkAttribute::Mtu(mtu)]);
        new_link(message, 0, format!("set mtu {mtu} of {}", link.name))
    }

    /// Sets hairpin mode of a bridge port.
    pub fn set_hairpin(link: &Link, on: bool) -> Self {
        let port = InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(on)]);
        let info = vec![LinkInfo::PortKind(InfoPortKind::Bridge), LinkInfo::PortData(port)];
        let message = by_index(link.index, vec![LinkAttribute::LinkInfo(info)]);
        new_link(message, 0, format!("set hairpin mode of {}", link.name))
    }

    /// Puts a bridge port into a VLAN, untagged and as the port's own.
    pub fn set_port_vlan(link: &Link, vid: u16) -> Self {
        let vlan = BridgeVlanInfo {
            flags: BridgeVlanInfoFlags::Pvid | BridgeVlanInfoFlags::Untagged,
            vid,
        };
        let spec = vec![AfSpecBridge::Flags(BridgeFlag::Controller), AfSpecBridge::VlanInfo(vlan)];
        let mut message = by_index(link.index, vec![LinkAttribute::AfSpecBridge(spec)]);
        message.header.interface_family = AddressFamily::Bridge;
        Self::new(
            RouteNetlinkMessage::SetLink(message),
            0,
            format!("set vlan {vid} of {}", link.name),
        )
    }

    /// Deletes an interface (of a veth pair: both ends). The kernel waits for a grace period, about 16 ms.
    pub fn delete_link(link: &Link) -> Self {
        let message = by_index(link.index, Vec::new());
        Self::new(RouteNetlinkMessage::DelLink(message), 0, format!("delete {}", link.name))
    }
}

impl Socket {
    /// The interface of that name, if there is one.
    pub fn link_by_name(&mut self, name: &str) -> Result<Option<Link>, Error> {
        let attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]),
        ];
        let request = Request::new(
            RouteNetlinkMessage::GetLink(by_index(0, attributes)),
            0,
            format!("look up {name}"),
        );
        Ok(self.get(&request)?.and_then(to_link))
    }

    /// All interfaces of the namespace.
    pub fn links(&mut self) -> Result<Vec<Link>, Error> {
        let attributes = vec![LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])];
        let request = Request::new(
            RouteNetlinkMessage::GetLink(by_index(0, attributes)),
            0,
            "list interfaces",
        );
        Ok(self.dump(&request)?.into_iter().filter_map(to_link).collect())
    }
}

pub(super) fn to_link(message: RouteNetlinkMessage) -> Option<Link> {
    let (RouteNetlinkMessage::NewLink(message) | RouteNetlinkMessage::DelLink(message)) = message
    else {
        return None;
    };
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        up: flags.contains(LinkFlags::Up),
        all_multicast: flags.contains(LinkFlags::Allmulti),
        ..Link::default()
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Address(mac) => link.mac = mac,
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::OperState(state) => link.running = state == State::Up,
            LinkAttribute::Controller(index) => link.master = Some(index),
            LinkAttribute::Link(index) => link.peer = Some(index),
            LinkAttribute::Promiscuity(count) => link.promiscuity = count,
            LinkAttribute::LinkInfo(info) => read_info(&mut link, info),
            _ => {}
        }
    }
    Some(link)
}

fn read_info(link: &mut Link, info: Vec<LinkInfo>) {
    for item in info {
        match item {
            LinkInfo::Kind(kind) => link.kind = kind.to_string(),
            LinkInfo::PortData(InfoPortData::BridgePort(port)) => {
                link.hairpin = port.iter().any(|p| matches!(p, InfoBridgePort::HairpinMode(true)));
            }
            _ => {}
        }
    }
}
