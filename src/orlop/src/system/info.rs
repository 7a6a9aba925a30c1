//! `info`: the machine, and how many objects of each kind there are.

use crate::args::FormatFlag;
use crate::cli::Place;
use crate::config::Config;
use crate::container::{said, summaries, with_config};
use crate::door::Door;
use crate::show;
use orlop_api::images_v1;
use orlop_engine::State;
use orlop_sys::cgroup::{Hierarchies, Layout};
use serde_json::{Value, json};
use std::io::Write;
use std::process::ExitCode;

/// Prints it; called as `docker` with that one's version.
pub(crate) fn info(place: &Place, flag: &FormatFlag, as_docker: bool) -> anyhow::Result<ExitCode> {
    let found = with_config(place, async |config| {
        let door = Door::open(&config).await?;
        let counted = count(&door).await;
        door.close().await;
        Ok(whole(&config, &counted?, as_docker))
    })?;
    let mut out = std::io::stdout().lock();
    if !show::object(&mut out, &found, flag.format.as_deref())? {
        for_people(&mut out, &found)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Containers that run, are paused, have stopped; images.
async fn count(door: &Door) -> anyhow::Result<[usize; 4]> {
    let all = summaries(&mut door.engine()).await?;
    let images = door.images().list(images_v1::ListRequest {}).await.map_err(said)?.into_inner();
    let of = |states: &[State]| all.iter().filter(|one| states.contains(&one.state)).count();
    let running = of(&[State::Running, State::Restarting]);
    let paused = of(&[State::Paused]);
    Ok([running, paused, all.len() - running - paused, images.images.len()])
}

fn file(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// A value of a file of `KEY=VALUE` or `KEY: VALUE`.
fn value(text: &str, key: &str, mark: char) -> String {
    let lines = text.lines().filter_map(|line| line.split_once(mark));
    let found = lines.into_iter().find(|(name, _)| *name == key);
    found.map_or_else(String::new, |(_, value)| value.trim().trim_matches('"').to_owned())
}

fn whole(config: &Config, counted: &[usize; 4], as_docker: bool) -> Value {
    let [running, paused, stopped, images] = *counted;
    let mut all = serde_json::Map::new();
    let counts = json!({
        "Containers": running + paused + stopped,
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": stopped,
        "Images": images,
    });
    for part in [counts, machine(), cgroups(), engine(config, as_docker), absent()] {
        if let Value::Object(part) = part {
            all.extend(part);
        }
    }
    Value::Object(all)
}

fn machine() -> Value {
    let host = orlop_model::Platform::host();
    let machine = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    let memory = value(&file("/proc/meminfo"), "MemTotal", ':');
    let kib: u64 = memory.split(' ').next().and_then(|count| count.parse().ok()).unwrap_or(0);
    let release = file("/etc/os-release");
    json!({
        "ID": file("/etc/machine-id").trim(),
        "Name": text(machine.nodename()),
        "KernelVersion": text(machine.release()),
        "OperatingSystem": value(&release, "PRETTY_NAME", '='),
        "OSVersion": value(&release, "VERSION_ID", '='),
        "OSType": host.os,
        "Architecture": text(machine.machine()),
        "NCPU": std::thread::available_parallelism().map_or(1, usize::from),
        "MemTotal": kib * 1024,
        "IPv4Forwarding": file("/proc/sys/net/ipv4/ip_forward").trim() == "1",
    })
}

fn cgroups() -> Value {
    let found = Hierarchies::detect().ok();
    let v2 = found.as_ref().is_some_and(|found| found.layout == Layout::V2);
    let controllers = found.map(|found| found.controllers()).unwrap_or_default();
    let has = |name: &str| controllers.iter().any(|known| known == name);
    let mut security = vec!["name=seccomp,profile=builtin"];
    if file("/sys/module/apparmor/parameters/enabled").starts_with('Y') {
        security.push("name=apparmor");
    }
    if v2 {
        security.push("name=cgroupns");
    }
    let systemd = crate::host::systemd_manages_cgroups().is_ok();
    json!({
        "CgroupDriver": if systemd { "systemd" } else { "cgroupfs" },
        "CgroupVersion": if v2 { "2" } else { "1" },
        "MemoryLimit": has("memory"),
        "SwapLimit": has("memory"),
        "PidsLimit": has("pids"),
        "CpuCfsPeriod": has("cpu"),
        "CpuCfsQuota": has("cpu"),
        "CPUShares": has("cpu"),
        "CPUSet": has("cpuset"),
        "OomKillDisable": !v2,
        "SecurityOptions": security,
    })
}

fn engine(config: &Config, as_docker: bool) -> Value {
    let own = env!("CARGO_PKG_VERSION");
    let version = if as_docker { super::DOCKER } else { own };
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    json!({
        "Driver": "overlay2",
        "DriverStatus": [["Backing", "overlay"]],
        "DockerRootDir": config.root,
        "ServerVersion": version,
        "OrlopVersion": own,
        "ClientInfo": {"Version": version, "Context": "default", "Plugins": []},
        "LoggingDriver": "json-file",
        "Runtimes": {"orlop": {"path": "orlop-shim"}},
        "DefaultRuntime": "orlop",
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "host", "ipvlan", "macvlan", "null"],
            "Log": ["json-file"],
        },
        "LiveRestoreEnabled": true,
        "HttpProxy": variable("HTTP_PROXY"),
        "HttpsProxy": variable("HTTPS_PROXY"),
        "NoProxy": variable("NO_PROXY"),
    })
}

/// What scripts ask for and Orlop does not have.
fn absent() -> Value {
    json!({
        "Swarm": {"NodeID": "", "LocalNodeState": "inactive", "ControlAvailable": false},
        "IndexServerAddress": "https://index.docker.io/v1/",
        "Labels": [],
        "Warnings": null,
        "Experimental": false,
        "Debug": false,
    })
}

fn for_people(out: &mut impl Write, found: &Value) -> anyhow::Result<()> {
    let text = |key: &str| match &found[key] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    for (indent, title, key) in [
        ("", "Containers", "Containers"),
        (" ", "Running", "ContainersRunning"),
        (" ", "Paused", "ContainersPaused"),
        (" ", "Stopped", "ContainersStopped"),
        ("", "Images", "Images"),
        ("", "Server Version", "ServerVersion"),
        ("", "Storage Driver", "Driver"),
        ("", "Logging Driver", "LoggingDriver"),
        ("", "Cgroup Driver", "CgroupDriver"),
        ("", "Cgroup Version", "CgroupVersion"),
        ("", "Default Runtime", "DefaultRuntime"),
        ("", "Kernel Version", "KernelVersion"),
        ("", "Operating System", "OperatingSystem"),
        ("", "OSType", "OSType"),
        ("", "Architecture", "Architecture"),
        ("", "CPUs", "NCPU"),
    ] {
        writeln!(out, "{indent}{title}: {}", text(key))?;
    }
    let memory = found["MemTotal"].as_u64().unwrap_or(0);
    writeln!(out, "Total Memory: {:.2}GiB", memory as f64 / f64::from(1u32 << 30))?;
    writeln!(out, "Name: {}", text("Name"))?;
    writeln!(out, "Docker Root Dir: {}", text("DockerRootDir"))?;
    Ok(())
}
