//! Networks that people make, on a host of their own.

use super::harness::{inside, ip, on_host, request, tool};
use crate::{
    AttachRequest, DetachRequest, Namespaces, Network, Place, PortMapping, Protocol, UserNetwork,
    UserSubnet,
};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

fn user_network(number: u8, internal: bool) -> UserNetwork {
    let subnet = |text: String, gateway: String, range: Option<String>| UserSubnet {
        subnet: text.parse().unwrap(),
        gateway: gateway.parse().unwrap(),
        range: range.map(|range| range.parse().unwrap()),
    };
    UserNetwork {
        name: format!("orlop-n{number}"),
        bridge: format!("br-n{number}"),
        subnets: vec![
            subnet(
                format!("10.77.{number}.0/24"),
                format!("10.77.{number}.254"),
                Some(format!("10.77.{number}.64/26")),
            ),
            subnet(format!("fd77:{number}::/64"), format!("fd77:{number}::1"), None),
        ],
        internal,
        masquerade: true,
        mtu: 1400,
    }
}

fn place(network: &UserNetwork, interface: &str, ports: bool) -> Place {
    place_at(network, interface, ports, &[])
}

fn place_at(network: &UserNetwork, interface: &str, ports: bool, ips: &[&str]) -> Place {
    let ips: Vec<IpAddr> = ips.iter().map(|ip| ip.parse().unwrap()).collect();
    let list = network.list(interface == "eth0", &ips);
    Place { list, interface: interface.into(), ports, ips, mac: None }
}

fn reaches(from: &Namespaces, to: IpAddr) -> bool {
    let target = SocketAddr::new(to, 7000);
    inside(&from.net, || TcpStream::connect_timeout(&target, Duration::from_millis(400)).is_ok())
}

struct World {
    network: Network,
    sets: Vec<Namespaces>,
}

impl World {
    async fn sandbox(
        &mut self,
        id: &str,
        places: Vec<Place>,
        ports: Vec<PortMapping>,
    ) -> (Namespaces, Vec<IpAddr>) {
        let set = self.network.namespaces().await.unwrap();
        self.sets.push(set.clone());
        let asked = AttachRequest { places: Some(places), ports, ..request(id, &set) };
        let attached = self.network.attach(asked).await.unwrap();
        (set, attached.ips)
    }

    async fn gone(&self, id: &str, set: &Namespaces) {
        let asked = DetachRequest {
            sandbox_id: id.into(),
            netns: Some(set.net.clone()),
            everywhere: true,
            ..DetachRequest::default()
        };
        self.network.detach(asked).await.unwrap();
        self.network.release(&set.slot).await.unwrap();
    }
}

fn v4(ips: &[IpAddr], nth: usize) -> IpAddr {
    *ips.iter().filter(|ip| ip.is_ipv4()).nth(nth).unwrap()
}

#[test]
fn networks_are_apart_and_leave_nothing() {
    on_host(|host| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let before = tool("nft", &["list", "ruleset"]);
            let network = Network::open(host.config.clone()).unwrap();
            let (one, two) = (user_network(1, false), user_network(2, false));
            for each in [&one, &two] {
                network.make_bridge(each.clone()).await.unwrap();
                network.make_bridge(each.clone()).await.unwrap();
            }
            let mut world = World { network: network.clone(), sets: Vec::new() };
            let mut fixed = place_at(&one, "eth0", true, &["10.77.1.9", "fd77:1::99"]);
            fixed.mac = Some("02:42:ac:11:00:05".into());
            let port = PortMapping {
                host_port: 8088,
                container_port: 7000,
                protocol: Protocol::Tcp,
                host_ip: None,
            };
            let (a, a_ips) = world.sandbox("a", vec![fixed], vec![port]).await;
            let both = vec![place(&one, "eth0", true), place(&two, "eth1", false)];
            let (b, b_ips) = world.sandbox("b", both, vec![]).await;
            let (c, c_ips) = world.sandbox("c", vec![place(&two, "eth0", true)], vec![]).await;

            assert_eq!(
                a_ips,
                ["10.77.1.9".parse::<IpAddr>().unwrap(), "fd77:1::99".parse().unwrap()]
            );
            // Drawn addresses are in the range.
            assert_eq!(v4(&b_ips, 0).to_string(), "10.77.1.64");
            assert_eq!(v4(&b_ips, 1).to_string(), "10.77.2.64");
            let link = inside(&a.net, || ip(&["link", "show", "eth0"]));
            assert!(link.contains("02:42:ac:11:00:05") && link.contains("mtu 1400"), "{link}");
            let routes = inside(&b.net, || ip(&["route", "show", "default"]));
            assert_eq!(routes.lines().count(), 1, "{routes}");

            let listeners: Vec<_> = [&a, &b, &c]
                .map(|set| inside(&set.net, || TcpListener::bind("[::]:7000").unwrap()))
                .into();
            assert!(reaches(&a, v4(&b_ips, 0)) && reaches(&b, a_ips[0]), "one network");
            assert!(reaches(&b, a_ips[1]), "over IPv6");
            assert!(reaches(&c, v4(&b_ips, 1)), "the other network, by the second interface");
            assert!(!reaches(&a, c_ips[0]) && !reaches(&c, a_ips[0]), "apart");
            let host_port: SocketAddr = "127.0.0.1:8088".parse().unwrap();
            TcpStream::connect_timeout(&host_port, Duration::from_secs(5)).unwrap();

            let all = network.attachments(Some("b")).await.unwrap();
            let seen: Vec<_> =
                all.iter().map(|one| (one.network.as_str(), one.interface.as_str())).collect();
            assert_eq!(seen, [("orlop-n1", "eth0"), ("orlop-n2", "eth1")]);
            assert!(network.disconnect("orlop-n2", "b", Some(b.net.clone())).await.unwrap());
            assert!(!network.disconnect("orlop-n2", "b", Some(b.net.clone())).await.unwrap());
            assert!(!reaches(&c, v4(&b_ips, 1)));
            assert!(reaches(&a, v4(&b_ips, 0)), "the other interface stays");
            let again =
                network.connect(request("b", &b), place(&two, "eth1", false)).await.unwrap();
            assert!(reaches(&c, v4(&again.ips, 0)));

            drop(listeners);
            for (id, set) in [("a", &a), ("b", &b), ("c", &c)] {
                world.gone(id, set).await;
            }
            assert!(network.attachments(None).await.unwrap().is_empty());
            for each in [one, two] {
                network.remove_bridge(each.clone()).await.unwrap();
                network.remove_bridge(each.clone()).await.unwrap();
                assert!(!host.config.ipam_dir.join(&each.name).exists());
            }
            let links = ip(&["-br", "link"]);
            assert!(!links.contains("br-n") && !links.contains("veth"), "{links}");
            assert_eq!(tool("nft", &["list", "ruleset"]), before);
        });
    });
}

#[test]
fn nothing_leaves_an_internal_network() {
    on_host(|host| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let network = Network::open(host.config.clone()).unwrap();
            let (inner, outer) = (user_network(1, true), user_network(2, false));
            let mut world = World { network: network.clone(), sets: Vec::new() };
            let (a, a_ips) = world.sandbox("a", vec![place(&inner, "eth0", true)], vec![]).await;
            let (b, b_ips) = world.sandbox("b", vec![place(&inner, "eth0", true)], vec![]).await;
            let (c, c_ips) = world.sandbox("c", vec![place(&outer, "eth0", true)], vec![]).await;
            let _listeners = [&a, &b, &c]
                .map(|set| inside(&set.net, || TcpListener::bind("[::]:7000").unwrap()));
            assert!(reaches(&a, b_ips[0]));
            // Even where the sandbox finds itself a way.
            inside(&a.net, || ip(&["route", "add", "default", "via", "10.77.1.254"]));
            assert!(!reaches(&a, c_ips[0]) && !reaches(&c, a_ips[0]));
            for (id, set) in [("a", &a), ("b", &b), ("c", &c)] {
                world.gone(id, set).await;
            }
        });
    });
}

#[test]
fn a_failed_attachment_leaves_none_of_its_interfaces() {
    on_host(|host| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let network = Network::open(host.config.clone()).unwrap();
            let (one, two) = (user_network(1, false), user_network(2, false));
            let set = network.namespaces().await.unwrap();
            let wrong = place_at(&two, "eth1", false, &["10.99.0.1"]);
            let places = Some(vec![place(&one, "eth0", true), wrong]);
            let error =
                network.attach(AttachRequest { places, ..request("a", &set) }).await.unwrap_err();
            assert!(crate::engine::report(&error).contains("10.99.0.1"), "{error}");
            assert!(network.attachments(None).await.unwrap().is_empty());
            let links = inside(&set.net, || ip(&["-br", "link"]));
            assert!(!links.contains("eth"), "{links}");
            network.release(&set.slot).await.unwrap();
        });
    });
}

#[test]
fn the_default_bridge_is_there_whatever_is_configured() {
    on_host(|host| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            std::fs::create_dir_all(&host.config.conf_dir).unwrap();
            std::fs::write(host.config.conf_dir.join("1.conflist"), "{ nope").unwrap();
            let network = Network::open(host.config.clone()).unwrap();
            assert!(!network.status().ready);
            let mut world = World { network: network.clone(), sets: Vec::new() };
            let default = || Place {
                list: network.default_bridge(true).unwrap(),
                interface: "eth0".into(),
                ports: true,
                ..Place::default()
            };
            let user = user_network(1, false);
            let (a, a_ips) = world.sandbox("a", vec![default()], vec![]).await;
            let (b, b_ips) = world.sandbox("b", vec![default()], vec![]).await;
            let (c, c_ips) = world.sandbox("c", vec![place(&user, "eth0", true)], vec![]).await;
            let _listeners = [&a, &b, &c]
                .map(|set| inside(&set.net, || TcpListener::bind("[::]:7000").unwrap()));
            assert!(reaches(&a, b_ips[0]));
            assert!(!reaches(&a, c_ips[0]) && !reaches(&c, a_ips[0]));
            for (id, set) in [("a", &a), ("b", &b), ("c", &c)] {
                world.gone(id, set).await;
            }
        });
    });
}
