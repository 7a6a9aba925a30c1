//! Real traffic past iptables that drops, and between bridges.

use super::Firewall;
use crate::Plugin;
use crate::ruleset::testing::{CLIENT4, HOST4, Pod, in_world, reference, ruleset, tool};
use serde_json::{Value, json};

fn add(pod: &Pod, config: &Value) {
    pod.call(config, &[], |call| {
        assert_eq!(Firewall.add(call).unwrap(), pod.result);
        Firewall.check(call).unwrap();
    });
}

fn del(pod: &Pod) {
    pod.call(&json!({}), &[], |call| Firewall.del(call)).unwrap();
}

fn rules_of(program: &str) -> String {
    tool(program, &["-S"], "")
}

#[test]
fn pods_pass_where_iptables_drops() {
    in_world(|world| {
        let (pod, other) = (world.pod(), world.pod());
        for program in ["iptables-nft", "ip6tables-nft"] {
            tool(program, &["-P", "FORWARD", "DROP"], "");
            tool(program, &["-A", "FORWARD", "-j", "DROP"], "");
        }
        let before = (rules_of("iptables-nft"), rules_of("ip6tables-nft"));
        let (outside, inside) = (world.client.listen(7000), pod.place.listen(80));
        let out = |pod: &Pod| pod.place.reaches(&outside, "192.0.2.2:7000").is_some();
        assert!(!out(&pod));
        add(&pod, &json!({"backend": "iptables"}));
        add(&pod, &json!({}));
        assert!(out(&pod) && !out(&other));
        assert!(pod.place.reaches(&outside, "[2001:db8::2]:7000").is_some());
        assert_eq!(world.client.reaches(&inside, "10.88.0.2:80").unwrap().to_string(), CLIENT4);
        // iptables reads what we wrote.
        let listed = rules_of("iptables-nft");
        for line in [
            "-A FORWARD -m comment --comment \"orlop: pods\" -j ORLOP-FORWARD",
            &format!(
                "-A ORLOP-FORWARD -s 10.88.0.2/32 -m comment --comment \"{} eth0 net\" -j ACCEPT",
                pod.id
            ),
        ] {
            assert!(listed.contains(line), "{line:?} is not in:\n{listed}");
        }
        add(&other, &json!({}));
        del(&pod);
        assert!(out(&other) && !out(&pod));
        // Somebody flushes the chain that leads to ours.
        tool("iptables-nft", &["-F", "FORWARD"], "");
        let gone = other.call(&json!({}), &[], |call| Firewall.check(call)).unwrap_err();
        assert!(gone.msg.contains("gone from nftables"), "{gone}");
        add(&other, &json!({}));
        assert!(out(&other));
        tool("iptables-nft", &["-A", "FORWARD", "-j", "DROP"], "");
        Firewall.collect("net", std::slice::from_ref(&other.id)).unwrap();
        assert!(out(&other));
        Firewall.collect("net", &[]).unwrap();
        assert_eq!((rules_of("iptables-nft"), rules_of("ip6tables-nft")), before);
    });
}

#[test]
fn nothing_is_made_where_nothing_drops() {
    in_world(|world| {
        let pod = world.pod();
        add(&pod, &json!({"ingressPolicy": "open"}));
        assert_eq!(ruleset(), "");
        del(&pod);
        let error = pod
            .call(&json!({"ingressPolicy": "closed"}), &[], |call| Firewall.add(call))
            .unwrap_err();
        assert!(error.msg.contains("\"closed\" is unknown"), "{error}");
    });
}

#[test]
fn bridges_are_kept_apart() {
    in_world(|world| {
        world.second_bridge();
        let [one, neighbour, far] = [0, 0, 1].map(|bridge| world.pod_on(bridge));
        let server = one.place.listen(80);
        let reached = |pod: &Pod, to: &str| pod.place.reaches(&server, to).is_some();
        let config = json!({"ingressPolicy": "same-bridge"});
        assert!(reached(&far, "10.88.0.2:80") && reached(&far, "[fd00:88::2]:80"));
        add(&one, &config);
        // The other bridge has no policy yet.
        assert!(reached(&far, "10.88.0.2:80"));
        add(&neighbour, &config);
        add(&far, &config);
        assert!(!reached(&far, "10.88.0.2:80") && !reached(&far, "[fd00:88::2]:80"));
        assert!(reached(&neighbour, "10.88.0.2:80") && reached(&neighbour, "[fd00:88::2]:80"));
        assert_eq!(world.client.reaches(&server, "10.88.0.2:80").unwrap().to_string(), CLIENT4);
        let outside = world.client.listen(7000);
        assert!(one.place.reaches(&outside, "192.0.2.2:7000").is_some());
        del(&far);
        assert!(reached(&far, "10.88.0.2:80"));
        add(&neighbour, &json!({"ingressPolicy": "isolated"}));
        add(&one, &json!({"ingressPolicy": "isolated"}));
        let bridged = std::fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-iptables");
        if bridged.is_ok_and(|value| value.trim() == "1") {
            assert!(!reached(&neighbour, "10.88.0.2:80"));
        }
        assert!(one.place.reaches(&outside, &format!("{CLIENT4}:7000")).is_some());
        assert_ne!(CLIENT4, HOST4);
        del(&one);
        del(&neighbour);
        assert_eq!(ruleset(), "");
    });
}

#[test]
fn as_the_reference_plugin() {
    if !std::path::Path::new("/usr/lib/cni/firewall").exists() {
        return;
    }
    /// Result of ADD, and who comes through: while it lasts and after DEL.
    fn run(theirs: bool, config: &Value) -> (Value, Vec<bool>) {
        let mut outcome = None;
        in_world(|world| {
            world.second_bridge();
            let pods = [0, 0, 1].map(|bridge| world.pod_on(bridge));
            tool("iptables", &["-P", "FORWARD", "DROP"], "");
            let outside = world.client.listen(7000);
            let server = pods[0].place.listen(80);
            let mut passes = Vec::new();
            let mut results = Value::Null;
            for add in [true, false] {
                for pod in &pods {
                    pod.call(config, &[], |call| match (theirs, add) {
                        (true, true) => {
                            results = reference("firewall", call, "ADD").unwrap().unwrap()
                        }
                        (true, false) => drop(reference("firewall", call, "DEL").unwrap()),
                        (false, true) => {
                            results = serde_json::to_value(Firewall.add(call).unwrap()).unwrap();
                        }
                        (false, false) => Firewall.del(call).unwrap(),
                    });
                }
                for pod in &pods {
                    passes.push(pod.place.reaches(&outside, "192.0.2.2:7000").is_some());
                }
                passes.extend(
                    pods[1..]
                        .iter()
                        .map(|pod| pod.place.reaches(&server, "10.88.0.2:80").is_some()),
                );
            }
            results["interfaces"][2]["sandbox"] = json!("/ns");
            outcome = Some((results, passes));
        });
        outcome.unwrap()
    }
    for config in [json!({}), json!({"ingressPolicy": "same-bridge"})] {
        let mut config = config;
        config["backend"] = json!("iptables");
        assert_eq!(run(true, &config), run(false, &config), "{config}");
    }
}
