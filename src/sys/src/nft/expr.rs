//! Expressions: what a rule is made of.

use super::wire::Writer;
use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

/// A register of 32 bits; wider values take the following ones too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reg(
    /// 0 to 15.
    pub u8,
);

impl Reg {
    fn number(self) -> u32 {
        // NFT_REG32_00 is 8.
        8 + u32::from(self.0)
    }
}

/// What happens to a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Leaves this base chain; later ones may still drop.
    Accept,
    /// Gone.
    Drop,
    /// Back to the calling chain.
    Return,
    /// Into another chain, and back at its end.
    Jump(Cow<'static, str>),
    /// Into another chain, not back here.
    Goto(Cow<'static, str>),
    /// Any other, by number.
    Other(i32),
}

/// What is known about a packet besides its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum MetaKey {
    /// Name of the interface it came in by.
    InputInterfaceName = 6,
    /// Name of the interface it goes out by.
    OutputInterfaceName = 7,
    /// Address family, one byte.
    Family = 15,
    /// Protocol above IP, one byte.
    Protocol = 16,
}

/// What connection tracking knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum CtKey {
    /// State bit mask.
    State = 0,
    /// Status bit mask.
    Status = 2,
    /// Destination port of the first packet, before any translation (or of its answer).
    DestinationPort = 12,
}

/// From which header bytes are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum PayloadBase {
    /// IP.
    Network = 1,
    /// TCP, UDP, SCTP.
    Transport = 2,
}

/// How two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum CompareOp {
    /// Equal.
    Equal = 0,
    /// Different.
    NotEqual = 1,
}

/// Which address of a packet is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressOf {
    /// The sender's.
    Source,
    /// The receiver's.
    Destination,
}

/// Which address is translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum NatKind {
    /// The sender's.
    Source = 0,
    /// The receiver's.
    Destination = 1,
}

/// One expression.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// Loads what is known about the packet.
    Meta(MetaKey, Reg),
    /// Loads bytes of the packet.
    Payload {
        /// Header.
        base: PayloadBase,
        /// First byte.
        offset: u32,
        /// Number of bytes.
        length: u32,
        /// Where to.
        to: Reg,
    },
    /// Ends the rule unless the comparison holds.
    Compare(Reg, CompareOp, Vec<u8>),
    /// Keeps only the bits of the mask.
    Mask(Reg, Vec<u8>),
    /// Ends the rule unless the register is (not) in the set.
    InSet {
        /// Name of the set.
        set: Cow<'static, str>,
        /// First register of the key.
        key: Reg,
        /// True: ends the rule where it *is* in the set.
        not: bool,
    },
    /// Loads what a map gives; ends the rule where it has no such key.
    Map {
        /// Name of the map.
        map: Cow<'static, str>,
        /// First register of the key.
        key: Reg,
        /// First register of the value.
        to: Reg,
    },
    /// Does what a map of verdicts says.
    VerdictMap {
        /// Name of the map.
        map: Cow<'static, str>,
        /// First register of the key.
        key: Reg,
    },
    /// Does this.
    Verdict(Verdict),
    /// Loads what connection tracking knows; `original` for keys that have a direction.
    Ct {
        /// What.
        key: CtKey,
        /// Of the first packet's direction; `None` for keys without one.
        original: Option<bool>,
        /// Where to.
        to: Reg,
    },
    /// Loads the routing type of an address (2 is local).
    AddressType(AddressOf, Reg),
    /// Translates to the address (and port) in registers.
    Nat {
        /// Which side.
        kind: NatKind,
        /// IPv6 rather than IPv4.
        ipv6: bool,
        /// Register of the address.
        address: Reg,
        /// Register of the port.
        port: Option<Reg>,
    },
    /// Translates the sender to the address of the interface that the packet leaves by,
    /// with a random port where one must be chosen.
    Masquerade,
}

/// Writes a verdict as data.
pub(super) fn write_verdict(writer: &mut Writer, attribute: u16, verdict: &Verdict) {
    let (code, chain) = match verdict {
        Verdict::Drop => (0, None),
        Verdict::Accept => (1, None),
        Verdict::Jump(chain) => (-3, Some(chain)),
        Verdict::Goto(chain) => (-4, Some(chain)),
        Verdict::Return => (-5, None),
        Verdict::Other(code) => (*code, None),
    };
    writer.nest(attribute, |writer| {
        writer.nest(2, |writer| {
            writer.put(1, &i32::to_be_bytes(code));
            if let Some(chain) = chain {
                writer.put_str(2, chain);
            }
        });
    });
}

/// Reads a verdict from the attributes of its data.
pub(super) fn read_verdict(code: u32, chain: Option<String>) -> Verdict {
    match (code as i32, chain) {
        (0, _) => Verdict::Drop,
        (1, _) => Verdict::Accept,
        (-3, Some(chain)) => Verdict::Jump(chain.into()),
        (-4, Some(chain)) => Verdict::Goto(chain.into()),
        (-5, _) => Verdict::Return,
        (other, _) => Verdict::Other(other),
    }
}

fn put_data(writer: &mut Writer, attribute: u16, bytes: &[u8]) {
    writer.nest(attribute, |writer| writer.put(1, bytes));
}

fn lookup(writer: &mut Writer, set: &str, key: Reg, to: Option<u32>, not: bool) {
    writer.put_str(1, set);
    writer.put_u32(2, key.number());
    if let Some(to) = to {
        writer.put_u32(3, to);
    }
    if not {
        writer.put_u32(5, 1);
    }
}

impl Expr {
    fn name(&self) -> &'static str {
        match self {
            Self::Meta(..) => "meta",
            Self::Payload { .. } => "payload",
            Self::Compare(..) => "cmp",
            Self::Mask(..) => "bitwise",
            Self::InSet { .. } | Self::Map { .. } | Self::VerdictMap { .. } => "lookup",
            Self::Verdict(_) => "immediate",
            Self::Ct { .. } => "ct",
            Self::AddressType(..) => "fib",
            Self::Nat { .. } => "nat",
            Self::Masquerade => "masq",
        }
    }

    /// Writes the expression as an element of a rule's list.
    pub(super) fn write(&self, writer: &mut Writer) {
        writer.nest(1, |writer| {
            writer.put_str(1, self.name());
            writer.nest(2, |writer| self.write_data(writer));
        });
    }

    fn write_data(&self, writer: &mut Writer) {
        match self {
            Self::Meta(key, to) => {
                writer.put_u32(2, *key as u32);
                writer.put_u32(1, to.number());
            }
            Self::Payload { base, offset, length, to } => {
                writer.put_u32(1, to.number());
                writer.put_u32(2, *base as u32);
                writer.put_u32(3, *offset);
                writer.put_u32(4, *length);
            }
            Self::Compare(from, op, bytes) => {
                writer.put_u32(1, from.number());
                writer.put_u32(2, *op as u32);
                put_data(writer, 3, bytes);
            }
            Self::Mask(register, mask) => {
                writer.put_u32(1, register.number());
                writer.put_u32(2, register.number());
                writer.put_u32(3, u32::try_from(mask.len()).unwrap_or(u32::MAX));
                put_data(writer, 4, mask);
                put_data(writer, 5, &vec![0; mask.len()]);
            }
            Self::InSet { set, key, not } => lookup(writer, set, *key, None, *not),
            Self::Map { map, key, to } => lookup(writer, map, *key, Some(to.number()), false),
            // Register 0 is the verdict's.
            Self::VerdictMap { map, key } => lookup(writer, map, *key, Some(0), false),
            Self::Verdict(verdict) => {
                writer.put_u32(1, 0);
                write_verdict(writer, 2, verdict);
            }
            Self::Ct { key, original, to } => {
                writer.put_u32(2, *key as u32);
                writer.put_u32(1, to.number());
                if let Some(original) = original {
                    writer.put(3, &[u8::from(!original)]);
                }
            }
            Self::AddressType(which, to) => {
                writer.put_u32(1, to.number());
                writer.put_u32(2, 3);
                writer.put_u32(3, if *which == AddressOf::Source { 1 } else { 2 });
            }
            Self::Nat { kind, ipv6, address, port } => {
                writer.put_u32(1, *kind as u32);
                writer.put_u32(2, if *ipv6 { 10 } else { 2 });
                writer.put_u32(3, address.number());
                if let Some(port) = port {
                    writer.put_u32(5, port.number());
                }
            }
            // NF_NAT_RANGE_PROTO_RANDOM_FULLY: two connections that start at once then
            // rarely choose the same port and lose a packet over it.
            Self::Masquerade => writer.put_u32(1, 0x10),
        }
    }
}

/// The packet is of this family (in a table that sees both).
pub fn match_family(ipv6: bool) -> [Expr; 2] {
    [
        Expr::Meta(MetaKey::Family, Reg(0)),
        Expr::Compare(Reg(0), CompareOp::Equal, vec![if ipv6 { 10 } else { 2 }]),
    ]
}

/// Loads an IPv4 address of the packet.
pub fn ipv4(which: AddressOf, to: Reg) -> Expr {
    let offset = if which == AddressOf::Source { 12 } else { 16 };
    Expr::Payload { base: PayloadBase::Network, offset, length: 4, to }
}

/// Loads an IPv6 address of the packet (four registers).
pub fn ipv6(which: AddressOf, to: Reg) -> Expr {
    let offset = if which == AddressOf::Source { 8 } else { 24 };
    Expr::Payload { base: PayloadBase::Network, offset, length: 16, to }
}

/// Loads the destination port: TCP, UDP and SCTP have it in the same place.
pub fn l4_destination_port(to: Reg) -> Expr {
    Expr::Payload { base: PayloadBase::Transport, offset: 2, length: 2, to }
}

/// The address lies (does not lie) in a network. The family must be known before.
pub fn match_prefix(
    which: AddressOf,
    network: std::net::IpAddr,
    prefix: u8,
    op: CompareOp,
) -> Vec<Expr> {
    match network {
        std::net::IpAddr::V4(network) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            let base = Ipv4Addr::from(u32::from(network) & mask);
            let load = ipv4(which, Reg(0));
            masked(load, &mask.to_be_bytes(), &base.octets(), op)
        }
        std::net::IpAddr::V6(network) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            let base = Ipv6Addr::from(u128::from(network) & mask);
            let load = ipv6(which, Reg(0));
            masked(load, &mask.to_be_bytes(), &base.octets(), op)
        }
    }
}

fn masked(load: Expr, mask: &[u8], value: &[u8], op: CompareOp) -> Vec<Expr> {
    let compare = Expr::Compare(Reg(0), op, value.to_vec());
    // The whole address needs no mask.
    if mask.iter().all(|&byte| byte == u8::MAX) {
        return vec![load, compare];
    }
    vec![load, Expr::Mask(Reg(0), mask.to_vec()), compare]
}

/// The packet's connection had its destination translated.
pub fn match_ct_status_dnat() -> [Expr; 3] {
    // IPS_DST_NAT; status and state are words in the host's order.
    match_ct_bits(CtKey::Status, 1 << 5)
}

/// The packet's connection is in one of the states of the mask (2 established, 4 related).
pub fn match_ct_state(mask: u32) -> [Expr; 3] {
    match_ct_bits(CtKey::State, mask)
}

fn match_ct_bits(key: CtKey, mask: u32) -> [Expr; 3] {
    [
        Expr::Ct { key, original: None, to: Reg(0) },
        Expr::Mask(Reg(0), mask.to_ne_bytes().to_vec()),
        Expr::Compare(Reg(0), CompareOp::NotEqual, vec![0; 4]),
    ]
}

/// The packet leaves by (any other than) this interface.
pub fn match_oifname(name: &str, op: CompareOp) -> [Expr; 2] {
    let key = super::Key::default().interface(name);
    [Expr::Meta(MetaKey::OutputInterfaceName, Reg(0)), Expr::Compare(Reg(0), op, key.0)]
}

/// The packet came in by (any other than) this interface.
pub fn match_iifname(name: &str, op: CompareOp) -> [Expr; 2] {
    let key = super::Key::default().interface(name);
    [Expr::Meta(MetaKey::InputInterfaceName, Reg(0)), Expr::Compare(Reg(0), op, key.0)]
}

/// The receiver's address is one of this host.
pub fn match_local() -> [Expr; 2] {
    // RTN_LOCAL, in the host's order.
    [
        Expr::AddressType(AddressOf::Destination, Reg(0)),
        Expr::Compare(Reg(0), CompareOp::Equal, 2_u32.to_ne_bytes().to_vec()),
    ]
}
