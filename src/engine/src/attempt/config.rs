//! A record in lifecycle's words.

use super::{pod, resources};
use crate::engine::Inner;
use crate::spec::{Health, Mount, MountSource, NetworkMode, RestartPolicy};
use crate::{Error, Record, Result};
use orlop_model::Signal;
use orlop_spec::request;
use orlop_spec::request::{
    BorrowedLayer, CapabilityRequest, ContainerConfig, ContainerExtras, ContainerMetadata,
    ContainerSecurity, Device, GroupsPolicy, ImageSpec, Map, NamespaceMode, NamespaceOptions,
    Owner, Propagation, SecurityProfile, SelinuxOptions,
};

/// Name of a container's log in its directory.
pub(crate) const LOG: &str = "log";

/// The container of an attempt.
pub(super) fn container(inner: &Inner, record: &Record, number: u32) -> Result<ContainerConfig> {
    let (spec, merged) = (&record.spec, &record.merged);
    let stop_signal = match merged.stop_signal.as_str() {
        "" => None,
        text => Signal::parse(text).ok(),
    };
    let (devices, cdi_devices) = devices(record);
    Ok(ContainerConfig {
        metadata: ContainerMetadata { name: record.id.to_string(), attempt: number },
        image: ImageSpec {
            image: record.image.to_string(),
            user_specified: spec.image.clone(),
            ..ImageSpec::default()
        },
        command: merged.args(),
        args: Vec::new(),
        working_dir: merged.working_dir.clone(),
        envs: envs(record),
        mounts: mounts(inner, record)?,
        devices,
        cdi_devices,
        labels: Map::new(),
        annotations: Map::new(),
        log_path: (!spec.no_log).then(|| LOG.into()),
        stdin: spec.stdin,
        stdin_once: spec.stdin_once,
        tty: spec.tty,
        resources: resources(&spec.resources),
        security: security(inner, record)?,
        stop_signal,
        extras: ContainerExtras {
            owner: Owner::Engine,
            layer: Some(BorrowedLayer {
                key: record.layer(),
                volatile: spec.auto_remove && spec.restart == RestartPolicy::No,
            }),
            user: (!merged.user.is_empty()).then(|| merged.user.clone()),
            groups: spec.groups.clone(),
            ulimits: spec.resources.ulimits.clone(),
            own_cgroup_namespace: match spec.cgroupns.as_str() {
                "host" => Some(false),
                "private" => Some(true),
                _ => None,
            },
            own_ipc: own_ipc(record),
            init: spec.init,
            supervise: Some(supervise(record)),
        },
    })
}

/// What the shim does by itself. It is always asked, so that a policy can be changed while it runs.
fn supervise(record: &Record) -> request::Supervise {
    request::Supervise {
        restart: restart(record.spec.restart),
        health: record.merged.health.as_ref().and_then(health),
    }
}

/// A policy as the shim knows it: what a boot does is not its business.
pub(crate) fn restart(policy: RestartPolicy) -> request::Restart {
    match policy {
        RestartPolicy::No => request::Restart::No,
        RestartPolicy::Always | RestartPolicy::UnlessStopped => request::Restart::Always,
        RestartPolicy::OnFailure { max } => request::Restart::OnFailure { max },
    }
}

/// `None`: there is nothing to look at. Times that are not said are as people know them.
fn health(health: &Health) -> Option<request::HealthCheck> {
    let (kind, words) = health.test.split_first()?;
    let command = match kind.as_str() {
        "CMD" if !words.is_empty() => words.to_vec(),
        "CMD-SHELL" => [&["/bin/sh".to_owned(), "-c".to_owned()], words].concat(),
        _ => return None,
    };
    let or = |nanos: u64, seconds: u64| match nanos {
        0 => seconds * 1_000,
        some => (some / 1_000_000).max(1),
    };
    Some(request::HealthCheck {
        command,
        interval: or(health.interval, 30),
        timeout: or(health.timeout, 30),
        start_period: health.start_period / 1_000_000,
        start_interval: or(health.start_interval, 5),
        retries: if health.retries == 0 { 3 } else { health.retries },
    })
}

/// Whoever joins another container's network has its own shared memory all the same.
fn own_ipc(record: &Record) -> Option<u64> {
    let joins = matches!(record.spec.network, NetworkMode::Container(_));
    let own = match record.spec.ipc.as_str() {
        "host" | "shareable" => false,
        "private" | "none" => true,
        _ => joins,
    };
    own.then(|| record.spec.resources.shm_size.unwrap_or(64 << 20))
}

fn envs(record: &Record) -> Vec<(String, Vec<u8>)> {
    let env = record.merged.env.iter();
    env.map(|(name, value)| (name.clone(), value.clone().into_bytes())).collect()
}

fn mounts(inner: &Inner, record: &Record) -> Result<Vec<request::Mount>> {
    let spec = &record.spec;
    let mounts = spec.mounts.iter().enumerate();
    mounts.map(|(number, mount)| self::mount(inner, record, number, mount)).collect()
}

fn mount(inner: &Inner, record: &Record, number: usize, mount: &Mount) -> Result<request::Mount> {
    let mut made = request::Mount {
        container_path: mount.target.clone(),
        source: request::MountSource::Tmpfs(Vec::new()),
        readonly: mount.read_only,
        recursive_read_only: false,
        selinux_relabel: false,
        propagation: Propagation::Private,
        uid_mappings: Vec::new(),
        gid_mappings: Vec::new(),
    };
    match &mount.source {
        MountSource::Bind { path, create, propagation, relabel, .. } => {
            if !create && !path.exists() {
                return Err(Error::Invalid {
                    field: "mount",
                    value: path.display().to_string(),
                    why: "there is no such file or directory on this host: make it first".into(),
                });
            }
            made.source = request::MountSource::Host(path.clone());
            made.selinux_relabel = *relabel;
            made.propagation = match propagation.as_str() {
                "shared" | "rshared" => Propagation::Bidirectional,
                "slave" | "rslave" => Propagation::HostToContainer,
                _ => Propagation::Private,
            };
        }
        MountSource::Volume { .. } => {
            made.source = request::MountSource::Host(inner.volume_path(record, number, mount)?);
        }
        MountSource::Tmpfs { size, mode, options } => {
            let mut all = options.clone();
            all.extend(size.map(|bytes| format!("size={bytes}")));
            all.push(format!("mode={:o}", mode.unwrap_or(0o1777)));
            made.source = request::MountSource::Tmpfs(all);
        }
        MountSource::Image { image, sub_path } => {
            let image = ImageSpec { image: image.clone(), ..ImageSpec::default() };
            let sub_path = sub_path.clone();
            made.source = request::MountSource::Image { image, sub_path };
        }
    }
    Ok(made)
}

fn devices(record: &Record) -> (Vec<Device>, Vec<String>) {
    let (mut nodes, mut named) = (Vec::new(), Vec::new());
    for device in &record.spec.devices {
        // `vendor.com/class=name` is how CDI calls one.
        if device.host.contains('=') && !device.host.starts_with('/') {
            named.push(device.host.clone());
            continue;
        }
        let within = if device.container.is_empty() { &device.host } else { &device.container };
        let permissions = match device.permissions.as_str() {
            "" => "rwm".to_owned(),
            some => some.to_owned(),
        };
        nodes.push(Device {
            container_path: within.into(),
            host_path: device.host.clone().into(),
            permissions,
        });
    }
    (nodes, named)
}

fn security(inner: &Inner, record: &Record) -> Result<ContainerSecurity> {
    let spec = &record.spec;
    let own = &spec.security;
    let open = spec.privileged || own.unmasked;
    let paths = |all: &[&str]| -> Vec<String> {
        if open { Vec::new() } else { all.iter().map(|&path| path.to_owned()).collect() }
    };
    Ok(ContainerSecurity {
        namespaces: namespaces(inner, record)?,
        privileged: spec.privileged,
        capabilities: CapabilityRequest {
            add: capabilities("cap-add", &spec.cap_add)?,
            drop: capabilities("cap-drop", &spec.cap_drop)?,
            add_ambient: Vec::new(),
        },
        selinux: selinux(&own.label),
        run_as_user: None,
        run_as_group: None,
        readonly_rootfs: spec.read_only,
        supplemental_groups: Vec::new(),
        groups_policy: GroupsPolicy::Merge,
        no_new_privs: own.no_new_privileges,
        masked_paths: paths(&orlop_spec::DEFAULT_MASKED_PATHS),
        readonly_paths: paths(&orlop_spec::DEFAULT_READONLY_PATHS),
        seccomp: profile(own.seccomp.as_deref()).or(Some(SecurityProfile::RuntimeDefault)),
        apparmor: profile(own.apparmor.as_deref()),
    })
}

/// `None`: nothing was said.
fn profile(text: Option<&str>) -> Option<SecurityProfile> {
    match text? {
        "unconfined" => Some(SecurityProfile::Unconfined),
        "builtin" | "" => Some(SecurityProfile::RuntimeDefault),
        other => Some(SecurityProfile::Localhost(other.to_owned())),
    }
}

fn selinux(labels: &[String]) -> Option<SelinuxOptions> {
    let mut options = SelinuxOptions::default();
    for label in labels {
        match label.split_once(':') {
            Some(("user", value)) => value.clone_into(&mut options.user),
            Some(("role", value)) => value.clone_into(&mut options.role),
            Some(("type", value)) => value.clone_into(&mut options.kind),
            Some(("level", value)) => value.clone_into(&mut options.level),
            // The type that policies have for containers that are not confined.
            _ if label == "disable" => "spc_t".clone_into(&mut options.kind),
            _ => {}
        }
    }
    (!labels.is_empty()).then_some(options)
}

fn capabilities(field: &'static str, names: &[String]) -> Result<Vec<String>> {
    let known = |text: &String| {
        let upper = text.to_uppercase();
        if upper == "ALL" || upper == "CAP_ALL" {
            return Ok("ALL".to_owned());
        }
        let name = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
        if orlop_spec::KNOWN_CAPABILITIES.iter().any(|known| *known == name) {
            Ok(name)
        } else {
            Err(Error::Invalid {
                field,
                value: text.clone(),
                why: "Linux has no such capability: see capabilities(7)".into(),
            })
        }
    };
    names.iter().map(known).collect()
}

/// The pod's, but for a PID namespace that is another container's.
fn namespaces(inner: &Inner, record: &Record) -> Result<NamespaceOptions> {
    let mut namespaces = pod::namespaces(record);
    if let Some(other) = record.spec.pid.strip_prefix("container:") {
        let found = inner.index.find(other)?;
        let view = inner.attempt_of(&found.record()).filter(|view| view.started_at.0 != 0);
        let view = view.ok_or_else(|| Error::State {
            what: "container",
            name: other.to_owned(),
            why: "does not run, so that its processes cannot be joined: start it first".into(),
        })?;
        namespaces.pid = NamespaceMode::Target(view.id.to_string());
    }
    Ok(namespaces)
}
