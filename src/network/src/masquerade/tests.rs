//! Real traffic out of a pod.

use super::{add, check, collect, remove};
use crate::ruleset::testing::{CLIENT4, CLIENT6, HOST4, HOST6, Pod, in_world, ruleset, tool};
use ipnet::IpNet;

fn addresses(pod: &Pod) -> Vec<IpNet> {
    pod.result.ips.iter().map(|ip| ip.address).collect()
}

fn masquerade(pod: &Pod) {
    add("net", &pod.id, "eth0", &addresses(pod)).unwrap();
}

#[test]
fn what_leaves_the_network_has_the_hosts_address() {
    in_world(|world| {
        let (one, other) = (world.pod(), world.pod());
        masquerade(&one);
        masquerade(&one);
        check("net", &one.id, "eth0", &addresses(&one)).unwrap();
        let outside = world.client.listen(7000);
        let seen = |pod: &Pod, to: &str| pod.place.reaches(&outside, to).unwrap().to_string();
        let (to4, to6) = (format!("{CLIENT4}:7000"), format!("[{CLIENT6}]:7000"));
        assert_eq!(seen(&one, &to4), HOST4);
        assert_eq!(seen(&one, &to6), HOST6);
        assert_eq!(seen(&other, &to4), "10.88.0.3");
        let neighbour = other.place.listen(7000);
        assert_eq!(
            one.place.reaches(&neighbour, "10.88.0.3:7000").unwrap().to_string(),
            "10.88.0.2"
        );
        remove("net", &one.id, "eth0").unwrap();
        assert_eq!(ruleset(), "");
        assert_eq!(seen(&one, &to4), "10.88.0.2");
        assert_eq!(seen(&one, &to6), "fd00:88::2");
        assert!(check("net", &one.id, "eth0", &addresses(&one)).is_err());
        remove("net", &one.id, "eth0").unwrap();
    });
}

#[test]
fn removal_and_collection_by_owner() {
    in_world(|world| {
        let (one, other) = (world.pod(), world.pod());
        masquerade(&one);
        masquerade(&other);
        add("other-net", &one.id, "eth1", &["10.99.0.2/24".parse().unwrap()]).unwrap();
        remove("net", &one.id, "eth0").unwrap();
        let left = ruleset();
        assert!(left.contains("10.99.0.2") && left.contains("10.88.0.3"), "{left}");
        assert!(!left.contains("10.88.0.2 "), "{left}");
        collect("net", std::slice::from_ref(&other.id)).unwrap();
        assert_eq!(ruleset(), left);
        collect("net", &[]).unwrap();
        assert!(!ruleset().contains(&other.id));
        collect("other-net", &[]).unwrap();
        assert_eq!(ruleset(), "");
    });
}

#[test]
fn an_address_is_the_newest_owners() {
    in_world(|_| {
        let address = ["10.88.0.2/16".parse().unwrap()];
        add("net", "dead", "eth0", &address).unwrap();
        add("net", "live", "eth0", &address).unwrap();
        assert!(!ruleset().contains("dead"));
        remove("net", "dead", "eth0").unwrap();
        assert!(ruleset().contains("live eth0 net"));
    });
}

#[test]
fn a_flushed_ruleset_is_made_again() {
    in_world(|world| {
        let pod = world.pod();
        masquerade(&pod);
        let before = ruleset();
        tool("nft", &["flush", "ruleset"], "");
        assert!(check("net", &pod.id, "eth0", &addresses(&pod)).is_err());
        masquerade(&pod);
        assert_eq!(ruleset(), before);
    });
}
