//! The network as an administrator configures it: conflists that come and change, plugins in process and executed.

use orlop_e2e::World;
use orlop_e2e::process::{output, run, until};
use serde_json::json;

fn address(world: &World, pod: &str) -> String {
    let text = world.crictl(&["inspectp", "-o", "json", pod]);
    let status: serde_json::Value = serde_json::from_str(&text).unwrap();
    status["status"]["network"]["ip"].as_str().unwrap().to_owned()
}

#[test]
fn a_conflist_that_appears_is_used_and_a_broken_one_is_told() {
    let mut world = World::new();
    let image = world.busybox();
    let builtin = world.run_pod(&world.pod("builtin", json!({})));
    let first = address(&world, &builtin);

    // ptp and its addresses are in process; sbr (source based routing) is executed from the plugin directories.
    let conflist = json!({"cniVersion": "1.0.0", "name": "site", "plugins": [
        {"type": "ptp", "ipMasq": true, "ipam": {"type": "host-local", "dataDir": world.path("ipam"),
            "ranges": [[{"subnet": "10.77.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
        {"type": "sbr"},
    ]});
    std::fs::write(world.path("cni/10-site.conflist"), conflist.to_string()).unwrap();
    until("the new network", || world.crictl(&["info"]).contains("site"));
    let pod_config = world.pod("site", json!({}));
    let site = world.run_pod(&pod_config);
    assert!(address(&world, &site).starts_with("10.77.0."), "{first}");
    let id = world.run_container(
        &site,
        &pod_config,
        &world.container("c", &image, &["sleep", "1000"], json!({})),
    );
    let rules = world.crictl(&["exec", "--sync", &id, "ip", "rule"]);
    assert!(rules.contains("from 10.77.0."), "sbr has worked: {rules}");
    assert!(
        output(world.inside("/bin/busybox").args([
            "ping",
            "-c",
            "1",
            "-W",
            "5",
            &address(&world, &site)
        ]))
        .status
        .success()
    );

    std::fs::write(world.path("cni/10-site.conflist"), "{ broken").unwrap();
    until("the broken network to be told", || {
        let info = world.crictl(&["info"]);
        info.contains("10-site.conflist") && info.contains("false")
    });
    // Pods are taken down with the network that they were made with, whatever the configuration says now.
    for pod in [&builtin, &site] {
        world.crictl(&["stopp", pod]);
        world.crictl(&["rmp", pod]);
    }
    let left = std::fs::read_dir(world.path("ipam/site")).unwrap().flatten();
    let left: Vec<_> = left
        .map(|entry| entry.file_name())
        .filter(|name| name.to_string_lossy().starts_with("10.77"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn pods_reach_each_other_and_the_host_reaches_them_by_its_ports() {
    let mut world = World::new();
    let image = world.busybox();
    let ports = json!({"port_mappings": [{"protocol": 0, "container_port": 80, "host_port": 8090}, {"protocol": 1, "container_port": 53, "host_port": 8053}]});
    let pod_config = world.pod("server", ports);
    let server = world.run_pod(&pod_config);
    let script = "mkdir /www; echo served >/www/index.html; httpd -f -p 80 -h /www";
    world.run_container(
        &server,
        &pod_config,
        &world.container("c", &image, &["sh", "-c", script], json!({})),
    );
    let client_config = world.pod("client", json!({}));
    let client = world.run_pod(&client_config);
    let id = world.run_container(
        &client,
        &client_config,
        &world.container("c", &image, &["sleep", "1000"], json!({})),
    );
    let server_address = address(&world, &server);
    // busybox's wget crashes in a static build that looks up names; its nc does not.
    let request = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 {server_address} 80");
    let ask = ["exec", "--sync", &id, "sh", "-c", &request];
    until("the page from the neighbour", || {
        String::from_utf8_lossy(&world.try_crictl(&ask).stdout).contains("served")
    });
    assert_eq!(
        run(world.inside("curl").args(["-fsS", "-m", "5", "http://127.0.0.1:8090/"])),
        "served"
    );
    world.crictl(&["stopp", &server]);
    assert!(
        !output(world.inside("curl").args(["-fsS", "-m", "2", "http://127.0.0.1:8090/"]))
            .status
            .success()
    );
}
