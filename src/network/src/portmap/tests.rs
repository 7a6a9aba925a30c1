//! Real traffic through host ports: from another machine, from the host, from pods.

use super::Portmap;
use crate::ruleset::testing::{
    CLIENT4, HOST4, HOST6, Pod, World, exchange, in_world, port, reach, ruleset, tool,
};
use crate::{Plugin, PluginError, PortMapping, Protocol};
use orlop_sys::nft::{Nft, conntrack::Flow};
use serde_json::json;
use std::net::{TcpListener, UdpSocket};

fn add_with(
    pod: &Pod,
    config: &serde_json::Value,
    ports: &[PortMapping],
) -> Result<(), PluginError> {
    let result = pod.call(config, ports, |call| Portmap.add(call))?;
    assert_eq!(result, pod.result);
    pod.call(config, ports, |call| Portmap.check(call))
}

fn add(pod: &Pod, ports: &[PortMapping]) -> Result<(), PluginError> {
    add_with(pod, &json!({"type": "portmap"}), ports)
}

/// As after a restart: without a result, without the ports.
fn del(pod: &Pod) {
    pod.call(&json!({"type": "portmap"}), &[], |call| Portmap.del(call)).unwrap();
}

fn tcp(host_port: u16, container_port: u16) -> PortMapping {
    port(Protocol::Tcp, host_port, container_port, "")
}

fn seen(answer: Option<std::net::IpAddr>) -> String {
    answer.map_or_else(|| "nobody".to_owned(), |address| address.to_string())
}

fn from_client(world: &World, server: &TcpListener, to: &str) -> String {
    seen(world.client.reaches(server, to))
}

#[test]
fn a_port_is_reached_from_everywhere() {
    in_world(|world| {
        let (pod, neighbour) = (world.pod(), world.pod());
        let server = pod.place.listen(80);
        add(&pod, &[tcp(8080, 80)]).unwrap();
        // Another machine sees the pod behind the host, and the pod sees the machine.
        assert_eq!(from_client(world, &server, "192.0.2.1:8080"), CLIENT4);
        assert_eq!(from_client(world, &server, "[2001:db8::1]:8080"), "2001:db8::2");
        assert_eq!(from_client(world, &server, "10.88.0.1:8080"), CLIENT4);
        // The host, by its address and by loopback.
        assert_eq!(seen(reach(&server, "192.0.2.1:8080")), HOST4);
        assert_eq!(seen(reach(&server, "[2001:db8::1]:8080")), HOST6);
        assert_eq!(seen(reach(&server, "127.0.0.1:8080")), "10.88.0.1");
        // ::1 is not translated (the kernel could not route the answer), so it stays the host's.
        let own = TcpListener::bind("[::1]:8080").unwrap();
        assert_eq!(seen(reach(&own, "[::1]:8080")), "::1");
        // The pod itself and its neighbour: the answer must come back through the host.
        assert_eq!(seen(pod.place.reaches(&server, "192.0.2.1:8080")), "10.88.0.1");
        assert_eq!(seen(pod.place.reaches(&server, "[2001:db8::1]:8080")), "fd00:88::1");
        assert_eq!(seen(neighbour.place.reaches(&server, "192.0.2.1:8080")), "10.88.0.1");
        // The pod's own port as before.
        assert_eq!(seen(neighbour.place.reaches(&server, "10.88.0.2:80")), "10.88.0.3");
        assert_eq!(from_client(world, &server, "10.88.0.2:80"), CLIENT4);
        del(&pod);
        assert_eq!(ruleset(), "");
        assert_eq!(from_client(world, &server, "192.0.2.1:8080"), "nobody");
        del(&pod);
    });
}

#[test]
fn another_protocol_or_port_is_not_touched() {
    in_world(|world| {
        let pod = world.pod();
        let server = pod.place.listen(80);
        add(&pod, &[tcp(8080, 80), port(Protocol::Sctp, 8080, 80, "")]).unwrap();
        assert!(ruleset().contains("sctp . 8080"), "{}", ruleset());
        let own = TcpListener::bind("0.0.0.0:8081").unwrap();
        assert_eq!(from_client(world, &own, "192.0.2.1:8081"), CLIENT4);
        let datagrams = UdpSocket::bind("0.0.0.0:8080").unwrap();
        let client = world.client.udp(0);
        assert_eq!(seen(exchange(&datagrams, &client, "[::ffff:192.0.2.1]:8080")), CLIENT4);
        assert_eq!(from_client(world, &server, "192.0.2.1:8081"), "nobody");
    });
}

#[test]
fn foreign_traffic_passes() {
    in_world(|world| {
        let (pod, other) = (world.pod(), world.pod());
        let (_server, foreign) = (pod.place.listen(80), other.place.listen(8080));
        add(&pod, &[tcp(8080, 80)]).unwrap();
        // Through the host to a pod's own port of the same number, and from a pod to outside.
        assert_eq!(from_client(world, &foreign, "10.88.0.3:8080"), CLIENT4);
        let outside = world.client.listen(8080);
        assert_eq!(seen(other.place.reaches(&outside, "192.0.2.2:8080")), "10.88.0.3");
        assert_eq!(seen(reach(&outside, "192.0.2.2:8080")), HOST4);
    });
}

#[test]
fn one_host_address_only() {
    in_world(|world| {
        let (pod, other) = (world.pod(), world.pod());
        let (server, second) = (pod.place.listen(80), other.place.listen(80));
        add(&pod, &[port(Protocol::Tcp, 8080, 80, "10.88.0.1")]).unwrap();
        add(&other, &[port(Protocol::Tcp, 8080, 80, "192.0.2.1")]).unwrap();
        assert_eq!(from_client(world, &server, "10.88.0.1:8080"), CLIENT4);
        assert_eq!(from_client(world, &second, "192.0.2.1:8080"), CLIENT4);
        assert_eq!(from_client(world, &server, "[2001:db8::1]:8080"), "nobody");
        let third = world.pod();
        let error = add(&third, &[tcp(8080, 80)]).unwrap_err();
        assert!(error.msg.starts_with("host port 8080/tcp is taken by sandbox 0"), "{error}");
        del(&pod);
        del(&other);
        add(&third, &[port(Protocol::Tcp, 8080, 80, "::")]).unwrap();
        assert!(!ruleset().contains("tcp . 8080 comment \"0000000000000000000000000000000000000000000000000000000000000004 eth0 net\" : 10."));
        let error = add(&pod, &[port(Protocol::Tcp, 8080, 80, "2001:db8::1")]).unwrap_err();
        assert_eq!(
            error.msg,
            format!("host port [2001:db8::1]:8080/tcp is taken by sandbox {}", third.id)
        );
        del(&third);
        assert_eq!(ruleset(), "");
    });
}

#[test]
fn loopback_of_the_host_stays_closed() {
    in_world(|world| {
        let pod = world.pod();
        let secret = TcpListener::bind("127.0.0.1:9000").unwrap();
        add(&pod, &[port(Protocol::Tcp, 8080, 80, "127.0.0.1")]).unwrap();
        let localnet =
            || std::fs::read_to_string("/proc/sys/net/ipv4/conf/cni0/route_localnet").unwrap();
        assert_eq!(localnet(), "1\n");
        // A pod, and a machine on the link, that send to 127.0.0.1 by way of the host.
        let aim = |gateway: &str| {
            std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").unwrap();
            tool("ip", &["route", "add", "127.0.0.9/32", "via", gateway, "dev", "eth0"], "");
            tool("ip", &["route", "flush", "table", "local"], "");
        };
        pod.place.run(|| aim("10.88.0.1"));
        assert_eq!(seen(pod.place.reaches(&secret, "127.0.0.9:9000")), "nobody");
        let server = pod.place.listen(80);
        assert_eq!(from_client(world, &server, "192.0.2.1:8080"), "nobody");
        del(&pod);
        assert_eq!(localnet(), "0\n");
        assert_eq!(ruleset(), "");
    });
}

#[test]
fn udp_follows_the_port() {
    in_world(|world| {
        let (old, new) = (world.pod(), world.pod());
        let ports = [port(Protocol::Udp, 5300, 53, "")];
        let (first, second) = (old.place.udp(53), new.place.udp(53));
        let clients = [
            (world.client.udp(0), "[::ffff:192.0.2.1]:5300"),
            (world.client.udp(0), "[2001:db8::1]:5300"),
        ];
        for (client, to) in &clients {
            // A connection is tracked, but translated by nobody.
            client.send_to(b"lost", to.parse::<std::net::SocketAddr>().unwrap()).unwrap();
        }
        add(&old, &ports).unwrap();
        for (client, to) in &clients {
            assert_ne!(seen(exchange(&first, client, to)), "nobody", "{to}");
        }
        del(&old);
        add(&new, &ports).unwrap();
        for (client, to) in &clients {
            assert_eq!(seen(exchange(&first, client, to)), "nobody", "{to}");
            assert_ne!(seen(exchange(&second, client, to)), "nobody", "{to}");
        }
        // Another machine's port of the same number keeps its connection, and its port on the host.
        let (elsewhere, far) = (world.client.udp(5300), old.place.udp(0));
        assert_eq!(seen(exchange(&elsewhere, &far, "[::ffff:192.0.2.2]:5300")), "10.88.0.2");
        let flows = || Nft::open().unwrap().flows(false, 17, 5300).unwrap();
        let through = |flow: &Flow| flow.original.destination.to_string() == CLIENT4;
        assert!(flows().iter().any(through));
        del(&new);
        add(&new, &ports).unwrap();
        assert!(flows().iter().any(through));
        let loopback = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(seen(exchange(&second, &loopback, "127.0.0.1:5300")), "10.88.0.1");
    });
}

#[test]
fn senders_as_configured() {
    in_world(|world| {
        let pod = world.pod();
        let server = pod.place.listen(80);
        add_with(&pod, &json!({"masqAll": true}), &[tcp(8080, 80)]).unwrap();
        assert_eq!(from_client(world, &server, "192.0.2.1:8080"), "10.88.0.1");
        assert_eq!(seen(reach(&server, "127.0.0.1:8080")), "10.88.0.1");
        del(&pod);
        add_with(&pod, &json!({"snat": false}), &[tcp(8080, 80)]).unwrap();
        assert_eq!(from_client(world, &server, "192.0.2.1:8080"), CLIENT4);
        assert_eq!(seen(pod.place.reaches(&server, "192.0.2.1:8080")), "nobody");
        assert_eq!(
            std::fs::read_to_string("/proc/sys/net/ipv4/conf/cni0/route_localnet").unwrap(),
            "0\n"
        );
    });
}

#[test]
fn a_port_has_one_holder() {
    in_world(|world| {
        let (pod, other) = (world.pod(), world.pod());
        add(&pod, &[tcp(8080, 80), tcp(8081, 81)]).unwrap();
        let before = ruleset();
        let error = add(&other, &[tcp(9090, 90), tcp(8081, 81)]).unwrap_err();
        assert_eq!(error.msg, format!("host port 8081/tcp is taken by sandbox {}", pod.id));
        assert_eq!(ruleset(), before);
        // A repeated ADD of the same pod takes over what it has.
        add(&pod, &[tcp(8080, 80), tcp(8081, 82)]).unwrap();
        assert!(ruleset().contains("10.88.0.2 . 82"), "{}", ruleset());
        Portmap.collect("net", std::slice::from_ref(&pod.id)).unwrap();
        assert!(ruleset().contains(&pod.id));
        Portmap.collect("net", &[]).unwrap();
        assert_eq!(ruleset(), "");
    });
}

#[test]
fn many_pods_come_and_go_at_once() {
    in_world(|world| {
        let pod = world.pod();
        // The table goes with the last element and comes with the first one, over and over.
        std::thread::scope(|scope| {
            for thread in 0..8_u16 {
                let mut one = world_pod(&pod, thread);
                scope.spawn(move || {
                    for round in 0..20 {
                        one.id = format!("pod-{thread}-{round}");
                        add(
                            &one,
                            &[
                                tcp(10000 + thread, 80),
                                port(Protocol::Udp, 53, 53, &format!("192.0.2.{thread}")),
                            ],
                        )
                        .unwrap();
                        del(&one);
                        assert!(!ruleset().contains(&one.id));
                    }
                });
            }
        });
        assert_eq!(ruleset(), "");
    });
}

#[test]
fn the_last_two_at_once_take_the_table_along() {
    in_world(|world| {
        let pod = world.pod();
        let both = [0, 1_u16].map(|number| {
            let mut one = world_pod(&pod, number);
            one.id = format!("pod-{number}");
            one
        });
        let together = std::sync::Barrier::new(both.len());
        for _ in 0..60 {
            for (port, one) in (10000..).zip(&both) {
                add(one, &[tcp(port, 80)]).unwrap();
            }
            std::thread::scope(|scope| {
                for one in &both {
                    scope.spawn(|| {
                        together.wait();
                        del(one);
                    });
                }
            });
            assert_eq!(ruleset(), "");
        }
    });
}

/// Run with `--ignored --nocapture`; the numbers are in `docs/decisions/0006-nftables.md`.
#[test]
#[ignore = "prints times, asserts nothing"]
#[expect(clippy::print_stdout, reason = "its purpose")]
fn measure_add_and_del() {
    const ROUNDS: u32 = 200;
    let microseconds = |mut times: Vec<std::time::Duration>| {
        times.sort();
        let at = |percent: usize| times[times.len() * percent / 100].as_secs_f64() * 1e6;
        format!("min {:.0} p50 {:.0} p90 {:.0} µs", at(0), at(50), at(90))
    };
    in_world(|world| {
        let (pod, other) = (world.pod(), world.pod());
        for present in [0, 1, 500, 5000_u16] {
            for first in 0..present {
                let mut one = world_pod(&other, first);
                one.id = format!("{:064x}", 1000 + u32::from(first));
                add(&one, &[tcp(10000 + first, 80)]).unwrap();
            }
            let (mut adds, mut dels) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                let begin = std::time::Instant::now();
                let config = json!({"type": "portmap"});
                pod.call(&config, &[tcp(8080, 80)], |call| Portmap.add(call)).unwrap();
                adds.push(begin.elapsed());
                let begin = std::time::Instant::now();
                del(&pod);
                dels.push(begin.elapsed());
            }
            println!("{present} others: add {}, del {}", microseconds(adds), microseconds(dels));
            Portmap.collect("net", &[]).unwrap();
        }
    });
}

/// A pod that shares another's place, with an address of its own.
fn world_pod(pod: &Pod, number: u16) -> Pod {
    let mut result = pod.result.clone();
    let [high, low] = number.to_be_bytes();
    result.ips[0].address = format!("10.88.{}.{low}/16", 100 + high).parse().unwrap();
    result.ips.truncate(1);
    Pod { place: pod.place.again(), id: String::new(), result }
}
