//! The engine: failures undone, records of crashes, plugins of others that misbehave, the door.

use super::harness::{Host, inside, ip, list, on_host, reference_installed, request, tool};
use crate::engine::report;
use crate::{AttachRequest, DetachRequest, Network, PortMapping, Protocol};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

fn bridge(host: &Host) -> Value {
    let ipam = json!({"type": "host-local", "dataDir": host.data_dir(), "subnet": "10.96.0.0/29"});
    json!({"type": "bridge", "bridge": "cni-eng0", "isDefaultGateway": true, "ipam": ipam})
}

fn document(plugins: &[Value]) -> Value {
    json!({"cniVersion": "1.0.0", "name": "engine", "plugins": plugins})
}

/// Plugins that are shell scripts, in a directory of the host.
fn script(host: &Host, name: &str, text: &str) {
    let dir = host.dir.path().join("bin");
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join(name);
    std::fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Nothing is left of any attachment.
fn clean(host: &Host) {
    let addresses: Vec<_> =
        host.addresses("engine").into_keys().filter(|name| name.starts_with("10.")).collect();
    assert!(addresses.is_empty(), "{addresses:?}");
    assert!(host.results().is_empty());
    assert_eq!(ip(&["-j", "link", "show", "type", "veth"]).trim(), "[]");
}

fn with_bin(host: &Host) -> crate::engine::Engine {
    let mut config = host.config.clone();
    config.bin_dirs = vec![host.dir.path().join("bin")];
    config.plugin_timeout = Duration::from_secs(2);
    crate::engine::Engine::open(&config).unwrap()
}

#[test]
fn a_failed_add_is_undone() {
    on_host(|host| {
        script(
            host,
            "last",
            r#"echo "$CNI_COMMAND $CNI_ARGS" >> "$(dirname "$0")/log"; if [ $CNI_COMMAND = ADD ]; then echo '{"cniVersion":"1.0.0","code":111,"msg":"no luck today"}'; echo grumble >&2; exit 1; fi"#,
        );
        let engine = with_bin(host);
        let pool = host.pool(0);
        let set = pool.make().unwrap();
        let list = list(&document(&[bridge(host), json!({"type": "last"})]));
        for _ in 0..2 {
            let error = report(&engine.attach(&list, &request("a", &set), None).unwrap_err());
            assert_eq!(error, r#"network "engine": plugin "last": no luck today: grumble"#);
            clean(host);
        }
        let log = std::fs::read_to_string(host.dir.path().join("bin/log")).unwrap();
        let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=pod;K8S_POD_INFRA_CONTAINER_ID=a;K8S_POD_UID=uid";
        assert_eq!(log, format!("ADD {args}\nDEL {args}\n").repeat(2));
        pool.release(&set.slot).unwrap();
    });
}

#[test]
fn plugins_that_misbehave() {
    let cases = [
        ("silent", "exit 0", "printed no result"),
        ("garbage", "echo hello", "not JSON"),
        ("huge", "if [ $CNI_COMMAND = ADD ]; then exec cat /dev/zero; fi", "more than"),
        ("hangs", "if [ $CNI_COMMAND = ADD ]; then exec sleep 1000; fi", "did not end within 2 s"),
        ("killed", "if [ $CNI_COMMAND = ADD ]; then kill -9 $$; fi", "signal 9"),
        (
            "fails",
            "if [ $CNI_COMMAND = ADD ]; then echo why; exit 3; fi",
            "exit code 3 and printed \"why\"",
        ),
        (
            "wrong",
            r#"echo '{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.1/8","interface":7}]}'"#,
            "names an interface",
        ),
    ];
    on_host(|host| {
        let engine = with_bin(host);
        let pool = host.pool(0);
        let set = pool.make().unwrap();
        for (name, text, expected) in cases {
            script(host, name, text);
            let list = list(&document(&[bridge(host), json!({"type": name})]));
            let error = report(&engine.attach(&list, &request("a", &set), None).unwrap_err());
            assert!(error.contains(expected), "{name}: {error}");
            clean(host);
        }
        let list = list(&document(&[json!({"type": "absent"})]));
        let error = report(&engine.attach(&list, &request("a", &set), None).unwrap_err());
        assert!(
            error.contains("plugin \"absent\" is not in") && error.contains("install it there"),
            "{error}"
        );
        pool.release(&set.slot).unwrap();
    });
}

#[test]
fn a_grandchild_that_keeps_stdout_is_not_waited_for() {
    on_host(|host| {
        let dir = host.dir.path().display();
        script(
            host,
            "forks",
            &format!(r#"sleep 1000 & echo $! > {dir}/pid; echo '{{"cniVersion":"1.0.0"}}'"#),
        );
        let engine = with_bin(host);
        let pool = host.pool(0);
        let set = pool.make().unwrap();
        let list = list(&document(&[json!({"type": "forks"})]));
        let begin = Instant::now();
        engine.attach(&list, &request("a", &set), None).unwrap();
        assert!(begin.elapsed() < Duration::from_secs(900));
        let pid = std::fs::read_to_string(host.dir.path().join("pid")).unwrap();
        tool("kill", &["-9", pid.trim()]);
        pool.release(&set.slot).unwrap();
    });
}

#[test]
fn what_a_crash_left_half_made_is_undone() {
    on_host(|host| {
        let list = list(&document(&[bridge(host)]));
        let pool = host.pool(0);
        let set = pool.make().unwrap();
        host.ours().attach(&list, &request("a", &set), None).unwrap();
        // A crash in mid-ADD: the entry has no result yet.
        let file = host.config.cache_dir.join("results/engine-a-eth0");
        let mut entry: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        entry.as_object_mut().unwrap().remove("result");
        std::fs::write(&file, entry.to_string()).unwrap();
        let engine = host.ours();
        assert_eq!(engine.sandboxes().unwrap(), ["a"]);
        // A second start of the same sandbox, in the same namespace.
        engine.attach(&list, &request("a", &set), None).unwrap();
        assert_eq!(
            host.addresses("engine").keys().filter(|name| name.starts_with("10.")).count(),
            1
        );
        std::fs::write(&file, entry.to_string()).unwrap();
        engine.detach(None, "a", None, false).unwrap();
        pool.release(&set.slot).unwrap();
        assert!(host.results().is_empty());
    });
}

#[test]
fn addresses_run_out_and_come_back() {
    on_host(|host| {
        let list = list(&document(&[bridge(host)]));
        let (engine, pool) = (host.ours(), host.pool(0));
        let sets: Vec<_> = (0..6).map(|_| pool.make().unwrap()).collect();
        for (index, set) in sets.iter().enumerate().take(5) {
            engine.attach(&list, &request(&format!("p{index}"), set), None).unwrap();
        }
        let error = report(&engine.attach(&list, &request("p5", &sets[5]), None).unwrap_err());
        assert!(error.contains("no address is left in 10.96.0.1-10.96.0.6"), "{error}");
        engine.detach(None, "p2", Some(&sets[2].net), true).unwrap();
        let attached = engine.attach(&list, &request("p5", &sets[5]), None).unwrap();
        assert_eq!(attached.ips, ["10.96.0.4".parse::<std::net::IpAddr>().unwrap()]);
        for (index, set) in sets.iter().enumerate() {
            engine.detach(None, &format!("p{index}"), Some(&set.net), false).unwrap();
            pool.release(&set.slot).unwrap();
        }
    });
}

fn runtime() -> tokio::runtime::Runtime {
    // Blocking threads are children of this thread and so on the test's host.
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn the_built_in_network_works_without_any_configuration() {
    on_host(|host| {
        runtime().block_on(async {
            let network = Network::open(host.config.clone()).unwrap();
            let status = network.status();
            assert!(status.ready && status.file.is_none(), "{status:?}");
            let (a, b) = (network.namespaces().await.unwrap(), network.namespaces().await.unwrap());
            let ports = vec![PortMapping {
                host_port: 8080,
                container_port: 80,
                protocol: Protocol::Tcp,
                host_ip: None,
            }];
            let first = network.attach(AttachRequest { ports, ..request("a", &a) }).await.unwrap();
            let second = network.attach(request("b", &b)).await.unwrap();
            network.check("orlop", "a", a.net.clone()).await.unwrap();
            let ruleset = tool("nft", &["list", "ruleset"]);
            assert!(ruleset.contains(&first.ips[0].to_string()), "{ruleset}");
            // The pods reach each other and the host's end of the bridge.
            let listener = inside(&b.net, || std::net::TcpListener::bind("0.0.0.0:7000").unwrap());
            let target = std::net::SocketAddr::new(second.ips[0], 7000);
            inside(&a.net, || {
                std::net::TcpStream::connect_timeout(&target, Duration::from_secs(5)).unwrap()
            });
            std::net::TcpStream::connect_timeout(&target, Duration::from_secs(5)).unwrap();
            drop(listener);
            let detach = |id: &str, set: &crate::Namespaces| DetachRequest {
                sandbox_id: id.into(),
                netns: Some(set.net.clone()),
                ..DetachRequest::default()
            };
            for (id, set) in [("a", &a), ("b", &b), ("a", &a)] {
                network.detach(detach(id, set)).await.unwrap();
                network.release(&set.slot).await.unwrap();
            }
            assert!(host.results().is_empty());
            let ruleset = tool("nft", &["list", "ruleset"]);
            assert!(!ruleset.contains(&first.ips[0].to_string()), "{ruleset}");
            let left: Vec<_> = host
                .addresses("orlop")
                .into_keys()
                .filter(|name| name.starts_with("10."))
                .collect();
            assert!(left.is_empty(), "{left:?}");
        });
    });
}

#[test]
fn configuration_is_followed() {
    on_host(|host| {
        runtime().block_on(async {
            let mut config = host.config.clone();
            config.builtin.enabled = false;
            let network = Network::open(config.clone()).unwrap();
            assert_eq!(network.status().reason, "NoCniConfig");
            let set = network.namespaces().await.unwrap();
            assert!(
                network
                    .attach(request("a", &set))
                    .await
                    .unwrap_err()
                    .to_string()
                    .contains("not ready")
            );
            std::fs::create_dir_all(&config.conf_dir).unwrap();
            let file = config.conf_dir.join("10-net.conflist");
            std::fs::write(&file, "{ nope").unwrap();
            until(&network, |status| {
                status.message.starts_with(&format!("{}:1:3: ", file.display()))
            })
            .await;
            assert!(!network.status().ready);
            std::fs::write(&file, document(&[bridge(host)]).to_string()).unwrap();
            until(&network, |status| status.ready && status.network == "engine").await;
            std::fs::remove_dir_all(&config.conf_dir).unwrap();
            until(&network, |status| status.reason == "NoCniConfig").await;
            network.release(&set.slot).await.unwrap();
        });
    });
}

async fn until(network: &Network, wanted: impl Fn(&crate::NetworkStatus) -> bool) {
    let changed = async {
        while !wanted(&network.status()) {
            tokio::task::yield_now().await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(20), changed).await;
    assert!(in_time.is_ok(), "{:?}", network.status());
}

#[test]
fn recovery_drops_what_has_no_sandbox() {
    on_host(|host| {
        runtime().block_on(async {
            let before = Network::open(host.config.clone()).unwrap();
            let (a, b) = (before.namespaces().await.unwrap(), before.namespaces().await.unwrap());
            let kept = before.attach(request("a", &a)).await.unwrap();
            before.attach(request("b", &b)).await.unwrap();
            // Lost with a power cut: an address without any record.
            std::fs::write(host.config.ipam_dir.join("orlop/10.189.0.99"), "lost\r\neth0").unwrap();
            drop(before);
            let after = Network::open(host.config.clone()).unwrap();
            let waiting = after.namespaces().await.unwrap();
            after.recover(std::slice::from_ref(&a.slot), &["a".into()]).await.unwrap();
            let left: Vec<_> = host
                .addresses("orlop")
                .into_keys()
                .filter(|name| name.starts_with("10."))
                .collect();
            assert_eq!(left, [kept.ips[0].to_string()]);
            assert_eq!(host.results().len(), 1);
            assert!(Path::new(&a.net).exists() && waiting.net.exists() && !b.net.exists());
            after.check("orlop", "a", a.net.clone()).await.unwrap();
            after.recover(&[], &[]).await.unwrap();
            assert!(!a.net.exists() && waiting.net.exists());
            assert!(host.results().is_empty());
            after.release(&waiting.slot).await.unwrap();
        });
    });
}

#[test]
fn other_runtimes_can_delete_what_we_made() {
    if !reference_installed() {
        return;
    }
    on_host(|host| {
        let list = list(&document(&[bridge(host)]));
        let pool = host.pool(0);
        let set = pool.make().unwrap();
        host.ours().attach(&list, &request("a", &set), None).unwrap();
        host.reference().detach(None, "a", Some(&set.net), false).unwrap();
        clean(host);
        host.reference().attach(&list, &request("a", &set), None).unwrap();
        host.ours().detach(None, "a", Some(&set.net), false).unwrap();
        clean(host);
        pool.release(&set.slot).unwrap();
    });
}

#[test]
fn many_at_once() {
    on_host(|host| {
        let runtime = runtime();
        runtime.block_on(async {
            let config = crate::NetworkConfig { pool_size: 4, ..host.config.clone() };
            let network = Network::open(config).unwrap();
            let start = |index: usize| {
                let network = network.clone();
                tokio::spawn(async move {
                    let set = network.namespaces().await.unwrap();
                    let attached =
                        network.attach(request(&format!("p{index}"), &set)).await.unwrap();
                    (set, attached.ips[0])
                })
            };
            let tasks: Vec<_> = (0..24).map(start).collect();
            let (mut sets, mut ips) = (vec![], vec![]);
            for task in tasks {
                let (set, ip) = task.await.unwrap();
                sets.push(set);
                ips.push(ip);
            }
            ips.sort_unstable();
            ips.dedup();
            assert_eq!(ips.len(), 24);
            for (index, set) in sets.iter().enumerate() {
                let sandbox_id = format!("p{index}");
                // Half of them with their namespace gone already.
                if index % 2 == 0 {
                    network.release(&set.slot).await.unwrap();
                }
                let request = DetachRequest {
                    sandbox_id,
                    netns: Some(set.net.clone()),
                    ..DetachRequest::default()
                };
                network.detach(request).await.unwrap();
                network.release(&set.slot).await.unwrap();
            }
            assert!(host.results().is_empty());
        });
    });
}

#[test]
fn the_built_in_network_has_ipv6_where_the_host_has_it() {
    on_host(|host| {
        ip(&["link", "add", "up0", "type", "veth", "peer", "name", "up1"]);
        ip(&["link", "set", "up0", "up"]);
        ip(&["link", "set", "up1", "up"]);
        ip(&["address", "add", "2001:db8::1/64", "dev", "up0", "nodad"]);
        ip(&["-6", "route", "add", "default", "via", "2001:db8::2"]);
        runtime().block_on(async {
            let network = Network::open(host.config.clone()).unwrap();
            let (a, b) = (network.namespaces().await.unwrap(), network.namespaces().await.unwrap());
            network.attach(request("a", &a)).await.unwrap();
            let attached = network.attach(request("b", &b)).await.unwrap();
            assert!(
                attached.ips.len() == 2 && attached.ips[0].is_ipv4() && attached.ips[1].is_ipv6()
            );
            network.check("orlop", "b", b.net.clone()).await.unwrap();
            // Usable at once, without waiting for detection of duplicates.
            let listener = inside(&b.net, || std::net::TcpListener::bind("[::]:7000").unwrap());
            let target = std::net::SocketAddr::new(attached.ips[1], 7000);
            inside(&a.net, || {
                std::net::TcpStream::connect_timeout(&target, Duration::from_secs(5)).unwrap()
            });
            drop(listener);
            for (id, set) in [("a", &a), ("b", &b)] {
                let netns = Some(set.net.clone());
                network
                    .detach(DetachRequest {
                        sandbox_id: id.into(),
                        netns,
                        ..DetachRequest::default()
                    })
                    .await
                    .unwrap();
                network.release(&set.slot).await.unwrap();
            }
            assert!(host.results().is_empty());
        });
    });
}
