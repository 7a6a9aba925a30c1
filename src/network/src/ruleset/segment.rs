//! Small chains that elements of verdict maps lead to: one per network, shared by its pods.

use ipnet::IpNet;
use orlop_sys::nft::{
    AddressOf, CompareOp, Expr, Verdict, match_family, match_iifname, match_oifname, match_prefix,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A chain by what it is for; its name follows from that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Segment {
    /// Leaves a network with the host's address.
    Masquerade(IpNet),
    /// Back into the network that it came from through a host port (or from the host's loopback):
    /// the answer must come back through the host.
    Hairpin(IpNet),
    /// Through a host port, from anywhere, with the host's address.
    HairpinAll,
    /// To a pod on a bridge, whose neighbours on other bridges are kept out.
    Bridge(String),
    /// To a pod that no other such pod may reach.
    Isolated,
    /// To a pod on a bridge that nothing comes to from outside.
    ToInternal(String),
    /// From such a pod.
    FromInternal(String),
}

fn prefix(which: AddressOf, network: IpNet) -> Vec<Expr> {
    let network = network.trunc();
    let same = match_prefix(which, network.network(), network.prefix_len(), CompareOp::Equal);
    [match_family(network.addr().is_ipv6()).to_vec(), same].concat()
}

fn with(matched: Vec<Expr>, last: Expr) -> Vec<Expr> {
    [matched, vec![last]].concat()
}

/// Networks of one address are as good as any.
fn of(address: IpAddr, bits: u8) -> IpNet {
    IpNet::new(address, bits).unwrap_or_else(|_| IpNet::from(address))
}

fn multicast(ipv6: bool) -> IpNet {
    if ipv6 {
        of(IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)), 8)
    } else {
        of(IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 4)
    }
}

fn of_bridge(kind: &str, name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    // Two odd names that become equal here would share a chain; hence the bytes.
    if name.chars().all(plain) {
        format!("{kind}-{name}")
    } else {
        let bytes: Vec<_> = name.bytes().map(|byte| format!("{byte:02x}")).collect();
        format!("{kind}_{}", bytes.concat())
    }
}

impl Segment {
    /// Name of the chain: letters, digits and `/-_.`, as the `nft` tool reads names.
    pub(crate) fn name(&self) -> String {
        let of_network =
            |kind, network: &IpNet| format!("{kind}-{}", network.trunc()).replace(':', "_");
        match self {
            Self::Masquerade(network) => of_network("masquerade", network),
            Self::Hairpin(network) => of_network("hairpin", network),
            Self::HairpinAll => "hairpin-all".to_owned(),
            Self::Isolated => "to-isolated".to_owned(),
            Self::Bridge(name) => of_bridge("to-bridge", name),
            Self::ToInternal(name) => of_bridge("to-internal", name),
            Self::FromInternal(name) => of_bridge("from-internal", name),
        }
    }

    /// Its rules, in order.
    pub(crate) fn rules(&self) -> Vec<Vec<Expr>> {
        let leave = Expr::Verdict(Verdict::Return);
        match self {
            Self::Masquerade(network) => {
                let ipv6 = network.addr().is_ipv6();
                vec![
                    with(prefix(AddressOf::Destination, *network), leave.clone()),
                    with(prefix(AddressOf::Destination, multicast(ipv6)), leave),
                    vec![Expr::Masquerade],
                ]
            }
            Self::Hairpin(network) => {
                let mut rules = vec![with(prefix(AddressOf::Source, *network), Expr::Masquerade)];
                if network.addr().is_ipv4() {
                    let loopback = of(IpAddr::V4(Ipv4Addr::LOCALHOST), 8);
                    rules.push(with(prefix(AddressOf::Source, loopback), Expr::Masquerade));
                }
                rules
            }
            Self::HairpinAll => vec![vec![Expr::Masquerade]],
            Self::Bridge(name) => [false, true]
                .into_iter()
                .map(|ipv6| {
                    let mut rule = match_iifname(name, CompareOp::NotEqual).to_vec();
                    rule.extend(match_family(ipv6));
                    rule.extend(super::isolation::from_isolated(ipv6));
                    with(rule, Expr::Verdict(Verdict::Drop))
                })
                .collect(),
            Self::ToInternal(name) => {
                let elsewhere = match_iifname(name, CompareOp::NotEqual).to_vec();
                vec![with(elsewhere, Expr::Verdict(Verdict::Drop))]
            }
            Self::FromInternal(name) => {
                let elsewhere = match_oifname(name, CompareOp::NotEqual).to_vec();
                vec![with(elsewhere, Expr::Verdict(Verdict::Drop))]
            }
            Self::Isolated => [false, true]
                .into_iter()
                .map(|ipv6| {
                    let mut rule = match_family(ipv6).to_vec();
                    rule.extend(super::isolation::from_isolated(ipv6));
                    with(rule, Expr::Verdict(Verdict::Drop))
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_names_to_the_nft_tool() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        for (segment, name) in [
            (Segment::Masquerade(net("10.88.3.4/16")), "masquerade-10.88.0.0/16"),
            (Segment::Hairpin(net("fd00:10::7/64")), "hairpin-fd00_10__/64"),
            (Segment::HairpinAll, "hairpin-all"),
            (Segment::Bridge("cni0".into()), "to-bridge-cni0"),
            (Segment::Bridge("a b".into()), "to-bridge_612062"),
        ] {
            assert_eq!(segment.name(), name);
        }
    }
}
