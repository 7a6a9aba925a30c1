//! The table `orlop-isolation`: pods on different bridges that must not reach each other.

use super::Layout;
use orlop_sys::nft::{
    AddressOf, BaseChain, Batch, ChainKind, DataType, Expr, Family, Hook, KeyType, Reg, Rule, Set,
    Table, ipv4, ipv6, match_family,
};

/// Names of the sets.
pub(crate) mod set {
    /// Verdict maps by the receiver's address; family by index (IPv4, IPv6).
    pub(crate) const RECEIVERS: [&str; 2] = ["receivers4", "receivers6"];
    /// Sets of the senders' addresses.
    pub(crate) const SENDERS: [&str; 2] = ["senders4", "senders6"];
    /// Verdict maps by the sender's address: whose packets stay on their bridge.
    pub(crate) const INMATES: [&str; 2] = ["inmates4", "inmates6"];
}

const TABLE: Table<'static> = Table { family: Family::Inet, name: "orlop-isolation" };

/// The table that keeps bridges apart.
pub(crate) const LAYOUT: Layout = Layout {
    table: TABLE,
    sets: &[
        set::RECEIVERS[0],
        set::RECEIVERS[1],
        set::SENDERS[0],
        set::SENDERS[1],
        set::INMATES[0],
        set::INMATES[1],
    ],
    build,
    on_end: |_, _| Ok(()),
};

fn address(which: AddressOf, is_ipv6: bool, to: Reg) -> Expr {
    if is_ipv6 { ipv6(which, to) } else { ipv4(which, to) }
}

/// The sender is a pod on a bridge of its own.
pub(super) fn from_isolated(is_ipv6: bool) -> [Expr; 2] {
    let set = set::SENDERS[usize::from(is_ipv6)].into();
    [address(AddressOf::Source, is_ipv6, Reg(0)), Expr::InSet { set, key: Reg(0), not: false }]
}

fn build(batch: &mut Batch) {
    for (index, key) in [KeyType::Ipv4, KeyType::Ipv6].into_iter().enumerate() {
        let key = &[key];
        let data = Some(DataType::Verdict);
        batch.add_set(TABLE, &Set { name: set::RECEIVERS[index], key, data });
        batch.add_set(TABLE, &Set { name: set::SENDERS[index], key, data: None });
        batch.add_set(TABLE, &Set { name: set::INMATES[index], key, data });
    }
    let forward =
        BaseChain { kind: ChainKind::Filter, hook: Hook::Forward, priority: 0, drop: false };
    batch.add_chain(TABLE, "forward", Some(forward));
    for is_ipv6 in [false, true] {
        for (maps, which) in
            [(set::INMATES, AddressOf::Source), (set::RECEIVERS, AddressOf::Destination)]
        {
            let map = maps[usize::from(is_ipv6)].into();
            let lookup =
                vec![address(which, is_ipv6, Reg(0)), Expr::VerdictMap { map, key: Reg(0) }];
            let expressions = [match_family(is_ipv6).to_vec(), lookup].concat();
            batch.append_rule(TABLE, &Rule { chain: "forward", expressions, comment: "" });
        }
    }
}
