//! A sandbox's configuration.

use super::text::{absolute_path, has_control, name};
use super::{Abilities, Result, bad, missing, ports, resources, security, sysctl};
use crate::v1;
use orlop_spec::request::{NamespaceMode, SandboxConfig, SandboxExtras, SandboxMetadata};
use std::path::Component;

const MAX_NAME: usize = 253;

/// A raw RunPodSandbox, and what the node can do.
#[derive(Clone, Copy)]
pub(crate) struct SandboxRequest<'a> {
    pub(crate) config: Option<&'a v1::PodSandboxConfig>,
    pub(crate) runtime_handler: &'a str,
    pub(crate) able: Abilities,
}

/// Checks a sandbox's configuration.
pub(crate) fn sandbox(request: SandboxRequest<'_>) -> Result<SandboxConfig> {
    let raw = request.config.ok_or_else(|| missing("config", "describe the sandbox"))?;
    super::no_windows("config.windows", raw.windows.is_some())?;
    let default = v1::LinuxPodSandboxConfig::default();
    let linux = raw.linux.as_ref().unwrap_or(&default);
    let security = security::sandbox(linux.security_context.as_ref(), request.able)?;
    let own_network = security.namespaces.network == NamespaceMode::Pod;
    Ok(SandboxConfig {
        metadata: metadata(raw.metadata.as_ref())?,
        hostname: ports::hostname(&raw.hostname)?,
        log_directory: match raw.log_directory.as_str() {
            "" => None,
            path => Some(absolute_path("log_directory", path)?),
        },
        dns: raw.dns_config.as_ref().map(ports::dns).transpose()?,
        port_mappings: if own_network {
            ports::port_mappings(&raw.port_mappings)?
        } else {
            Vec::new()
        },
        labels: raw.labels.clone(),
        annotations: raw.annotations.clone(),
        cgroup_parent: cgroup_parent(&linux.cgroup_parent, request.able)?,
        sysctls: sysctl::sysctls(&linux.sysctls, &security.namespaces)?,
        security,
        overhead: optional(linux.overhead.as_ref(), "linux.overhead")?,
        resources: optional(linux.resources.as_ref(), "linux.resources")?,
        runtime_handler: handler(request.runtime_handler)?,
        extras: SandboxExtras::default(),
    })
}

fn optional(
    raw: Option<&v1::LinuxContainerResources>,
    field: &str,
) -> Result<Option<orlop_spec::request::Resources>> {
    raw.map(|raw| resources::resources(field, raw)).transpose()
}

fn metadata(raw: Option<&v1::PodSandboxMetadata>) -> Result<SandboxMetadata> {
    let raw =
        raw.ok_or_else(|| missing("metadata", "give the sandbox a name, uid and namespace"))?;
    Ok(SandboxMetadata {
        name: name("metadata.name", &raw.name, MAX_NAME)?,
        uid: name("metadata.uid", &raw.uid, MAX_NAME)?,
        namespace: name("metadata.namespace", &raw.namespace, MAX_NAME)?,
        attempt: raw.attempt,
    })
}

fn handler(raw: &str) -> Result<String> {
    if raw.len() > MAX_NAME || has_control(raw) {
        return Err(bad(
            "runtime_handler",
            raw,
            "use the name of a configured handler, or leave it empty",
        ));
    }
    Ok(raw.to_owned())
}

/// Whether it names a slice: parts joined by single dashes.
fn is_slice(name: &str) -> bool {
    let stem = name.strip_suffix(".slice");
    stem.is_some_and(|stem| !stem.contains(':') && stem.split('-').all(|part| !part.is_empty()))
}

/// A cgroup path; with the systemd driver one that ends in a slice.
fn cgroup_parent(raw: &str, able: Abilities) -> Result<String> {
    const FIELD: &str = "linux.cgroup_parent";
    if raw.is_empty() {
        return Ok(String::new());
    }
    if able.systemd {
        let slice = std::path::Path::new(raw);
        let last = slice.components().next_back();
        let name = match last {
            Some(Component::Normal(last)) => last.to_str().filter(|name| is_slice(name)),
            _ => None,
        };
        let leads_out = slice.components().any(|part| part == Component::ParentDir);
        return match name {
            // The name says where the slice lies, whatever stands before it.
            Some(name) if !has_control(raw) && !leads_out => Ok(name.to_owned()),
            _ => Err(bad(
                FIELD,
                raw,
                "the systemd cgroup driver is in use: name a slice that ends in .slice",
            )),
        };
    }
    if !raw.starts_with('/') {
        return Err(bad(
            FIELD,
            raw,
            "the cgroupfs driver is in use: use an absolute path such as /kubepods/pod1",
        ));
    }
    Ok(absolute_path(FIELD, raw)?.display().to_string())
}
