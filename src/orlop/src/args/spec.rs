//! From flags to the engine's form. Pure: what comes from outside is asked of [`Outside`].

use super::container::{
    ConfinementFlags, ContainerFlags, HealthFlags, LifeFlags, LimitFlags, NetworkFlags,
    ResourceFlags,
};
use super::values::{Join, Mounted, SecurityOption};
use orlop_engine::spec::{
    ContainerSpec, Endpoint, Health, Mount, MountSource, NetworkMode, Resources, RestartPolicy,
    Security,
};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

/// What flags can refer to.
pub(crate) trait Outside {
    /// A variable of the caller's environment.
    fn variable(&self, name: &str) -> Option<String>;
    /// A file that a flag names.
    fn read(&self, file: &Path) -> io::Result<String>;
    /// Where relative paths begin.
    fn directory(&self) -> io::Result<PathBuf>;
}

/// This process's.
pub(crate) struct Own;

impl Outside for Own {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn read(&self, file: &Path) -> io::Result<String> {
        std::fs::read_to_string(file)
    }

    fn directory(&self) -> io::Result<PathBuf> {
        std::env::current_dir()
    }
}

/// Why flags make no container; each names the flag, its value and what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Wrong {
    #[error("{flag} {value}: {why}")]
    Value { flag: &'static str, value: String, why: String },
    #[error("{one} and {other} exclude each other: {why}")]
    Conflict { one: &'static str, other: &'static str, why: &'static str },
    #[error("{flag} {}: the file cannot be read", file.display())]
    File { flag: &'static str, file: PathBuf, source: io::Error },
    #[error("the working directory cannot be found out")]
    Directory(#[source] io::Error),
}

fn wrong(flag: &'static str, value: impl ToString, why: impl Into<String>) -> Wrong {
    Wrong::Value { flag, value: value.to_string(), why: why.into() }
}

fn conflict(one: &'static str, other: &'static str, why: &'static str) -> Wrong {
    Wrong::Conflict { one, other, why }
}

/// The form, with warnings for what was asked and has no effect.
pub(crate) fn container(
    flags: &ContainerFlags,
    image: &str,
    command: &[String],
    outside: &dyn Outside,
) -> Result<(ContainerSpec, Vec<String>), Wrong> {
    let mut warnings = Vec::new();
    let process = &flags.process;
    let network = network(&flags.network)?;
    let ports = ports(&flags.network, &network, &mut warnings)?;
    let entrypoint = process.entrypoint.as_ref().map(|program| match program.as_str() {
        "" => Vec::new(),
        program => vec![program.to_owned()],
    });
    if let Some(dir) = process.workdir.as_deref().filter(|dir| !dir.starts_with('/')) {
        return Err(wrong("--workdir", dir, "the path must begin with /"));
    }
    let mut spec = ContainerSpec {
        name: flags.what.name.clone(),
        image: image.to_owned(),
        platform: flags.what.platform.clone(),
        pull: flags.what.pull.into(),
        command: command.to_vec(),
        entrypoint,
        env: environment(&process.env_file, &process.env, outside)?,
        labels: labels(flags, outside)?,
        working_dir: process.workdir.clone(),
        user: process.user.clone(),
        groups: process.group_add.clone(),
        hostname: flags.network.hostname.clone(),
        domainname: flags.network.domainname.clone(),
        tty: process.tty,
        stdin: process.interactive,
        stdin_once: false,
        auto_remove: flags.life.rm,
        mounts: mounts(flags, outside)?,
        read_only: flags.files.read_only,
        network,
        ports,
        publish_all: flags.network.publish_all,
        expose: flags.network.expose.iter().flat_map(|one| one.0.clone()).collect(),
        dns: flags.network.dns.iter().map(ToString::to_string).collect(),
        dns_search: flags.network.dns_search.clone(),
        dns_options: flags.network.dns_option.clone(),
        extra_hosts: flags.network.add_host.clone(),
        resources: limits(&flags.limits, flags.files.shm_size)?,
        devices: flags.files.device.clone(),
        cgroup_parent: flags.limits.cgroup_parent.clone().unwrap_or_default(),
        runtime: flags.what.runtime.clone().unwrap_or_default(),
        init: process.init,
        health: health(&flags.health)?,
        pod: flags.what.pod.clone(),
        no_log: process.log_driver.as_deref() == Some("none"),
        ..ContainerSpec::default()
    };
    confine(&mut spec, &flags.confinement, outside)?;
    live(&mut spec, &flags.life)?;
    if spec.hostname.is_some() && spec.uts == "host" {
        return Err(conflict("--hostname", "--uts host", "the host keeps its name"));
    }
    Ok((spec, warnings))
}

/// Lines of files, then flags; a later one of a name wins.
pub(crate) fn environment(
    files: &[PathBuf],
    flags: &[String],
    outside: &dyn Outside,
) -> Result<Vec<(String, String)>, Wrong> {
    let mut found = Vec::new();
    let mut put = |text: &str, flag: &'static str| {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, outside.variable(text)),
        };
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(wrong(
                flag,
                text,
                "expected NAME=VALUE, or the NAME of a variable that is set",
            ));
        }
        // One that is not set here stays unset there.
        if let Some(value) = value {
            found.retain(|(known, _)| known != name);
            found.push((name.to_owned(), value));
        }
        Ok(())
    };
    for file in files {
        for line in lines("--env-file", file, outside)? {
            put(&line, "--env-file")?;
        }
    }
    for flag in flags {
        put(flag, "--env")?;
    }
    Ok(found)
}

/// Lines that say something.
fn lines(flag: &'static str, file: &Path, outside: &dyn Outside) -> Result<Vec<String>, Wrong> {
    let read = outside.read(file);
    let text = read.map_err(|source| Wrong::File { flag, file: file.to_owned(), source })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let lines = text.lines().map(str::trim_start);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}

fn labels(
    flags: &ContainerFlags,
    outside: &dyn Outside,
) -> Result<BTreeMap<String, String>, Wrong> {
    let mut found = BTreeMap::new();
    for file in &flags.what.label_file {
        for line in lines("--label-file", file, outside)? {
            let label = super::values::label(&line);
            let (name, value) = label.map_err(|why| wrong("--label-file", &line, why))?;
            found.insert(name, value);
        }
    }
    found.extend(flags.what.label.iter().cloned());
    Ok(found)
}

fn mounts(flags: &ContainerFlags, outside: &dyn Outside) -> Result<Vec<Mount>, Wrong> {
    let files = &flags.files;
    let all = files.volume.iter().chain(&files.mount).chain(&files.tmpfs);
    let mut targets = BTreeSet::new();
    let mut mounts = Vec::new();
    for Mounted { target, source, read_only } in all {
        if !targets.insert(target) {
            let why = "two mounts are at the same path: leave one out";
            return Err(wrong("--volume", target.display(), why));
        }
        let mut source = source.clone();
        if let MountSource::Bind { path, .. } = &mut source {
            *path = absolute(path, outside)?;
        }
        mounts.push(Mount { target: target.clone(), source, read_only: *read_only });
    }
    Ok(mounts)
}

/// Without `.` and `..`, from the working directory where it is relative.
fn absolute(path: &Path, outside: &dyn Outside) -> Result<PathBuf, Wrong> {
    let mut whole = if path.is_absolute() {
        PathBuf::from("/")
    } else {
        outside.directory().map_err(Wrong::Directory)?
    };
    for part in path.components() {
        match part {
            std::path::Component::Normal(name) => whole.push(name),
            std::path::Component::ParentDir => drop(whole.pop()),
            _ => {}
        }
    }
    Ok(whole)
}

fn network(flags: &NetworkFlags) -> Result<NetworkMode, Wrong> {
    let mut named: Vec<Endpoint> = Vec::new();
    let mut single = None;
    for join in &flags.network {
        match join {
            Join::Named(endpoint) => named.push(endpoint.clone()),
            Join::Bridge => single = Some(NetworkMode::Bridge),
            Join::Host => single = Some(NetworkMode::Host),
            Join::None => single = Some(NetworkMode::None),
            Join::Container(name) => single = Some(NetworkMode::Container(name.clone())),
        }
    }
    if single.is_some() && flags.network.len() > 1 {
        let why =
            "bridge, host, none and container:NAME stand alone; several networks are named ones";
        return Err(wrong("--network", "given several times", why));
    }
    for (at, endpoint) in named.iter().enumerate() {
        if named[..at].iter().any(|other| other.network == endpoint.network) {
            return Err(wrong("--network", &endpoint.network, "this network is named twice"));
        }
    }
    own_place(flags, named.first_mut())?;
    Ok(if named.is_empty() { single.unwrap_or_default() } else { NetworkMode::Named(named) })
}

/// Flags that speak of the first network that was named.
fn own_place(flags: &NetworkFlags, first: Option<&mut Endpoint>) -> Result<(), Wrong> {
    let given = [
        ("--network-alias", flags.network_alias.first().cloned()),
        ("--ip", flags.ip.map(|ip| ip.to_string())),
        ("--ip6", flags.ip6.map(|ip| ip.to_string())),
        ("--mac-address", flags.mac_address.clone()),
    ];
    let Some(first) = first else {
        return match given.into_iter().find_map(|(flag, value)| Some((flag, value?))) {
            None => Ok(()),
            Some((flag, value)) => {
                let why = "only a network of your own has this: orlop network create NAME, then --network NAME";
                Err(wrong(flag, value, why))
            }
        };
    };
    first.aliases.extend(flags.network_alias.iter().cloned());
    if let Some(ip) = flags.ip {
        first.ip = Some(ip.into());
    }
    if let Some(ip) = flags.ip6 {
        first.ip6 = Some(ip.into());
    }
    if flags.mac_address.is_some() {
        first.mac.clone_from(&flags.mac_address);
    }
    Ok(())
}

fn ports(
    flags: &NetworkFlags,
    network: &NetworkMode,
    warnings: &mut Vec<String>,
) -> Result<Vec<orlop_engine::spec::Publish>, Wrong> {
    let ports: Vec<_> = flags.publish.iter().flat_map(|one| one.0.clone()).collect();
    let asked = !ports.is_empty() || flags.publish_all;
    match network {
        NetworkMode::Container(_) => {
            let other = "--network container:NAME";
            let why = "the network is the other container's: give the flag to that one";
            let given = [
                ("--publish", asked),
                ("--expose", !flags.expose.is_empty()),
                ("--hostname", flags.hostname.is_some()),
                ("--dns", !flags.dns.is_empty()),
                ("--add-host", !flags.add_host.is_empty()),
            ];
            if let Some((flag, _)) = given.into_iter().find(|(_, given)| *given) {
                return Err(conflict(flag, other, why));
            }
        }
        NetworkMode::Host if asked => {
            warnings.push(
                "--publish has no effect with --network host: the container's ports are the host's"
                    .into(),
            );
            return Ok(Vec::new());
        }
        NetworkMode::None if asked => {
            warnings.push("--publish has no effect with --network none".into());
            return Ok(Vec::new());
        }
        _ => {}
    }
    Ok(ports)
}

/// Limits of a new container.
fn limits(flags: &LimitFlags, shm_size: Option<u64>) -> Result<Resources, Wrong> {
    let mut resources = resources(&flags.changeable)?;
    resources.shm_size = shm_size;
    resources.blkio_weight = match flags.blkio_weight {
        Some(weight @ 1..=9) => return Err(wrong("--blkio-weight", weight, "expected 10 to 1000")),
        other => other.filter(|weight| *weight > 0),
    };
    resources.oom_score_adj = flags.oom_score_adj;
    resources.oom_kill_disable = flags.oom_kill_disable;
    resources.ulimits.clone_from(&flags.ulimit);
    Ok(resources)
}

/// Less than this a container does not start with.
const LEAST_MEMORY: u64 = 6 << 20;

/// Limits that can change.
pub(crate) fn resources(flags: &ResourceFlags) -> Result<Resources, Wrong> {
    if let Some(memory) = flags.memory.filter(|memory| (1..LEAST_MEMORY).contains(memory)) {
        return Err(wrong("--memory", memory, "at least 6m are needed"));
    }
    if let (Some(memory), Some(both)) = (flags.memory, flags.memory_swap)
        && both > 0
        && both.unsigned_abs() < memory
    {
        let why = "this is memory and swap together, so no less than --memory";
        return Err(wrong("--memory-swap", both, why));
    }
    if flags.memory_swap.is_some_and(|both| both > 0) && flags.memory.is_none() {
        let why = "--memory is needed beside it, since this is memory and swap together";
        return Err(wrong("--memory-swap", flags.memory_swap.unwrap_or_default(), why));
    }
    if let (Some(memory), Some(soft)) = (flags.memory, flags.memory_reservation)
        && soft > memory
    {
        return Err(wrong("--memory-reservation", soft, "no more than --memory is possible"));
    }
    if flags.cpus.is_some() && (flags.cpu_quota.is_some() || flags.cpu_period.is_some()) {
        return Err(conflict(
            "--cpus",
            "--cpu-quota and --cpu-period",
            "they say the same; give one",
        ));
    }
    Ok(Resources {
        memory: flags.memory.filter(|memory| *memory > 0),
        memory_swap: flags.memory_swap.filter(|both| *both != 0),
        memory_reservation: flags.memory_reservation.filter(|soft| *soft > 0),
        nano_cpus: flags.cpus.filter(|nano| *nano > 0),
        cpu_shares: flags.cpu_shares.filter(|shares| *shares > 0),
        cpu_period: flags.cpu_period.filter(|period| *period > 0),
        cpu_quota: flags.cpu_quota.filter(|quota| *quota != 0),
        cpuset_cpus: flags.cpuset_cpus.clone().unwrap_or_default(),
        cpuset_mems: flags.cpuset_mems.clone().unwrap_or_default(),
        pids: flags.pids_limit,
        ..Resources::default()
    })
}

fn confine(
    spec: &mut ContainerSpec,
    flags: &ConfinementFlags,
    outside: &dyn Outside,
) -> Result<(), Wrong> {
    spec.privileged = flags.privileged;
    spec.cap_add.clone_from(&flags.cap_add);
    spec.cap_drop.clone_from(&flags.cap_drop);
    spec.sysctls = flags.sysctl.iter().cloned().collect();
    let text = |flag: &Option<String>| flag.clone().unwrap_or_default();
    spec.userns = text(&flags.userns);
    spec.pid = text(&flags.pid);
    spec.ipc = text(&flags.ipc);
    spec.uts = text(&flags.uts);
    spec.cgroupns = text(&flags.cgroupns);
    let mut security = Security::default();
    for option in &flags.security_opt {
        match option {
            SecurityOption::Seccomp(profile) if profile == "unconfined" => {
                security.seccomp = Some(profile.clone());
            }
            SecurityOption::Seccomp(file) => {
                let path = absolute(Path::new(file), outside)?;
                security.seccomp = Some(path.to_string_lossy().into_owned());
            }
            SecurityOption::Apparmor(profile) => security.apparmor = Some(profile.clone()),
            SecurityOption::Label(label) => security.label.push(label.clone()),
            SecurityOption::NoNewPrivileges(set) => security.no_new_privileges = *set,
            SecurityOption::Unmasked => security.unmasked = true,
        }
    }
    spec.security = security;
    Ok(())
}

fn live(spec: &mut ContainerSpec, flags: &LifeFlags) -> Result<(), Wrong> {
    spec.restart = flags.restart.unwrap_or_default();
    if spec.auto_remove && spec.restart != RestartPolicy::No {
        let why = "a container that is removed cannot be started again";
        return Err(conflict("--rm", "--restart", why));
    }
    spec.stop_signal.clone_from(&flags.stop_signal);
    // Without end is what no one lives to see.
    spec.stop_timeout =
        flags.stop_timeout.map(|seconds| u32::try_from(seconds).unwrap_or(u32::MAX));
    Ok(())
}

fn health(flags: &HealthFlags) -> Result<Option<Health>, Wrong> {
    let HealthFlags {
        health_cmd: command,
        health_interval: interval,
        health_timeout: timeout,
        health_start_period: start_period,
        health_start_interval: start_interval,
        health_retries: retries,
        no_healthcheck,
    } = flags;
    let times = [interval, timeout, start_period, start_interval];
    let any = command.is_some() || retries.is_some() || times.iter().any(|time| time.is_some());
    if *no_healthcheck {
        if any {
            return Err(conflict("--no-healthcheck", "--health-*", "there is nothing to say then"));
        }
        return Ok(Some(Health { test: vec!["NONE".into()], ..Health::default() }));
    }
    if !any {
        return Ok(None);
    }
    let test = match command.as_deref() {
        None | Some("") => Vec::new(),
        Some("none") => vec!["NONE".to_owned()],
        Some(line) => vec!["CMD-SHELL".to_owned(), line.to_owned()],
    };
    // The kernel's clock does not see less, and a time of nothing stands for the default.
    for (flag, time) in [
        ("--health-interval", interval),
        ("--health-timeout", timeout),
        ("--health-start-interval", start_interval),
    ] {
        if let Some(time) = time.filter(|time| (1..1_000_000).contains(time)) {
            return Err(wrong(flag, format!("{time}ns"), "at least 1ms is needed"));
        }
    }
    Ok(Some(Health {
        test,
        interval: interval.unwrap_or(0),
        timeout: timeout.unwrap_or(0),
        start_period: start_period.unwrap_or(0),
        start_interval: start_interval.unwrap_or(0),
        retries: retries.unwrap_or(0),
    }))
}
