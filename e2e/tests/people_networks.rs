//! Networks, volumes, restart policies and health checks as people use them, through both doors.

use orlop_e2e::World;
use orlop_e2e::images::busybox_layer;
use orlop_e2e::process::{output, run, until};
use std::path::Path;
use std::process::Command;

/// An image whose program stays.
const APP: &str = r#"{"Cmd": ["sleep", "1000"], "Env": ["PATH=/bin"]}"#;

/// The same with a daemon, and without one. Networks and volumes go afterwards; what else stays fails the
/// world.
fn both_doors(what: impl Fn(&mut World)) {
    for daemon in [false, true] {
        let mut world = World::for_people();
        world.image("app", APP);
        if daemon {
            world.start();
        }
        what(&mut world);
        world.remove_containers();
        world.says(&["network", "prune", "-f"]);
        world.says(&["volume", "prune", "-af"]);
        let links = run(world.inside("ip").args(["-br", "link"]));
        let ours = links.lines().any(|line| line.starts_with("br-") || line.starts_with("veth"));
        assert!(!ours, "left behind: {links}");
        let rules = run(world.inside("nft").args(["list", "ruleset"]));
        assert!(!rules.contains("orlop"), "left behind: {rules}");
    }
}

/// Runs a shell line in a container to its end; its status.
fn shell(world: &World, flags: &[&str], line: &str) -> i32 {
    let mut arguments = vec!["run", "-d"];
    arguments.extend(flags);
    arguments.extend(["app", "sh", "-c", line]);
    let id = world.says(&arguments);
    let code = world.says(&["wait", &id]).parse().expect("a number");
    world.says(&["rm", &id]);
    code
}

fn pid(world: &World, container: &str) -> u64 {
    world.look(container)["State"]["Pid"].as_u64().expect("a number")
}

/// A server of one page. Debian's static busybox has a wget and an httpd that end in a fault here.
const SERVE: &str = "while :; do echo page | nc -l -p 80; done";

/// Whether a container knows where `web` is; a line with a tab is about the server that was asked.
const KNOWS_WEB: &str = "nslookup web | grep '^Address: '";

/// Fetches the page by name, patiently: the server may not listen yet.
fn fetch(name: &str) -> String {
    let address = format!("$(nslookup {name} | sed -n 's/^Address: //p' | grep -v : | tail -n 1)");
    let get = format!("nc -w 5 {address} 80 < /dev/null | grep page && exit 0");
    format!("for n in $(seq 50); do {get}; sleep 0.1; done; exit 1")
}

#[test]
fn containers_of_a_network_reach_each_other_by_name() {
    both_doors(|world| {
        world.says(&["network", "create", "one"]);
        world.says(&["network", "create", "--ipv6", "two"]);
        let serve = ["sh", "-c", SERVE];
        let web =
            ["run", "-d", "--name", "web", "--network", "one", "--network-alias", "www", "app"];
        world.says(&[&web[..], &serve].concat());
        for name in ["web", "www", "WEB"] {
            let line = fetch(name);
            assert_eq!(shell(world, &["--network", "one"], &line), 0, "{name}");
        }
        let short = &world.says(&["ps", "-q", "--no-trunc"])[..12];
        assert_eq!(shell(world, &["--network", "one"], &format!("nslookup {short}")), 0);
        assert_ne!(shell(world, &["--network", "two"], KNOWS_WEB), 0, "another network");
        assert_ne!(shell(world, &[], KNOWS_WEB), 0, "the default bridge");

        // The address alone does not help either.
        let ip = world.look("web")["NetworkSettings"]["Networks"]["one"]["IPAddress"].clone();
        let line =
            format!("nc -w 2 {} 80 < /dev/null | grep page", ip.as_str().expect("an address"));
        assert_ne!(shell(world, &["--network", "two"], &line), 0);

        world.says(&["network", "connect", "--alias", "late", "two", "web"]);
        for name in ["web", "late"] {
            let line = fetch(name);
            assert_eq!(shell(world, &["--network", "two"], &line), 0, "{name}");
        }
        let said = world.fails(&["network", "rm", "two"]).1;
        assert!(said.contains("web"), "{said}");
        // It stays there over a stop.
        world.says(&["restart", "-t", "0", "web"]);
        assert_eq!(shell(world, &["--network", "two"], &fetch("late")), 0);
        world.says(&["rename", "web", "shop"]);
        assert_eq!(shell(world, &["--network", "one"], &fetch("shop")), 0);
        world.says(&["network", "disconnect", "two", "shop"]);
        assert_ne!(shell(world, &["--network", "two"], "nslookup late | grep '^Address: '"), 0);
        world.says(&["network", "rm", "two"]);
    });
}

#[test]
fn names_live_without_a_daemon_and_end_with_the_last_container() {
    let mut world = World::for_people();
    world.image("app", APP);
    world.start();
    world.says(&["network", "create", "one"]);
    world.says(&["run", "-d", "--name", "web", "--network", "one", "app", "sh", "-c", SERVE]);
    world.says(&["run", "-d", "--name", "client", "--network", "one", "app"]);
    world.kill();
    let resolve = |world: &World| {
        let mut inside = world.inside("nsenter");
        inside.arg("-t").arg(pid(world, "client").to_string()).args(["-n", "-m", "-r"]);
        output(inside.args(["/bin/nslookup", "web"])).status.success()
    };
    assert!(resolve(&world), "no daemon");
    let responder = || {
        let run = world.path("run");
        let line = run.join("names").display().to_string();
        let all = std::fs::read_dir("/proc").expect("/proc").flatten();
        all.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
            .filter(|found| String::from_utf8_lossy(found).contains(&line))
            .count()
    };
    assert_eq!(responder(), 1, "one for the network");
    world.remove_containers();
    until("the responder to end", || responder() == 0);
    world.says(&["network", "rm", "one"]);
}

#[test]
fn addresses_of_ones_own_choice() {
    both_doors(|world| {
        world.says(&[
            "network",
            "create",
            "--subnet",
            "10.99.7.0/24",
            "--ip-range",
            "10.99.7.128/25",
            "--subnet",
            "fd99:7::/64",
            "--ipv6",
            "fixed",
        ]);
        let run = ["run", "-d", "--network", "fixed"];
        let fixed = ["--name", "aa", "--ip", "10.99.7.7", "--ip6", "fd99:7::7", "app"];
        world.says(&[&run[..], &fixed].concat());
        let at = world.look("aa")["NetworkSettings"]["Networks"]["fixed"].clone();
        assert_eq!(
            (&at["IPAddress"], &at["GlobalIPv6Address"]),
            (&"10.99.7.7".into(), &"fd99:7::7".into())
        );
        world.says(&[&run[..], &["--name", "bb", "app"]].concat());
        let drawn = world.look("bb")["NetworkSettings"]["Networks"]["fixed"]["IPAddress"].clone();
        assert_eq!(drawn, "10.99.7.128", "the first of the range");
        let line =
            "nslookup aa | grep fd99:7::7 && ping -c 1 -W 5 fd99:7::7 && ping -c 1 -W 5 10.99.7.7";
        assert_eq!(shell(world, &["--network", "fixed"], line), 0, "both families");
        for (ip, words) in
            [("10.99.7.7", "10.99.7.7"), ("10.98.0.1", "subnet"), ("10.99.7.1", "gateway")]
        {
            let (_, said) = world.fails(&[&run[..], &["--rm", "--ip", ip, "app"]].concat());
            assert!(said.contains(words), "{ip}: {said}");
        }
        let (_, said) = world.fails(&["network", "create", "--subnet", "10.99.0.0/16", "other"]);
        assert!(said.contains("fixed"), "{said}");
    });
}

#[test]
fn an_internal_network_has_no_way_out() {
    both_doors(|world| {
        world.says(&["network", "create", "--internal", "inner"]);
        world.says(&["run", "-d", "--name", "web", "--network", "inner", "app", "sh", "-c", SERVE]);
        assert_eq!(shell(world, &["--network", "inner"], &fetch("web")), 0);
        assert_eq!(shell(world, &["--network", "inner"], "! ip route | grep default"), 0);
        assert_eq!(shell(world, &["--network", "none"], "test \"$(ls /sys/class/net)\" = lo"), 0);
    });
}

#[test]
fn restart_policies_hold_without_a_daemon() {
    both_doors(|world| {
        let count = "echo x >> /count; test $(wc -l < /count) -ge 3 && exit 0; exit 3";
        let flags = ["run", "-d", "--name", "three", "--restart", "on-failure"];
        world.says(&[&flags[..], &["app", "sh", "-c", count]].concat());
        assert_eq!(world.says(&["wait", "three"]), "0");
        // `wait` asks the shim: a daemon may learn a moment later.
        until("the end to be seen", || world.state("three") == "exited");
        assert_eq!(world.look("three")["RestartCount"], 2);
        world.says(&["run", "-d", "--name", "twice", "--restart", "on-failure:2", "app", "false"]);
        assert_eq!(world.says(&["wait", "twice"]), "1");
        until("the end to be seen", || world.state("twice") == "exited");
        assert_eq!(world.look("twice")["RestartCount"], 2);

        world.says(&["run", "-d", "--name", "always", "--restart", "always", "app"]);
        let first = pid(world, "always");
        if Path::new(&world.socket()).exists() {
            world.kill();
        }
        let number = rustix::process::Pid::from_raw(i32::try_from(first).unwrap()).unwrap();
        rustix::process::kill_process(number, rustix::process::Signal::KILL).unwrap();
        // Nobody of ours is there but the shim.
        until("the next run", || {
            let now = world.look("always");
            now["State"]["Status"] == "running" && now["RestartCount"] == 1
        });
        assert_ne!(pid(world, "always"), first);
        world.says(&["stop", "-t", "0", "always"]);
        assert_eq!(world.state("always"), "exited");
    });
}

#[test]
fn health_is_looked_at() {
    both_doors(|world| {
        let flags = ["--health-cmd", "echo looked; test ! -e /sick", "--health-interval", "50ms"];
        let rest = ["--health-retries", "2", "app"];
        world.says(&[&["run", "-d", "--name", "box"][..], &flags, &rest].concat());
        let status = |world: &World| world.look("box")["State"]["Health"]["Status"].clone();
        until("health", || status(world) == "healthy");
        assert_eq!(world.look("box")["State"]["Health"]["Log"][0]["Output"], "looked\n");
        std::fs::write(format!("/proc/{}/root/sick", pid(world, "box")), "").unwrap();
        until("sickness", || status(world) == "unhealthy");
        assert_eq!(world.state("box"), "running", "it is only said");
    });
}

#[test]
fn an_image_says_how_its_health_is_looked_at() {
    let mut world = World::for_people();
    let config = r#"{"Cmd": ["sleep", "1000"], "Env": ["PATH=/bin"],
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 50000000}}"#;
    world.image("checked", config);
    world.says(&["run", "-d", "--name", "box", "checked"]);
    until("health", || world.look("box")["State"]["Health"]["Status"] == "healthy");
    world.says(&["run", "-d", "--name", "blind", "--no-healthcheck", "checked"]);
    assert!(world.look("blind")["State"]["Health"].is_null());
    world.remove_containers();
}

#[test]
fn volumes_outlive_containers() {
    both_doors(|world| {
        assert_eq!(world.says(&["volume", "create", "vol"]), "vol");
        assert_eq!(shell(world, &["-v", "vol:/data"], "mkdir /data/sub; echo x > /data/sub/f"), 0);
        assert_eq!(
            shell(world, &["-v", "vol:/data:ro"], "grep x /data/sub/f && ! touch /data/g"),
            0
        );
        let part = ["--mount", "type=volume,source=vol,target=/p,volume-subpath=sub"];
        assert_eq!(shell(world, &part, "grep x /p/f"), 0);
        world.says(&["run", "-d", "--name", "user", "-v", "vol:/data", "-v", "/unnamed", "app"]);
        let said = world.fails(&["volume", "rm", "vol"]).1;
        assert!(said.contains("user"), "{said}");
        assert_eq!(world.says(&["volume", "ls", "-q"]).lines().count(), 2);
        world.says(&["rm", "-f", "-v", "user"]);
        assert_eq!(world.says(&["volume", "ls", "-q"]), "vol", "the unnamed one has gone");
        world.says(&["volume", "rm", "vol"]);
        assert!(world.fails(&["volume", "inspect", "vol"]).1.contains("there is no volume"));
    });
}

#[test]
fn an_empty_volume_gets_what_the_image_has() {
    let mut world = World::for_people();
    let (tree, tar) = (world.path("tmp/data-tree"), world.path("tmp/data.tar"));
    std::fs::create_dir_all(tree.join("data/d")).unwrap();
    std::fs::write(tree.join("data/d/f"), "from-image\n").unwrap();
    let owner = ["--numeric-owner", "--owner=33", "--group=33", "--mode=u=rwX,g=rX,o=", "-cf"];
    run(Command::new("tar").arg("-C").arg(&tree).args(owner).arg(&tar).arg("data"));
    let layer = busybox_layer(&world.path("tmp"));
    let config = r#"{"Cmd": ["sleep", "1000"], "Env": ["PATH=/bin"], "Volumes": {"/data": {}}}"#;
    let reference = world.push("test/app:1", &[&layer, &tar], config, &[]);
    world.says(&["pull", &reference]);
    world.says(&["tag", &reference, "app"]);
    let line = "test \"$(stat -c %u:%g:%a /data/d/f)\" = 33:33:640 && grep from-image /data/d/f";
    assert_eq!(shell(&world, &["-v", "named:/data"], line), 0);
    assert_eq!(shell(&world, &[], line), 0, "the image's own volume");
    assert_eq!(shell(&world, &["-v", "named:/data"], "echo mine > /data/d/f"), 0);
    assert_eq!(shell(&world, &["-v", "named:/data"], "grep mine /data/d/f"), 0, "not again");
    let empty = ["--mount", "type=volume,source=bare,target=/data,volume-nocopy"];
    assert_eq!(shell(&world, &empty, "test -z \"$(ls /data)\""), 0);
    world.says(&["volume", "prune", "-af"]);
}

#[test]
fn a_volume_may_mount_what_is_elsewhere() {
    both_doors(|world| {
        let tmpfs = ["--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", "o=size=1m,noexec"];
        world.says(&[&["volume", "create"][..], &tmpfs, &["memory"]].concat());
        let line = "grep -q ' /data tmpfs .*noexec.*size=1024k' /proc/mounts";
        assert_eq!(shell(world, &["-v", "memory:/data"], line), 0);
        let dir = world.path("tmp/elsewhere");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("f"), "here").unwrap();
        let device = format!("device={}", dir.display());
        world.says(&["volume", "create", "--opt", "o=bind", "--opt", &device, "bound"]);
        assert_eq!(shell(world, &["-v", "bound:/data"], "grep here /data/f"), 0);
        world.says(&["volume", "rm", "bound"]);
        assert_eq!(std::fs::read_to_string(dir.join("f")).unwrap(), "here", "that stays");
        let said = world.fails(&["volume", "create", "--opt", "type=tmpfs", "memory"]).1;
        assert!(said.contains("other options"), "{said}");
    });
}
