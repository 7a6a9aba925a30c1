//! Requests for tests.

use orlop_spec::request::*;
use std::collections::BTreeMap;

fn namespaces() -> NamespaceOptions {
    NamespaceOptions {
        network: NamespaceMode::Pod,
        pid: NamespaceMode::Container,
        ipc: NamespaceMode::Pod,
        user: None,
    }
}

/// A pod with a network of its own.
pub(crate) fn sandbox_config(name: &str) -> SandboxConfig {
    SandboxConfig {
        metadata: SandboxMetadata {
            name: name.into(),
            uid: format!("uid-{name}"),
            namespace: "default".into(),
            attempt: 0,
        },
        hostname: name.into(),
        log_directory: None,
        dns: None,
        port_mappings: vec![],
        labels: Map::new(),
        annotations: Map::new(),
        cgroup_parent: String::new(),
        sysctls: BTreeMap::new(),
        security: SandboxSecurity {
            namespaces: namespaces(),
            selinux: None,
            run_as_user: None,
            run_as_group: None,
            readonly_rootfs: false,
            supplemental_groups: vec![],
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

/// A container with the image's defaults.
pub(crate) fn container_config(name: &str) -> ContainerConfig {
    ContainerConfig {
        metadata: ContainerMetadata { name: name.into(), attempt: 0 },
        image: ImageSpec { image: "r.io/a:1".into(), ..ImageSpec::default() },
        command: vec![],
        args: vec![],
        working_dir: String::new(),
        envs: vec![],
        mounts: vec![],
        devices: vec![],
        cdi_devices: vec![],
        labels: Map::new(),
        annotations: Map::new(),
        log_path: None,
        stdin: false,
        stdin_once: false,
        tty: false,
        resources: Resources::default(),
        security: ContainerSecurity {
            namespaces: namespaces(),
            privileged: false,
            capabilities: CapabilityRequest::default(),
            selinux: None,
            run_as_user: None,
            run_as_group: None,
            readonly_rootfs: false,
            supplemental_groups: vec![],
            groups_policy: GroupsPolicy::Merge,
            no_new_privs: false,
            masked_paths: vec![],
            readonly_paths: vec![],
            seccomp: None,
            apparmor: None,
        },
        stop_signal: None,
        extras: ContainerExtras::default(),
    }
}
