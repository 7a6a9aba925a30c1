//! Volumes: what is mounted, how it propagates, and images as volumes.

use orlop_e2e::World;
use orlop_e2e::process::{run, until};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A tmpfs of the host at a path of the world, gone with this.
struct HostMount(PathBuf);

impl HostMount {
    fn new(at: PathBuf, propagation: &str) -> Self {
        std::fs::create_dir_all(&at).expect("directory");
        run(Command::new("mount").args(["-t", "tmpfs", "orlop-e2e"]).arg(&at));
        run(Command::new("mount").arg(format!("--make-{propagation}")).arg(&at));
        Self(at)
    }
}

impl Drop for HostMount {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-R", "-l"]).arg(&self.0).status();
    }
}

fn mount(at: &str, host: &Path, more: Value) -> Value {
    let mut mount = json!({"container_path": at, "host_path": host});
    mount.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
    mount
}

struct Pod {
    config: Value,
    id: String,
    image: String,
}

impl Pod {
    fn new(world: &mut World, name: &str, more: Value) -> Self {
        let image = world.busybox();
        let config = world.pod(name, more);
        let id = world.run_pod(&config);
        Self { config, id, image }
    }

    /// A container that sleeps with these mounts.
    fn container(&self, world: &World, name: &str, mounts: Value, more: Value) -> String {
        world.run_container(&self.id, &self.config, &self.describe(world, name, mounts, more))
    }

    fn describe(&self, world: &World, name: &str, mounts: Value, more: Value) -> Value {
        let mut config = world.container(name, &self.image, &["sleep", "100000"], more);
        config["mounts"] = mounts;
        config
    }

    fn refused(&self, world: &World, mounts: Value) -> String {
        let config = self.describe(world, "refused", mounts, json!({}));
        let files = [world.file("refused", &config), world.file("refused-pod", &self.config)];
        world.crictl_error(&["create", &self.id, &files[0], &files[1]])
    }
}

fn sh(world: &World, container: &str, script: &str) -> String {
    world.crictl(&["exec", "--sync", container, "sh", "-c", script])
}

#[test]
fn read_only_to_the_last_mount_below() {
    let mut world = World::new();
    let outer = HostMount::new(world.path("tmp/outer"), "private");
    let _inner = HostMount::new(world.path("tmp/outer/inner"), "private");
    let pod = Pod::new(&mut world, "rro", json!({}));
    let mounts = json!([
        mount("/plain", &outer.0, json!({"readonly": true})),
        mount("/whole", &outer.0, json!({"readonly": true, "recursive_read_only": true})),
    ]);
    let id = pod.container(&world, "c", mounts, json!({}));
    let script = "for d in /plain /plain/inner /whole /whole/inner; do touch $d/x 2>/dev/null && echo written || echo refused; done";
    assert_eq!(sh(&world, &id, script), "refused\nwritten\nrefused\nrefused");
    let whole = &world.status(&id)["mounts"][1];
    assert_eq!((&whole["readonly"], &whole["recursiveReadOnly"]), (&json!(true), &json!(true)));
    for more in [
        json!({"recursive_read_only": true}),
        json!({"recursive_read_only": true, "readonly": true, "propagation": 1}),
        json!({"recursive_read_only": true, "readonly": true, "propagation": 2}),
    ] {
        let error = pod.refused(&world, json!([mount("/v", &outer.0, more)]));
        assert!(error.contains("recursive_read_only"), "{error}");
    }
}

#[test]
fn mounts_travel_as_they_are_told_to() {
    let mut world = World::new();
    let shared = HostMount::new(world.path("tmp/shared"), "shared");
    let private = HostMount::new(world.path("tmp/private"), "private");
    let pod = Pod::new(
        &mut world,
        "travel",
        json!({"linux": {"security_context": {"privileged": true}}}),
    );
    let mounts = json!([
        mount("/none", &shared.0, json!({"propagation": 0})),
        mount("/down", &shared.0, json!({"propagation": 1})),
        mount("/both", &shared.0, json!({"propagation": 2})),
    ]);
    let privileged = json!({"linux": {"security_context": {"privileged": true}}});
    let id = pod.container(&world, "c", mounts, privileged);
    std::fs::create_dir_all(shared.0.join("late")).expect("directory");
    run(Command::new("mount").args(["-t", "tmpfs", "late"]).arg(shared.0.join("late")));
    std::fs::write(shared.0.join("late/seen"), "").expect("file");
    let script =
        "for d in /none /down /both; do [ -e $d/late/seen ] && echo seen || echo hidden; done";
    assert_eq!(sh(&world, &id, script), "hidden\nseen\nseen");
    sh(
        &world,
        &id,
        "mkdir /both/up /down/up2; mount -t tmpfs up /both/up; touch /both/up/x; mount -t tmpfs up /down/up2; touch /down/up2/x",
    );
    assert!(shared.0.join("up/x").exists(), "a bidirectional volume tells the host");
    assert!(!shared.0.join("up2/x").exists(), "one from the host only does not");
    for propagation in [1, 2] {
        let error = pod
            .refused(&world, json!([mount("/v", &private.0, json!({"propagation": propagation}))]));
        assert!(error.contains("mounts.propagation") && error.contains("shared"), "{error}");
    }
}

#[test]
fn what_is_missing_is_made_and_parents_come_first() {
    let mut world = World::new();
    let pod = Pod::new(&mut world, "made", json!({}));
    let (parent, child) = (world.path("tmp/new/parent"), world.path("tmp/new/child"));
    let mounts =
        json!([mount("/v/deep/child", &child, json!({})), mount("/v", &parent, json!({}))]);
    let id = pod.container(&world, "c", mounts, json!({}));
    sh(&world, &id, "touch /v/in-parent /v/deep/child/in-child");
    assert!(parent.join("in-parent").exists() && child.join("in-child").exists());
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(&child).expect("made").permissions(),
    );
    assert_eq!(mode & 0o777, 0o755);
    std::fs::write(world.path("tmp/file"), "").expect("file");
    let error = pod.refused(&world, json!([mount("/v", &world.path("tmp/file/below"), json!({}))]));
    assert!(error.contains("mounts.host_path") && error.contains("file/below"), "{error}");
}

/// An image of two layers, of which the second hides a file of the first.
fn volume_image(world: &mut World) -> String {
    let (first, second) = (world.path("tmp/first"), world.path("tmp/second"));
    std::fs::create_dir_all(first.join("data/deep")).expect("directory");
    std::fs::create_dir_all(second.join("data")).expect("directory");
    std::fs::copy("/bin/busybox", first.join("data/busybox")).expect("busybox");
    std::fs::write(first.join("data/deep/file"), "content\n").expect("file");
    std::fs::write(first.join("data/hidden"), "").expect("file");
    std::fs::write(second.join("data/.wh.hidden"), "").expect("file");
    for (link, target) in [("out", "../../../etc"), ("absolute", "/etc"), ("inside", "data/deep")] {
        std::os::unix::fs::symlink(target, second.join(link)).expect("link");
    }
    let layers = [
        orlop_e2e::images::pack(&first, &world.path("tmp/first.tar")),
        orlop_e2e::images::pack(&second, &world.path("tmp/second.tar")),
    ];
    let reference = world.push("test/volume:1", &[&layers[0], &layers[1]], "{}", &[]);
    world.crictl(&["pull", &reference]);
    reference
}

fn image_mount(at: &str, image: &str, sub_path: &str) -> Value {
    json!({"container_path": at, "readonly": true, "image": {"image": image, "user_specified_image": image}, "image_sub_path": sub_path})
}

#[test]
fn an_image_is_a_volume() {
    let mut world = World::new();
    let volume = volume_image(&mut world);
    let pod = Pod::new(&mut world, "images", json!({}));
    let mounts = json!([
        image_mount("/whole", &volume, ""),
        image_mount("/part", &volume, "data/deep"),
        image_mount("/one-file", &volume, "./inside/file"),
    ]);
    let id = pod.container(&world, "c", mounts, json!({}));
    assert_eq!(
        sh(
            &world,
            &id,
            "ls /whole/data; cat /part/file /one-file; /whole/data/busybox true && echo executed"
        ),
        "busybox\ndeep\ncontent\ncontent\nexecuted"
    );
    let script = "for f in /whole/x /part/x /one-file; do touch $f 2>/dev/null && echo written || echo refused; done";
    assert_eq!(sh(&world, &id, script), "refused\nrefused\nrefused");
    // The status says which image it is.
    let images: Value =
        serde_json::from_str(&world.crictl(&["images", "-o", "json", &volume])).expect("JSON");
    let mount = &world.status(&id)["mounts"][1];
    assert_eq!(mount["image"]["imageRef"], images["images"][0]["id"], "{mount}");
    assert_eq!(
        (&mount["image"]["image"], &mount["imageSubPath"]),
        (&json!(volume), &json!("data/deep"))
    );
    // Its layers stay while they are used, through a restart too.
    world.crictl(&["rmi", &volume]);
    world.kill();
    world.start();
    assert_eq!(sh(&world, &id, "cat /part/file"), "content");
    assert!(!world.status(&id)["mounts"][1]["image"]["imageRef"].is_null());
    world.crictl(&["rm", "-f", &id]);
    let snapshots = world.path("root/snapshots");
    until("the layers to go with the last use", || {
        std::fs::read_dir(&snapshots).expect("snapshots").count() == 1
    });
}

#[test]
fn an_image_volume_that_cannot_be_is_refused_by_its_word() {
    let mut world = World::new();
    let volume = volume_image(&mut world);
    let pod = Pod::new(&mut world, "refused", json!({}));
    for (sub_path, word) in [
        ("none", "not in the image"),
        ("data/hidden", "not in the image"),
        ("data/deep/file/x", "not in the image"),
        ("out", "leads out"),
        ("absolute", "leads out"),
        ("../etc", "'..'"),
        ("/etc", "relative path"),
    ] {
        let error = pod.refused(&world, json!([image_mount("/v", &volume, sub_path)]));
        assert!(
            error.contains("ImageVolumeMountFailed") && error.contains(word),
            "{sub_path}: {error}"
        );
    }
    let error = pod.refused(&world, json!([image_mount("/v", "127.0.0.1:5000/not/there:1", "")]));
    assert!(error.contains("ImageVolumeMountFailed") && error.contains("pull it first"), "{error}");
    let mut writable = image_mount("/v", &volume, "");
    writable["readonly"] = json!(false);
    let error = pod.refused(&world, json!([writable]));
    assert!(error.contains("readonly") && error.contains("read-only"), "{error}");
}

#[test]
fn an_image_volume_in_a_user_namespace_has_the_pods_owners() {
    let mut world = World::new();
    let volume = volume_image(&mut world);
    let map = json!([{"container_id": 0, "host_id": 400_000, "length": 65_536}]);
    let users = json!({"linux": {"security_context": {"namespace_options": {"pid": 1, "userns_options": {"mode": 0, "uids": map, "gids": map}}}}});
    let pod = Pod::new(&mut world, "owners", users.clone());
    let mut host = mount("/host", &world.path("tmp/volume"), json!({}));
    host["uidMappings"] = map.clone();
    host["gidMappings"] = map;
    let mounts = json!([
        image_mount("/whole", &volume, ""),
        image_mount("/part", &volume, "data/deep"),
        host
    ]);
    let id = pod.container(&world, "c", mounts, users);
    let script = "stat -c %u:%g /whole/data /part/file /host; touch /host/mine; chown 5:6 /host/mine; cat /part/file";
    assert_eq!(sh(&world, &id, script), "0:0\n0:0\n0:0\ncontent");
    let kept = std::fs::metadata(world.path("tmp/volume/mine")).expect("file");
    assert_eq!(
        (std::os::unix::fs::MetadataExt::uid(&kept), std::os::unix::fs::MetadataExt::gid(&kept)),
        (5, 6)
    );
}
