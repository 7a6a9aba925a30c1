//! From port mappings to elements of the table.

use super::Config;
use crate::ruleset::nat::set;
use crate::ruleset::{Claim, Entry, Segment, Value};
use crate::{CniResult, PluginError, PortMapping, Protocol};
use ipnet::IpNet;
use orlop_sys::nft::Key;
use std::net::{IpAddr, Ipv6Addr};

/// The pod's addresses that host ports lead to: the first of each family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Pod {
    addresses: [Option<IpNet>; 2],
}

impl Pod {
    /// The addresses in a result, without those of the host's own interfaces.
    pub(super) fn of(result: &CniResult) -> Self {
        let mut pod = Self::default();
        for ip in &result.ips {
            let interface = ip.interface.and_then(|index| result.interfaces.get(index as usize));
            let of_host = match ip.interface {
                None => false,
                Some(_) => interface.is_none_or(|interface| interface.sandbox.is_empty()),
            };
            let place = &mut pod.addresses[usize::from(ip.address.addr().is_ipv6())];
            if !of_host && place.is_none() {
                *place = Some(ip.address);
            }
        }
        pod
    }

    /// The addresses that a mapping leads to: of the family of its host address, or both; none
    /// for `::1`, from where nothing can be translated.
    pub(super) fn targets(&self, mapping: &PortMapping) -> impl Iterator<Item = IpNet> {
        let host = mapping.host_ip;
        let fits = move |pod: &IpNet| {
            host.is_none_or(|host| {
                pod.addr().is_ipv6() == host.is_ipv6() && host != IpAddr::V6(Ipv6Addr::LOCALHOST)
            })
        };
        self.addresses.into_iter().flatten().filter(fits)
    }
}

/// Number of a protocol in IP.
pub(super) fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

/// The address that a mapping is restricted to.
pub(super) fn one_address(mapping: &PortMapping) -> Option<IpAddr> {
    mapping.host_ip.filter(|address| !address.is_unspecified())
}

/// Key of the maps without an address.
pub(super) fn port_key(mapping: &PortMapping) -> Key {
    Key::default().protocol(number(mapping.protocol)).port(mapping.host_port)
}

/// A host port in words.
pub(super) fn describe(mapping: &PortMapping) -> String {
    let protocol = match mapping.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    };
    match one_address(mapping) {
        Some(IpAddr::V6(address)) => {
            format!("host port [{address}]:{}/{protocol}", mapping.host_port)
        }
        Some(address) => format!("host port {address}:{}/{protocol}", mapping.host_port),
        None => format!("host port {}/{protocol}", mapping.host_port),
    }
}

/// The elements for all mappings, each key once.
pub(super) fn entries(
    config: &Config,
    pod: &Pod,
    mappings: &[PortMapping],
) -> Result<Vec<Entry>, PluginError> {
    let mut entries: Vec<Entry> = Vec::new();
    for mapping in mappings {
        if mapping.host_port == 0 || mapping.container_port == 0 {
            return Err(PluginError::config(format!(
                "portMappings: hostPort {} to containerPort {}: ports are 1 to 65535",
                mapping.host_port, mapping.container_port
            )));
        }
        for target in pod.targets(mapping) {
            for entry in of_one(config, target, mapping) {
                match entries.iter().find(|other| other.set == entry.set && other.key == entry.key)
                {
                    None => entries.push(entry),
                    Some(other) if other.value == entry.value => {}
                    Some(_) => {
                        return Err(PluginError::config(format!(
                            "portMappings: {} leads to two container ports",
                            describe(mapping)
                        )));
                    }
                }
            }
        }
    }
    Ok(entries)
}

fn of_one(config: &Config, target: IpNet, mapping: &PortMapping) -> Vec<Entry> {
    let address = target.addr();
    let index = usize::from(address.is_ipv6());
    let protocol = number(mapping.protocol);
    let to = Value::Fields(Key::default().address(address).port(mapping.container_port));
    let claim = Claim::First(describe(mapping));
    let (name, key) = match one_address(mapping) {
        Some(host) => {
            let key = Key::default().address(host).protocol(protocol).port(mapping.host_port);
            (set::ONE_ADDRESS[index], key)
        }
        None => (set::ANY_ADDRESS[index], port_key(mapping)),
    };
    let mut entries = vec![Entry { set: name, key, value: to, claim }];
    if config.snat() {
        let segment =
            if config.masq_all { Segment::HairpinAll } else { Segment::Hairpin(target.trunc()) };
        let key = Key::default().address(address).protocol(protocol);
        entries.push(Entry {
            set: set::HAIRPIN[index],
            key: key.port(mapping.container_port).port(mapping.host_port),
            value: Value::Call(segment),
            claim: Claim::Newest,
        });
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(addresses: &[&str]) -> Pod {
        let ips = addresses.iter().map(|text| json!({"address": text, "interface": 1}));
        let ips: Vec<_> = ips.collect();
        let interfaces = json!([{"name": "cni0"}, {"name": "eth0", "sandbox": "/ns"}]);
        Pod::of(&serde_json::from_value(json!({"interfaces": interfaces, "ips": ips})).unwrap())
    }

    fn mapping(host_port: u16, container_port: u16, host_ip: &str) -> PortMapping {
        let host_ip = host_ip.parse().ok();
        PortMapping { host_port, container_port, protocol: Protocol::Tcp, host_ip }
    }

    fn sets(pod: &Pod, mappings: &[PortMapping], config: serde_json::Value) -> Vec<&'static str> {
        let entries = entries(&Config::read(&config).unwrap(), pod, mappings).unwrap();
        entries.iter().map(|entry| entry.set).collect()
    }

    #[test]
    fn addresses_of_the_sandbox_only_first_of_each_family() {
        let text = json!({
            "interfaces": [{"name": "cni0"}, {"name": "eth0", "sandbox": "/ns"}],
            "ips": [
                {"address": "10.0.0.1/24", "interface": 0},
                {"address": "10.0.0.9/24", "interface": 7},
                {"address": "10.0.0.2/24", "interface": 1},
                {"address": "10.0.0.3/24", "interface": 1},
                {"address": "fd00::2/64"},
            ],
        });
        let result: CniResult = serde_json::from_value(text).unwrap();
        let targets: Vec<_> = Pod::of(&result).targets(&mapping(1, 1, "")).collect();
        assert_eq!(
            targets,
            ["10.0.0.2/24".parse().unwrap(), "fd00::2/64".parse::<IpNet>().unwrap()]
        );
    }

    #[test]
    fn sets_by_family_and_host_address() {
        let both = pod(&["10.0.0.2/24", "fd00::2/64"]);
        for (host_ip, config, expected) in [
            ("", json!({}), &["hostports4", "hairpin4", "hostports6", "hairpin6"][..]),
            ("0.0.0.0", json!({}), &["hostports4", "hairpin4"]),
            ("::", json!({}), &["hostports6", "hairpin6"]),
            ("192.0.2.1", json!({}), &["hostaddresses4", "hairpin4"]),
            ("2001:db8::1", json!({"snat": false}), &["hostaddresses6"]),
            ("::1", json!({}), &[]),
            ("", json!({"snat": false}), &["hostports4", "hostports6"]),
        ] {
            assert_eq!(sets(&both, &[mapping(80, 8080, host_ip)], config), expected, "{host_ip}");
        }
        let only4 = pod(&["10.0.0.2/24"]);
        assert!(sets(&only4, &[mapping(80, 8080, "::1")], json!({})).is_empty());
    }

    #[test]
    fn the_same_port_twice() {
        let pod = pod(&["10.0.0.2/24"]);
        let twice = [mapping(80, 8080, ""), mapping(80, 8080, "")];
        assert_eq!(sets(&pod, &twice, json!({})).len(), 2);
        let two_addresses = [mapping(80, 8080, "127.0.0.1"), mapping(80, 8080, "192.0.2.1")];
        assert_eq!(sets(&pod, &two_addresses, json!({})).len(), 3);
        let config = Config::read(&json!({})).unwrap();
        let error = entries(&config, &pod, &[mapping(80, 1, ""), mapping(80, 2, "")]).unwrap_err();
        assert_eq!(error.msg, "portMappings: host port 80/tcp leads to two container ports");
        let error = entries(&config, &pod, &[mapping(80, 0, "")]).unwrap_err();
        assert!(error.msg.contains("1 to 65535"));
    }
}
