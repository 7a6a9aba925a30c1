//! From a line to the engine's form.

use super::spec::{Outside, container};
use crate::args::containers::{ContainerCall, image_and_command};
use crate::cli::{Cli, Command};
use clap::{CommandFactory, Parser};
use orlop_engine::spec::*;
use std::io;
use std::path::{Path, PathBuf};

/// A small world: two files, one variable, one directory.
struct World;

impl Outside for World {
    fn variable(&self, name: &str) -> Option<String> {
        (name == "LANG").then(|| "C".to_owned())
    }

    fn read(&self, file: &Path) -> io::Result<String> {
        match file.to_str() {
            Some("env") => {
                Ok("\u{feff}# a comment\n\n  A=1\nLANG\nUNSET\nB = x\n".replace("B = x", "B=x y"))
            }
            Some("bad") => Ok("A B=1\n".into()),
            Some("labels") => Ok("one=1\ntwo\n".into()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn directory(&self) -> io::Result<PathBuf> {
        Ok("/home/ann".into())
    }
}

fn parse(line: &str) -> Result<(ContainerSpec, Vec<String>), String> {
    let words = line.split(' ').filter(|word| !word.is_empty());
    let all = ["orlop", "create"].into_iter().chain(words);
    let cli = Cli::try_parse_from(all).map_err(|error| error.to_string())?;
    let Command::Container(ContainerCall::Create(arguments)) = cli.command else {
        panic!("{line}")
    };
    let (image, command) = image_and_command(&arguments.image_and_command);
    container(&arguments.flags, image, command, &World).map_err(|error| format!("{error}"))
}

fn spec(line: &str) -> ContainerSpec {
    parse(line).unwrap_or_else(|error| panic!("{line}: {error}")).0
}

#[test]
fn definitions_are_sound() {
    Cli::command().debug_assert();
}

#[test]
fn nothing_but_an_image() {
    assert_eq!(spec("nginx"), ContainerSpec { image: "nginx".into(), ..ContainerSpec::default() });
}

#[test]
fn what_follows_the_image_is_the_commands() {
    for (line, command) in [
        ("a sh -c exit", &["sh", "-c", "exit"][..]),
        ("a -d --rm", &["-d", "--rm"]),
        ("a -- x", &["--", "x"]),
        ("-- a x --", &["x", "--"]),
        ("-t a --tty=false", &["--tty=false"]),
    ] {
        assert_eq!(spec(line).command, command, "{line}");
        assert_eq!(spec(line).image, "a", "{line}");
    }
}

type Field = fn(&ContainerSpec) -> String;

fn check(cases: &[(&str, Field, &str)]) {
    for (line, field, want) in cases {
        assert_eq!(field(&spec(&format!("{line} img"))), *want, "{line}");
    }
}

#[test]
fn flags_of_container_and_process() {
    check(&[
        ("--name web", |s| s.name.clone().unwrap(), "web"),
        ("--label a=b -l c", |s| format!("{:?}", s.labels), r#"{"a": "b", "c": ""}"#),
        (
            "--label-file labels -l one=2",
            |s| format!("{:?}", s.labels),
            r#"{"one": "2", "two": ""}"#,
        ),
        ("--platform linux/arm64", |s| s.platform.clone().unwrap(), "linux/arm64"),
        ("--pull always", |s| format!("{:?}", s.pull), "Always"),
        ("--runtime kata", |s| s.runtime.clone(), "kata"),
        ("--pod p1", |s| s.pod.clone().unwrap(), "p1"),
        (
            "-e A=1 -e LANG -e NONE -e A=2",
            |s| format!("{:?}", s.env),
            r#"[("LANG", "C"), ("A", "2")]"#,
        ),
        (
            "-e B=3 --env-file env",
            |s| format!("{:?}", s.env),
            r#"[("A", "1"), ("LANG", "C"), ("B", "3")]"#,
        ),
        ("-it", |s| format!("{} {}", s.stdin, s.tty), "true true"),
        ("--entrypoint /bin/x", |s| format!("{:?}", s.entrypoint), r#"Some(["/bin/x"])"#),
        ("--entrypoint=", |s| format!("{:?}", s.entrypoint), "Some([])"),
        ("-w /srv", |s| s.working_dir.clone().unwrap(), "/srv"),
        ("-u 1:2", |s| s.user.clone().unwrap(), "1:2"),
        ("--group-add wheel", |s| s.groups.join(","), "wheel"),
        ("--init", |s| s.init.to_string(), "true"),
        ("--log-driver none", |s| s.no_log.to_string(), "true"),
        ("--read-only", |s| s.read_only.to_string(), "true"),
        ("--rm", |s| s.auto_remove.to_string(), "true"),
        ("--restart on-failure:3", |s| format!("{:?}", s.restart), "OnFailure { max: 3 }"),
        ("--stop-signal INT", |s| s.stop_signal.clone().unwrap(), "INT"),
        ("--stop-timeout 3", |s| format!("{:?}", s.stop_timeout), "Some(3)"),
        ("--stop-timeout -1", |s| format!("{:?}", s.stop_timeout), "Some(4294967295)"),
        (
            "-h db --domainname d",
            |s| format!("{:?}{:?}", s.hostname, s.domainname),
            r#"Some("db")Some("d")"#,
        ),
    ]);
}

#[test]
fn flags_of_the_network() {
    check(&[
        ("--net host", |s| format!("{:?}", s.network), "Host"),
        ("--network none", |s| format!("{:?}", s.network), "None"),
        ("--network container:db", |s| format!("{:?}", s.network), r#"Container("db")"#),
        (
            "--network back --network front --ip 10.0.0.5 --network-alias x",
            |s| match &s.network {
                NetworkMode::Named(all) => {
                    format!(
                        "{} {:?} {:?} {}",
                        all[0].network, all[0].ip, all[0].aliases, all[1].network
                    )
                }
                other => format!("{other:?}"),
            },
            r#"back Some(10.0.0.5) ["x"] front"#,
        ),
        (
            "-p 8080:80 -p 53/udp -P",
            |s| {
                let ports = s.ports.iter();
                let ports = ports.map(|p| format!("{:?}:{}", p.host_ports, p.container_port));
                format!("{} {}", ports.collect::<Vec<_>>().join(" "), s.publish_all)
            },
            "Some((8080, 8080)):80 None:53 true",
        ),
        ("--expose 80-81", |s| format!("{:?}", s.expose), "[(80, Tcp), (81, Tcp)]"),
        (
            "--dns 1.1.1.1 --dns-search x --dns-opt y",
            |s| format!("{:?}{:?}{:?}", s.dns, s.dns_search, s.dns_options),
            r#"["1.1.1.1"]["x"]["y"]"#,
        ),
        ("--add-host a:10.0.0.1", |s| format!("{:?}", s.extra_hosts), r#"[("a", "10.0.0.1")]"#),
    ]);
}

#[test]
fn flags_of_limits_and_confinement() {
    check(&[
        (
            "-m 512m --memory-swap 1g --memory-reservation 256m --cpus 1.5 -c 512",
            |s| {
                let r = &s.resources;
                format!(
                    "{:?} {:?} {:?} {:?} {:?}",
                    r.memory, r.memory_swap, r.memory_reservation, r.nano_cpus, r.cpu_shares
                )
            },
            "Some(536870912) Some(1073741824) Some(268435456) Some(1500000000) Some(512)",
        ),
        (
            "--memory-swap -1 --pids-limit -1 --oom-score-adj -5 --cpu-quota -1 --cpuset-cpus 0-1",
            |s| {
                let r = &s.resources;
                format!(
                    "{:?} {:?} {:?} {:?} {}",
                    r.memory_swap, r.pids, r.oom_score_adj, r.cpu_quota, r.cpuset_cpus
                )
            },
            "Some(-1) Some(-1) Some(-5) Some(-1) 0-1",
        ),
        ("--shm-size 128m", |s| format!("{:?}", s.resources.shm_size), "Some(134217728)"),
        ("--blkio-weight 0", |s| format!("{:?}", s.resources.blkio_weight), "None"),
        ("--ulimit nofile=5", |s| format!("{:?}", s.resources.ulimits), r#"[("nofile", 5, 5)]"#),
        ("--privileged", |s| s.privileged.to_string(), "true"),
        (
            "--cap-add NET_ADMIN --cap-drop ALL",
            |s| format!("{:?}{:?}", s.cap_add, s.cap_drop),
            r#"["NET_ADMIN"]["ALL"]"#,
        ),
        ("--sysctl net.a=1", |s| format!("{:?}", s.sysctls), r#"{"net.a": "1"}"#),
        (
            "--userns auto --pid host --ipc none --uts host --cgroupns private --cgroup-parent /x",
            |s| {
                [&s.userns, &s.pid, &s.ipc, &s.uts, &s.cgroupns, &s.cgroup_parent]
                    .map(String::as_str)
                    .join(" ")
            },
            "auto host none host private /x",
        ),
        (
            "--security-opt seccomp=p.json --security-opt no-new-privileges",
            |s| format!("{:?} {}", s.security.seccomp, s.security.no_new_privileges),
            r#"Some("/home/ann/p.json") true"#,
        ),
        ("--device /dev/fuse:r", |s| s.devices[0].permissions.clone(), "r"),
        (
            "--health-cmd true --health-interval 1m --health-retries 2",
            |s| {
                let h = s.health.as_ref().unwrap();
                format!("{:?} {} {}", h.test, h.interval, h.retries)
            },
            r#"["CMD-SHELL", "true"] 60000000000 2"#,
        ),
        ("--no-healthcheck", |s| s.health.as_ref().unwrap().test.join(" "), "NONE"),
        (
            "-v ./a/../b:/c --tmpfs /t --mount target=/m",
            |s| format!("{:?}", s.mounts.iter().map(|m| m.target.clone()).collect::<Vec<_>>()),
            r#"["/c", "/m", "/t"]"#,
        ),
        (
            "-v ./a/../b:/c",
            |s| match &s.mounts[0].source {
                MountSource::Bind { path, create, .. } => format!("{} {create}", path.display()),
                other => format!("{other:?}"),
            },
            "/home/ann/b true",
        ),
    ]);
}

#[test]
fn errors_name_flag_value_and_remedy() {
    for (line, words) in [
        ("--memory 1x", &["--memory", "1x", "512m"][..]),
        ("--memory 4m", &["--memory 4194304", "at least 6m"]),
        ("-m 512m --memory-swap 256m", &["--memory-swap", "no less than --memory"]),
        ("--memory-swap 1g", &["--memory is needed"]),
        ("--cpus 1 --cpu-quota 5", &["--cpus and --cpu-quota", "give one"]),
        ("-p 80:80:80:80", &["--publish", "80:80:80:80"]),
        ("--gpus all", &["--gpus", "CDI"]),
        ("--link db", &["--link", "orlop network create"]),
        ("--log-driver journald", &["--log-driver", "json-file"]),
        ("--log-opt max-size=1m", &["--log-opt"]),
        ("--volumes-from x", &["--volumes-from", "-v NAME:PATH"]),
        ("--rm --restart always", &["--rm and --restart exclude each other"]),
        ("--network host --network back", &["--network", "stand alone"]),
        ("--network back --network back", &["named twice"]),
        ("--ip 10.0.0.5", &["--ip 10.0.0.5", "network create"]),
        ("--network container:x -p 80", &["--publish and --network container"]),
        ("--hostname a --uts host", &["--hostname and --uts host"]),
        ("-w srv", &["--workdir srv", "begin with /"]),
        ("-v a1:/x --tmpfs /x", &["/x", "same path"]),
        ("--env-file absent", &["--env-file absent"]),
        ("--env-file bad", &["--env-file A B=1", "NAME=VALUE"]),
        ("-e =1", &["--env =1"]),
        ("--no-healthcheck --health-cmd x", &["--no-healthcheck and --health-*"]),
        ("--health-interval 1us", &["--health-interval", "1ms"]),
        ("--blkio-weight 5", &["--blkio-weight 5", "10 to 1000"]),
        ("--restart alwys", &["--restart", "did you mean always?"]),
        ("--nmae x", &["--nmae", "--name"]),
        ("--pull sometimes", &["--pull", "always, missing, never"]),
    ] {
        let error = parse(&format!("{line} img")).unwrap_err();
        for word in words {
            assert!(error.contains(word), "{line}: {word} is not in: {error}");
        }
    }
}

#[test]
fn ports_of_the_host_are_the_hosts() {
    let (spec, warnings) = parse("--network host -p 80:80 img").unwrap();
    assert!(spec.ports.is_empty() && warnings[0].contains("--network host"), "{warnings:?}");
}

#[test]
fn where_the_engine_is_goes_anywhere() {
    for line in [
        "orlop --root /r ps",
        "orlop ps --root /r",
        "orlop image --root /r ls",
        "orlop image ls --root /r",
    ] {
        assert_eq!(
            Cli::try_parse_from(line.split(' ')).unwrap().place.root.as_deref(),
            Some("/r"),
            "{line}"
        );
    }
    let host = |line: &str| Cli::try_parse_from(line.split(' ')).unwrap().place.host;
    assert_eq!(host("orlop -H unix:///s ps").as_deref(), Some("/s"));
    assert_eq!(host("orlop history --host /s -H=false x").as_deref(), Some("/s"));
    let error = Cli::try_parse_from(["orlop", "-H", "tcp://a:1", "ps"]).unwrap_err().to_string();
    assert!(error.contains("unix socket"), "{error}");
    // What is the container's is not ours.
    let cli = Cli::try_parse_from(["orlop", "run", "img", "--root", "/r"]).unwrap();
    assert_eq!(cli.place.root, None);
}
