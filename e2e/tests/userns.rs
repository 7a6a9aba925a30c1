//! Pods with a user namespace: root inside, nobody on the host.

use orlop_e2e::World;
use orlop_e2e::process::{output, run, until};
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: u32 = 300_000;

/// The namespace as the kubelet asks for it.
fn options(host_id: u32) -> Value {
    let map = json!([{"container_id": 0, "host_id": host_id, "length": 65_536}]);
    json!({"mode": 0, "uids": map, "gids": map})
}

fn security(more: Value) -> Value {
    let mut context = json!({"namespace_options": {"pid": 1, "userns_options": options(ROOT)}});
    let object = context.as_object_mut().expect("an object");
    object.extend(more.as_object().expect("an object").clone());
    json!({"linux": {"security_context": context}})
}

/// A pod with a user namespace and a container that sleeps in it.
struct Pod {
    config: Value,
    id: String,
    container: String,
    image: String,
}

impl Pod {
    fn new(world: &mut World, name: &str) -> Self {
        let image = world.busybox();
        let config = world.pod(name, security(json!({})));
        let id = world.run_pod(&config);
        let container = world.container("main", &image, &["sleep", "100000"], security(json!({})));
        let container = world.run_container(&id, &config, &container);
        Self { config, id, container, image }
    }

    fn inside(&self, world: &World, script: &str) -> String {
        world.crictl(&["exec", "--sync", &self.container, "sh", "-c", script])
    }
}

fn pid(world: &World, container: &str) -> u32 {
    let text = world.crictl(&["inspect", "-o", "json", container]);
    let info = serde_json::from_str::<Value>(&text).expect("JSON")["info"].clone();
    info["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("a pid")
}

fn inode(path: PathBuf) -> u64 {
    std::fs::metadata(path).expect("a namespace").ino()
}

#[test]
fn root_inside_is_nobody_outside() {
    let mut world = World::new();
    let pod = Pod::new(&mut world, "mapped");
    assert_eq!(
        pod.inside(&world, "id -u; cat /proc/self/uid_map /proc/self/gid_map | tr -s ' '"),
        format!("0\n 0 {ROOT} 65536\n 0 {ROOT} 65536")
    );
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid(&world, &pod.container)))
        .expect("status");
    assert!(status.contains(&format!("Uid:\t{ROOT}\t{ROOT}\t{ROOT}\t{ROOT}")), "{status}");
    // Its files are its own, also those that the pod gives it, and the disk has its numbers.
    assert_eq!(
        pod.inside(
            &world,
            "stat -c %u:%g / /bin /etc/hosts /etc/hostname /etc/resolv.conf /dev/shm /dev | sort -u"
        ),
        "0:0"
    );
    pod.inside(
        &world,
        "echo more >> /etc/hosts; touch /mine; chown 1000:33 /mine; touch /dev/shm/x",
    );
    let writable = world.path("root/writable").join(&pod.container).join("upper/mine");
    let kept = std::fs::metadata(writable).expect("the writable layer");
    assert_eq!((kept.uid(), kept.gid()), (1000, 33));
}

#[test]
fn all_containers_of_a_pod_share_one_that_owns_the_rest() {
    let mut world = World::new();
    let pod = Pod::new(&mut world, "shared");
    let second = world.container("second", &pod.image, &["sleep", "100000"], security(json!({})));
    let second = world.run_container(&pod.id, &pod.config, &second);
    let of = |container: &str, kind: &str| {
        inode(format!("/proc/{}/ns/{kind}", pid(&world, container)).into())
    };
    for kind in ["user", "net", "ipc", "uts"] {
        assert_eq!(of(&pod.container, kind), of(&second, kind), "{kind}");
        assert_ne!(of(&second, kind), inode(format!("/proc/self/ns/{kind}").into()), "{kind}");
    }
    // Owned: with the capability in the namespace its root may change the network and the name.
    let more = json!({"capabilities": {"add_capabilities": ["NET_ADMIN", "SYS_ADMIN"]}, "readonly_paths": []});
    let admin = world.container(
        "admin",
        &pod.image,
        &["sh", "-c", "ip link set lo down && ip link set lo up && hostname other && mount -t tmpfs x /tmp && echo owner; sleep 100000"],
        security(more),
    );
    world.run_container(&pod.id, &pod.config, &admin);
    until("the owner's word", || world.log_file("shared", "admin").contains("stdout"));
    assert!(
        world.log_file("shared", "admin").contains("owner"),
        "{}",
        world.log_file("shared", "admin")
    );
    assert_eq!(pod.inside(&world, "hostname"), "other");
}

#[test]
fn a_shared_process_namespace_and_sysctls() {
    let mut world = World::new();
    let image = world.busybox();
    let context =
        json!({"security_context": {"namespace_options": {"userns_options": options(ROOT)}}});
    let sysctls = json!({"kernel.shm_rmid_forced": "1", "net.ipv4.ip_unprivileged_port_start": "77", "kernel.msgmax": "12345"});
    let mut linux = context.clone();
    linux["sysctls"] = sysctls;
    let config = world.pod("init", json!({"linux": linux}));
    let pod = world.run_pod(&config);
    let script = "cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax; \
        cat /proc/1/comm; stat -c %u /proc/1; hostname; ping -c 1 127.0.0.1 >/dev/null && echo pinged";
    let container = world.container("c", &image, &["sh", "-c", script], json!({"linux": context}));
    let container = world.run_container(&pod, &config, &container);
    world.wait_exited(&container);
    let log = world.log_file("init", "c");
    let words: Vec<&str> = log.lines().filter_map(|line| line.split(' ').nth(3)).collect();
    assert_eq!(words, ["1", "77", "12345", "orlop-init", "0", "init", "pinged"], "{log}");
}

#[test]
fn it_lives_through_the_daemons_death() {
    let mut world = World::new();
    let pod = Pod::new(&mut world, "lives");
    let (pid, before) =
        (pid(&world, &pod.container), pod.inside(&world, "readlink /proc/self/ns/user"));
    world.kill();
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    world.start();
    assert_eq!(pod.inside(&world, "id -u; readlink /proc/self/ns/user"), format!("0\n{before}"));
    let late = world.container("late", &pod.image, &["sleep", "100000"], security(json!({})));
    let late = world.run_container(&pod.id, &pod.config, &late);
    assert_eq!(world.crictl(&["exec", "--sync", &late, "readlink", "/proc/self/ns/user"]), before);
    world.crictl(&["stopp", &pod.id]);
    // Nothing pins it any more.
    let pins = std::fs::read_dir(world.path("run/ns")).expect("namespaces").flatten();
    assert!(pins.into_iter().all(|slot| !slot.path().join("user").exists()));
}

#[test]
fn the_hosts_network_with_users_of_its_own() {
    let mut world = World::new();
    let image = Pod::new(&mut world, "beside").image;
    let context =
        json!({"namespace_options": {"network": 2, "pid": 1, "userns_options": options(ROOT)}});
    let linux = json!({"linux": {"security_context": context}});
    let config = world.pod("hostnet", linux.clone());
    let pod = world.run_pod(&config);
    let script = "id -u; readlink /proc/self/ns/net; ls /sys/class/net | grep -cx lo; \
        echo x 2>/dev/null > /sys/power/state || echo refused; touch /sys/fs/cgroup/x 2>/dev/null || echo refused";
    let container = world.container("c", &image, &["sh", "-c", script], linux);
    let container = world.run_container(&pod, &config, &container);
    world.wait_exited(&container);
    let netns = run(world.inside("readlink").arg("/proc/self/ns/net"));
    let log = world.log_file("hostnet", "c");
    let words: Vec<&str> = log.lines().filter_map(|line| line.split(' ').nth(3)).collect();
    assert_eq!(words, ["0", &netns, "1", "refused", "refused"], "{log}");
}

#[test]
fn what_is_wrong_is_refused_with_a_word() {
    let mut world = World::new();
    let pod = Pod::new(&mut world, "right");
    let refused = |options: Value, words: &[&str]| {
        let linux = json!({"linux": {"security_context": {"namespace_options": options}}});
        let config = world.pod("wrong", linux);
        let error = world.crictl_error(&["runp", &world.file("pod-wrong", &config)]);
        assert!(words.iter().all(|word| error.contains(word)), "{words:?}: {error}");
    };
    let map = |container: u32, host: u32| json!({"container_id": container, "host_id": host, "length": 1000});
    let two = json!([map(0, 1000), map(2000, 5000)]);
    let one = json!([map(0, 1000)]);
    refused(
        json!({"userns_options": {"mode": 0, "uids": two, "gids": two}}),
        &["uids", "2 mappings", "exactly one"],
    );
    refused(
        json!({"userns_options": {"mode": 0, "uids": [map(1, 1000)], "gids": one}}),
        &["container_id", "id 0"],
    );
    refused(
        json!({"userns_options": {"mode": 0, "uids": one, "gids": []}}),
        &["gids", "exactly one"],
    );
    refused(json!({"userns_options": {"mode": 1}}), &["mode", "CONTAINER", "POD or NODE"]);
    refused(json!({"userns_options": {"mode": 3}}), &["mode", "TARGET"]);
    refused(
        json!({"userns_options": {"mode": 2, "uids": one, "gids": one}}),
        &["mode", "NODE", "remove the mappings"],
    );
    refused(json!({"pid": 2, "userns_options": options(ROOT)}), &["pid", "NODE", "hostUsers"]);
    refused(json!({"ipc": 2, "userns_options": options(ROOT)}), &["ipc", "NODE", "hostUsers"]);
    // A container has the namespace of its pod and no other.
    for (name, asked) in [
        ("none", json!({"pid": 1})),
        ("other", json!({"pid": 1, "userns_options": options(ROOT + 1)})),
    ] {
        let linux = json!({"linux": {"security_context": {"namespace_options": asked}}});
        let container = world.container(name, &pod.image, &["true"], linux);
        let file = world.file("container-wrong", &container);
        let error = world.crictl_error(&["create", &pod.id, &file, &world.file("p", &pod.config)]);
        assert!(
            error.contains("userns_options") && error.contains("the pod has another"),
            "{error}"
        );
    }
}

/// Its limits apply (CVE-2025-47291): a container with users of its own is in the group of its pod.
#[test]
fn it_is_in_the_cgroup_of_its_pod() {
    let mut world = World::new();
    let pod = Pod::new(&mut world, "limited");
    let group = std::fs::read_to_string(format!("/proc/{}/cgroup", pid(&world, &pod.container)))
        .expect("cgroup");
    let parent = pod.config["linux"]["cgroup_parent"].as_str().expect("a parent");
    let memory = group
        .lines()
        .find(|line| line.contains(":memory:") || line.starts_with("0::/"))
        .expect("a group");
    assert!(memory.contains(parent), "{group}");
    let mut linux = security(json!({}));
    linux["linux"]["resources"] = json!({"memory_limit_in_bytes": 33_554_432});
    let script = "x=a; while true; do x=$x$x; done";
    let bomb = world.container("bomb", &pod.image, &["sh", "-c", script], linux);
    let bomb = world.run_container(&pod.id, &pod.config, &bomb);
    assert_eq!(world.wait_exited(&bomb)["reason"], "OOMKilled");
}

/// A setuid program of an image is the container's root, never the host's (row "device nodes, setuid, xattrs").
#[test]
fn a_setuid_program_of_an_image_is_root_of_the_pod_only() {
    let mut world = World::new();
    let tree = world.path("tmp/suid");
    orlop_e2e::images::busybox_root(&tree);
    std::fs::copy("/bin/su", tree.join("bin/true-suid")).expect("su");
    run(Command::new("chmod").arg("4755").arg(tree.join("bin/true-suid")));
    let layer = orlop_e2e::images::pack(&tree, &world.path("tmp/suid.tar"));
    let image = world.push("test/suid:1", &[&layer], r#"{"Cmd": ["sh"], "User": "1000"}"#, &[]);
    world.crictl(&["pull", &image]);
    let config = world.pod("suid", security(json!({})));
    let pod = world.run_pod(&config);
    let container = world.container("c", &image, &["sleep", "100000"], security(json!({})));
    let container = world.run_container(&pod, &config, &container);
    let seen =
        world.crictl(&["exec", "--sync", &container, "stat", "-c", "%u:%a", "/bin/true-suid"]);
    assert_eq!(seen, "0:4755");
    // On the host the same file, reached through the process, belongs to an id without any rights.
    let path = format!("/proc/{}/root/bin/true-suid", pid(&world, &container));
    assert_eq!(std::fs::metadata(path).expect("the program").uid(), ROOT);
}

#[test]
fn the_status_says_that_it_can() {
    let world = World::new();
    let info: Value = serde_json::from_str(&world.crictl(&["info"])).expect("JSON");
    let features = &info["runtimeHandlers"][0]["features"];
    assert_eq!(features["user_namespaces"], true, "{info}");
    assert_eq!(features["recursive_read_only_mounts"], true, "{info}");
    assert_eq!(info["features"]["supplemental_groups_policy"], true, "{info}");
    assert_eq!(info["features"]["user_namespaces_host_network"], true, "{info}");
    let left = output(Command::new("ls").arg(world.path("root/probe")));
    assert!(!left.status.success(), "the probe leaves nothing");
}

/// A pod with a user namespace beside one without, in turn: prints milliseconds, asserts nothing about them.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints a measurement: run it alone, with a release build"]
async fn what_a_start_takes() {
    use k8s_cri::v1::*;
    let mut world = tokio::task::block_in_place(World::new);
    let image = tokio::task::block_in_place(|| world.busybox());
    let (mut runtime, _) = world.services().await;
    let map = || vec![IdMapping { host_id: ROOT, container_id: 0, length: 65_536 }];
    let user = UserNamespace { mode: NamespaceMode::Pod.into(), uids: map(), gids: map() };
    let mut took = [Vec::new(), Vec::new()];
    for round in 0..40_usize {
        let with = round % 2 == 1;
        let userns_options = with.then(|| user.clone());
        let options = || {
            let pid = NamespaceMode::Container.into();
            Some(NamespaceOption {
                pid,
                userns_options: userns_options.clone(),
                ..Default::default()
            })
        };
        let security =
            LinuxSandboxSecurityContext { namespace_options: options(), ..Default::default() };
        let name = format!("p{round}");
        let pod = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: name.clone(),
                uid: name.clone(),
                namespace: "n".into(),
                attempt: 0,
            }),
            hostname: name,
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: world.pod("x", json!({}))["linux"]["cgroup_parent"]
                    .as_str()
                    .unwrap_or_default()
                    .into(),
                security_context: Some(security),
                ..Default::default()
            }),
            ..Default::default()
        };
        let security =
            LinuxContainerSecurityContext { namespace_options: options(), ..Default::default() };
        let container = ContainerConfig {
            metadata: Some(ContainerMetadata { name: "c".into(), attempt: 0 }),
            image: Some(ImageSpec { image: image.clone(), ..Default::default() }),
            command: vec!["sleep".into(), "1000".into()],
            linux: Some(LinuxContainerConfig {
                security_context: Some(security),
                ..Default::default()
            }),
            ..Default::default()
        };
        let begun = std::time::Instant::now();
        let request = RunPodSandboxRequest { config: Some(pod.clone()), ..Default::default() };
        let pod_sandbox_id =
            runtime.run_pod_sandbox(request).await.unwrap().into_inner().pod_sandbox_id;
        let request = CreateContainerRequest {
            pod_sandbox_id: pod_sandbox_id.clone(),
            config: Some(container),
            sandbox_config: Some(pod),
        };
        let container_id =
            runtime.create_container(request).await.unwrap().into_inner().container_id;
        runtime.start_container(StartContainerRequest { container_id }).await.unwrap();
        took[usize::from(with)].push(begun.elapsed());
        runtime.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id }).await.unwrap();
    }
    for (name, mut times) in ["without", "with"].into_iter().zip(took) {
        times.sort();
        println!(
            "{name} a user namespace: min {:?}, p50 {:?}, max {:?}",
            times[0],
            times[times.len() / 2],
            times[times.len() - 1]
        );
    }
    tokio::task::block_in_place(|| drop(world));
}
