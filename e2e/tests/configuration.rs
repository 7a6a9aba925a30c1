//! The configuration from the outside: mistakes, what is in force, reload, `orlop check`, the service manager, and
//! what is installed on a node.

use orlop_e2e::process::{output, run, until};
use orlop_e2e::{World, program, root, tool};
use serde_json::{Value, json};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

fn orlop(arguments: &[&str]) -> Command {
    let mut command = Command::new(program("orlop"));
    command.args(arguments);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Writes a file and the directories above it.
fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("a file is in a directory")).expect("directory");
    std::fs::write(path, text).expect("file");
}

fn hang_up(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).expect("a process id");
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).expect("SIGHUP");
}

#[test]
fn every_mistake_is_told_at_once_and_nothing_starts() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("orlop.toml");
    write(&file, "rot = '/x'\n[network]\npool_size = 'many'\n");
    write(&dir.path().join("conf.d/50-more.toml"), "[log]\nlevle = 'debug'\n");
    let file = file.to_str().unwrap();
    for command in [["serve", "--config"], ["config", "--config"]] {
        let output = output(orlop(&command).arg(file));
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        for place in [
            "orlop.toml:1:1: unknown key \"rot\": did you mean \"root\"?",
            "orlop.toml:3:13: network.pool_size: ",
            "conf.d/50-more.toml:2:1: unknown key \"levle\" in [log]: did you mean \"level\"?",
        ] {
            assert!(error.contains(place), "{place} is not in: {error}");
        }
        assert!(error.contains(" 3 | pool_size = 'many'\n   |             ^^^^^^"), "{error}");
    }
}

#[test]
fn what_is_in_force_and_where_it_came_from() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("orlop.toml");
    write(&file, "workers = 4\n[network]\npool_size = 3\n");
    write(&dir.path().join("conf.d/a.toml"), "workers = 5\n");
    let arguments = ["config", "--json", "--run", "/run/other", "--config", file.to_str().unwrap()];
    let shown: Value =
        serde_json::from_str(&run(orlop(&arguments).env("RUST_LOG", "warn"))).expect("JSON");
    let drop_in = format!("{}:1", dir.path().join("conf.d/a.toml").display());
    for (key, value, origin) in [
        ("workers", json!(5), drop_in.as_str()),
        ("network.pool_size", json!(3), &format!("{}:3", file.display())),
        ("run", json!("/run/other"), "--run"),
        ("log.level", json!("warn"), "RUST_LOG"),
        ("network.plugin_timeout", json!("1m"), "default"),
    ] {
        assert_eq!(shown[key]["value"], value, "{key}");
        assert_eq!(shown[key]["origin"], origin, "{key}");
    }
    // What is printed is a configuration again.
    let printed =
        run(orlop(&["config", "--config", file.to_str().unwrap()]).env_remove("RUST_LOG"));
    let again = dir.path().join("again/orlop.toml");
    write(&again, &printed);
    let again = run(&mut orlop(&["config", "--json", "--config", again.to_str().unwrap()]));
    assert_eq!(serde_json::from_str::<Value>(&again).expect("JSON")["workers"]["value"], 5);
}

#[test]
fn a_reload_is_all_or_nothing_and_nothing_dies_of_it() {
    let mut world = World::configured(|_| "[log]\nlevel = 'info'\n".to_owned());
    let pid = world.pid();
    let drop_in = world.path("conf.d/a.toml");
    // A key that can change.
    write(&drop_in, "[log]\nlevel = 'debug'\n");
    hang_up(pid);
    until("the change", || world.log().contains("reload: changed log.level"));
    world.crictl_error(&["inspect", "nobody"]);
    until("a debug line", || world.log().contains("DEBUG"));
    // A mistake.
    write(&drop_in, "[log]\nlevel = 'warn'\nlevle = 1\n");
    hang_up(pid);
    until("the mistake", || world.log().contains("a.toml:3:1: unknown key \"levle\""));
    // One key that can change, with two that cannot.
    write(&drop_in, "workers = 3\n[log]\nlevel = 'warn'\n[network]\npool_size = 1\n");
    hang_up(pid);
    let expected =
        "reload: nothing was changed: a restart is needed to change network.pool_size, workers";
    until("the refusal", || world.log().contains(expected));
    // Neither changed the level.
    let before = world.log().matches("DEBUG").count();
    world.crictl_error(&["inspect", "nobody"]);
    until("another debug line", || world.log().matches("DEBUG").count() > before);
    for _ in 0..200 {
        hang_up(pid);
    }
    world.crictl(&["version"]);
    assert_eq!(world.pid(), pid);
    std::fs::remove_file(&drop_in).unwrap();
    world.check_clean();
}

#[test]
fn the_service_manager_is_told_what_is_true() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let told = || {
        let mut buffer = [0; 512];
        let length = manager.recv(&mut buffer).expect("the daemon tells something within a minute");
        text(&buffer[..length])
    };
    let next = |wanted: &str| while !told().starts_with(wanted) {};

    let mut world = World::prepared();
    world.environment("NOTIFY_SOCKET", path.to_str().unwrap());
    world.environment("WATCHDOG_USEC", "400000");
    world.start();
    next("READY=1");
    next("WATCHDOG=1");
    next("WATCHDOG=1");
    hang_up(world.pid());
    let mut reloading = told();
    while reloading == "WATCHDOG=1" {
        reloading = told();
    }
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    next("READY=1");
    // With its socket gone no client reaches the daemon, and it says nothing.
    let (socket, aside) = (world.socket(), world.path("run/aside"));
    std::fs::rename(&socket, &aside).unwrap();
    let silent = "the watchdog is not told that all is well";
    until("the first silence", || world.log().contains(silent));
    manager.set_nonblocking(true).unwrap();
    while manager.recv(&mut [0; 512]).is_ok() {}
    manager.set_nonblocking(false).unwrap();
    until("the second silence", || world.log().matches(silent).count() > 2);
    std::fs::rename(&aside, &socket).unwrap();
    next("WATCHDOG=1");
    world.crictl(&["version"]);
    world.stop();
    next("STOPPING=1");
    world.clear_environment();
}

#[test]
fn check_tells_what_is_there_and_what_is_lacking() {
    let world = World::prepared();
    let flags = |command: &mut Command| {
        command.args(["check", "--json", "--root"]).arg(world.path("root"));
        command.arg("--run").arg(world.path("run"));
    };
    let mut command = world.inside(program("orlop"));
    flags(&mut command);
    let output = output(&mut command);
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(found["pods_can_run"], true, "{found:#}");
    assert_eq!(output.status.code(), Some(0));
    let level = |found: &Value, what: &str| {
        let all = found["findings"].as_array().expect("a list");
        let one = all
            .iter()
            .find(|finding| finding["what"].as_str().is_some_and(|name| name.starts_with(what)));
        one.unwrap_or_else(|| panic!("nothing about {what}: {found:#}"))["level"].clone()
    };
    for what in
        ["bridge", "veth", "nftables, IPv4", "file system of", "kernel", "pod network", "shim"]
    {
        assert_eq!(level(&found, what), "fine", "{what}: {found:#}");
    }
    assert_eq!(
        std::fs::read_dir(world.path("root")).unwrap().count(),
        0,
        "the check leaves nothing"
    );

    // Nobody without rights can run pods, and this is what the check says.
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(copy(&world, "orlop"));
    flags(&mut command);
    let output = orlop_e2e::process::output(&mut command);
    let found: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!(
        (output.status.code(), &found["pods_can_run"]),
        (Some(1), &json!(false)),
        "{found:#}"
    );
    assert_eq!(level(&found, "user"), "essential");
}

/// A copy that anybody may execute.
fn copy(world: &World, name: &str) -> std::path::PathBuf {
    let dir = world.path("tmp");
    for path in [&world.path(""), &dir] {
        run(Command::new("chmod").arg("755").arg(path));
    }
    std::fs::copy(program(name), dir.join(name)).expect("copy");
    dir.join(name)
}

fn manifest(name: &str) -> std::path::PathBuf {
    root().join("manifests").join(name)
}

#[test]
fn the_unit_is_one_and_kills_no_container() {
    let unit = std::fs::read_to_string(manifest("orlop.service")).unwrap();
    for line in [
        "Type=notify",
        "KillMode=process",
        "Delegate=yes",
        "WatchdogSec=60",
        "ExecReload=/bin/kill -HUP $MAINPID",
    ] {
        assert!(unit.lines().any(|found| found == line), "{line}");
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("orlop.service");
    // The programs are not installed here.
    let orlop = program("orlop");
    std::fs::write(
        &file,
        unit.replace("/usr/local/bin/orlop serve", &format!("{} serve", orlop.display())),
    )
    .unwrap();
    let output = output(
        Command::new("systemd-analyze")
            .args(["verify", "--man=no", "--recursive-errors=no"])
            .arg(&file),
    );
    let said = text(&output.stderr);
    assert!(output.status.success() && !said.contains("orlop.service:"), "{said}");
}

#[test]
fn tmpfiles_and_modules_are_readable() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("systemd-tmpfiles");
    command
        .arg("--create")
        .arg(format!("--root={}", dir.path().display()))
        .arg(manifest("orlop.tmpfiles.conf"));
    run(&mut command);
    use std::os::unix::fs::PermissionsExt;
    let mode =
        |path: &str| std::fs::metadata(dir.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode("run/orlop"), mode("var/lib/orlop"), mode("etc/orlop/conf.d")),
        (0o700, 0o700, 0o755)
    );
    let lines = |name: &str| {
        let text = std::fs::read_to_string(manifest(name)).unwrap();
        text.lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let word = |text: &str| {
        text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    let modules = lines("orlop.modules-load.conf");
    assert!(modules.len() > 5 && modules.iter().all(|name| word(name)), "{modules:?}");
    for line in lines("orlop.sysctl.conf") {
        let (name, value) = line.split_once(" = ").unwrap_or_else(|| panic!("{line}"));
        let path = Path::new("/proc/sys").join(name.replace('.', "/"));
        assert!(path.exists() && value.parse::<u64>().is_ok(), "{line}");
    }
}

#[test]
fn kubernetes_reads_its_files() {
    run(Command::new(tool("manifests"))
        .arg(manifest("kubelet.yaml"))
        .arg(manifest("runtimeclass.yaml")));
    let dir = tempfile::tempdir().unwrap();
    let wrong = dir.path().join("kubelet.yaml");
    let kubelet = std::fs::read_to_string(manifest("kubelet.yaml")).unwrap();
    std::fs::write(&wrong, kubelet.replace("cgroupDriver", "cgroupDriverr")).unwrap();
    assert!(
        !output(Command::new(tool("manifests")).arg(&wrong)).status.success(),
        "the reader is strict"
    );
    let get = |key: &str| {
        let mut command = Command::new(tool("crictl"));
        run(command.arg("--config").arg(manifest("crictl.yaml")).args(["config", "--get", key]))
    };
    assert_eq!(get("runtime-endpoint"), "unix:///run/orlop/orlop.sock");
    assert_eq!(get("image-endpoint"), get("runtime-endpoint"));
}

#[test]
fn the_sample_network_carries_a_pod() {
    let mut world = World::prepared();
    std::fs::copy(manifest("10-orlop.conflist"), world.path("cni/10-orlop.conflist")).unwrap();
    world.start();
    let config = world.pod(
        "sample",
        json!({"port_mappings": [{"protocol": 0, "container_port": 80, "host_port": 18080}]}),
    );
    let pod = world.run_pod(&config);
    let status: Value =
        serde_json::from_str(&world.crictl(&["inspectp", "-o", "json", &pod])).unwrap();
    let ip = status["status"]["network"]["ip"].as_str().unwrap_or_default();
    assert!(ip.starts_with("10.88."), "{status:#}");
    world.crictl(&["rmp", "-f", &pod]);
}
