//! A step as what the runtime runs: its root, its mounts, and the configuration of a container.

use orlop_build::exec::{ExecError, Step, StepMount};
use orlop_spec::request::{
    CapabilityRequest, ContainerConfig, ContainerExtras, ContainerMetadata, ContainerSecurity,
    GroupsPolicy, ImageSpec, Map, NamespaceMode, NamespaceOptions, Resources, SandboxConfig,
    SandboxExtras, SandboxMetadata, SandboxSecurity, SecurityProfile,
};
use orlop_spec::{DEFAULT_MASKED_PATHS, DEFAULT_READONLY_PATHS, Rlimit};
use orlop_task::protocol::Mount;
use std::path::{Path, PathBuf};

/// The root of a step.
pub(super) fn overlay(step: &Step) -> Mount {
    let lower: Vec<_> = step.lower.iter().map(|path| path.display().to_string()).collect();
    Mount {
        r#type: "overlay".into(),
        source: "overlay".into(),
        target: String::new(),
        options: vec![
            format!("lowerdir={}", lower.join(":")),
            format!("upperdir={}", step.upper.display()),
            format!("workdir={}", step.work.display()),
            // What is in the layer must be whole by itself: no renamed directories or bare
            // attributes that point into layers below.
            "index=off".into(),
            "redirect_dir=off".into(),
            "metacopy=off".into(),
            "volatile".into(),
        ],
    }
}

fn namespace_options() -> NamespaceOptions {
    NamespaceOptions {
        network: NamespaceMode::Pod,
        pid: NamespaceMode::Container,
        ipc: NamespaceMode::Pod,
        user: None,
    }
}

/// The pod that a step would be in.
pub(super) fn sandbox(step: &Step, id: &str, insecure: bool) -> SandboxConfig {
    SandboxConfig {
        metadata: SandboxMetadata {
            name: id.to_owned(),
            uid: id.to_owned(),
            namespace: "build".into(),
            attempt: 0,
        },
        hostname: step.hostname.clone(),
        log_directory: None,
        dns: None,
        port_mappings: Vec::new(),
        labels: Map::new(),
        annotations: Map::new(),
        cgroup_parent: String::new(),
        sysctls: std::collections::BTreeMap::new(),
        security: SandboxSecurity {
            namespaces: namespace_options(),
            selinux: None,
            run_as_user: None,
            run_as_group: None,
            readonly_rootfs: false,
            supplemental_groups: Vec::new(),
            groups_policy: GroupsPolicy::Merge,
            privileged: insecure,
            seccomp: None,
            apparmor: None,
        },
        overhead: None,
        resources: None,
        runtime_handler: String::new(),
        extras: SandboxExtras::default(),
    }
}

/// The step as a container.
pub(super) fn container(step: &Step, insecure: bool) -> ContainerConfig {
    let paths = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
    ContainerConfig {
        metadata: ContainerMetadata { name: "step".into(), attempt: 0 },
        image: ImageSpec::default(),
        command: step.args.clone(),
        args: Vec::new(),
        working_dir: step.cwd.clone(),
        envs: Vec::new(),
        mounts: Vec::new(),
        devices: Vec::new(),
        cdi_devices: Vec::new(),
        labels: Map::new(),
        annotations: Map::new(),
        log_path: None,
        stdin: false,
        stdin_once: false,
        tty: false,
        resources: Resources::default(),
        security: ContainerSecurity {
            namespaces: namespace_options(),
            privileged: insecure,
            capabilities: CapabilityRequest::default(),
            selinux: None,
            run_as_user: None,
            run_as_group: None,
            readonly_rootfs: false,
            supplemental_groups: Vec::new(),
            groups_policy: GroupsPolicy::Merge,
            no_new_privs: false,
            masked_paths: paths(&DEFAULT_MASKED_PATHS),
            readonly_paths: paths(&DEFAULT_READONLY_PATHS),
            seccomp: (!insecure).then_some(SecurityProfile::RuntimeDefault),
            apparmor: None,
        },
        stop_signal: None,
        extras: ContainerExtras::default(),
    }
}

/// The limits of a step's processes.
pub(super) fn rlimits(step: &Step) -> Result<Vec<Rlimit>, ExecError> {
    let limit = |(name, soft, hard): &(String, u64, u64)| {
        let kind = serde_json::from_value(format!("RLIMIT_{}", name.to_uppercase()).into())
            .map_err(|_| ExecError::Failed(format!("unknown limit {name:?}")))?;
        Ok(Rlimit { kind, soft: *soft, hard: *hard })
    };
    step.ulimits.iter().map(limit).collect()
}

/// Adds the step's own mounts.
pub(super) fn add_mounts(step: &Step, spec: &mut oci_spec::runtime::Spec) {
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    for mount in &mut mounts {
        if mount.destination() == Path::new("/dev/shm") {
            let size = format!("size={}", step.shm_size);
            let options = ["nosuid", "noexec", "nodev", "mode=1777", &size];
            mount.set_options(Some(options.map(str::to_owned).to_vec()));
        }
    }
    // A mount of the step stands in for the runtime's own at the same place.
    mounts.retain(|own| {
        let same = |mount: &StepMount| Path::new(mount.target()) == own.destination().as_path();
        !step.mounts.iter().any(same)
    });
    for mount in &step.mounts {
        let (kind, source, target, options) = match mount {
            StepMount::Bind { source, target, read_only } => {
                let access = if *read_only { "ro" } else { "rw" };
                let options = vec!["rbind".into(), "rprivate".into(), access.to_owned()];
                ("bind", source.clone(), target, options)
            }
            StepMount::Tmpfs { target, size, read_only } => {
                let mut options = vec!["nosuid".to_owned(), "mode=1777".into()];
                options.extend(size.map(|size| format!("size={size}")));
                options.push(if *read_only { "ro" } else { "rw" }.into());
                ("tmpfs", PathBuf::from("tmpfs"), target, options)
            }
        };
        let mut oci = oci_spec::runtime::Mount::default();
        oci.set_destination(PathBuf::from(target))
            .set_typ(Some(kind.to_owned()))
            .set_source(Some(source))
            .set_options(Some(options));
        mounts.push(oci);
    }
    spec.set_mounts(Some(mounts));
}
