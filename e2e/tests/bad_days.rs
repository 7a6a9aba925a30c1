//! Bad days that must go well: a clear error, and nothing left (the world checks that at its end).

use orlop_e2e::World;
use orlop_e2e::images::{busybox_layer, pack};
use serde_json::json;

#[track_caller]
fn says(error: &str, words: &[&str]) {
    for word in words {
        assert!(error.to_lowercase().contains(&word.to_lowercase()), "{word:?} is not in: {error}");
    }
}

#[test]
fn images_that_cannot_be_pulled() {
    let mut world = World::new();
    let registry = world.registry();
    says(
        &world.crictl_error(&["pull", &format!("{registry}/no/such:1")]),
        &["NotFound", "no/such"],
    );
    says(&world.crictl_error(&["pull", "Not A Name"]), &["InvalidArgument"]);
    says(&world.crictl_error(&["pull", "127.0.0.1:1/a/b:1"]), &["RegistryUnavailable"]);
    let layer = busybox_layer(&world.path("tmp"));
    let foreign =
        world.push("test/arm:1", &[&layer], "{}", &["--index", "--platform", "linux/arm64"]);
    says(&world.crictl_error(&["pull", &foreign]), &["linux/amd64", "linux/arm64"]);
    assert_eq!(world.crictl(&["images", "-q"]), "");
}

#[test]
fn pods_that_cannot_run() {
    let world = World::new();
    let long = world.pod("long", json!({"hostname": "h".repeat(65)}));
    says(&world.crictl_error(&["runp", &world.file("long", &long)]), &["hostname", "64"]);
    let sysctl = world.pod("sysctl", json!({"linux": {"sysctls": {"kernel.core_pattern": "x"}}}));
    says(&world.crictl_error(&["runp", &world.file("sysctl", &sysctl)]), &["kernel.core_pattern"]);
    let plain = world.pod("plain", json!({}));
    says(
        &world.crictl_error(&["runp", "--runtime", "wings", &world.file("plain", &plain)]),
        &["wings"],
    );
    assert_eq!(world.crictl(&["pods", "-q"]), "");

    let taken = json!({"port_mappings": [{"container_port": 80, "host_port": 8081}]});
    let pod = world.run_pod(&world.pod("first", taken.clone()));
    says(
        &world.crictl_error(&["runp", &world.file("second", &world.pod("second", taken))]),
        &["8081"],
    );
    assert_eq!(world.crictl(&["pods", "-q"]), pod);
}

#[test]
fn containers_that_cannot_be_created() {
    let mut world = World::new();
    let image = world.busybox();
    let pod_config = world.pod("p", json!({}));
    let pod = world.run_pod(&pod_config);
    let pod_file = world.file("p", &pod_config);
    let refuse = |world: &World, name: &str, container: serde_json::Value, words: &[&str]| {
        says(
            &world.crictl_error(&["create", &pod, &world.file(name, &container), &pod_file]),
            words,
        );
    };
    refuse(
        &world,
        "absent",
        world.container("absent", "127.0.0.1:5000/not/here:1", &["x"], json!({})),
        &["NotFound", "not/here"],
    );
    let user = json!({"linux": {"security_context": {"run_as_username": "nobody-of-this-name"}}});
    refuse(
        &world,
        "user",
        world.container("user", &image, &["true"], user),
        &["nobody-of-this-name"],
    );
    let group = json!({"linux": {"security_context": {"run_as_group": {"value": 5}}}});
    refuse(&world, "group", world.container("group", &image, &["true"], group), &["run_as_group"]);
    let profile = json!({"linux": {"security_context": {"seccomp": {"profile_type": 2, "localhost_ref": ""}}}});
    refuse(
        &world,
        "profile",
        world.container("profile", &image, &["true"], profile),
        &["localhost_ref"],
    );
    let capability =
        json!({"linux": {"security_context": {"capabilities": {"add_capabilities": ["CAP_FOO"]}}}});
    refuse(
        &world,
        "capability",
        world.container("capability", &image, &["true"], capability),
        &["CAP_FOO"],
    );
    let device = json!({"devices": [{"container_path": "/dev/x", "host_path": "/dev/no-such-device", "permissions": "rwm"}]});
    refuse(
        &world,
        "device",
        world.container("device", &image, &["true"], device),
        &["/dev/no-such-device"],
    );
    assert_eq!(world.crictl(&["ps", "-aq"]), "");

    let once = world.container("once", &image, &["sleep", "1000"], json!({}));
    let id = world.run_container(&pod, &pod_config, &once);
    let again = world.try_crictl(&["create", &pod, &world.file("once-again", &once), &pod_file]);
    says(&String::from_utf8_lossy(&again.stderr), &["AlreadyExists", &id]);

    world.crictl(&["stopp", &pod]);
    let late = world.container("late", &image, &["true"], json!({}));
    refuse(&world, "late", late, &["FailedPrecondition"]);
}

#[test]
fn entrypoints_that_do_not_start_say_why() {
    let mut world = World::new();
    let tree = world.path("tmp").join("entry");
    orlop_e2e::images::busybox_root(&tree);
    let program = |name: &str, text: &[u8], mode: u32| {
        use std::os::unix::fs::PermissionsExt;
        let path = tree.join("bin").join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    program("plain-data", b"#!/bin/sh\n", 0o644);
    program("script", b"#!/no/interpreter\n", 0o755);
    // The first bytes of an ELF program for another machine (s390x, big-endian).
    let mut alien = b"\x7fELF\x02\x02\x01".to_vec();
    alien.resize(16, 0);
    alien.extend([0, 2, 0, 22, 0, 0, 0, 1]);
    alien.resize(120, 0);
    program("alien", &alien, 0o755);
    let layer = pack(&tree, &world.path("tmp").join("entry.tar"));
    let image = world.push("test/entry:1", &[&layer], r#"{"Cmd": ["sh"]}"#, &[]);
    world.crictl(&["pull", &image]);
    let pod_config = world.pod("entry", json!({}));
    let pod = world.run_pod(&pod_config);
    for (name, words) in [
        ("absent", vec!["/bin/absent", "no such file"]),
        ("plain-data", vec!["/bin/plain-data", "not executable"]),
        ("script", vec!["/bin/script", "/no/interpreter"]),
        ("alien", vec!["/bin/alien", "s390"]),
    ] {
        let path = format!("/bin/{name}");
        let id = world.create_container(
            &pod,
            &pod_config,
            &world.container(name, &image, &[&path], json!({})),
        );
        says(&world.crictl_error(&["start", &id]), &words);
        let status = world.status(&id);
        assert_eq!(
            (status["state"].as_str(), status["reason"].as_str()),
            (Some("CONTAINER_EXITED"), Some("StartError")),
            "{status}"
        );
        assert_eq!(status["exitCode"], 128);
    }
}

#[test]
fn stopping_and_removing_is_forgiving() {
    let mut world = World::new();
    let image = world.busybox();
    let pod_config = world.pod("calm", json!({}));
    let pod = world.run_pod(&pod_config);
    let id = world.run_container(
        &pod,
        &pod_config,
        &world.container("c", &image, &["sleep", "1000"], json!({})),
    );
    world.crictl(&["stop", "--timeout", "0", &id]);
    world.crictl(&["stop", "--timeout", "0", &id]);
    world.crictl(&["rm", &id]);
    let running = world.run_container(
        &pod,
        &pod_config,
        &world.container("d", &image, &["sleep", "1000"], json!({})),
    );
    world.crictl(&["rm", "-f", &running]);
    for _ in 0..2 {
        world.crictl(&["stopp", &pod]);
    }
    world.crictl(&["rmp", &pod]);
    says(&world.crictl_error(&["inspect", &id]), &["not"]);
}

#[test]
fn a_missing_mount_source_becomes_a_directory_and_a_missing_workdir_is_made() {
    let mut world = World::new();
    let image = world.busybox();
    let pod_config = world.pod("made", json!({}));
    let pod = world.run_pod(&pod_config);
    let source = world.path("tmp").join("not/yet/there");
    let more = json!({"mounts": [{"container_path": "/data", "host_path": source}], "working_dir": "/a/new/place"});
    let id = world.run_container(
        &pod,
        &pod_config,
        &world.container("c", &image, &["sh", "-c", "pwd; echo x >/data/file; sleep 1000"], more),
    );
    assert_eq!(world.crictl(&["exec", "--sync", &id, "pwd"]), "/a/new/place");
    orlop_e2e::process::until("the file", || source.join("file").exists());
}
