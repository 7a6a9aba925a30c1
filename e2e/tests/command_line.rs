//! The command line as people and scripts use it: names, formats, mistakes, credentials. Through a daemon, and
//! without one.

use orlop_e2e::process::{output, run};
use orlop_e2e::{World, images, program};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Output, Stdio};

/// The program under a name of its own.
fn called(world: &World, name: &str, arguments: &[&str]) -> Command {
    let link = world.path("tmp").join(name);
    if !link.exists() {
        symlink(program("orlop"), &link).unwrap();
    }
    let mut command = world.inside(&link);
    for (flag, sub) in [("--root", "root"), ("--run", "run")] {
        command.arg(flag).arg(world.path(sub));
    }
    if name == "ctr" {
        command.arg("--address").arg(world.socket());
    }
    command.args(arguments).env("HOME", world.path("tmp")).env_remove("DOCKER_CONFIG");
    if name != "ctr" {
        command.env("ORLOP_HOST", world.socket());
    }
    command
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn refused(command: &mut Command) -> (Option<i32>, String) {
    let done = output(command);
    assert!(!done.status.success(), "{}", said(&done));
    (done.status.code(), said(&done))
}

fn pushed(world: &mut World) -> String {
    let layer = images::busybox_layer(&world.path("tmp"));
    let config = r#"{"Cmd": ["sh"], "Env": ["PATH=/bin"], "Labels": {"tier": "web"}}"#;
    world.push("test/busybox:1", &[&layer], config, &[])
}

fn images_as_people_have_them(world: &World, reference: &str) {
    let orlop = |arguments: &[&str]| run(called(world, "orlop", arguments).stderr(Stdio::null()));
    let id = orlop(&["pull", "-q", reference]).trim().to_owned();
    let (repository, _) = reference.rsplit_once(':').unwrap();
    assert_eq!(
        orlop(&["images", "--format", "{{.Repository}} {{.Tag}}"]),
        format!("{repository} 1")
    );
    assert_eq!(orlop(&["images", "-q", "--no-trunc"]).trim(), id);
    assert_eq!(orlop(&["images", "-q", "--filter", "label=tier=db"]), "");
    let json: serde_json::Value =
        serde_json::from_str(&orlop(&["images", "--format", "json"])).unwrap();
    assert_eq!((&json["Repository"], &json["Tag"]), (&repository.into(), &"1".into()));
    let table = orlop(&["images"]);
    assert!(table.starts_with("REPOSITORY") && !table.contains('\x1b'), "{table}");
    assert_eq!(orlop(&["image", "inspect", "-f", "{{index .Config.Labels \"tier\"}}", &id]), "web");
    assert_eq!(
        orlop(&["inspect", "--format", "{{.Id}} {{json .Config.Cmd}}", reference]),
        format!("{id} [\"sh\"]")
    );
    orlop(&["tag", reference, "r.example/other:2"]);
    let file = world.path("two.tar");
    let file = file.to_str().unwrap();
    orlop(&["save", "-o", file, reference, "r.example/other:2"]);
    let (_, error) = refused(&mut called(world, "orlop", &["rmi", &id]));
    assert!(error.contains("several names") && error.contains("--force"), "{error}");
    assert_eq!(orlop(&["rmi", "r.example/other:2"]), "Untagged: r.example/other:2");
    let gone = orlop(&["rmi", reference]);
    assert_eq!(gone, format!("Untagged: {reference}\nDeleted: {id}"));
    assert_eq!(orlop(&["rmi", "-f", reference]), "");
    let mut load = called(world, "orlop", &["load"]);
    let load = load.stdin(std::fs::File::open(file).unwrap()).output().unwrap();
    for name in [reference, "r.example/other:2"] {
        assert!(said(&load).contains(&format!("Loaded image: {name}")), "{}", said(&load));
    }
    assert!(orlop(&["history", reference]).starts_with("IMAGE"));
    orlop(&["rmi", "--force", &id]);
    assert_eq!(orlop(&["images", "-q"]), "");
}

fn roots_become_images(world: &World) {
    let orlop = |arguments: &[&str]| run(&mut called(world, "orlop", arguments));
    let layer = images::busybox_layer(&world.path("tmp"));
    let id = orlop(&["import", "-m", "by hand", layer.to_str().unwrap(), "r.example/root:1"]);
    let id = id.trim();
    assert_eq!(
        orlop(&[
            "inspect",
            "-f",
            "{{.Id}} {{len .RootFS.Layers}} {{.Comment}}",
            "r.example/root:1"
        ]),
        format!("{id} 1 by hand")
    );
    assert!(orlop(&["image", "verify"]).contains("1 images, 1 layers"));
    let (_, error) = refused(&mut called(world, "orlop", &["import", "/etc/hostname"]));
    assert!(error.contains("no tar file"), "{error}");
    orlop(&["rmi", id]);
}

fn mistakes_are_answered(world: &World, reference: &str) {
    run(called(world, "orlop", &["pull", reference]).stderr(Stdio::null()));
    let absent = reference.replace("busybox", "busybx");
    let (code, error) = refused(&mut called(world, "orlop", &["inspect", &absent]));
    assert_eq!(code, Some(1));
    assert!(
        error.contains(&format!("did you mean {reference}?")) && error.starts_with("[]"),
        "{error}"
    );
    let (code, error) = refused(&mut called(world, "orlop", &["imagse"]));
    assert_eq!(code, Some(125));
    assert!(error.contains("images"), "{error}");
    let (_, error) = refused(&mut called(world, "orlop", &["rnu"]));
    assert!(error.contains("'run'"), "{error}");
    let (code, error) = refused(&mut called(world, "orlop", &["run", "--nmae", "x", "img"]));
    assert_eq!(code, Some(125));
    assert!(error.contains("--name"), "{error}");
    let (_, error) = refused(&mut called(world, "orlop", &["search", "nginx"]));
    assert!(error.contains("no common way to search"), "{error}");
    let (_, error) = refused(&mut called(world, "orlop", &["image", "prune"]));
    assert!(error.contains("--force"), "nobody is there to be asked: {error}");
    let (_, error) = refused(&mut called(world, "orlop", &["images", "--format", "{{.Nope}}"]));
    assert!(error.contains("there is no field Nope"), "{error}");
    run(&mut called(world, "orlop", &["rmi", reference]));
}

/// The calls that kind makes of a node.
fn as_ctr(world: &World, reference: &str) {
    let ctr = |arguments: &[&str]| run(&mut called(world, "ctr", arguments));
    run(called(world, "orlop", &["pull", reference]).stderr(Stdio::null()));
    let id = run(&mut called(world, "orlop", &["images", "-q", "--no-trunc"]));
    let id = id.trim();
    let file = world.path("node.tar");
    ctr(&["-n", "k8s.io", "images", "export", file.to_str().unwrap(), reference]);
    assert_eq!(ctr(&["--namespace=k8s.io", "images", "rm", reference]), format!("{reference}"));
    let mut import = called(
        world,
        "ctr",
        &[
            "--namespace=k8s.io",
            "images",
            "import",
            "--all-platforms",
            "--digests",
            "--snapshotter=overlayfs",
            "-",
        ],
    );
    let import = import.stdin(std::fs::File::open(&file).unwrap()).output().unwrap();
    assert!(import.status.success() && said(&import).contains(reference), "{}", said(&import));
    ctr(&["--namespace=k8s.io", "images", "tag", "--force", id, "r.example/again:1"]);
    assert!(ctr(&["-n", "k8s.io", "images", "ls"]).contains("r.example/again:1"));
    assert_eq!(
        ctr(&["-n", "k8s.io", "images", "ls", "-q", "name==r.example/again:1"]),
        "r.example/again:1"
    );
    ctr(&["-n", "k8s.io", "i", "rm", reference, "r.example/again:1"]);
    assert_eq!(ctr(&["-n", "k8s.io", "images", "ls", "-q"]), "");
}

fn as_docker(world: &World) {
    let docker = |arguments: &[&str]| run(&mut called(world, "docker", arguments));
    assert!(docker(&["-v"]).starts_with("Docker version 28."));
    assert_eq!(docker(&["version", "--format", "{{.Server.Version}}"]), "28.0.0");
    assert!(docker(&["version"]).contains("API version"));
    let info = docker(&["-D", "--log-level=debug", "info", "--format", "{{json .}}"]);
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    // What kind and testcontainers read.
    for field in [
        "CgroupDriver",
        "CgroupVersion",
        "MemoryLimit",
        "PidsLimit",
        "CPUShares",
        "SecurityOptions",
        "OSType",
        "Architecture",
        "ServerVersion",
        "DockerRootDir",
    ] {
        assert!(!info[field].is_null(), "{field}");
    }
    assert_eq!(docker(&["info", "-f", "{{.Swarm.LocalNodeState}} {{.Containers}}"]), "inactive 0");
    assert_eq!(docker(&["ps", "-q", "--all=true"]), "");
    let (_, error) = refused(&mut called(world, "docker", &["compose", "up"]));
    assert!(error.contains("compose"), "{error}");
}

fn everything(world: &World, reference: &str) {
    images_as_people_have_them(world, reference);
    roots_become_images(world);
    mistakes_are_answered(world, reference);
    as_ctr(world, reference);
    as_docker(world);
}

#[test]
fn with_and_without_a_daemon() {
    let mut world = World::new();
    let reference = pushed(&mut world);
    everything(&world, &reference);
    world.stop();
    everything(&world, &reference);
    world.start();
}

#[test]
fn credentials_are_kept_as_docker_keeps_them() {
    let mut world = World::new();
    let registry = world.registry();
    let login = |more: &[&str]| {
        let mut login = called(&world, "orlop", &["login", "-u", "ann", "--password-stdin"]);
        login
            .args(more)
            .arg(&registry)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = login.spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"secret\n").unwrap();
        child.wait_with_output().unwrap()
    };
    let done = login(&[]);
    assert!(done.status.success() && said(&done).contains("Login Succeeded"), "{}", said(&done));
    let file = world.path("tmp/.docker/config.json");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("YW5uOnNlY3JldA=="), "{text}");
    let out = run(&mut called(&world, "orlop", &["logout", &registry]));
    assert!(out.contains("Removing login credentials"), "{out}");
    assert!(!std::fs::read_to_string(&file).unwrap().contains("YW5u"));
    // A helper gets the secret, and the file does not.
    let bin = world.path("tmp/bin");
    std::fs::create_dir_all(&bin).unwrap();
    let helper = bin.join("docker-credential-note");
    let note = world.path("tmp/note");
    std::fs::write(&helper, format!("#!/bin/sh\necho \"$1\" >> {0}\ncat >> {0}\n", note.display()))
        .unwrap();
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(&file, r#"{"credsStore": "note"}"#).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut with_helper =
        called(&world, "orlop", &["login", "-u", "ann", "-p", "secret", &registry]);
    let done = output(with_helper.env("PATH", &path));
    assert!(done.status.success(), "{}", said(&done));
    let noted = std::fs::read_to_string(&note).unwrap();
    assert!(noted.starts_with("store") && noted.contains("\"Secret\":\"secret\""), "{noted}");
    assert!(!std::fs::read_to_string(&file).unwrap().contains("secret"));
}

#[test]
fn containerd_by_its_name() {
    let world = World::prepared();
    let link = world.path("tmp").join("containerd");
    symlink(program("orlop"), &link).unwrap();
    let dump = run(world.inside(&link).args(["config", "dump"]));
    let line = dump.lines().find(|line| line.contains("snapshotter")).unwrap();
    assert_eq!(line.trim(), "snapshotter = \"overlayfs\"");
    assert!(run(world.inside(&link).arg("--version")).starts_with("containerd "));
}
