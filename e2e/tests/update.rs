//! UpdateContainerResources and UpdatePodSandboxResources: in the kernel, in the status, and after a
//! restart.

use k8s_cri::v1::LinuxContainerResources;
use orlop_e2e::World;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// A limit in the kernel: of v1, or of v2 where the host has that.
fn limit(world: &World, id: &str, v1: (&str, &str), v2: &str) -> String {
    let text = world.crictl(&["inspect", "-o", "json", id]);
    let inspect: Value = serde_json::from_str(&text).expect("JSON");
    let cgroup =
        inspect["info"]["cgroup"].as_str().expect("a cgroup").trim_start_matches('/').to_owned();
    let root = Path::new("/sys/fs/cgroup");
    let path: PathBuf = match root.join("cgroup.controllers").exists() {
        true => root.join(cgroup).join(v2),
        false => root.join(v1.0).join(cgroup).join(v1.1),
    };
    let text = std::fs::read_to_string(&path);
    text.unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}

fn memory(world: &World, id: &str) -> String {
    limit(world, id, ("memory", "memory.limit_in_bytes"), "memory.max")
}

fn resources(world: &World, id: &str) -> Value {
    world.status(id)["resources"]["linux"].clone()
}

#[test]
fn limits_change_while_a_container_runs() {
    let mut world = World::new();
    let image = world.busybox();
    let pod_config = world.pod("grown", json!({}));
    let pod = world.run_pod(&pod_config);
    let limits = json!({"cpu_shares": 512, "memory_limit_in_bytes": 64 << 20, "cpu_period": 100_000, "cpu_quota": 50_000});
    let config = |name: &str| {
        world.container(name, &image, &["sleep", "1000"], json!({"linux": {"resources": limits}}))
    };
    let id = world.run_container(&pod, &pod_config, &config("c"));
    let created = world.create_container(&pod, &pod_config, &config("waits"));

    // Up: memory and swap together have to go first. What is not named stays.
    world.crictl(&["update", "--memory", "134217728", &id]);
    assert_eq!(memory(&world, &id), "134217728");
    assert_eq!(
        limit(&world, &id, ("cpu", "cpu.shares"), "cpu.weight"),
        limit(&world, &created, ("cpu", "cpu.shares"), "cpu.weight")
    );
    let found = resources(&world, &id);
    assert_eq!(
        (&found["memoryLimitInBytes"], &found["cpuShares"]),
        (&json!("134217728"), &json!("512"))
    );
    // Down again.
    world.crictl(&["update", "--memory", "33554432", "--cpu-share", "256", &id]);
    assert_eq!(memory(&world, &id), "33554432");
    // A shorter period with a quota that the old period would not allow in either order.
    world.crictl(&["update", "--cpu-period", "10000", "--cpu-quota", "9000", &id]);
    world.crictl(&["update", "--cpu-period", "900000", "--cpu-quota", "1800000", &id]);
    let quota = limit(&world, &id, ("cpu", "cpu.cfs_quota_us"), "cpu.max");
    assert!(quota == "1800000" || quota == "1800000 900000", "{quota}");
    world.crictl(&["update", "--cpuset-cpus", "0", &id]);
    assert_eq!(limit(&world, &id, ("cpuset", "cpuset.cpus"), "cpuset.cpus"), "0");

    // Below what is in use: refused, and nothing has changed.
    world.crictl(&["exec", "--sync", &id, "sh", "-c", "head -c 20000000 /dev/zero >/dev/shm/x"]);
    let error = world.crictl_error(&["update", "--memory", "8388608", "--cpu-share", "77", &id]);
    assert!(error.contains("FailedPrecondition") && error.contains("in use"), "{error}");
    assert_eq!(memory(&world, &id), "33554432");
    let before = resources(&world, &id);
    assert_eq!(
        (&before["memoryLimitInBytes"], &before["cpuShares"]),
        (&json!("33554432"), &json!("256"))
    );

    // A container that waits for its start takes limits too, and both outlive the daemon.
    world.crictl(&["update", "--memory", "50331648", &created]);
    assert_eq!(memory(&world, &created), "50331648");
    world.kill();
    world.start();
    assert_eq!(resources(&world, &id), before);
    assert_eq!(resources(&world, &created)["memoryLimitInBytes"], "50331648");
    world.crictl(&["start", &created]);
    assert_eq!(memory(&world, &created), "50331648");

    // Mistakes.
    let error = world.crictl_error(&["update", "--memory", "-2", &id]);
    assert!(
        error.contains("InvalidArgument") && error.contains("memory_limit_in_bytes"),
        "{error}"
    );
    let error = world.crictl_error(&["update", "--cpuset-cpus", "4096", &id]);
    assert!(error.contains("cpuset"), "{error}");
    assert_eq!(resources(&world, &id)["cpusetCpus"], "0");
    let error = world.crictl_error(&["update", "--memory", "67108864", "no-such-container"]);
    assert!(error.contains("NotFound"), "{error}");
    world.crictl(&["stop", "--timeout", "0", &id]);
    let error = world.crictl_error(&["update", "--memory", "67108864", &id]);
    assert!(error.contains("FailedPrecondition"), "{error}");
}

/// crictl has a flag for it, and sends 0 whatever it says.
#[tokio::test(flavor = "multi_thread")]
async fn the_oom_score_changes_for_every_process() {
    let mut world = tokio::task::block_in_place(World::new);
    let id = tokio::task::block_in_place(|| {
        let image = world.busybox();
        let config = world.pod("scored", json!({}));
        let pod = world.run_pod(&config);
        let script = ["sh", "-c", "sleep 1000 & wait"];
        world.run_container(&pod, &config, &world.container("c", &image, &script, json!({})))
    });
    let (mut runtime, _) = world.services().await;
    let update = |score, shares| k8s_cri::v1::UpdateContainerResourcesRequest {
        container_id: id.clone(),
        linux: Some(LinuxContainerResources {
            oom_score_adj: score,
            cpu_shares: shares,
            ..Default::default()
        }),
        ..Default::default()
    };
    runtime.update_container_resources(update(700, 0)).await.unwrap();
    // A score of zero is one that is not set.
    runtime.update_container_resources(update(0, 300)).await.unwrap();
    let error = runtime.update_container_resources(update(1001, 0)).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::InvalidArgument);
    tokio::task::block_in_place(|| {
        let found = resources(&world, &id);
        assert_eq!((&found["oomScoreAdj"], &found["cpuShares"]), (&json!("700"), &json!("300")));
        let script = "p=$(pidof sleep); for q in $p $(awk '{print $4}' /proc/$p/stat); do cat /proc/$q/oom_score_adj; done";
        assert_eq!(world.crictl(&["exec", "--sync", &id, "sh", "-c", script]), "700\n700");
        drop(world);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_windows_are_refused() {
    use k8s_cri::v1::*;
    let world = tokio::task::block_in_place(World::new);
    let (mut runtime, _) = world.services().await;
    let windows = PodSandboxConfig { windows: Some(Default::default()), ..Default::default() };
    let request = RunPodSandboxRequest { config: Some(windows), ..Default::default() };
    let sandbox = runtime.run_pod_sandbox(request).await.unwrap_err();
    let request = CreateContainerRequest {
        pod_sandbox_id: "a".into(),
        config: Some(ContainerConfig { windows: Some(Default::default()), ..Default::default() }),
        sandbox_config: None,
    };
    let container = runtime.create_container(request).await.unwrap_err();
    let request = UpdateContainerResourcesRequest {
        container_id: "a".into(),
        windows: Some(Default::default()),
        ..Default::default()
    };
    let update = runtime.update_container_resources(request).await.unwrap_err();
    for error in [sandbox, container, update] {
        assert_eq!(error.code(), tonic::Code::Unimplemented, "{error}");
        assert!(error.message().contains("windows"), "{error}");
    }
    tokio::task::block_in_place(|| drop(world));
}

/// Off by default, and that is said.
#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_are_off_by_default() {
    let mut world = tokio::task::block_in_place(World::new);
    let (id, location) = tokio::task::block_in_place(|| {
        let image = world.busybox();
        let config = world.pod("kept", json!({}));
        let pod = world.run_pod(&config);
        let container = world.container("c", &image, &["sleep", "1000"], json!({}));
        (world.run_container(&pod, &config, &container), world.path("checkpoint.tar"))
    });
    let (mut runtime, _) = world.services().await;
    let error = runtime
        .checkpoint_container(k8s_cri::v1::CheckpointContainerRequest {
            container_id: id.clone(),
            location: location.display().to_string(),
            timeout: 30,
        })
        .await
        .unwrap_err();
    assert_eq!(error.code(), tonic::Code::FailedPrecondition, "{error}");
    assert!(error.message().contains("runtime.criu"), "{error}");
    tokio::task::block_in_place(|| {
        assert!(!location.exists());
        assert_eq!(world.status(&id)["state"], "CONTAINER_RUNNING");
        drop(world);
    });
}

#[derive(Clone, PartialEq, prost::Message)]
struct UpdatePodSandboxResourcesRequest {
    #[prost(string, tag = "1")]
    pod_sandbox_id: String,
    #[prost(message, optional, tag = "2")]
    overhead: Option<LinuxContainerResources>,
    #[prost(message, optional, tag = "3")]
    resources: Option<LinuxContainerResources>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Nothing {}

/// No client that we did not write has this call in a form that a test can call.
#[tokio::test(flavor = "multi_thread")]
async fn a_pods_limits_are_kept() {
    let mut world = tokio::task::block_in_place(World::new);
    // A pod without a cgroup of the client's has one of ours, whose limits are ours to set.
    let config = world.pod("resized", json!({}));
    let mut own = world.pod("own", json!({}));
    own["linux"] = json!({});
    let (pod, own) = tokio::task::block_in_place(|| (world.run_pod(&config), world.run_pod(&own)));
    let limits =
        |bytes| LinuxContainerResources { memory_limit_in_bytes: bytes, ..Default::default() };
    for id in [&pod, &own] {
        let request = UpdatePodSandboxResourcesRequest {
            pod_sandbox_id: id.clone(),
            overhead: Some(limits(1 << 20)),
            resources: Some(limits(96 << 20)),
        };
        let _: Nothing = world.unary("UpdatePodSandboxResources", request).await.unwrap();
    }
    let missing =
        UpdatePodSandboxResourcesRequest { pod_sandbox_id: "nothing".into(), ..Default::default() };
    let error = world.unary::<_, Nothing>("UpdatePodSandboxResources", missing).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::NotFound);
    tokio::task::block_in_place(|| {
        world.kill();
        world.start();
        let info = |id: &str| -> Value {
            let text = world.crictl(&["inspectp", "-o", "json", id]);
            serde_json::from_str::<Value>(&text).expect("JSON")["info"].clone()
        };
        for id in [&pod, &own] {
            let info = info(id);
            assert_eq!(info["resources"]["memory_limit"], 96 << 20, "{info}");
            assert_eq!(info["overhead"]["memory_limit"], 1 << 20, "{info}");
        }
        let parent = info(&own)["cgroupParent"]
            .as_str()
            .expect("a cgroup")
            .trim_start_matches('/')
            .to_owned();
        let root = Path::new("/sys/fs/cgroup");
        let (v1, v2) = (
            root.join("memory").join(&parent).join("memory.limit_in_bytes"),
            root.join(&parent).join("memory.max"),
        );
        let text = std::fs::read_to_string(v1).or_else(|_| std::fs::read_to_string(v2));
        assert_eq!(text.expect("the pod's limit").trim(), (96 << 20).to_string());
        drop(world);
    });
}
