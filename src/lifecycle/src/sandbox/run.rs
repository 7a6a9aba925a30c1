//! RunPodSandbox.

use super::init::{InitRequest, clear_init, finish, foreign_init, make_init};
use super::stop::unmake_files;
use super::{Sandbox, files, shared_namespaces, watch_init};
use crate::container::{cgroup_path, lies_in, pod_cgroup};
use crate::context::Context;
use crate::error::below;
use crate::kept::{Kept, blocking};
use crate::neighbours::network_failed;
use crate::state::SandboxRecord;
use crate::{Error, ErrorKind, EventKind, Result, host, selinux, spans};
use orlop_model::{SandboxId, Timestamp};
use orlop_network::{
    AttachRequest, Attached, DetachRequest, DnsSettings, Place, PortMapping, Protocol,
};
use orlop_spec::request::{self, NamespaceMode, PodNetwork, SandboxConfig};
use orlop_task::Client;
use std::collections::BTreeSet;
use std::sync::Arc;
use tracing::Instrument;

/// Makes a sandbox that is ready, or leaves nothing of it. What cannot be unmade stays listed as
/// not ready, so that the kubelet can stop and remove it.
pub(crate) async fn run(
    context: Arc<Context>,
    id: SandboxId,
    config: Arc<SandboxConfig>,
) -> Result<Arc<Sandbox>> {
    let mut making = Making {
        context: Arc::clone(&context),
        facts: first_facts(&context, id, config),
        init: None,
    };
    let error = match making.make().await {
        Ok(()) => return making.keep().await,
        Err(error) => error,
    };
    if let Err(undo) = making.unmake().await {
        let message = format!("{}; then undoing it: {}", error.report(), undo.report());
        tracing::warn!(sandbox = %making.facts.id, message, "sandbox kept for its removal");
        making.facts.failed = Some(message);
        // Without a record it is an orphan, which the next recovery removes.
        let _ = making.keep().await;
    }
    Err(error)
}

fn first_facts(context: &Context, id: SandboxId, config: Arc<SandboxConfig>) -> SandboxRecord {
    let own_cgroup = config.cgroup_parent.is_empty();
    let selinux_level = context.host.selinux.as_ref().map(|_| {
        let pods = context.index.all_sandboxes();
        let levels = pods.iter().filter_map(|pod| pod.facts.get().selinux_level.clone());
        selinux::pick_level(&levels.collect(), rand::random)
    });
    let cgroup_parent = if own_cgroup {
        pod_cgroup(&context.options.default_cgroup_parent, id.as_str())
    } else {
        config.cgroup_parent.clone()
    };
    SandboxRecord {
        id,
        config,
        created_at: Timestamp::now(),
        boot_id: context.host.boot_id.clone(),
        namespaces: None,
        ips: Vec::new(),
        attached: false,
        cgroup_parent,
        own_cgroup,
        made_cgroups: Vec::new(),
        selinux_level,
        init_pid: None,
        overhead: None,
        resources: None,
        init_ended_at: None,
        failed: None,
        stop_asked_at: None,
        released_at: None,
    }
}

/// A sandbox being made.
struct Making {
    context: Arc<Context>,
    facts: SandboxRecord,
    init: Option<Client>,
}

impl Making {
    async fn make(&mut self) -> Result<()> {
        let (files, namespaces) = tokio::join!(self.make_files(), self.take_namespaces());
        self.facts.namespaces = namespaces?;
        self.facts.made_cgroups = files?;
        // From here on the steps do not need each other. All are waited for even if one fails, so
        // that none is still at work when the failure is undone.
        let (init, attached, named, sysctls) = tokio::join!(
            self.start_init(),
            self.attach(),
            self.set_hostname(),
            self.apply_sysctls()
        );
        // What was made is noted before the first error returns: it has to be unmade.
        if let Ok(Some((client, pid))) = &init {
            self.init = Some(client.clone());
            self.facts.init_pid = Some(*pid);
        }
        if let Ok(Some(attached)) = &attached {
            self.facts.attached = true;
            self.facts.ips.clone_from(&attached.ips);
        }
        attached?;
        init?;
        named?;
        sysctls?;
        self.write_hosts().await
    }

    fn own_network(&self) -> bool {
        self.facts.config.security.namespaces.network == NamespaceMode::Pod
    }

    fn hostname(&self) -> String {
        match self.facts.config.hostname.as_str() {
            name if self.own_network()
                && !self.facts.config.extras.host_uts
                && !name.is_empty() =>
            {
                name.to_owned()
            }
            _ => host::hostname(),
        }
    }

    async fn make_files(&self) -> Result<Vec<String>> {
        let dir = self.context.sandbox_dir(&self.facts.id);
        let (config, hostname) = (Arc::clone(&self.facts.config), self.hostname());
        let host = Arc::clone(&self.context.host);
        let cgroup = self.facts.cgroup_parent.clone();
        let default_parent =
            self.facts.own_cgroup.then(|| self.context.options.default_cgroup_parent.clone());
        let shared = self.shared_cgroups();
        blocking(move || {
            files::prepare(&dir, &config, &hostname)?;
            // What the client has made is its own to remove; our own parent goes when it is empty.
            let missing = host.missing_cgroups(&cgroup);
            let made = default_parent
                .map_or_else(|| [shared, missing.clone()].concat(), |parent| vec![parent]);
            if !missing.is_empty() {
                files::note_cgroups(&dir, &made)?;
                host.make_cgroup(&cgroup)?;
            }
            Ok(made)
        })
        .await
    }

    /// Cgroups above this pod's that were made for another pod: the last of them to go removes them.
    fn shared_cgroups(&self) -> Vec<String> {
        let parent = &self.facts.cgroup_parent;
        let mut above = BTreeSet::new();
        for pod in self.context.index.all_sandboxes() {
            let facts = pod.facts.get();
            above.extend(facts.made_cgroups.iter().filter(|path| lies_in(parent, path)).cloned());
        }
        above.into_iter().collect()
    }

    async fn take_namespaces(&self) -> Result<Option<orlop_network::Namespaces>> {
        let asked = &self.facts.config.security.namespaces;
        let taken = match &asked.user {
            Some(user) => {
                let network = &self.context.network;
                network.owned_namespaces(id_map(user.uids), id_map(user.gids)).await
            }
            None if !self.own_network() && asked.ipc != NamespaceMode::Pod => return Ok(None),
            None => self.context.network.namespaces().await,
        };
        taken.map(Some).map_err(|error| self.network_error("taking namespaces", error))
    }

    async fn start_init(&self) -> Result<Option<(Client, u32)>> {
        let foreign = foreign_init(&self.context, &self.facts);
        let own_pids = self.facts.config.security.namespaces.pid == NamespaceMode::Pod;
        if !own_pids && foreign.is_none() {
            return Ok(None);
        }
        let request = InitRequest {
            id: self.facts.id.to_string(),
            hostname: self.hostname(),
            namespaces: shared_namespaces(&self.facts),
            cgroup: self.init_cgroup(),
            foreign,
        };
        make_init(&self.context, request).await.map(Some)
    }

    fn init_cgroup(&self) -> String {
        cgroup_path(&self.facts.cgroup_parent, self.facts.id.as_str())
    }

    async fn attach(&self) -> Result<Option<Attached>> {
        let (true, Some(namespaces)) = (self.own_network(), &self.facts.namespaces) else {
            return Ok(None);
        };
        let places = match &self.facts.config.extras.network {
            PodNetwork::Node => None,
            PodNetwork::None => return Ok(None),
            PodNetwork::Places(places) => Some(places.iter().map(place).collect()),
        };
        let config = &self.facts.config;
        let dns = config.dns.clone().unwrap_or_default();
        let request = AttachRequest {
            sandbox_id: self.facts.id.to_string(),
            netns: namespaces.net.clone(),
            name: config.metadata.name.clone(),
            namespace: config.metadata.namespace.clone(),
            uid: config.metadata.uid.clone(),
            ports: config.port_mappings.iter().map(port).collect(),
            annotations: config.annotations.clone(),
            dns: DnsSettings { servers: dns.servers, searches: dns.searches, options: dns.options },
            cgroup: Some(self.facts.cgroup_parent.clone()),
            places,
        };
        let attached = self.context.network.attach(request).await;
        attached.map(Some).map_err(|error| self.network_error("attaching the network", error))
    }

    async fn set_hostname(&self) -> Result<()> {
        let (true, Some(namespaces)) = (self.own_network(), &self.facts.namespaces) else {
            return Ok(());
        };
        let set = self.context.network.set_hostname(namespaces, &self.hostname()).await;
        set.map_err(|error| self.network_error("setting the host name", error))?;
        let domain = &self.facts.config.extras.domainname;
        if domain.is_empty() || self.facts.config.extras.host_uts {
            return Ok(());
        }
        let set = self.context.network.set_domainname(namespaces, domain).await;
        set.map_err(|error| self.network_error("setting the domain name", error))
    }

    async fn apply_sysctls(&self) -> Result<()> {
        let Some(namespaces) = &self.facts.namespaces else { return Ok(()) };
        let sysctls = &self.facts.config.sysctls;
        if sysctls.is_empty() && !self.own_network() {
            return Ok(());
        }
        let set = self.context.network.apply_sysctls(namespaces, sysctls).await;
        set.map_err(|error| self.network_error("setting the sysctls", error))
    }

    async fn write_hosts(&self) -> Result<()> {
        if !self.own_network() {
            return Ok(());
        }
        let (dir, hostname) = (self.context.sandbox_dir(&self.facts.id), self.hostname());
        let (ips, config) = (self.facts.ips.clone(), Arc::clone(&self.facts.config));
        blocking(move || files::write_hosts(&dir, &config, &hostname, &ips)).await
    }

    fn network_error(&self, what: &'static str, error: orlop_network::NetworkError) -> Error {
        network_failed(what, &self.facts.id, error)
    }

    /// Records it and shows it to the world.
    async fn keep(&mut self) -> Result<Arc<Sandbox>> {
        let context = &self.context;
        let id = self.facts.id.clone();
        let dir = Arc::clone(&context.sandbox_records);
        let facts = match Kept::create(dir, id.as_str(), self.facts.clone()).await {
            Ok(facts) => facts,
            Err(error) => {
                // The disk is full, most likely: without a record there is no sandbox.
                return match self.unmake().await {
                    Ok(()) => Err(error),
                    Err(undo) => Err(below("undoing it", id.as_str(), ErrorKind::Internal, undo)),
                };
            }
        };
        let sandbox = Arc::new(Sandbox::new(facts, &context.host.boot_id, self.init.clone()));
        context.index.insert_sandbox(Arc::clone(&sandbox));
        if let Some(client) = &self.init {
            let watch = watch_init(Arc::clone(&sandbox), client.clone());
            tokio::spawn(watch.instrument(spans::of_sandbox(&id)));
        }
        context.tell(EventKind::Created, &id, None);
        let state =
            if self.facts.failed.is_some() { EventKind::Stopped } else { EventKind::Started };
        context.tell(state, &id, None);
        Ok(sandbox)
    }

    /// Undoes whatever was done. Everything is tried; the first error is returned.
    async fn unmake(&mut self) -> Result<()> {
        let id = self.facts.id.to_string();
        let init = match self.init.take() {
            Some(client) => {
                finish(&client).await;
                clear_init(&self.context, &id, &self.init_cgroup()).await
            }
            None => Ok(()),
        };
        let detached = match self.facts.attached {
            true => {
                let request = detach_request(&self.facts);
                let detached = self.context.network.detach(request).await;
                detached.map_err(|error| self.network_error("detaching the network", error))
            }
            false => Ok(()),
        };
        let released = match &self.facts.namespaces {
            Some(namespaces) => {
                let released = self.context.network.release(&namespaces.slot).await;
                released.map_err(|error| self.network_error("releasing the namespaces", error))
            }
            None => Ok(()),
        };
        let files = unmake_files(&self.context, &self.facts).await;
        init.and(detached).and(released).and(files)
    }
}

/// What the network needs to know to take a sandbox off it.
pub(super) fn detach_request(facts: &SandboxRecord) -> DetachRequest {
    let metadata = &facts.config.metadata;
    DetachRequest {
        sandbox_id: facts.id.to_string(),
        netns: facts
            .namespaces
            .as_ref()
            .map(|pinned| pinned.net.clone())
            .filter(|path| path.exists()),
        name: metadata.name.clone(),
        namespace: metadata.namespace.clone(),
        uid: metadata.uid.clone(),
        everywhere: matches!(facts.config.extras.network, PodNetwork::Places(_)),
    }
}

fn id_map(mapping: request::IdMapping) -> orlop_sys::process::IdMap {
    orlop_sys::process::IdMap {
        inside: mapping.container_id,
        outside: mapping.host_id,
        count: mapping.length,
    }
}

fn place(place: &request::NetworkPlace) -> Place {
    Place {
        list: place.list.clone(),
        interface: place.interface.clone(),
        ips: place.ips.clone(),
        mac: place.mac.clone(),
        ports: place.ports,
    }
}

fn port(mapping: &request::PortMapping) -> PortMapping {
    PortMapping {
        host_port: mapping.host_port,
        container_port: mapping.container_port,
        protocol: match mapping.protocol {
            request::Protocol::Tcp => Protocol::Tcp,
            request::Protocol::Udp => Protocol::Udp,
            request::Protocol::Sctp => Protocol::Sctp,
        },
        host_ip: mapping.host_ip,
    }
}
