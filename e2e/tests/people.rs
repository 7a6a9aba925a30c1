//! Containers as people know them, through both doors: a daemon's, and the one that a command opens itself.

use orlop_e2e::process::{output, until};
use orlop_e2e::{World, program};
use std::process::Stdio;
use std::time::Duration;

/// An image whose program stays.
const APP: &str = r#"{"Cmd": ["sleep", "1000"], "Env": ["PATH=/bin"]}"#;

/// The same with a daemon, and without one.
fn both_doors(what: impl Fn(&World)) {
    for daemon in [false, true] {
        let mut world = World::for_people();
        world.image("app", APP);
        if daemon {
            world.start();
        }
        what(&world);
        world.remove_containers();
    }
}

/// What a container's file has.
fn file(world: &World, container: &str, path: &str) -> String {
    let pid = world.look(container)["State"]["Pid"].as_u64().expect("a number");
    assert_ne!(pid, 0, "{container} does not run");
    std::fs::read_to_string(format!("/proc/{pid}/root{path}")).unwrap_or_default()
}

fn ids(world: &World, arguments: &[&str]) -> Vec<String> {
    world.says(arguments).lines().map(str::to_owned).collect()
}

#[test]
fn a_life() {
    both_doors(|world| {
        let id = world.says(&[
            "create",
            "--name",
            "one",
            "app",
            "sh",
            "-c",
            "echo x >> /count; sleep 1000",
        ]);
        assert_eq!((id.len(), world.state("one").as_str()), (64, "created"));
        assert_eq!(world.says(&["start", "one"]), "one");
        assert_eq!(world.state(&id[..10]), "running");
        until("the first line", || file(world, "one", "/count") == "x\n");
        // The layer outlives stop and start.
        world.says(&["stop", "-t", "0", "one"]);
        let shown = world.look("one");
        assert_eq!(shown["State"]["Status"], "exited");
        assert_eq!(shown["State"]["ExitCode"], 137);
        assert_eq!(ids(world, &["ps", "-q"]), Vec::<String>::new());
        world.says(&["start", "one"]);
        until("the second line", || file(world, "one", "/count") == "x\nx\n");
        world.says(&["restart", "-t", "0", "one"]);
        until("the third line", || file(world, "one", "/count") == "x\nx\nx\n");
        world.says(&["pause", "one"]);
        assert_eq!(world.state("one"), "paused");
        assert!(world.fails(&["pause", "one"]).1.contains("paused already"));
        world.says(&["unpause", "one"]);
        assert_eq!(world.state("one"), "running");
        world.says(&["rename", "one", "two"]);
        assert!(world.fails(&["stop", "one"]).1.contains("there is no container \"one\""));
        world.says(&["update", "--memory", "64m", "two"]);
        assert_eq!(world.look("two")["HostConfig"]["Memory"], 64 << 20);
        assert!(world.fails(&["rm", "two"]).1.contains("stop it first"));
        world.says(&["kill", "two"]);
        assert_eq!(world.says(&["wait", "two"]), "137");
        world.says(&["rm", "two"]);
        assert_eq!(ids(world, &["ps", "-aq"]), Vec::<String>::new());
        assert!(world.fails(&["rm", "two"]).1.contains("there is no container"));
        world.says(&["rm", "-f", "two"]);
    });
}

#[test]
fn a_paused_container_is_stopped() {
    both_doors(|world| {
        world.says(&["run", "-d", "--name", "one", "app"]);
        world.says(&["pause", "one"]);
        world.says(&["stop", "-t", "0", "one"]);
        assert_eq!(world.state("one"), "exited");
    });
}

#[test]
fn a_name_is_one_containers() {
    both_doors(|world| {
        let id = world.says(&["create", "--name", "web", "app"]);
        let (code, said) = world.fails(&["run", "-d", "--name", "web", "app"]);
        assert!(code == 125 && said.contains(&id), "{code} {said}");
        let other = world.says(&["create", "app"]);
        assert!(world.fails(&["rename", &other, "web"]).1.contains(&id));
        assert_ne!(world.fails(&["create", "--name", "a b", "app"]).0, 0);
        // A prefix that both have.
        let fits = |text: &str| id.starts_with(text) && other.starts_with(text);
        if fits(&id[..1]) {
            assert!(world.fails(&["stop", &id[..1]]).1.contains("give more of it"));
        }
    });
}

#[test]
fn statuses_of_what_does_not_start() {
    both_doors(|world| {
        for (command, code) in
            [("/no/such", 127), ("no-such", 127), ("/etc", 126), ("/etc/passwd", 126)]
        {
            let (status, said) = world.fails(&["run", "-d", "--name", "bad", "app", command]);
            assert_eq!(status, code, "{command}: {said}");
            assert_eq!(world.look("bad")["State"]["ExitCode"], code);
            world.says(&["rm", "bad"]);
        }
        assert_eq!(world.fails(&["run", "-d", "--pull", "never", "nowhere"]).0, 125);
        assert_eq!(world.fails(&["run", "-d", "--cap-add", "nonsense", "app"]).0, 125);
        assert_eq!(world.fails(&["run", "-d", "--rm", "app", "/no/such"]).0, 127);
        let left = ids(world, &["ps", "-aq"]);
        assert_eq!(left.len(), 1, "only what was to stay: {left:?}");
    });
}

/// A row of [`OVERRIDES`].
type Override = (
    &'static str,
    &'static str,
    &'static [&'static str],
    Option<&'static str>,
    &'static [&'static str],
);

/// ENTRYPOINT, CMD, the line after the image, `--entrypoint`, and what runs then.
const OVERRIDES: [Override; 9] = [
    ("", r#"["sleep", "1"]"#, &["sleep", "2"], None, &["sleep", "2"]),
    ("", r#"["sleep", "1001"]"#, &[], None, &["sleep", "1001"]),
    ("", "sleep 1002", &[], None, &["/bin/sh", "-c", "sleep 1002"]),
    (r#"["sleep"]"#, r#"["1003"]"#, &[], None, &["sleep", "1003"]),
    (r#"["sleep"]"#, r#"["1"]"#, &["1004"], None, &["sleep", "1004"]),
    (r#"["sleep"]"#, r#"["1005"]"#, &["cat"], Some("tail"), &["tail", "cat"]),
    (
        r#"["sleep"]"#,
        r#"["1006"]"#,
        &["tail", "-f", "/dev/null"],
        Some(""),
        &["tail", "-f", "/dev/null"],
    ),
    ("tail -f /dev/null", r#"["x"]"#, &[], None, &["/bin/sh", "-c", "tail -f /dev/null", "x"]),
    ("tail -f /dev/null", r#"["x"]"#, &["y"], None, &["/bin/sh", "-c", "tail -f /dev/null", "y"]),
];

#[test]
fn what_runs_by_the_rules_that_people_learn() {
    let mut world = World::for_people();
    for (number, (entrypoint, cmd, line, flag, runs)) in OVERRIDES.iter().enumerate() {
        // As a Dockerfile's words become an image's configuration.
        let form = |text: &str| match text {
            "" => "null".to_owned(),
            list if list.starts_with('[') => list.to_owned(),
            line => format!(r#"["/bin/sh", "-c", "{line}"]"#),
        };
        let config = format!(
            r#"{{"Entrypoint": {}, "Cmd": {}, "Env": ["PATH=/bin"]}}"#,
            form(entrypoint),
            form(cmd)
        );
        let image = world.image(&format!("rule{number}"), &config);
        let mut arguments = vec!["create", "--name", "one"];
        arguments.extend(flag.iter().flat_map(|flag| ["--entrypoint", flag]));
        arguments.push(&image);
        arguments.extend(*line);
        world.says(&arguments);
        let shown = world.look("one");
        let path = shown["Path"].as_str().expect("a path").to_owned();
        let rest = shown["Args"].as_array().expect("a list").iter();
        let all: Vec<String> = std::iter::once(path)
            .chain(rest.map(|word| word.as_str().expect("text").to_owned()))
            .collect();
        assert_eq!(all, *runs, "rule {number}");
        world.says(&["start", "one"]);
        let pid = world.look("one")["State"]["Pid"].as_u64().expect("a number");
        // What does not end at once is seen as it runs.
        if pid != 0 {
            let seen = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let seen: Vec<_> =
                seen.split(|byte| *byte == 0).filter(|word| !word.is_empty()).collect();
            let expected: Vec<_> = runs.iter().map(|word| word.as_bytes()).collect();
            // A shell hands its process over to the last command of its line.
            let handed = runs[0] == "/bin/sh" && seen != expected;
            assert!(seen.is_empty() || handed || seen == expected, "rule {number}: {seen:?}");
        }
        world.says(&["rm", "-f", "one"]);
    }
    let image = world.image("nothing", "{}");
    let (code, said) = world.fails(&["run", "-d", &image]);
    assert!(code == 125 && said.contains("give a command"), "{code} {said}");
}

#[test]
fn a_daemon_comes_and_goes_between_commands() {
    let mut world = World::for_people();
    world.image(
        "app",
        r#"{"Cmd": ["sh", "-c", "echo x >> /count; exec sleep 1000"], "Env": ["PATH=/bin"]}"#,
    );
    world.says(&["run", "-d", "--name", "one", "app"]);
    let pid = world.look("one")["State"]["Pid"].clone();
    world.start();
    assert_eq!(world.look("one")["State"]["Pid"], pid, "the same process");
    world.says(&["run", "-d", "--name", "two", "app"]);
    // The kubelet's tool does not see them, and cannot end them.
    assert_eq!((world.crictl(&["pods", "-q"]), world.crictl(&["ps", "-aq"])), Default::default());
    world.kill();
    assert_eq!(world.look("one")["State"]["Pid"], pid);
    world.says(&["stop", "-t", "0", "two"]);
    world.start();
    assert_eq!(world.state("two"), "exited");
    world.says(&["start", "two"]);
    until("the layer to be the same", || file(&world, "two", "/count") == "x\nx\n");
    world.stop();
    assert_eq!((world.state("one"), world.state("two")), ("running".into(), "running".into()));
    // One that ends while nobody is there.
    world.says(&["run", "-d", "--name", "three", "app", "sh", "-c", "sleep 0.2; exit 7"]);
    assert_eq!(world.says(&["wait", "three"]), "7");
    world.start();
    assert_eq!(world.look("three")["State"]["ExitCode"], 7);
    world.remove_containers();
}

#[test]
fn with_rm_nothing_stays() {
    both_doors(|world| {
        let id = world.says(&["run", "-d", "--rm", "app", "sh", "-c", "exit 3"]);
        until("it to go", || !world.says(&["ps", "-aq", "--no-trunc"]).contains(&id));
        world.says(&["run", "-d", "--rm", "--name", "stopped", "app"]);
        world.says(&["stop", "-t", "0", "stopped"]);
        assert!(world.fails(&["container", "inspect", "stopped"]).1.contains("there is no"));
        // It stays over a restart.
        world.says(&["run", "-d", "--rm", "--name", "again", "app"]);
        world.says(&["restart", "-t", "0", "again"]);
        assert_eq!(world.state("again"), "running");
    });
}

#[test]
fn ports() {
    both_doors(|world| {
        world.says(&[
            "run",
            "-d",
            "--name",
            "web",
            "-p",
            "8080:80",
            "-p",
            "81",
            "--expose",
            "90",
            "app",
            "sh",
            "-c",
            "echo hello > /page; exec httpd -f -p 80 -h /",
        ]);
        let page = || {
            let fetched = output(world.inside("curl").args(["-fsS", "http://127.0.0.1:8080/page"]));
            String::from_utf8_lossy(&fetched.stdout).into_owned()
        };
        until("the page", || page() == "hello\n");
        assert_eq!(world.says(&["port", "web", "80"]), "0.0.0.0:8080");
        let random = world.says(&["port", "web", "81/tcp"]);
        let port: u16 = random.rsplit(':').next().expect("a port").parse().expect("a number");
        assert!(port >= 49_153, "{random}");
        let (code, said) = world.fails(&["run", "-d", "--name", "late", "-p", "8080:80", "app"]);
        let id = world.look("web")["Id"].as_str().expect("an id").to_owned();
        assert!(code == 125 && said.contains(&id), "{code} {said}");
        // A range finds the next that is free, and a stop gives back.
        world.says(&["run", "-d", "--name", "next", "-p", "8080-8081:80", "app"]);
        assert_eq!(world.says(&["port", "next", "80"]), "0.0.0.0:8081");
        world.says(&["stop", "-t", "0", "web"]);
        assert_eq!(world.says(&["start", "late"]), "late");
        assert_eq!(world.says(&["port", "late", "80"]), "0.0.0.0:8080");
        assert!(world.fails(&["start", "web"]).1.contains("8080"));
        world.says(&["run", "-d", "--name", "all", "-P", "--expose", "70", "app"]);
        assert!(world.says(&["port", "all"]).starts_with("70/tcp -> 0.0.0.0:"));
    });
}

#[test]
fn several_containers_in_one_pod() {
    both_doors(|world| {
        world.says(&["run", "-d", "--name", "one", "--pod", "app", "app"]);
        world.says(&["run", "-d", "--name", "two", "--pod", "app", "app"]);
        world.says(&["run", "-d", "--name", "three", "--network", "container:one", "app"]);
        let namespace = |name: &str| {
            let pid = world.look(name)["State"]["Pid"].as_u64().expect("a number");
            std::fs::read_link(format!("/proc/{pid}/ns/net")).expect("a namespace")
        };
        assert_eq!(namespace("one"), namespace("two"));
        assert_eq!(namespace("one"), namespace("three"));
        // It stays as long as one is in it.
        world.says(&["rm", "-f", "one"]);
        assert_eq!(namespace("two"), namespace("three"));
        world.says(&["rm", "-f", "two"]);
        assert_eq!(world.state("three"), "running");
    });
}

#[test]
fn what_a_container_is_given() {
    let mut world = World::for_people();
    world.image("app", APP);
    let script = "ulimit -n; ulimit -Hn; hostname; cat /proc/sys/kernel/domainname; cat /proc/self/oom_score_adj; id -u; id -G; pwd; \
                  echo $A; df -k /dev/shm | tail -1 | awk '{print $2}'; df -k /scratch | tail -1 | awk '{print $2}'; \
                  grep -c 'remote' /etc/hosts; touch /no 2>/dev/null || echo ro";
    world.says(&[
        "run",
        "-d",
        "--name",
        "one",
        "--ulimit",
        "nofile=100:200",
        "--hostname",
        "me",
        "--domainname",
        "mine",
        "--oom-score-adj",
        "500",
        "-u",
        "web",
        "--group-add",
        "extra",
        "-w",
        "/tmp",
        "-e",
        "A=b",
        "--shm-size",
        "8m",
        "--tmpfs",
        "/scratch:size=1m",
        "--add-host",
        "remote:10.1.1.1",
        "--read-only",
        "--pids-limit",
        "77",
        "-v",
        &format!("{}:/out", world.path("logs").display()),
        "app",
        "sh",
        "-c",
        &format!("({script}) > /out/said; sleep 1000"),
    ]);
    let chmod = std::process::Command::new("chmod").arg("777").arg(world.path("logs")).status();
    assert!(chmod.expect("chmod").success());
    world.says(&["restart", "-t", "0", "one"]);
    let said = || std::fs::read_to_string(world.path("logs").join("said")).unwrap_or_default();
    until("the answers", || said().contains("ro\n"));
    let said = said();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines,
        [
            "100",
            "200",
            "me",
            "mine",
            "500",
            "1000",
            "1000 50000",
            "/tmp",
            "b",
            "8192",
            "1024",
            "1",
            "ro"
        ]
    );
    world.remove_containers();
}

#[test]
fn two_commands_at_once_wait_for_each_other() {
    let mut world = World::for_people();
    world.image("app", APP);
    let mut all: Vec<_> = (0..6)
        .map(|n| {
            let name = format!("c{n}");
            let mut command = world.orlop(&["run", "-d", "--name", &name, "app"]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("orlop starts")
        })
        .collect();
    for child in all.drain(..) {
        let done = child.wait_with_output().expect("it ends");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    assert_eq!(ids(&world, &["ps", "-q"]).len(), 6);
    world.remove_containers();
}

/// A command that is killed at any moment leaves what the next one finds whole, or clears away.
#[test]
fn a_command_is_killed_in_the_middle() {
    let mut world = World::for_people();
    world.image("app", APP);
    assert!(program("orlop").exists());
    for round in 0..24_u64 {
        let commands: [&[&str]; 4] = [
            &["run", "-d", "--name", "one", "app"],
            &["stop", "-t", "0", "one"],
            &["start", "one"],
            &["rm", "-f", "one"],
        ];
        let command = commands[usize::try_from(round % 4).expect("small")];
        let mut child = world
            .orlop(command)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("orlop starts");
        // Any moment will do: this is no wait for anything.
        std::thread::sleep(Duration::from_millis(round * 7));
        let _ = child.kill();
        child.wait().expect("it ends");
        // Whatever it was, the next command works.
        let there = ids(&world, &["ps", "-aq"]).len();
        assert!(there <= 1, "round {round}");
        if there == 1 {
            let state = world.state("one");
            assert!(
                ["created", "running", "exited", "removing"].contains(&state.as_str()),
                "{state}"
            );
            world.says(&["start", "one"]);
            assert_eq!(world.state("one"), "running");
        } else {
            world.says(&["run", "-d", "--name", "one", "app"]);
        }
    }
    world.says(&["rm", "-f", "one"]);
}

#[test]
fn an_init_reaps_and_passes_signals_on() {
    let mut world = World::for_people();
    world.image("app", APP);
    let script = "trap 'exit 9' USR1; (sleep 0.1 &) ; while :; do sleep 0.05; done";
    world.says(&["run", "-d", "--init", "--name", "one", "app", "sh", "-c", script]);
    let pid = world.look("one")["State"]["Pid"].as_u64().expect("a number");
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).expect("it runs");
    assert_eq!(name, "orlop-init\n");
    // The shell is its child, and a signal reaches it.
    let children =
        || std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    until("the orphan to be reaped", || children().split_whitespace().count() == 1);
    until("the trap", || {
        let shell = children().trim().to_owned();
        let status = std::fs::read_to_string(format!("/proc/{shell}/status")).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let mask = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        // SIGUSR1 is 10.
        mask.is_some_and(|mask| mask & 1 << 9 != 0)
    });
    world.says(&["kill", "-s", "USR1", "one"]);
    assert_eq!(world.says(&["wait", "one"]), "9");
    let (code, _) = world.fails(&["run", "-d", "--init", "--name", "two", "app", "/no/such"]);
    assert_eq!(code, 127);
    world.remove_containers();
}
