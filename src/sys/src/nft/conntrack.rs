//! Tracked connections: finding and deleting those that a changed host port made stale.
//!
//! A UDP "connection" lives as long as its sender keeps sending, and translation is decided by its
//! first packet only: without deleting it, a client of an old pod would never reach the new one.

use super::batch::Operation;
use super::wire::{Attributes, Message, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, Writer};
use super::{Nft, NftError};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `NFNL_SUBSYS_CTNETLINK`.
const SUBSYSTEM: u16 = 1 << 8;
const NEW: u16 = SUBSYSTEM;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;

const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
const FILTER: u16 = 25;

/// One direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Direction {
    /// Sender.
    pub source: IpAddr,
    /// Receiver.
    pub destination: IpAddr,
    /// Sender's port.
    pub source_port: u16,
    /// Receiver's port.
    pub destination_port: u16,
}

/// A tracked connection of a protocol with ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// Protocol number.
    pub protocol: u8,
    /// As the first packet came, before translation.
    pub original: Direction,
    /// As the answer comes: its source is where the first packet really went.
    pub reply: Direction,
    id: Option<Vec<u8>>,
    zone: Option<Vec<u8>>,
}

impl Nft {
    /// The connections of a protocol whose first packet was sent to a port.
    pub fn flows(
        &mut self,
        ipv6: bool,
        protocol: u8,
        destination_port: u16,
    ) -> Result<Vec<Flow>, NftError> {
        let family = if ipv6 { 10 } else { 2 };
        let operation =
            Operation { what: "list", object: format!("connections to port {destination_port}") };
        let flags = NLM_F_REQUEST | NLM_F_DUMP;
        let each = |message: &Message<'_>, found: &mut Vec<Flow>| {
            if message.kind == NEW {
                found.extend(flow(message).filter(|flow| {
                    flow.protocol == protocol && flow.original.destination_port == destination_port
                }));
            }
            Ok(())
        };
        let filtered = |writer: &mut Writer, sequence| {
            writer.message(GET, flags, sequence, (family, 0), |writer| {
                writer.nest(TUPLE_ORIGINAL, |writer| {
                    writer.nest(2, |writer| {
                        writer.put(1, &[protocol]);
                        writer.put(3, &destination_port.to_be_bytes());
                    });
                });
                // Compare the protocol (bit 3) and the destination port (bit 5).
                let compared = (1_u32 << 3 | 1 << 5).to_ne_bytes();
                writer.nest(FILTER, |writer| writer.put(1, &compared));
            });
        };
        match self.dump(&operation, filtered, each) {
            // Kernels before 5.8 do not filter.
            Err(error) if matches!(error.errno(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => {}
            other => return other,
        }
        let everything = |writer: &mut Writer, sequence| {
            writer.message(GET, flags, sequence, (family, 0), |_| {});
        };
        self.dump(&operation, everything, each)
    }

    /// Forgets a connection; one that is gone already is no error.
    pub fn delete_flow(&mut self, flow: &Flow) -> Result<(), NftError> {
        let operation = Operation {
            what: "delete",
            object: format!("the connection to port {}", flow.original.destination_port),
        };
        let family = if flow.original.source.is_ipv6() { 10 } else { 2 };
        let deleted = self.ask(
            &operation,
            |writer, sequence| {
                let flags = NLM_F_REQUEST | NLM_F_ACK;
                writer.message(DELETE, flags, sequence, (family, 0), |writer| {
                    write_tuple(writer, flow);
                    for (kind, value) in [(ID, &flow.id), (ZONE, &flow.zone)] {
                        if let Some(value) = value {
                            writer.put(kind, value);
                        }
                    }
                });
            },
            |_| Ok(()),
        );
        match deleted {
            Err(error) if error.is_absent() => Ok(()),
            other => other,
        }
    }
}

fn write_tuple(writer: &mut Writer, flow: &Flow) {
    let direction = flow.original;
    writer.nest(TUPLE_ORIGINAL, |writer| {
        writer.nest(1, |writer| match (direction.source, direction.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                writer.put(1, &source.octets());
                writer.put(2, &destination.octets());
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                writer.put(3, &source.octets());
                writer.put(4, &destination.octets());
            }
            // The kernel tracks no connection between the families.
            _ => {}
        });
        writer.nest(2, |writer| {
            writer.put(1, &[flow.protocol]);
            writer.put(2, &direction.source_port.to_be_bytes());
            writer.put(3, &direction.destination_port.to_be_bytes());
        });
    });
}

fn address(attributes: Attributes<'_>, ipv4: u16, ipv6: u16) -> Option<IpAddr> {
    if let Some(octets) = attributes.get(ipv4) {
        return Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?)));
    }
    let octets = <[u8; 16]>::try_from(attributes.get(ipv6)?).ok()?;
    Some(IpAddr::V6(Ipv6Addr::from(octets)))
}

fn direction(tuple: Attributes<'_>) -> Option<(u8, Direction)> {
    let (addresses, ports) = (tuple.nested(1), tuple.nested(2));
    let port = |kind| Some(u16::from_be_bytes(ports.get(kind)?.try_into().ok()?));
    let direction = Direction {
        source: address(addresses, 1, 3)?,
        destination: address(addresses, 2, 4)?,
        source_port: port(2)?,
        destination_port: port(3)?,
    };
    Some((*ports.get(1)?.first()?, direction))
}

fn flow(message: &Message<'_>) -> Option<Flow> {
    let attributes = message.attributes();
    let (protocol, original) = direction(attributes.nested(TUPLE_ORIGINAL))?;
    let (_, reply) = direction(attributes.nested(TUPLE_REPLY))?;
    let copy = |kind| attributes.get(kind).map(<[u8]>::to_vec);
    Some(Flow { protocol, original, reply, id: copy(ID), zone: copy(ZONE) })
}
