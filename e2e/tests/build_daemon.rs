//! `orlop build` beside a running daemon: one store, one way, and nothing left of a build that was cut
//! off.

mod build_support;

use orlop_e2e::World;
use orlop_e2e::images::busybox_root;
use orlop_e2e::process::{Server, output, run, until};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A directory with a Dockerfile and these files, all of one time.
fn context(world: &World, name: &str, dockerfile: &str, files: &[(&str, &str)]) -> PathBuf {
    let dir = world.path(name);
    std::fs::create_dir_all(&dir).unwrap();
    for (path, text) in files.iter().chain([&("Dockerfile", dockerfile)]) {
        std::fs::write(dir.join(path), text).unwrap();
    }
    build_support::settle(&dir, 1_000_000_000);
    dir
}

fn command(world: &World, root: &str, run: &str, context: &Path, flags: &[&str]) -> Command {
    let mut command = world.inside(orlop_e2e::program("orlop"));
    command.arg("build").arg("--root").arg(world.path(root)).arg("--run").arg(world.path(run));
    command.args(flags).arg(context).stdin(Stdio::null());
    command
}

fn build(world: &World, context: &Path, flags: &[&str]) -> String {
    run(&mut command(world, "root", "run", context, flags)).trim().to_owned()
}

/// Makes the image `base` in the daemon's store.
fn base(world: &World) -> PathBuf {
    let dir = world.path("base");
    busybox_root(&dir.join("root"));
    std::fs::write(dir.join("Dockerfile"), "FROM scratch\nCOPY root/ /\nCMD [\"sh\"]\n").unwrap();
    build_support::settle(&dir, 1_000_000_000);
    build(world, &dir, &["-t", "base"]);
    dir
}

/// Ends a test: what builds keep for the next ones would be taken for a leak.
fn forget(world: &World) {
    let mut command = world.inside(orlop_e2e::program("orlop"));
    command.args(["builder", "prune"]).arg("--root").arg(world.path("root"));
    run(command.arg("--run").arg(world.path("run")));
}

/// Directories of steps and shims that a build left.
fn left(world: &World) -> Vec<PathBuf> {
    let found = std::fs::read_dir(world.path("run/build"));
    found.into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

const APP: &str = "FROM base
WORKDIR /srv
COPY index.html .
RUN mkdir cgi && echo made > cgi/step && umask > /umask
EXPOSE 80
CMD [\"httpd\", \"-f\", \"-p\", \"80\", \"-h\", \"/srv\"]
";

#[test]
fn an_image_is_there_the_moment_it_is_built() {
    let world = World::new();
    let base = base(&world);
    let dir = context(&world, "app", APP, &[("index.html", "built here\n")]);
    let id = build(&world, &dir, &["-t", "web:1"]);

    let ports =
        json!({"port_mappings": [{"protocol": 0, "container_port": 80, "host_port": 8081}]});
    let pod_config = world.pod("web", ports);
    let pod = world.run_pod(&pod_config);
    // No command: what the image says.
    let config = json!({
        "metadata": {"name": "web"}, "image": {"image": "web:1"}, "log_path": "web.log", "linux": {},
    });
    world.run_container(&pod, &pod_config, &config);
    let page = |path: &str| {
        let url = format!("http://127.0.0.1:8081/{path}");
        output(world.inside("curl").args(["-fsS", "-m", "5", &url])).stdout
    };
    until("the page", || page("index.html") == b"built here\n");
    assert_eq!(page("cgi/step"), b"made\n");
    world.crictl(&["rmp", "-f", &pod]);

    // Without a daemon, in another store, by another umask: the same image.
    for (dir, flags) in [(&base, ["-t", "base"]), (&dir, ["-t", "web:1"])] {
        let output = run(&mut command(&world, "other", "other-run", dir, &flags));
        if *dir != base {
            assert_eq!(output.trim(), id);
        }
    }
    assert!(left(&world).is_empty(), "{:?}", left(&world));
    forget(&world);
}

#[test]
fn a_client_that_goes_away_cancels_its_build() {
    let world = World::new();
    base(&world);
    let dir = context(&world, "long", "FROM base\nRUN echo begun; sleep 100000\n", &[]);
    let log = world.path("build.log");
    let mut client = Server::start(command(&world, "root", "run", &dir, &[]), log);
    until("the step to run", || client.log().contains("#0 begun"));
    assert!(!left(&world).is_empty());
    client.kill();
    until("the step to be gone", || left(&world).is_empty());

    // An interrupt says so.
    let log = world.path("build2.log");
    let mut client = Server::start(command(&world, "root", "run", &dir, &[]), log);
    until("the step to run", || client.log().contains("#0 begun"));
    client.terminate();
    assert!(client.log().contains("the build was cancelled"), "{}", client.log());
    until("the step to be gone", || left(&world).is_empty());
    forget(&world);
}

#[test]
fn a_daemon_that_was_killed_leaves_no_step_behind() {
    let mut world = World::new();
    base(&world);
    let dir = context(&world, "long", "FROM base\nRUN echo begun; sleep 100000\n", &[]);
    let log = world.path("build.log");
    let client = Server::start(command(&world, "root", "run", &dir, &[]), log);
    until("the step to run", || client.log().contains("#0 begun"));
    world.kill();
    assert!(!left(&world).is_empty());
    world.start();
    until("the step to be gone", || left(&world).is_empty());
    drop(client);
    let short = context(&world, "short", "FROM base\nRUN true\n", &[]);
    build(&world, &short, &[]);
    forget(&world);
}

#[test]
fn builds_at_once_share_what_they_do() {
    let world = World::new();
    base(&world);
    // Both want the same slow step; it runs once.
    let text = "FROM base\nRUN read x < /proc/sys/kernel/random/uuid; echo $x > /once\n";
    let dir = context(&world, "shared", text, &[]);
    let ids: Vec<String> = std::thread::scope(|scope| {
        let builds: Vec<_> =
            (0..3).map(|_| scope.spawn(|| build(&world, &dir, &["--quiet"]))).collect();
        builds.into_iter().map(|build| build.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    forget(&world);
}

#[test]
fn what_is_built_can_be_pushed_and_exported() {
    let mut world = World::new();
    base(&world);
    let registry = world.registry();
    let name = format!("{registry}/built/app:1");
    let dir = context(&world, "app", APP, &[("index.html", "x\n")]);
    let metadata = world.path("metadata.json");
    let flags = [
        "-t",
        &name,
        "--push",
        "--annotation",
        "org.example=yes",
        "--metadata-file",
        metadata.to_str().unwrap(),
    ];
    let id = build(&world, &dir, &flags);
    let text = std::fs::read(&metadata).unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let digest = metadata["containerimage.digest"].as_str().unwrap().to_owned();

    // What another client reads in the registry.
    let source = format!("docker://{name}");
    let manifest =
        run(world.inside("skopeo").args(["inspect", "--raw", "--tls-verify=false", &source]));
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest["config"]["digest"], id.as_str());
    assert_eq!(manifest["annotations"]["org.example"], "yes");
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 4);
    let copy = format!("oci:{}:x", world.path("copy").display());
    run(world.inside("skopeo").args(["copy", "-q", "--src-tls-verify=false", &source, &copy]));

    // The other way to say it.
    let other = format!("{registry}/built/other:1");
    build(&world, &dir, &["-t", &other, "-o", "type=registry"]);
    let source = format!("docker://{other}");
    run(world.inside("skopeo").args(["inspect", "--raw", "--tls-verify=false", &source]));

    // Pulled back it is the same image, and it runs.
    world.crictl(&["rmi", &name]);
    world.crictl(&["pull", &format!("{registry}/built/app@{digest}")]);
    let inspected = world.crictl(&["inspecti", "-q", &id]);
    assert!(inspected.contains(&id), "{inspected}");

    // An archive of the same image, twice the same bytes.
    let archive = |name: &str, file: &str| {
        let mut command = world.inside(orlop_e2e::program("orlop"));
        command.args(["image", "save", name, "-o"]).arg(world.path(file));
        command.arg("--root").arg(world.path("root")).arg("--run").arg(world.path("run"));
        run(&mut command);
        std::fs::read(world.path(file)).unwrap()
    };
    assert!(archive("base", "one.tar") == archive("base", "two.tar"));

    // One that was built on what was pulled, when that is gone.
    let pulled = format!("FROM {registry}/built/app@{digest}\nRUN echo x > /x\n");
    let child = build(&world, &context(&world, "child", &pulled, &[]), &["-t", "child"]);
    world.crictl(&["rmi", &id]);
    archive("child", "child.tar");
    let inspected = format!("oci-archive:{}", world.path("child.tar").display());
    let manifest = run(world.inside("skopeo").args(["inspect", "--raw", &inspected]));
    assert!(manifest.contains(&child), "{manifest}");
    forget(&world);
}
