//! The same calls to the reference plugin (Debian's, on iptables) and to ours: same results, and
//! the same peers as seen by the pod.

use super::Portmap;
use crate::ruleset::testing::{Pod, World, exchange, in_world, port, reach, reference};
use crate::{Call, Plugin, PortMapping, Protocol};
use serde_json::{Value, json};

fn ours(call: &Call<'_>, add: bool) -> Result<Option<Value>, String> {
    let answer = if add { Portmap.add(call).map(Some) } else { Portmap.del(call).map(|()| None) };
    let answer = answer.map_err(|error| error.msg)?;
    Ok(answer.map(|result| serde_json::to_value(result).unwrap()))
}

type Implementation = fn(&Call<'_>, bool) -> Result<Option<Value>, String>;

fn theirs(call: &Call<'_>, add: bool) -> Result<Option<Value>, String> {
    reference("portmap", call, if add { "ADD" } else { "DEL" })
}

/// Whom the pod sees, by who asks and what for.
fn seen(world: &World, pod: &Pod, neighbour: &Pod) -> Vec<String> {
    let server = pod.place.listen(80);
    let mut seen = Vec::new();
    let mut note = |who: &str, to: &str, peer: Option<std::net::IpAddr>| {
        let peer = peer.map_or_else(|| "nobody".to_owned(), |peer| peer.to_string());
        seen.push(format!("{who} to {to}: {peer}"));
    };
    for to in
        ["192.0.2.1:8080", "10.88.0.1:8080", "[2001:db8::1]:8080", "10.88.0.2:80", "10.88.0.2:8080"]
    {
        note("client", to, world.client.reaches(&server, to));
        note("host", to, reach(&server, to));
        note("pod", to, pod.place.reaches(&server, to));
        note("neighbour", to, neighbour.place.reaches(&server, to));
    }
    note("host", "127.0.0.1:8080", reach(&server, "127.0.0.1:8080"));
    let (datagrams, client) = (pod.place.udp(53), world.client.udp(0));
    let to = "[::ffff:192.0.2.1]:5300";
    note("client", to, exchange(&datagrams, &client, to));
    seen
}

fn run(
    call: Implementation,
    config: &Value,
    ports: &[PortMapping],
) -> (Option<Value>, Vec<String>, Vec<String>) {
    let mut outcome = None;
    in_world(|world| {
        let (pod, neighbour) = (world.pod(), world.pod());
        let mut result = pod.call(config, ports, |arguments| call(arguments, true)).unwrap();
        if let Some(result) = &mut result {
            // A number of a descriptor.
            result["interfaces"][2]["sandbox"] = json!("/ns");
        }
        let during = seen(world, &pod, &neighbour);
        // DEL may be repeated.
        for _ in 0..2 {
            pod.call(config, ports, |arguments| call(arguments, false)).unwrap();
        }
        let after = seen(world, &pod, &neighbour);
        outcome = Some((result, during, after));
    });
    outcome.unwrap()
}

#[test]
fn as_the_reference_plugin() {
    if !std::path::Path::new("/usr/lib/cni/portmap").exists() {
        return;
    }
    let tcp = port(Protocol::Tcp, 8080, 80, "");
    let one = port(Protocol::Tcp, 8080, 80, "192.0.2.1");
    let udp = port(Protocol::Udp, 5300, 53, "");
    for (config, ports) in [
        (json!({}), vec![tcp.clone(), udp]),
        (json!({"snat": false}), vec![tcp.clone()]),
        // Debian's version (1.1.1) does not know masqAll yet: it must be without effect to compare.
        (json!({"masqAll": false}), vec![tcp]),
        (json!({}), vec![one]),
        (json!({}), vec![port(Protocol::Tcp, 8080, 80, "::")]),
        (json!({}), vec![]),
    ] {
        let (reference, ours) = (run(theirs, &config, &ports), run(ours, &config, &ports));
        assert_eq!(reference.0, ours.0, "{config} {ports:?}");
        assert_eq!(reference.1, ours.1, "{config} {ports:?}");
        assert_eq!(reference.2, ours.2, "{config} {ports:?}");
    }
}

#[test]
fn what_the_reference_plugin_refuses() {
    if !std::path::Path::new("/usr/lib/cni/portmap").exists() {
        return;
    }
    in_world(|world| {
        let pod = world.pod();
        for ports in [vec![port(Protocol::Tcp, 0, 80, "")], vec![port(Protocol::Tcp, 80, 0, "")]] {
            for call in [theirs as Implementation, ours] {
                pod.call(&json!({}), &ports, |arguments| call(arguments, true)).unwrap_err();
            }
        }
    });
}
