//! The plugins in process against Debian's, on twin hosts: same results, same kernel state, same files.

use super::harness::{Host, inside, list, normal, on_host, reference_installed, request, snapshot};
use serde_json::{Value, json};

/// Everything that one run of a configuration shows.
#[derive(Debug, PartialEq)]
struct Seen {
    results: Vec<Value>,
    host: Value,
    pods: Vec<Value>,
    sysctls: Vec<String>,
    addresses: Value,
    cached: Vec<Value>,
    after_one: Value,
    checks: Vec<String>,
    after: Value,
    addresses_after: Value,
}

fn check(
    engine: &crate::engine::Engine,
    network: &str,
    id: &str,
    netns: &std::path::Path,
) -> String {
    engine
        .check(network, id, netns)
        .map_or_else(|error| crate::engine::report(&error), |()| "fine".into())
}

const PODS: [&str; 3] = ["pod-a", "pod-b", "pod-c"];

fn sysctls(names: &[&str], keys: &[&str]) -> Vec<String> {
    let read = |name: &str, key: &str| {
        let path = format!("/proc/sys/net/{}", key.replace('%', name));
        format!("{key} {}", std::fs::read_to_string(path).unwrap_or_default().trim())
    };
    names.iter().flat_map(|name| keys.iter().map(move |key| read(name, key))).collect()
}

fn run(host: &Host, executed: bool, document: &Value) -> Seen {
    let text = document.to_string().replace("@DATA@", &host.data_dir());
    let list = list(&serde_json::from_str(&text).unwrap());
    let engine = if executed { host.reference() } else { host.ours() };
    let pool = host.pool(0);
    let sets: Vec<_> = PODS.iter().map(|_| pool.make().unwrap()).collect();
    let mut results = Vec::new();
    for (id, set) in PODS.iter().zip(&sets) {
        let attached = engine.attach(&list, &request(id, set), None).unwrap();
        results.push(normal(attached.result));
    }
    let conf = std::fs::read_dir("/proc/sys/net/ipv6/conf").unwrap().flatten();
    let names: Vec<String> =
        conf.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let veths: Vec<&str> =
        names.iter().map(String::as_str).filter(|name| name.starts_with("veth")).collect();
    let mut seen = vec!["ipv4/ip_forward", "ipv6/conf/all/forwarding"];
    seen.extend(["ipv6/conf/%/accept_ra"]);
    let mut values = sysctls(&veths, &seen);
    let keys = [
        "ipv6/conf/%/accept_dad",
        "ipv4/conf/%/arp_notify",
        "ipv6/conf/%/disable_ipv6",
        "ipv6/conf/%/enhanced_dad",
    ];
    values.extend(inside(&sets[0].net, || sysctls(&["eth0"], &keys)));
    let pods = sets.iter().map(|set| inside(&set.net, snapshot)).collect();
    let checks =
        PODS.iter().zip(&sets).map(|(id, set)| check(&engine, &list.name, id, &set.net)).collect();
    let addresses = json!(host.addresses(&list.name));
    let cached = host.results().into_iter().map(comparable).collect();
    let host_before = snapshot();
    engine.detach(None, PODS[1], Some(&sets[1].net), false).unwrap();
    let after_one = snapshot();
    // The second without its namespace, and everything twice.
    pool.release(&sets[0].slot).unwrap();
    engine.detach(None, PODS[0], Some(&sets[0].net), false).unwrap();
    engine.detach(None, PODS[0], None, false).unwrap();
    engine.detach(None, PODS[2], Some(&sets[2].net), false).unwrap();
    engine.detach(None, PODS[2], Some(&sets[2].net), false).unwrap();
    for set in &sets {
        pool.release(&set.slot).unwrap();
    }
    assert!(host.results().is_empty());
    Seen {
        results,
        host: host_before,
        pods,
        sysctls: values,
        addresses,
        cached,
        after_one,
        checks,
        after: inside(std::path::Path::new("/proc/thread-self/ns/net"), snapshot),
        addresses_after: json!(host.addresses(&list.name)),
    }
}

/// A cached result without chance and without the paths of one host.
fn comparable(mut entry: Value) -> Value {
    entry["netns"] = Value::Null;
    entry["config"] = Value::Null;
    entry["result"] = normal(entry["result"].take());
    entry
}

fn same(name: &str, document: &Value) {
    compare(name, document, true);
}

fn compare(name: &str, document: &Value, with_checks: bool) {
    if !reference_installed() {
        return;
    }
    let theirs = on_host(|host| run(host, true, document));
    let ours = on_host(|host| run(host, false, document));
    let pairs = [
        ("results", json!(theirs.results), json!(ours.results)),
        ("links of the host", theirs.host.clone(), ours.host.clone()),
        ("links of the pods", json!(theirs.pods), json!(ours.pods)),
        ("sysctls", json!(theirs.sysctls), json!(ours.sysctls)),
        ("addresses", theirs.addresses.clone(), ours.addresses.clone()),
        ("cached results", json!(theirs.cached), json!(ours.cached)),
        ("checks", json!(theirs.checks), json!(ours.checks)),
        ("links after one DEL", theirs.after_one.clone(), ours.after_one.clone()),
        ("addresses after DEL", theirs.addresses_after.clone(), ours.addresses_after.clone()),
    ];
    for (what, theirs, ours) in pairs {
        if what == "checks" && !with_checks {
            continue;
        }
        let differences = differences("", &theirs, &ours);
        assert!(differences.is_empty(), "{name}: {what} differ:\n{}", differences.join("\n"));
    }
}

/// Where two documents differ, path by path: reference, then ours.
fn differences(path: &str, a: &Value, b: &Value) -> Vec<String> {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
            let at = |o: &serde_json::Map<String, Value>, key: &String| {
                o.get(key).cloned().unwrap_or(json!("(absent)"))
            };
            keys.iter()
                .flat_map(|key| differences(&format!("{path}/{key}"), &at(a, key), &at(b, key)))
                .collect()
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let each = a.iter().zip(b).enumerate();
            each.flat_map(|(index, (a, b))| differences(&format!("{path}/{index}"), a, b)).collect()
        }
        _ if a == b => Vec::new(),
        _ => vec![format!("{path}: {a} | {b}")],
    }
}

fn bridge(more: &Value) -> Value {
    let mut plugin = json!({
        "type": "bridge",
        "bridge": "cni-test0",
        "ipam": {"type": "host-local", "dataDir": "@DATA@", "ranges": [[{"subnet": "10.97.0.0/24"}]]},
    });
    for (key, value) in more.as_object().unwrap() {
        plugin[key] = value.clone();
    }
    json!({"cniVersion": "1.0.0", "name": "difftest", "plugins": [plugin]})
}

#[test]
fn bridge_gateway_with_default_route() {
    same("gateway", &bridge(&json!({"isDefaultGateway": true, "hairpinMode": true})));
}

#[test]
fn bridge_as_containerd_documents_it() {
    let ranges = json!([[{"subnet": "10.97.0.0/16"}], [{"subnet": "fd97:1::/64"}]]);
    let routes = json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]);
    let ipam =
        json!({"type": "host-local", "dataDir": "@DATA@", "ranges": ranges, "routes": routes});
    same("containerd", &bridge(&json!({"isGateway": true, "promiscMode": true, "ipam": ipam})));
}

#[test]
fn bridge_with_everything_given() {
    let range = json!({
        "subnet": "10.97.0.0/24", "rangeStart": "10.97.0.20", "rangeEnd": "10.97.0.21", "gateway": "10.97.0.254",
    });
    let second = json!({"subnet": "10.98.0.0/24", "gateway": "10.98.0.254"});
    let routes = json!([{"dst": "0.0.0.0/0"}, {"dst": "10.99.0.0/16"}]);
    let ipam = json!({"type": "host-local", "dataDir": "@DATA@", "ranges": [[range, second]], "routes": routes});
    let dns = json!({"nameservers": ["10.0.0.10"], "search": ["a.b"], "domain": "c", "options": ["ndots:5"]});
    // The reference's CHECK does not find a route whose gateway is the address' own.
    compare(
        "everything",
        &bridge(
            &json!({"isGateway": true, "mtu": 1400, "forceAddress": true, "dns": dns, "ipam": ipam}),
        ),
        false,
    );
}

#[test]
fn bridge_of_older_versions() {
    for version in ["0.3.0", "0.3.1", "0.4.0"] {
        let mut document = bridge(&json!({"isDefaultGateway": true}));
        document["cniVersion"] = version.into();
        same(version, &document);
    }
}

#[test]
fn bridge_without_addresses() {
    // The reference's CHECK wants an ipam here.
    compare("layer 2", &bridge(&json!({"ipam": {}})), false);
}

fn kernel_filters_vlans() -> bool {
    let mut socket = orlop_sys::netlink::Socket::open().unwrap();
    socket.run(&[orlop_sys::netlink::Request::add_bridge("br-vlan", None, true)]).is_ok()
}

#[test]
fn bridge_with_vlan() {
    if !on_host(|_| kernel_filters_vlans()) {
        return;
    }
    same("vlan", &bridge(&json!({"isGateway": true, "vlan": 7})));
}

#[test]
fn bridge_with_duplicate_detection() {
    let ranges = json!([[{"subnet": "10.97.0.0/16"}], [{"subnet": "fd97:1::/64"}]]);
    let ipam = json!({"type": "host-local", "dataDir": "@DATA@", "ranges": ranges});
    same("enabledad", &bridge(&json!({"isDefaultGateway": true, "enabledad": true, "ipam": ipam})));
}

#[test]
fn ptp() {
    let ranges = json!([[{"subnet": "10.97.0.0/16"}], [{"subnet": "fd97:1::/64"}]]);
    let routes = json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]);
    let ipam =
        json!({"type": "host-local", "dataDir": "@DATA@", "ranges": ranges, "routes": routes});
    let plugin = json!({"type": "ptp", "mtu": 1420, "ipam": ipam});
    same("ptp", &json!({"cniVersion": "1.0.0", "name": "difftest", "plugins": [plugin]}));
    let ipam = json!({"type": "host-local", "dataDir": "@DATA@", "subnet": "10.97.0.0/24"});
    let plugin = json!({"type": "ptp", "dns": {"search": ["x"]}, "ipam": ipam});
    same("ptp 0.4.0", &json!({"cniVersion": "0.4.0", "name": "difftest", "plugins": [plugin]}));
}

#[test]
fn loopback_and_tuning_in_a_chain() {
    let mut document = bridge(&json!({"isGateway": true}));
    let tuning = json!({
        "type": "tuning", "dataDir": "@DATA@/tuning", "mtu": 1300, "promisc": true, "mac": "02:00:00:00:00:07",
        "sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "1", "net.core.somaxconn": "500"},
    });
    document["plugins"].as_array_mut().unwrap().extend([tuning, json!({"type": "loopback"})]);
    // The reference's CHECK does not replace IFNAME.
    compare("chain", &document, false);
    same(
        "loopback",
        &json!({"cniVersion": "1.0.0", "name": "difftest", "plugins": [{"type": "loopback"}]}),
    );
}
