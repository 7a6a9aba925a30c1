//! Bad inputs, each with the field that its refusal must name; and that good ones pass.

mod container;
mod sandbox;

use super::*;
use crate::v1;
use crate::v1::security_profile::ProfileType;
use orlop_spec::request::SandboxConfig;

const ABLE: Abilities = Abilities {
    user_namespaces: true,
    user_namespaces_host_network: true,
    supplemental_groups: true,
    recursive_read_only: true,
    systemd: false,
};

fn good_sandbox() -> v1::PodSandboxConfig {
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: "web".into(),
            uid: "u-1".into(),
            namespace: "default".into(),
            attempt: 0,
        }),
        hostname: "web".into(),
        log_directory: "/var/log/pods/web".into(),
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: "/kubepods/pod1".into(),
            security_context: Some(v1::LinuxSandboxSecurityContext {
                namespace_options: Some(v1::NamespaceOption::default()),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn good_container() -> v1::ContainerConfig {
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: "app".into(), attempt: 0 }),
        image: Some(v1::ImageSpec { image: "sha256:abc".into(), ..Default::default() }),
        log_path: "app/0.log".into(),
        linux: Some(v1::LinuxContainerConfig {
            resources: Some(v1::LinuxContainerResources::default()),
            security_context: Some(v1::LinuxContainerSecurityContext::default()),
        }),
        ..Default::default()
    }
}

fn check_sandbox(config: &v1::PodSandboxConfig, able: Abilities) -> Result<SandboxConfig> {
    sandbox(SandboxRequest { config: Some(config), runtime_handler: "", able })
}

type Spoil<T> = Box<dyn Fn(&mut T)>;

/// Each change must be refused with a message that starts with the field's name.
fn refused<T: Clone, R: std::fmt::Debug>(
    good: &T,
    check: impl Fn(&T) -> Result<R>,
    cases: Vec<(&str, Spoil<T>)>,
) {
    check(good).expect("the unchanged request passes");
    for (field, spoil) in cases {
        let mut raw = good.clone();
        spoil(&mut raw);
        match check(&raw) {
            Ok(made) => panic!("{field}: accepted as {made:?}"),
            Err(error) => {
                let text = error.to_string();
                assert!(text.starts_with(field), "{field}: {text}");
                assert!(text.contains(": "), "{field}: no remedy in {text:?}");
                assert!(!text.contains('\n') && text.len() < 600, "{field}: {text}");
            }
        }
    }
}

fn pod(change: impl Fn(&mut v1::PodSandboxConfig) + 'static) -> Spoil<v1::PodSandboxConfig> {
    Box::new(change)
}

fn ctr(change: impl Fn(&mut v1::ContainerConfig) + 'static) -> Spoil<v1::ContainerConfig> {
    Box::new(change)
}

fn linux(raw: &mut v1::PodSandboxConfig) -> &mut v1::LinuxPodSandboxConfig {
    raw.linux.as_mut().unwrap()
}

fn pod_security(raw: &mut v1::PodSandboxConfig) -> &mut v1::LinuxSandboxSecurityContext {
    linux(raw).security_context.as_mut().unwrap()
}

fn pod_namespaces(raw: &mut v1::PodSandboxConfig) -> &mut v1::NamespaceOption {
    pod_security(raw).namespace_options.as_mut().unwrap()
}

fn security(raw: &mut v1::ContainerConfig) -> &mut v1::LinuxContainerSecurityContext {
    raw.linux.as_mut().unwrap().security_context.as_mut().unwrap()
}

fn limits(raw: &mut v1::ContainerConfig) -> &mut v1::LinuxContainerResources {
    raw.linux.as_mut().unwrap().resources.as_mut().unwrap()
}

fn value(value: i64) -> Option<v1::Int64Value> {
    Some(v1::Int64Value { value })
}

fn port(protocol: i32, container_port: i32, host_port: i32, host_ip: &str) -> v1::PortMapping {
    v1::PortMapping { protocol, container_port, host_port, host_ip: host_ip.into() }
}

fn profile(kind: ProfileType, localhost_ref: &str) -> Option<v1::SecurityProfile> {
    Some(v1::SecurityProfile { profile_type: kind.into(), localhost_ref: localhost_ref.into() })
}
