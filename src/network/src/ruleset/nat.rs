//! The table `orlop`: host ports and masquerade.
//!
//! ```text
//! prerouting, output   to an address of this host → hostports
//! hostports            (address, protocol, port) or (protocol, port) → pod address, port
//! postrouting          came through a host port and would not find back → the host's address
//!                      from a pod to outside of its network → the host's address
//! loopback             127.0.0.0/8 from anywhere but `lo` is dropped
//! ```
//!
//! The last chain is what makes `route_localnet` harmless, which the path from 127.0.0.1 of the
//! host to a pod needs: without it a pod, or anyone on the host's link, could reach what listens on
//! the host's loopback only. No packet with such an address is ever right on another interface.

use super::Layout;
use orlop_sys::nft::{
    AddressOf, BaseChain, Batch, ChainKind, CompareOp, CtKey, DataType, Element, Expr, Family,
    Hook, KeyType, MetaKey, NatKind, Nft, NftError, Reg, Rule, Set, Table, Verdict, ipv4, ipv6,
    l4_destination_port, match_ct_status_dnat, match_family, match_iifname, match_local,
    match_prefix,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Names of the sets and maps; by index: IPv4, IPv6.
pub(crate) mod set {
    /// (protocol, host port) → (pod address, port).
    pub(crate) const ANY_ADDRESS: [&str; 2] = ["hostports4", "hostports6"];
    /// (host address, protocol, host port) → (pod address, port).
    pub(crate) const ONE_ADDRESS: [&str; 2] = ["hostaddresses4", "hostaddresses6"];
    /// (pod address, protocol, port, host port) → chain that may masquerade the sender.
    pub(crate) const HAIRPIN: [&str; 2] = ["hairpin4", "hairpin6"];
    /// Pod address → chain that masquerades what leaves its network.
    pub(crate) const MASQUERADE: [&str; 2] = ["masquerade4", "masquerade6"];
    /// Interfaces whose `route_localnet` we switched on.
    pub(crate) const LOCALNET: &str = "localnet";
}

const TABLE: Table<'static> = Table { family: Family::Inet, name: "orlop" };

/// The table for address translation.
pub(crate) const LAYOUT: Layout = Layout {
    table: TABLE,
    sets: &[
        set::ANY_ADDRESS[0],
        set::MASQUERADE[0],
        set::MASQUERADE[1],
        set::ANY_ADDRESS[1],
        set::HAIRPIN[0],
        set::HAIRPIN[1],
        set::ONE_ADDRESS[0],
        set::ONE_ADDRESS[1],
    ],
    build,
    on_end: |nft, ends| {
        // Without the chain `loopback` the setting would open the host's loopback to pods.
        for interface in localnet_interfaces(nft)? {
            super::localnet::switch(&interface, !ends);
        }
        Ok(())
    },
};

/// Interfaces whose `route_localnet` we switched on.
fn localnet_interfaces(nft: &mut Nft) -> Result<Vec<String>, NftError> {
    let elements = nft.elements(TABLE, set::LOCALNET)?.unwrap_or_default();
    let name = |element: Element| {
        let end = element.key.0.iter().position(|&byte| byte == 0);
        let bytes = &element.key.0[..end.unwrap_or(element.key.0.len())];
        String::from_utf8_lossy(bytes).into_owned()
    };
    Ok(elements.into_iter().map(name).collect())
}

fn build(batch: &mut Batch) {
    add_sets(batch);
    add_chains(batch);
    append(batch, "loopback", from_elsewhere(AddressOf::Destination));
    append(batch, "loopback", from_elsewhere(AddressOf::Source));
    let to_hostports = Expr::Verdict(Verdict::Jump("hostports".into()));
    for chain in ["prerouting", "output"] {
        append(batch, chain, [match_local().to_vec(), vec![to_hostports.clone()]].concat());
    }
    append(batch, "hostports", not_from_loopback6());
    for is_ipv6 in [false, true] {
        append(batch, "hostports", translate(is_ipv6, true));
        append(batch, "hostports", translate(is_ipv6, false));
    }
    for is_ipv6 in [false, true] {
        append(batch, "postrouting", hairpin(is_ipv6));
        append(batch, "postrouting", masquerade(is_ipv6));
    }
}

fn append(batch: &mut Batch, chain: &str, expressions: Vec<Expr>) {
    batch.append_rule(TABLE, &Rule { chain, expressions, comment: "" });
}

fn add_sets(batch: &mut Batch) {
    use KeyType::{InterfaceName, Ipv4, Ipv6, Port, Protocol};
    for (index, address) in [Ipv4, Ipv6].into_iter().enumerate() {
        let verdict = Some(DataType::Verdict);
        let to = &[address, Port];
        let to = Some(DataType::Fields(to));
        for (name, key, data) in [
            (set::ANY_ADDRESS[index], &[Protocol, Port][..], to),
            (set::ONE_ADDRESS[index], &[address, Protocol, Port], to),
            (set::HAIRPIN[index], &[address, Protocol, Port, Port], verdict),
            (set::MASQUERADE[index], &[address], verdict),
        ] {
            batch.add_set(TABLE, &Set { name, key, data });
        }
    }
    batch.add_set(TABLE, &Set { name: set::LOCALNET, key: &[InterfaceName], data: None });
}

fn add_chains(batch: &mut Batch) {
    for (name, kind, hook, priority) in [
        // Before connection tracking and everybody's filters.
        ("loopback", ChainKind::Filter, Hook::Prerouting, -300),
        ("prerouting", ChainKind::Nat, Hook::Prerouting, -100),
        ("output", ChainKind::Nat, Hook::Output, -100),
        ("postrouting", ChainKind::Nat, Hook::Postrouting, 100),
    ] {
        batch.add_chain(TABLE, name, Some(BaseChain { kind, hook, priority, drop: false }));
    }
    batch.add_chain(TABLE, "hostports", None);
}

fn address(which: AddressOf, is_ipv6: bool, to: Reg) -> Expr {
    if is_ipv6 { ipv6(which, to) } else { ipv4(which, to) }
}

/// Registers that an address takes.
fn width(is_ipv6: bool) -> u8 {
    if is_ipv6 { 4 } else { 1 }
}

fn from_elsewhere(which: AddressOf) -> Vec<Expr> {
    let loopback = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0));
    [
        match_iifname("lo", CompareOp::NotEqual).to_vec(),
        match_family(false).to_vec(),
        match_prefix(which, loopback, 8, CompareOp::Equal),
        vec![Expr::Verdict(Verdict::Drop)],
    ]
    .concat()
}

/// What is sent to `::1` stays there: the kernel accepts no answer for it from another interface,
/// and has no setting like `route_localnet` that would change its mind.
fn not_from_loopback6() -> Vec<Expr> {
    let loopback = IpAddr::V6(Ipv6Addr::LOCALHOST);
    let mut rule = match_family(true).to_vec();
    rule.extend(match_prefix(AddressOf::Destination, loopback, 128, CompareOp::Equal));
    rule.push(Expr::Verdict(Verdict::Return));
    rule
}

/// To the pod, by host port, with or without the host's address in the key.
fn translate(is_ipv6: bool, one_address: bool) -> Vec<Expr> {
    let mut rule = match_family(is_ipv6).to_vec();
    let mut next = 0;
    if one_address {
        rule.push(address(AddressOf::Destination, is_ipv6, Reg(0)));
        next = width(is_ipv6);
    }
    let maps = if one_address { set::ONE_ADDRESS } else { set::ANY_ADDRESS };
    let (to, port) = (Reg(8), Some(Reg(8 + width(is_ipv6))));
    rule.extend([
        Expr::Meta(MetaKey::Protocol, Reg(next)),
        l4_destination_port(Reg(next + 1)),
        Expr::Map { map: maps[usize::from(is_ipv6)].into(), key: Reg(0), to },
        Expr::Nat { kind: NatKind::Destination, ipv6: is_ipv6, address: to, port },
    ]);
    rule
}

fn hairpin(is_ipv6: bool) -> Vec<Expr> {
    let mut rule = match_ct_status_dnat().to_vec();
    rule.extend(match_family(is_ipv6));
    let next = width(is_ipv6);
    rule.extend([
        address(AddressOf::Destination, is_ipv6, Reg(0)),
        Expr::Meta(MetaKey::Protocol, Reg(next)),
        l4_destination_port(Reg(next + 1)),
        // The port that the client asked for: another translation to the same pod, such as a
        // Service's, is none of our business.
        Expr::Ct { key: CtKey::DestinationPort, original: Some(true), to: Reg(next + 2) },
        Expr::VerdictMap { map: set::HAIRPIN[usize::from(is_ipv6)].into(), key: Reg(0) },
    ]);
    rule
}

fn masquerade(is_ipv6: bool) -> Vec<Expr> {
    let mut rule = match_family(is_ipv6).to_vec();
    rule.extend([
        address(AddressOf::Source, is_ipv6, Reg(0)),
        Expr::VerdictMap { map: set::MASQUERADE[usize::from(is_ipv6)].into(), key: Reg(0) },
    ]);
    rule
}
