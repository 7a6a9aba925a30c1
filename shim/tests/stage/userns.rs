//! Containers in a user namespace: root inside, nobody on the host.

use crate::stage::{InitRequest, Stdio, spawn_init};
use crate::world::{SELF, World, process};
use orlop_sys::process::{IdMap, NamespaceHolder, Namespaces};
use serde_json::{Value, json};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

const ROOT: u32 = 200_000;
const MAP: IdMap = IdMap { inside: 0, outside: ROOT, count: 65_536 };

fn map() -> Value {
    json!([{ "containerID": 0, "hostID": ROOT, "size": 65_536 }])
}

/// In a new user namespace, or in the one at `path`.
fn in_userns(spec: &mut Value, path: Option<&Path>) {
    let mut namespace = json!({ "type": "user" });
    if let Some(path) = path {
        namespace["path"] = json!(path);
    }
    spec["linux"]["namespaces"].as_array_mut().unwrap().push(namespace);
    spec["linux"]["uidMappings"] = map();
    spec["linux"]["gidMappings"] = map();
}

fn world(script: &str, change: impl FnOnce(&mut Value)) -> World {
    let mut world = World::with(script, |spec| {
        in_userns(spec, None);
        change(spec);
    });
    world.layers.push("idmap".to_owned());
    world
}

fn bind(source: &Path, target: &str, more: Value) -> Value {
    let mut mount =
        json!({ "destination": target, "type": "bind", "source": source, "options": ["rbind"] });
    for (key, value) in more.as_object().unwrap() {
        mount[key] = value.clone();
    }
    mount
}

#[test]
fn its_layers_keep_the_ids_of_the_container() {
    let script = "id -u; stat -c %u:%g /bin/busybox /old; touch /new; chown 7:8 /old; \
        stat -c %u:%g /old; cat /proc/self/uid_map";
    let world = world(script, |_| {});
    std::fs::write(world.lower().join("old"), "x").unwrap();
    chown(world.lower().join("old"), Some(5), Some(6)).unwrap();
    let output = world.output();
    let words: Vec<&str> = output.split_whitespace().collect();
    assert_eq!(words, ["0", "0:0", "5:6", "7:8", "0", "200000", "65536"]);
    let owner = |path: &Path| {
        let found = std::fs::metadata(path).unwrap();
        (found.uid(), found.gid())
    };
    assert_eq!(owner(&world.upper().join("new")), (0, 0));
    assert_eq!(owner(&world.upper().join("old")), (7, 8));
    assert_eq!(owner(&world.lower().join("old")), (5, 6));
}

#[test]
fn the_host_sees_nobody_of_its_own() {
    let world = world("cat", |_| {});
    let (init, hold) = world.hold();
    let status = std::fs::read_to_string(format!("/proc/{}/status", init.child.pid)).unwrap();
    assert!(status.contains("Uid:\t200000\t200000\t200000\t200000"), "{status}");
    assert!(status.contains("Groups:\t \n") || status.contains("Groups:\t200000"), "{status}");
    let exec = world.exec(&init, &process(&world, "id -u; cat /proc/self/uid_map; echo x > /exec"));
    let output = exec.unwrap().output;
    assert!(output.starts_with("0\n") && output.contains("200000"), "{output}");
    assert_eq!(std::fs::metadata(world.upper().join("exec")).unwrap().uid(), 0);
    drop(hold);
    init.child.pidfd.wait().unwrap();
}

#[test]
fn joins_the_namespaces_of_its_pod() {
    let holder = NamespaceHolder::new(
        Namespaces::NET.with(Namespaces::IPC).with(Namespaces::UTS),
        &[MAP],
        &[MAP],
    )
    .unwrap();
    let pinned = tempfile::tempdir().unwrap();
    let pin = |kind: &str| {
        let at = pinned.path().join(kind);
        std::fs::write(&at, "").unwrap();
        rustix::mount::mount_bind(holder.path(kind), &at).unwrap();
        at
    };
    let script = "hostname pod && hostname; echo 1 > /proc/sys/net/ipv4/ip_forward; \
        cat /proc/sys/net/ipv4/ip_forward; readlink /proc/self/ns/user; readlink /proc/self/ns/net";
    let mut world = World::with(script, |spec| {
        spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| {
            !["network", "ipc", "uts"].contains(&namespace["type"].as_str().unwrap())
        });
        in_userns(spec, Some(&pin("user")));
        for (kind, name) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts")] {
            let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.push(json!({ "type": kind, "path": pin(name) }));
        }
        spec["hostname"] = json!("");
        spec["linux"]["readonlyPaths"] = json!([]);
        capabilities(spec, &["CAP_SYS_ADMIN", "CAP_NET_ADMIN"]);
    });
    world.layers.push("idmap".to_owned());
    let output = world.output();
    let words: Vec<&str> = output.split_whitespace().collect();
    let link = |kind: &str| std::fs::read_link(holder.path(kind)).unwrap().display().to_string();
    assert_eq!(words, ["pod", "1", &link("user"), &link("net")]);
    for kind in ["user", "net", "ipc", "uts"] {
        rustix::mount::unmount(pinned.path().join(kind), rustix::mount::UnmountFlags::DETACH)
            .unwrap();
    }
}

fn capabilities(spec: &mut Value, names: &[&str]) {
    for set in ["bounding", "permitted", "effective"] {
        let list = spec["process"]["capabilities"][set].as_array_mut().unwrap();
        list.extend(names.iter().map(|name| json!(name)));
    }
    spec["linux"]["seccomp"] = Value::Null;
}

#[test]
fn devices_are_there_and_no_others_can_be_made() {
    let script = "exec 2>/dev/null; stat -c %t:%T:%a /dev/null /dev/tty /dev/sub/fuse /mnt/zero; \
        echo x > /dev/null && head -c 1 /mnt/zero | od -An -tx1; \
        mknod /dev/sda b 8 0 || echo refused; mknod /tmp/null c 1 3 || echo refused; \
        cat /image-null; echo $?; touch /dev/shm/x /dev/mine && echo mine";
    let world = world(script, |spec| {
        spec["linux"]["devices"] = json!([
            { "path": "/dev/sub/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 0, "gid": 0 },
            { "path": "/mnt/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o666, "uid": 0, "gid": 0 },
        ]);
    });
    let node = world.lower().join("image-null");
    let (kind, mode) =
        (rustix::fs::FileType::CharacterDevice, rustix::fs::Mode::from_raw_mode(0o666));
    let number = rustix::fs::makedev(1, 3);
    rustix::fs::mknodat(rustix::fs::CWD, &node, kind, mode, number).unwrap();
    let output = world.run().unwrap().output;
    // The last of them is the image's own node, which is none in a user namespace.
    assert!(
        output.starts_with("1:3:666\n5:0:666\na:e5:640\n1:5:666\n 00\nrefused\nrefused\n1\nmine"),
        "{output}"
    );
}

#[test]
fn file_capabilities_are_those_of_the_namespace() {
    let script = "stat -c %u:%a /usr/bin/id; /usr/bin/grep CapEff /proc/self/status";
    let world = world(script, |spec| {
        spec["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
        spec["process"]["noNewPrivileges"] = json!(false);
    });
    // busybox decides by its name what it is.
    let copy = |name: &str| {
        let at = world.lower().join("usr/bin").join(name);
        std::fs::copy("/bin/busybox", &at).unwrap();
        at
    };
    let (suid, caps) = (copy("id"), copy("grep"));
    set_mode(&suid, 0o4755);
    // struct vfs_cap_data, revision 2: effective, and CAP_NET_BIND_SERVICE permitted.
    let data = [0x0200_0001_u32, 1 << 10, 0, 0, 0].map(u32::to_le_bytes).concat();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(&caps, "security.capability", &data, flags).unwrap();
    assert_eq!(world.output(), "0:4755\nCapEff:\t0000000000000400\n");
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}

#[test]
fn volumes_have_the_ids_that_are_asked_for() {
    let volume = tempfile::tempdir().unwrap();
    std::fs::write(volume.path().join("mine"), "x").unwrap();
    chown(volume.path().join("mine"), Some(3), Some(4)).unwrap();
    let script = "stat -c %u:%g /own/mine /plain/mine /shifted/mine; touch /own/new; \
        touch /plain/new 2>/dev/null || echo refused";
    let world = world(script, |spec| {
        let mounts = spec["mounts"].as_array_mut().unwrap();
        let own =
            json!({ "options": ["rbind", "ridmap"], "uidMappings": map(), "gidMappings": map() });
        mounts.push(bind(volume.path(), "/own", own));
        mounts.push(bind(volume.path(), "/plain", json!({})));
        let other = json!([{ "containerID": 0, "hostID": ROOT + 100, "size": 1000 }]);
        let other =
            json!({ "options": ["rbind", "idmap"], "uidMappings": other, "gidMappings": other });
        mounts.push(bind(volume.path(), "/shifted", other));
    });
    // What no id of the container stands for is nobody's.
    assert_eq!(world.output(), "3:4\n65534:65534\n103:104\nrefused\n");
    assert_eq!(std::fs::metadata(volume.path().join("new")).unwrap().uid(), 0);
}

#[test]
fn a_volume_is_mapped_without_a_user_namespace_too() {
    let volume = tempfile::tempdir().unwrap();
    std::fs::write(volume.path().join("mine"), "x").unwrap();
    let world = World::with("stat -c %u:%g /v/mine", |spec| {
        let to = json!([{ "containerID": 0, "hostID": 55, "size": 1 }]);
        let more = json!({ "uidMappings": to, "gidMappings": to });
        spec["mounts"].as_array_mut().unwrap().push(bind(volume.path(), "/v", more));
    });
    assert_eq!(world.output(), "55:55\n");
}

#[test]
fn what_cannot_be_mapped_is_named() {
    for (source, options, word) in [
        (Path::new("/proc/sys"), json!(["rbind", "ridmap"]), "/proc/sys"),
        (Path::new("/no/such/place"), json!(["rbind", "ridmap"]), "create it first"),
    ] {
        let more = json!({ "options": options, "uidMappings": map(), "gidMappings": map() });
        let world = world("true", |spec| {
            spec["mounts"].as_array_mut().unwrap().push(bind(source, "/v", more));
        });
        let error = world.run().unwrap_err();
        assert!(error.message.contains(word), "{error}");
    }
    let world = world("true", |spec| spec["linux"]["gidMappings"] = json!([]));
    assert!(world.run().unwrap_err().message.contains("gidMappings"));
}

#[test]
fn a_directory_of_the_host_that_nobody_may_enter_is_bound_all_the_same() {
    let outer = tempfile::tempdir().unwrap();
    let inner = outer.path().join("closed/volume");
    std::fs::create_dir_all(&inner).unwrap();
    std::fs::write(inner.join("file"), "seen\n").unwrap();
    set_mode(&outer.path().join("closed"), 0o700);
    let world = world("cat /v/file; ls /..", |spec| {
        spec["mounts"].as_array_mut().unwrap().push(bind(&inner, "/v", json!({})));
    });
    assert!(world.output().starts_with("seen\n"));
}

#[test]
fn kernel_directories_are_the_namespaces_own() {
    let script = "stat -f -c %T /proc /sys /dev/mqueue /dev/pts; cat /proc/keys | wc -c; \
        ls /sys/firmware | wc -l; echo x 2>/dev/null > /proc/sys/kernel/core_pattern || echo refused; \
        grep -c . /proc/1/cgroup > /dev/null && ls /sys/fs/cgroup | head -n 1";
    let output = world(script, |_| {}).run().unwrap().output;
    assert!(output.starts_with("proc\nsysfs\nUNKNOWN\ndevpts\n0\n0\nrefused\n"), "{output}");
}

/// Root of the namespace with every right over it, in the shoes of CVE-2016-9962: a process of ours that
/// enters the container has descriptors of the host until its exec.
#[test]
fn no_process_of_ours_can_be_looked_into() {
    let script = "while :; do for p in /proc/[0-9]*; do \
        [ ${p#/proc/} = 1 ] || [ ${p#/proc/} = $$ ] || case $(cat $p/comm 2>/dev/null) in \
        orlop*|memfd*|stage|4) ls $p/fd >/dev/null 2>&1 && ls -l $p/fd >> /seen; \
        ;; esac; done; [ -e /stop ] && break; done; \
        echo done; cat /seen 2>/dev/null";
    let world = world(script, |spec| {
        capabilities(spec, &["CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "CAP_DAC_READ_SEARCH"]);
    });
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let fd = Some(write.as_fd());
    let init = world.start(Stdio::Fds([None, fd, fd])).unwrap();
    drop(write);
    for _ in 0..60 {
        assert_eq!(world.exec(&init, &process(&world, "echo in")).unwrap().output, "in\n");
    }
    world.exec(&init, &process(&world, "touch /stop")).unwrap();
    let mut output = String::new();
    std::io::Read::read_to_string(&mut std::fs::File::from(read), &mut output).unwrap();
    init.child.pidfd.wait().unwrap();
    assert!(output.contains("done\n"), "{output}");
    // Of a process that is the workload already there are its three descriptors, and no more.
    for line in output.lines().filter(|line| line.contains("->")) {
        let number = line.split(" -> ").next().and_then(|left| left.split(' ').next_back());
        assert!(matches!(number, Some("0" | "1" | "2")), "{line}");
    }
}

/// The sandbox's own init in a user namespace.
#[test]
fn an_init_without_a_program_lives_there_too() {
    let world = world("", |spec| {
        spec["mounts"] = json!([]);
        spec["linux"]["seccomp"] = Value::Null;
    });
    let spec = world.oci();
    let mut staged = spawn_init(&InitRequest {
        spec: &spec,
        bundle: world.dir.path(),
        rootfs: &[],
        stdio: Stdio::Fds([None; 3]),
        cgroup: Some(&world.cgroup),
        init_only: true,
        reaper: false,
        hooks: None,
        self_exe: SELF.as_fd(),
    })
    .unwrap();
    staged.wait_ready().unwrap();
    staged.release().unwrap();
    staged.wait_running().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", staged.child.pid)).unwrap();
    assert!(status.contains("Uid:\t200000"), "{status}");
    staged.child.pidfd.send_signal(15).unwrap();
    staged.child.pidfd.wait().unwrap();
}
