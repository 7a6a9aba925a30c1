//! Whole specs as snapshots, and the rules in tables.

mod rules;
mod snapshots;
mod users;

use crate::request::*;
use crate::*;
use oci_spec::image::Config as ImageConfig;
use std::collections::BTreeMap;

/// Everything that [`Inputs`] borrows.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) sandbox: SandboxConfig,
    pub(crate) container: ContainerConfig,
    pub(crate) image: ImageConfig,
    pub(crate) user: ResolvedUser,
    pub(crate) namespaces: Namespaces,
    pub(crate) files: SandboxFiles,
    pub(crate) host: HostFeatures,
    pub(crate) seccomp: Option<oci_spec::runtime::LinuxSeccomp>,
    pub(crate) selinux: Option<SelinuxLabels>,
    pub(crate) image_volumes:
        std::collections::BTreeMap<std::path::PathBuf, Vec<std::path::PathBuf>>,
    pub(crate) devices: Vec<ResolvedDevice>,
    pub(crate) rlimits: Vec<Rlimit>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            sandbox: sandbox(),
            container: container(),
            image: image(&["/entry"], &["cmd"], &["PATH=/bin", "A=image"]),
            user: ResolvedUser {
                uid: 1000,
                gid: 100,
                additional_gids: vec![100, 2000],
                home: "/home/u".into(),
            },
            namespaces: Namespaces {
                network: Namespace::Path("/run/orlop/ns/1/net".into()),
                ipc: Namespace::Path("/run/orlop/ns/1/ipc".into()),
                uts: Namespace::Path("/run/orlop/ns/1/uts".into()),
                pid: Namespace::New,
                cgroup: Namespace::New,
                user: Namespace::Host,
            },
            files: SandboxFiles {
                hosts: Some("/run/orlop/sandboxes/1/hosts".into()),
                hostname: Some("/run/orlop/sandboxes/1/hostname".into()),
                resolv_conf: Some("/run/orlop/sandboxes/1/resolv.conf".into()),
                shm: Some("/run/orlop/sandboxes/1/shm".into()),
            },
            host: HostFeatures {
                swap: true,
                hugetlb: true,
                recursive_read_only: true,
                idmapped_mounts: true,
                ..Default::default()
            },
            seccomp: None,
            selinux: None,
            image_volumes: std::collections::BTreeMap::new(),
            devices: Vec::new(),
            rlimits: Vec::new(),
        }
    }

    pub(crate) fn inputs(&self) -> Inputs<'_> {
        Inputs {
            sandbox: &self.sandbox,
            container: &self.container,
            image: Some(&self.image),
            user: &self.user,
            namespaces: &self.namespaces,
            files: &self.files,
            hostname: "web-1",
            cgroups_path: "/kubepods/pod1/abc",
            host: &self.host,
            seccomp: self.seccomp.as_ref(),
            apparmor_default: Some("orlop-default"),
            selinux: self.selinux.as_ref(),
            image_volumes: &self.image_volumes,
            devices: &self.devices,
            rlimits: &self.rlimits,
        }
    }

    pub(crate) fn spec(&self) -> Result<oci_spec::runtime::Spec, SpecError> {
        container_spec(&self.inputs())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        sorted(&self.spec().unwrap())
    }
}

pub(crate) fn image(entrypoint: &[&str], cmd: &[&str], env: &[&str]) -> ImageConfig {
    let list = |words: &[&str]| {
        (!words.is_empty()).then(|| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    };
    let mut config = ImageConfig::default();
    config.set_entrypoint(list(entrypoint)).set_cmd(list(cmd)).set_env(list(env));
    config
}

fn namespace_options() -> NamespaceOptions {
    NamespaceOptions {
        network: NamespaceMode::Pod,
        pid: NamespaceMode::Container,
        ipc: NamespaceMode::Pod,
        user: None,
    }
}

fn sandbox() -> SandboxConfig {
    SandboxConfig {
        metadata: SandboxMetadata {
            name: "web".into(),
            uid: "u1".into(),
            namespace: "default".into(),
            attempt: 0,
        },
        hostname: "web-1".into(),
        log_directory: None,
        dns: None,
        port_mappings: Vec::new(),
        labels: Map::new(),
        annotations: Map::new(),
        cgroup_parent: "/kubepods/pod1".into(),
        sysctls: BTreeMap::new(),
        security: SandboxSecurity {
            namespaces: namespace_options(),
            selinux: None,
            run_as_user: None,
            run_as_group: None,
            readonly_rootfs: false,
            supplemental_groups: Vec::new(),
            groups_policy: GroupsPolicy::Merge,
            privileged: false,
            seccomp: None,
            apparmor: None,
        },
        overhead: None,
        resources: None,
        runtime_handler: String::new(),
        extras: SandboxExtras::default(),
    }
}

pub(crate) fn container_security() -> ContainerSecurity {
    ContainerSecurity {
        namespaces: namespace_options(),
        privileged: false,
        capabilities: CapabilityRequest::default(),
        selinux: None,
        run_as_user: None,
        run_as_group: None,
        readonly_rootfs: false,
        supplemental_groups: Vec::new(),
        groups_policy: GroupsPolicy::Merge,
        no_new_privs: true,
        masked_paths: vec!["/proc/kcore".into()],
        readonly_paths: vec!["/proc/sys".into()],
        seccomp: None,
        apparmor: None,
    }
}

fn container() -> ContainerConfig {
    ContainerConfig {
        metadata: ContainerMetadata { name: "app".into(), attempt: 0 },
        image: ImageSpec { image: "sha256:abc".into(), ..Default::default() },
        command: Vec::new(),
        args: Vec::new(),
        working_dir: String::new(),
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
        security: container_security(),
        stop_signal: None,
        extras: ContainerExtras::default(),
    }
}

pub(crate) fn volume(container_path: &str, source: &str) -> Mount {
    Mount {
        container_path: container_path.into(),
        source: MountSource::Host(source.into()),
        readonly: false,
        recursive_read_only: false,
        selinux_relabel: false,
        propagation: Propagation::Private,
        uid_mappings: Vec::new(),
        gid_mappings: Vec::new(),
    }
}

/// As JSON, with the capability sets, which are sets in memory too, in one order.
pub(crate) fn sorted(spec: &oci_spec::runtime::Spec) -> serde_json::Value {
    let mut json = serde_json::to_value(spec).unwrap();
    for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
        if let Some(names) = json["process"]["capabilities"][set].as_array_mut() {
            names.sort_by_key(ToString::to_string);
        }
    }
    json
}
