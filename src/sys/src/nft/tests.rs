//! Against the running kernel, each in a network namespace of its own, and compared with what
//! the `nft` tool reads.

use super::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

const TABLE: Table<'static> = Table { family: Family::Inet, name: "t" };

/// Runs a test on a thread in a new network namespace, which goes when the thread ends.
fn in_namespace<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let run = move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            test()
        };
        scope.spawn(run).join().unwrap()
    })
}

#[expect(clippy::disallowed_methods, reason = "the real tools are the judge in this test")]
fn tool(program: &str, arguments: &[&str]) -> String {
    let output = std::process::Command::new(program).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn listing() -> String {
    tool("nft", &["list", "ruleset"])
}

fn base(kind: ChainKind, hook: Hook, priority: i32) -> Option<BaseChain> {
    Some(BaseChain { kind, hook, priority, drop: false })
}

fn rule(chain: &str, expressions: Vec<Expr>) -> Rule<'_> {
    Rule { chain, expressions, comment: "" }
}

const PORTS: Set<'static> = Set {
    name: "ports",
    key: &[KeyType::Protocol, KeyType::Port],
    data: Some(DataType::Fields(&[KeyType::Ipv4, KeyType::Port])),
};
const PORTS6: Set<'static> = Set {
    name: "ports6",
    key: &[KeyType::Ipv6, KeyType::Protocol, KeyType::Port],
    data: Some(DataType::Fields(&[KeyType::Ipv6, KeyType::Port])),
};
const POINTERS: Set<'static> =
    Set { name: "pointers", key: &[KeyType::Ipv4], data: Some(DataType::Verdict) };
const NAMES: Set<'static> = Set { name: "names", key: &[KeyType::InterfaceName], data: None };

fn skeleton(batch: &mut Batch) {
    batch.create_table(TABLE, "made by a test");
    for set in [&PORTS, &PORTS6, &POINTERS, &NAMES] {
        batch.add_set(TABLE, set);
    }
    batch.add_chain(TABLE, "pre", base(ChainKind::Nat, Hook::Prerouting, -100));
    batch.add_chain(TABLE, "post", base(ChainKind::Nat, Hook::Postrouting, 100));
    batch.add_chain(TABLE, "raw", base(ChainKind::Filter, Hook::Prerouting, -300));
    batch.add_chain(TABLE, "sub", None);
}

fn port_element(port: u16, comment: &str) -> Element {
    Element {
        key: Key::default().protocol(6).port(port),
        data: Some(Data::Value(
            Key::default().address(Ipv4Addr::new(10, 0, 0, 2).into()).port(8080),
        )),
        comment: Some(comment.to_owned()),
    }
}

#[test]
fn rules_read_back_as_written() {
    let text = in_namespace(|| {
        let mut batch = Batch::default();
        skeleton(&mut batch);
        let dnat4 = [
            match_local().to_vec(),
            match_family(false).to_vec(),
            vec![
                Expr::Meta(MetaKey::Protocol, Reg(0)),
                l4_destination_port(Reg(1)),
                Expr::Map { map: "ports".into(), key: Reg(0), to: Reg(8) },
                Expr::Nat {
                    kind: NatKind::Destination,
                    ipv6: false,
                    address: Reg(8),
                    port: Some(Reg(9)),
                },
            ],
        ]
        .concat();
        batch.append_rule(TABLE, &Rule { chain: "pre", expressions: dnat4, comment: "to the pod" });
        let dnat6 = [
            match_family(true).to_vec(),
            vec![
                ipv6(AddressOf::Destination, Reg(0)),
                Expr::Meta(MetaKey::Protocol, Reg(4)),
                l4_destination_port(Reg(5)),
                Expr::Map { map: "ports6".into(), key: Reg(0), to: Reg(8) },
                Expr::Nat {
                    kind: NatKind::Destination,
                    ipv6: true,
                    address: Reg(8),
                    port: Some(Reg(12)),
                },
            ],
        ]
        .concat();
        batch.append_rule(TABLE, &rule("pre", dnat6));
        let jump = vec![
            ipv4(AddressOf::Source, Reg(0)),
            Expr::VerdictMap { map: "pointers".into(), key: Reg(0) },
        ];
        let jump = [match_ct_status_dnat().to_vec(), match_family(false).to_vec(), jump].concat();
        batch.append_rule(TABLE, &rule("post", jump));
        let outside = match_prefix(
            AddressOf::Destination,
            IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3)),
            16,
            CompareOp::NotEqual,
        );
        let masquerade = [match_family(false).to_vec(), outside, vec![Expr::Masquerade]].concat();
        batch.append_rule(TABLE, &rule("sub", masquerade));
        let multicast = match_prefix(
            AddressOf::Destination,
            IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)),
            8,
            CompareOp::Equal,
        );
        let leave =
            [match_family(true).to_vec(), multicast, vec![Expr::Verdict(Verdict::Return)]].concat();
        batch.append_rule(TABLE, &rule("sub", leave));
        let guard =
            [match_iifname("lo", CompareOp::NotEqual).to_vec(), vec![Expr::Verdict(Verdict::Drop)]]
                .concat();
        batch.append_rule(TABLE, &rule("raw", guard));
        let mut nft = Nft::open().unwrap();
        nft.commit(batch).unwrap();
        let mut batch = Batch::default();
        batch.add_elements(TABLE, "ports", &[port_element(80, "pod-1")]);
        let pointer = Element {
            key: Key::default().address(Ipv4Addr::new(10, 0, 0, 2).into()),
            data: Some(Data::Verdict(Verdict::Goto("sub".into()))),
            comment: None,
        };
        batch.add_elements(TABLE, "pointers", std::slice::from_ref(&pointer));
        let name = Element { key: Key::default().interface("cni0"), data: None, comment: None };
        batch.add_elements(TABLE, "names", &[name]);
        nft.commit(batch).unwrap();
        assert_eq!(nft.elements(TABLE, "pointers").unwrap().unwrap(), [pointer]);
        listing()
    });
    for expected in [
        "comment \"made by a test\"",
        "type inet_proto . inet_service : ipv4_addr . inet_service",
        "elements = { tcp . 80 comment \"pod-1\" : 10.0.0.2 . 8080 }",
        "type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service",
        "elements = { 10.0.0.2 : goto sub }",
        "elements = { \"cni0\" }",
        "type nat hook prerouting priority dstnat; policy accept;",
        "fib daddr type local meta nfproto ipv4 dnat ip to meta l4proto . th dport map @ports comment \"to the pod\"",
        "dnat ip6 to ip6 daddr . meta l4proto . th dport map @ports6",
        "ct status dnat ip saddr vmap @pointers",
        "ip daddr != 10.1.0.0/16 masquerade fully-random",
        "ip6 daddr ff00::/8 return",
        "iifname != \"lo\" drop",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in:\n{text}");
    }
}

#[test]
fn a_batch_applies_whole_or_not_at_all() {
    in_namespace(|| {
        let mut nft = Nft::open().unwrap();
        let mut batch = Batch::default();
        skeleton(&mut batch);
        batch.append_rule(
            TABLE,
            &rule("pre", vec![Expr::InSet { set: "nosuch".into(), key: Reg(0), not: false }]),
        );
        let error = nft.commit(batch).unwrap_err();
        assert!(error.is_absent());
        let words = error.to_string();
        assert!(words.starts_with("nftables: add rule to t pre: No such file"), "{words}");
        assert_eq!(nft.tables(Family::Inet).unwrap(), []);
        assert_eq!(nft.table(TABLE).unwrap(), None);
        assert_eq!(nft.elements(TABLE, "ports").unwrap(), None);
        assert_eq!(nft.rules(TABLE, "pre").unwrap(), []);
        assert_eq!(listing(), "");
    });
}

#[test]
fn elements_by_the_thousand_with_their_comments() {
    in_namespace(|| {
        let mut nft = Nft::open().unwrap();
        let mut batch = Batch::default();
        skeleton(&mut batch);
        let comment = "c".repeat(120);
        let many: Vec<_> = (1..=5000).map(|port| port_element(port, &comment)).collect();
        batch.add_elements(TABLE, "ports", &many);
        nft.commit(batch).unwrap();
        let mut found = nft.elements(TABLE, "ports").unwrap().unwrap();
        found.sort_by(|one, other| one.key.cmp(&other.key));
        assert_eq!(found, many);
        let one = nft.element(TABLE, "ports", &many[7].key).unwrap();
        assert_eq!(one.as_ref(), Some(&many[7]));
        let none = Key::default().protocol(17).port(1);
        assert_eq!(nft.element(TABLE, "ports", &none).unwrap(), None);
        let mut again = Batch::default();
        again.add_elements(TABLE, "ports", &[port_element(80, "other")]);
        assert!(nft.commit(again).unwrap_err().is_present());
        let mut gone = Batch::default();
        gone.delete_elements(TABLE, "ports", &many);
        nft.commit(gone).unwrap();
        assert_eq!(nft.elements(TABLE, "ports").unwrap().unwrap(), []);
    });
}

#[test]
fn a_batch_of_an_old_generation_is_refused() {
    in_namespace(|| {
        let mut nft = Nft::open().unwrap();
        let before = nft.generation().unwrap();
        let mut batch = Batch::new(Some(before));
        skeleton(&mut batch);
        nft.commit(batch).unwrap();
        assert_ne!(nft.generation().unwrap(), before);
        let mut stale = Batch::new(Some(before));
        stale.delete_table(TABLE);
        let error = nft.commit(stale).unwrap_err();
        assert!(error.is_stale(), "{error}");
        let mut fresh = Batch::new(Some(nft.generation().unwrap()));
        fresh.delete_table(TABLE);
        nft.commit(fresh).unwrap();
        assert_eq!(listing(), "");
    });
}

#[test]
fn rules_chains_and_sets_can_be_deleted() {
    in_namespace(|| {
        let mut nft = Nft::open().unwrap();
        let mut batch = Batch::default();
        skeleton(&mut batch);
        let accept = vec![Expr::Verdict(Verdict::Accept)];
        let comment = "x";
        batch.append_rule(TABLE, &Rule { chain: "raw", expressions: accept.clone(), comment });
        batch.insert_rule(TABLE, &Rule { chain: "raw", expressions: accept, comment: "first" });
        let jump = vec![Expr::Verdict(Verdict::Jump("sub".into()))];
        batch.append_rule(TABLE, &rule("raw", jump));
        nft.commit(batch).unwrap();
        let rules = nft.rules(TABLE, "raw").unwrap();
        let comments: Vec<_> = rules.iter().map(|rule| rule.comment.as_str()).collect();
        assert_eq!(comments, ["first", "x", ""]);
        let raw = nft.chain(TABLE, "raw").unwrap().unwrap();
        assert_eq!((raw.hook, raw.drop), (Some(0), false));
        assert_eq!(nft.chain(TABLE, "nosuch").unwrap(), None);
        let mut busy = Batch::default();
        busy.delete_chain(TABLE, "sub");
        assert!(nft.commit(busy).unwrap_err().is_present());
        let mut batch = Batch::default();
        batch.delete_rule(TABLE, "raw", rules[1].handle);
        nft.commit(batch).unwrap();
        assert_eq!(nft.rules(TABLE, "raw").unwrap().len(), 2);
        let mut batch = Batch::default();
        batch.flush_chain(TABLE, "raw").delete_chain(TABLE, "sub").delete_set(TABLE, "names");
        nft.commit(batch).unwrap();
        assert_eq!(nft.chains(TABLE).unwrap().len(), 3);
        assert!(!listing().contains("set names"));
    });
}

#[test]
fn the_loser_of_a_udp_port_is_forgotten() {
    in_namespace(|| {
        let up = "up";
        tool("ip", &["link", "set", "lo", up]);
        let mut nft = Nft::open().unwrap();
        let mut batch = Batch::default();
        skeleton(&mut batch);
        // Connections are tracked where a rule asks about them.
        batch.append_rule(TABLE, &rule("raw", match_ct_state(2).to_vec()));
        nft.commit(batch).unwrap();
        for (host, ipv6) in [("127.0.0.1:0", false), ("[::1]:0", true)] {
            let server = UdpSocket::bind(host).unwrap();
            let client = UdpSocket::bind(host).unwrap();
            let port = server.local_addr().unwrap().port();
            client.send_to(b"hello", server.local_addr().unwrap()).unwrap();
            let flows = nft.flows(ipv6, 17, port).unwrap();
            assert_eq!(flows.len(), 1, "{flows:?}");
            assert_eq!(flows[0].original.source_port, client.local_addr().unwrap().port());
            assert_eq!(flows[0].reply.source, server.local_addr().unwrap().ip());
            assert_eq!(nft.flows(ipv6, 17, port ^ 1).unwrap(), []);
            nft.delete_flow(&flows[0]).unwrap();
            nft.delete_flow(&flows[0]).unwrap();
            assert_eq!(nft.flows(ipv6, 17, port).unwrap(), []);
        }
    });
}
