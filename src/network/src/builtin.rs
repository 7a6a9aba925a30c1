//! The network that pods get where no configuration is found.

use crate::conf::List;
use crate::sysctl;
use crate::{BuiltinBridge, NetworkError};
use orlop_sys::netlink::Socket;
use serde_json::{Value, json};

/// Name of the network.
pub(crate) const NAME: &str = "orlop";

/// The built-in network as a configuration list: what it does can be read there.
pub(crate) fn list(settings: &BuiltinBridge, ipv6: bool) -> Result<List, NetworkError> {
    let bytes = document(settings, ipv6, true, "open").to_string().into_bytes();
    List::parse(&bytes).map_err(|why| NetworkError::Invalid(format!("built-in network: {why}")))
}

/// The same network for containers of people: with addresses of their own choice, and kept apart from
/// the networks that people made.
pub(crate) fn people(
    settings: &BuiltinBridge,
    default_route: bool,
) -> Result<String, NetworkError> {
    let ipv6 = settings.subnet6.is_some() && host_has_ipv6();
    let mut document = document(settings, ipv6, default_route, "same-bridge");
    if let Some(bridge) = document.pointer_mut("/plugins/0") {
        bridge["capabilities"] = json!({"mac": true, "ips": true});
    }
    Ok(document.to_string())
}

fn document(settings: &BuiltinBridge, ipv6: bool, default_route: bool, policy: &str) -> Value {
    let mut ranges = vec![json!([{"subnet": settings.subnet.trunc().to_string()}])];
    let mut routes = vec![json!({"dst": "0.0.0.0/0"})];
    if let (true, Some(subnet)) = (ipv6, settings.subnet6) {
        ranges.push(json!([{"subnet": subnet.trunc().to_string()}]));
        routes.push(json!({"dst": "::/0"}));
    }
    if !default_route {
        routes.clear();
    }
    let firewall = match policy {
        "open" => json!({"type": "firewall"}),
        policy => json!({"type": "firewall", "ingressPolicy": policy}),
    };
    json!({
        "cniVersion": "1.0.0",
        "name": NAME,
        "plugins": [
            {
                "type": "bridge",
                "bridge": settings.bridge,
                "isGateway": true,
                "ipMasq": true,
                "hairpinMode": true,
                "ipam": {"type": "host-local", "ranges": ranges, "routes": routes},
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
            firewall,
        ],
    })
}

/// Whether this host reaches anything over IPv6: it is enabled, and a default route exists that
/// does not depend on router advertisements, which a host that forwards no longer accepts.
pub(crate) fn host_has_ipv6() -> bool {
    let enabled = sysctl::root()
        .and_then(|root| sysctl::read(&root, "net/ipv6/conf/all/disable_ipv6"))
        .is_ok_and(|value| value == "0");
    enabled
        && Socket::open().and_then(|mut socket| socket.routes()).is_ok_and(|routes| {
            routes
                .iter()
                .any(|route| route.destination.is_ipv6() && route.prefix == 0 && !route.advertised)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_network_is_a_valid_list() {
        let settings = BuiltinBridge::default();
        for ipv6 in [false, true] {
            let list = list(&settings, ipv6).unwrap();
            let kinds: Vec<_> = list.plugins.iter().map(|plugin| plugin.kind.as_str()).collect();
            assert_eq!(kinds, ["bridge", "portmap", "firewall"]);
            let ranges = list.plugins[0].object["ipam"]["ranges"].as_array().unwrap().len();
            assert_eq!(ranges, if ipv6 { 2 } else { 1 });
        }
    }
}
