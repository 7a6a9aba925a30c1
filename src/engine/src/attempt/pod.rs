//! The pod of an attempt: one of its own, one that several containers have joined, or another
//! container's.

use crate::engine::Inner;
use crate::spec::NetworkMode;
use crate::{Error, Record, Result, networks};
use orlop_lifecycle::{SandboxFilter, SandboxState};
use orlop_model::{ContainerId, SandboxId};
use orlop_spec::request::{
    DnsConfig, GroupsPolicy, Map, NamespaceMode, NamespaceOptions, Owner, PodNetwork, PortMapping,
    SandboxConfig, SandboxExtras, SandboxMetadata, SandboxSecurity,
};
use std::sync::Arc;

/// Label of a pod that several containers join, with its name.
const POD: &str = "orlop.pod";

/// The pod that an attempt is to be in. The caller holds `inner.pods` until the attempt is noted.
pub(super) async fn enter(
    inner: &Arc<Inner>,
    record: &Record,
    number: u32,
    ports: Vec<PortMapping>,
) -> Result<SandboxId> {
    if let NetworkMode::Container(other) = &record.spec.network {
        return of_other(inner, other);
    }
    if let Some(name) = &record.spec.pod {
        let labels = Map::from([(POD.to_owned(), name.clone())]);
        let filter =
            SandboxFilter { state: Some(SandboxState::Ready), labels, ..SandboxFilter::default() };
        if let Some(found) = inner.runtime.sandboxes(&filter)?.first() {
            return Ok(found.id.clone());
        }
    }
    let network = networks::pod_network(inner, record).await?;
    Ok(inner.runtime.run_sandbox(config(inner, record, number, ports, network)).await?)
}

/// The pod of another container, which must run.
fn of_other(inner: &Inner, other: &str) -> Result<SandboxId> {
    let found = inner.index.find(other)?;
    let record = found.record();
    let runs = inner.attempt_of(&record).is_some_and(|view| view.started_at.0 != 0);
    match &record.attempt {
        Some(attempt) if runs => Ok(attempt.sandbox.clone()),
        _ => Err(Error::State {
            what: "container",
            name: other.to_owned(),
            why: "does not run, so that its network cannot be joined: start it first".into(),
        }),
    }
}

/// Takes a pod away unless another container is in it. The caller holds `inner.pods`.
pub(super) async fn leave(inner: &Inner, id: &ContainerId, pod: &SandboxId) -> Result<()> {
    networks::withdraw(inner, id).await?;
    let others = inner.index.all().into_iter().any(|other| {
        let record = other.record();
        record.id != *id && record.attempt.as_ref().is_some_and(|attempt| attempt.sandbox == *pod)
    });
    if others {
        return Ok(());
    }
    Ok(inner.runtime.remove_sandbox(pod.as_str()).await?)
}

fn config(
    inner: &Inner,
    record: &Record,
    number: u32,
    ports: Vec<PortMapping>,
    network: PodNetwork,
) -> SandboxConfig {
    let spec = &record.spec;
    let mut labels = Map::from([("orlop.container".to_owned(), record.id.to_string())]);
    if let Some(name) = &spec.pod {
        labels.insert(POD.to_owned(), name.clone());
    }
    SandboxConfig {
        metadata: SandboxMetadata {
            name: record.name.clone(),
            uid: record.id.to_string(),
            namespace: "orlop".into(),
            attempt: number,
        },
        hostname: hostname(record),
        log_directory: (!spec.no_log).then(|| inner.log_dir(&record.id)),
        dns: networks::resolvers(inner, record).or_else(|| dns(record)),
        port_mappings: ports,
        labels,
        annotations: Map::new(),
        cgroup_parent: spec.cgroup_parent.clone(),
        sysctls: spec.sysctls.clone(),
        security: SandboxSecurity {
            namespaces: namespaces(record),
            selinux: None,
            run_as_user: None,
            run_as_group: None,
            readonly_rootfs: false,
            supplemental_groups: Vec::new(),
            groups_policy: GroupsPolicy::Merge,
            // A pod that may hold what is; whether its containers are is theirs.
            privileged: true,
            seccomp: None,
            apparmor: None,
        },
        overhead: None,
        resources: None,
        runtime_handler: spec.runtime.clone(),
        extras: SandboxExtras {
            owner: Owner::Engine,
            shm_size: spec.resources.shm_size,
            domainname: spec.domainname.clone().unwrap_or_default(),
            hosts: spec.extra_hosts.clone(),
            aliases: Vec::new(),
            host_uts: spec.uts == "host",
            network,
        },
    }
}

fn hostname(record: &Record) -> String {
    match (&record.spec.hostname, &record.spec.network) {
        (Some(name), _) => name.clone(),
        (None, NetworkMode::Host) => String::new(),
        (None, _) => record.id.as_str().chars().take(12).collect(),
    }
}

fn dns(record: &Record) -> Option<DnsConfig> {
    let spec = &record.spec;
    let asked = !spec.dns.is_empty() || !spec.dns_search.is_empty() || !spec.dns_options.is_empty();
    let (host, changed) = networks::of_host();
    if !asked && (!changed || spec.network == NetworkMode::Host) {
        return None;
    }
    // What is not said is as on the host.
    let line = |word: &str| networks::values(&host, word);
    let or = |own: &Vec<String>, word: &str| if own.is_empty() { line(word) } else { own.clone() };
    Some(DnsConfig {
        servers: or(&spec.dns, "nameserver"),
        searches: or(&spec.dns_search, "search"),
        options: or(&spec.dns_options, "options"),
    })
}

/// The namespaces of the pod; its container has the same.
pub(super) fn namespaces(record: &Record) -> NamespaceOptions {
    let spec = &record.spec;
    NamespaceOptions {
        network: match spec.network {
            NetworkMode::Host => NamespaceMode::Node,
            _ => NamespaceMode::Pod,
        },
        pid: match spec.pid.as_str() {
            "host" => NamespaceMode::Node,
            _ => NamespaceMode::Container,
        },
        ipc: if spec.ipc == "host" { NamespaceMode::Node } else { NamespaceMode::Pod },
        user: None,
    }
}
