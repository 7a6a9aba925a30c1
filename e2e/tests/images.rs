//! `orlop image`: through a running daemon, and without one.

use orlop_e2e::process::{output, run};
use orlop_e2e::{World, images, program};
use std::process::{Command, Output, Stdio};

/// `orlop image` for this world.
fn image(world: &World, arguments: &[&str]) -> Command {
    let mut command = world.inside(program("orlop"));
    command.arg("image");
    for (flag, sub) in [("--root", "root"), ("--run", "run")] {
        command.arg(flag).arg(world.path(sub));
    }
    command.arg("--socket").arg(world.socket()).args(arguments).env("HOME", world.path("tmp"));
    command
}

/// `REPOSITORY:TAG` of all images, a line each.
fn names(world: &World) -> String {
    run(&mut image(world, &["ls", "--format", "{{.Repository}}:{{.Tag}}"]))
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Pushes a busybox image and names it, without pulling it.
fn pushed(world: &mut World) -> String {
    let layer = images::busybox_layer(&world.path("tmp"));
    world.push("test/busybox:1", &[&layer], r#"{"Cmd": ["sh"], "Env": ["PATH=/bin"]}"#, &[])
}

#[test]
fn through_the_daemon() {
    let mut world = World::new();
    let reference = pushed(&mut world);
    let pull = output(&mut image(&world, &["pull", &reference]));
    assert!(pull.status.success(), "{}", said(&pull));
    let id = String::from_utf8_lossy(&pull.stdout).trim().to_owned();
    assert!(id.starts_with("sha256:"), "{id}");
    // No terminal: lines that say what ended, nothing that moves.
    let lines = String::from_utf8_lossy(&pull.stderr).into_owned();
    assert!(lines.contains("1 layers, ") && lines.contains(": done"), "{lines}");
    assert!(!lines.contains('\x1b'), "{lines:?}");
    assert!(world.crictl(&["images", "-q"]).contains(&id));
    assert!(names(&world).contains(&reference));
    assert_eq!(run(&mut image(&world, &["pulls"])), "");
    run(&mut image(&world, &["tag", &reference, "r.example/named:2"]));
    assert!(world.crictl(&["inspecti", "r.example/named:2"]).contains(&id));
    let json = run(&mut image(&world, &["inspect", &id]));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[0]["Id"], id.as_str());
    let config = run(&mut image(
        &world,
        &["inspect", "-f", "{{index .Config.Cmd 0}} {{len .RootFS.Layers}}", &id],
    ));
    assert_eq!(config, "sh 1");
    assert!(run(&mut image(&world, &["history", &id])).contains("CREATED BY"));
    let registry = world.registry();
    let copy = format!("{registry}/copy/of:3");
    let digest = run(&mut image(&world, &["push", &reference, &copy]));
    assert!(digest.starts_with("sha256:"), "{digest}");
    let file = world.path("out.tar");
    run(&mut image(&world, &["save", &reference, "--output", file.to_str().unwrap()]));
    assert!(run(&mut image(&world, &["verify"])).contains("1 images, 1 layers"));
    world.crictl(&["rmi", &id]);
    // The copy in the registry is as good, and so is the archive, from standard input.
    world.crictl(&["pull", &copy]);
    let mut load = image(&world, &["load"]);
    let load = load.stdin(std::fs::File::open(&file).unwrap()).output().unwrap();
    assert!(said(&load).contains(&format!("Loaded image: {reference}")), "{}", said(&load));
    run(&mut image(&world, &["rm", &copy]));
    assert!(world.crictl(&["images", "-q"]).contains(&id), "it has another name");
    run(&mut image(&world, &["rm", &reference]));
    assert_eq!(world.crictl(&["images", "-q"]), "");
    let absent = output(&mut image(&world, &["rm", &reference]));
    assert!(!absent.status.success() && said(&absent).contains("not present"), "{}", said(&absent));
    let failed = output(&mut image(&world, &["pull", &format!("{registry}/absent:1")]));
    assert!(!failed.status.success() && said(&failed).contains("not found in the registry"));
}

#[test]
fn without_a_daemon() {
    let mut world = World::new();
    let reference = pushed(&mut world);
    // While a daemon has the store, nobody else opens it: the socket is the way.
    world.stop();
    let id = run(image(&world, &["pull", &reference]).stderr(Stdio::null()));
    assert!(names(&world).contains(&reference));
    let file = world.path("out.tar");
    run(&mut image(&world, &["save", &id, "--output", file.to_str().unwrap()]));
    run(&mut image(&world, &["rm", &id]));
    assert!(!names(&world).contains(&reference));
    run(&mut image(
        &world,
        &["load", "--input", file.to_str().unwrap(), "--name", "r.example/own:1"],
    ));
    assert!(run(&mut image(&world, &["verify", "--repair"])).contains("1 images, 1 layers"));
    world.start();
    assert!(!world.log().contains("was not closed in order"), "{}", world.log());
    assert!(world.crictl(&["inspecti", "r.example/own:1"]).contains(&id));
    // A socket path of the daemon that is wrong leads to the store, which the daemon has.
    let mut other = world.inside(program("orlop"));
    other.args(["image", "--root"]).arg(world.path("root")).arg("--run").arg(world.path("tmp/x"));
    let refused = output(other.args(["ls"]));
    assert!(said(&refused).contains("in use by process"), "{}", said(&refused));
    world.crictl(&["rmi", &id]);
}
