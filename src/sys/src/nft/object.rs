//! Tables, chains, sets and elements as values.

use super::{Expr, Verdict};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Address family of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Family {
    /// IPv4 and IPv6 in one table.
    Inet = 1,
    /// IPv4 only.
    Ipv4 = 2,
    /// IPv6 only.
    Ipv6 = 10,
}

/// A table by family and name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table<'a> {
    /// Address family.
    pub family: Family,
    /// Name.
    pub name: &'a str,
}

/// Where a base chain is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Hook {
    /// Before routing.
    Prerouting = 0,
    /// To this host.
    Input = 1,
    /// Through this host.
    Forward = 2,
    /// From this host.
    Output = 3,
    /// After routing.
    Postrouting = 4,
}

/// What a base chain does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainKind {
    /// Accepts and drops.
    Filter,
    /// Translates addresses: sees only the first packet of a connection.
    Nat,
}

/// Where and how a base chain is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BaseChain {
    /// Type.
    pub kind: ChainKind,
    /// Hook.
    pub hook: Hook,
    /// Order among the chains of the same hook, lowest first.
    pub priority: i32,
    /// Whether a packet that no rule decides is dropped.
    pub drop: bool,
}

/// A rule to be added.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule<'a> {
    /// Its chain.
    pub chain: &'a str,
    /// Its expressions, in order.
    pub expressions: Vec<Expr>,
    /// Its comment, empty for none.
    pub comment: &'a str,
}

/// One field of a set's key or of a map's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyType {
    /// An IPv4 address.
    Ipv4,
    /// An IPv6 address.
    Ipv6,
    /// A protocol number.
    Protocol,
    /// A port in network order.
    Port,
    /// An interface's name, padded to 16 bytes.
    InterfaceName,
}

impl KeyType {
    /// Number by which the `nft` tool knows the type.
    pub(super) const fn id(self) -> u32 {
        match self {
            Self::Ipv4 => 7,
            Self::Ipv6 => 8,
            Self::Protocol => 12,
            Self::Port => 13,
            Self::InterfaceName => 41,
        }
    }

    /// Bytes that matter, before padding.
    pub(super) const fn length(self) -> u32 {
        match self {
            Self::Protocol => 1,
            Self::Port => 2,
            Self::Ipv4 => 4,
            Self::Ipv6 | Self::InterfaceName => 16,
        }
    }

    /// Number and length of fields one after the other, each padded to a register.
    pub(super) fn concatenated(fields: &[Self]) -> (u32, u32) {
        if let [only] = fields {
            return (only.id(), only.length());
        }
        fields.iter().fold((0, 0), |(id, length), field| {
            (id << 6 | field.id(), length + field.length().next_multiple_of(4))
        })
    }
}

/// What a map gives for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataType<'a> {
    /// Values of these fields.
    Fields(&'a [KeyType]),
    /// A verdict.
    Verdict,
}

/// A named set, or a map where it has data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Set<'a> {
    /// Name.
    pub name: &'a str,
    /// Fields of the key.
    pub key: &'a [KeyType],
    /// What a map gives.
    pub data: Option<DataType<'a>>,
}

/// A key or a value: its fields one after the other, each padded to a register.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub Vec<u8>);

impl Key {
    /// Adds a field.
    #[must_use]
    pub fn field(mut self, bytes: &[u8]) -> Self {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Adds an address of either family.
    #[must_use]
    pub fn address(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => self.field(&address.octets()),
            IpAddr::V6(address) => self.field(&address.octets()),
        }
    }

    /// Adds a protocol number.
    #[must_use]
    pub fn protocol(self, number: u8) -> Self {
        self.field(&[number])
    }

    /// Adds a port.
    #[must_use]
    pub fn port(self, port: u16) -> Self {
        self.field(&port.to_be_bytes())
    }

    /// Adds an interface's name (cut to the kernel's 15 bytes).
    #[must_use]
    pub fn interface(self, name: &str) -> Self {
        let mut bytes = [0; 16];
        let length = name.len().min(15);
        bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
        self.field(&bytes)
    }

    /// Reads an address at a byte offset.
    pub fn address_at(&self, offset: usize, ipv6: bool) -> Option<IpAddr> {
        if ipv6 {
            let octets: [u8; 16] = self.0.get(offset..offset + 16)?.try_into().ok()?;
            return Some(IpAddr::V6(Ipv6Addr::from(octets)));
        }
        let octets: [u8; 4] = self.0.get(offset..offset + 4)?.try_into().ok()?;
        Some(IpAddr::V4(Ipv4Addr::from(octets)))
    }

    /// Reads a port at a byte offset.
    pub fn port_at(&self, offset: usize) -> Option<u16> {
        Some(u16::from_be_bytes(self.0.get(offset..offset + 2)?.try_into().ok()?))
    }
}

/// The value of an element of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// Fields.
    Value(Key),
    /// A verdict.
    Verdict(Verdict),
}

/// An element of a set or a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// Its key.
    pub key: Key,
    /// Its value, in a map.
    pub data: Option<Data>,
    /// Its comment: at most 253 bytes are kept.
    pub comment: Option<String>,
}
