//! The main job with the real crictl: an image from a registry becomes a pod that serves a page, and goes without a trace.

use orlop_e2e::World;
use orlop_e2e::process::{output, run, until};
use serde_json::json;

#[test]
fn a_pod_serves_a_page_through_a_host_port() {
    let mut world = World::new();
    let image = world.busybox();
    let pod_config = world.pod(
        "web",
        json!({"port_mappings": [{"protocol": 0, "container_port": 80, "host_port": 8080}]}),
    );
    let pod = world.run_pod(&pod_config);
    let script = "mkdir -p /www; echo hello from the pod >/www/index.html; echo ready; exec httpd -f -v -p 80 -h /www";
    let container = world.run_container(
        &pod,
        &pod_config,
        &world.container("httpd", &image, &["sh", "-c", script], json!({})),
    );

    until("the page", || {
        output(world.inside("curl").args(["-fsS", "-m", "5", "http://127.0.0.1:8080/"]))
            .status
            .success()
    });
    assert_eq!(
        run(world.inside("curl").args(["-fsS", "-m", "5", "http://127.0.0.1:8080/"])),
        "hello from the pod"
    );

    assert!(world.crictl(&["logs", &container]).contains("ready"));
    assert_eq!(world.crictl(&["exec", "--sync", &container, "hostname"]), "web");
    assert!(world.crictl(&["ps", "-q"]).contains(&container));

    world.crictl(&["stop", "--timeout", "1", &container]);
    assert_eq!(world.status(&container)["state"], "CONTAINER_EXITED");
    world.crictl(&["rm", &container]);
    world.crictl(&["stopp", &pod]);
    world.crictl(&["rmp", &pod]);
    assert_eq!(world.crictl(&["pods", "-q"]), "");
    assert!(
        !output(world.inside("curl").args(["-fsS", "-m", "2", "http://127.0.0.1:8080/"]))
            .status
            .success()
    );
}
