//! A sandbox: what the containers of a pod share.

mod dial;
mod files;
mod init;
mod run;
mod stop;
mod update;

pub(crate) use dial::dial;
pub(crate) use files::noted_cgroups;
pub(crate) use init::{end_init, watch_init};
pub(crate) use run::run;
pub(crate) use stop::{release_files, remove, stop, unmake_files};
pub(crate) use update::update;

use crate::context::Context;
use crate::kept::Kept;
use crate::state::{SandboxRecord, not_ready_because, sandbox_state};
use crate::stats::CpuRate;
use crate::{Error, Result, SandboxView, host};
use orlop_model::SandboxId;
use orlop_spec::request::{NamespaceMode, Owner};
use orlop_spec::{Namespace, Namespaces, SandboxFiles};
use orlop_task::Client;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use tokio::sync::{Mutex, RwLock};

/// One sandbox.
pub(crate) struct Sandbox {
    pub(crate) id: SandboxId,
    pub(crate) owner: Owner,
    pub(crate) facts: Kept<SandboxRecord>,
    /// Shared by creations and starts of its containers, held alone by its stop and removal.
    pub(crate) gate: RwLock<()>,
    pub(crate) cpu_rate: CpuRate,
    boot_id: String,
    /// The connection to its init's shim; held while an init is made or ended.
    init: Mutex<Option<Client>>,
    view: std::sync::RwLock<Arc<SandboxView>>,
}

impl Sandbox {
    pub(crate) fn new(facts: Kept<SandboxRecord>, boot_id: &str, init: Option<Client>) -> Self {
        let now = facts.get();
        let view = std::sync::RwLock::new(Arc::new(derive(&now, boot_id)));
        Self {
            id: now.id.clone(),
            owner: now.config.extras.owner,
            facts,
            gate: RwLock::new(()),
            cpu_rate: CpuRate::default(),
            boot_id: boot_id.to_owned(),
            init: Mutex::new(init),
            view,
        }
    }

    /// What the world sees.
    pub(crate) fn view(&self) -> Arc<SandboxView> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds to the facts, then shows it.
    pub(crate) async fn observe(&self, change: impl FnOnce(&mut SandboxRecord)) {
        self.facts.observe(change).await;
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        *view = Arc::new(derive(&self.facts.get(), &self.boot_id));
    }

    /// Refuses what only a ready sandbox can have.
    pub(crate) fn check_ready(&self, context: &Context) -> Result<()> {
        match not_ready_because(&self.facts.get(), &context.host.boot_id) {
            None => Ok(()),
            Some(why) => Err(Error::SandboxNotReady { id: self.id.clone(), why }),
        }
    }

    /// The namespaces that its containers share; the PID and cgroup namespaces are each container's
    /// own question.
    pub(crate) fn namespaces(&self) -> Namespaces {
        shared_namespaces(&self.facts.get())
    }

    /// The pod's host name, which is the host's own where it has the host's uts namespace.
    pub(crate) fn hostname(&self) -> String {
        let facts = self.facts.get();
        if facts.config.security.namespaces.network == NamespaceMode::Node
            || facts.config.extras.host_uts
            || facts.config.hostname.is_empty()
        {
            host::hostname()
        } else {
            facts.config.hostname.clone()
        }
    }

    /// The files that its containers get.
    pub(crate) fn files(&self, context: &Context) -> SandboxFiles {
        let dir = context.sandbox_dir(&self.id);
        let ipc = &self.facts.get().config.security.namespaces.ipc;
        let shm =
            if *ipc == NamespaceMode::Node { PathBuf::from("/dev/shm") } else { dir.join("shm") };
        SandboxFiles {
            hosts: Some(dir.join("hosts")),
            hostname: Some(dir.join("hostname")),
            resolv_conf: Some(dir.join("resolv.conf")),
            shm: Some(shm),
        }
    }
}

/// Network and uts go together, as the kubelet expects: a pod in the host's network has its name.
fn shared_namespaces(facts: &SandboxRecord) -> Namespaces {
    let asked = &facts.config.security.namespaces;
    let own = |mode: &NamespaceMode, path: fn(&orlop_network::Namespaces) -> &PathBuf| match (
        &facts.namespaces,
        mode,
    ) {
        (Some(pinned), NamespaceMode::Pod) => Namespace::Path(path(pinned).clone()),
        _ => Namespace::Host,
    };
    // Without its pin no container of the pod may run as the host's users.
    let user = match (&asked.user, facts.namespaces.as_ref().and_then(|set| set.user.as_ref())) {
        (None, _) => Namespace::Host,
        (Some(_), Some(path)) => Namespace::Path(path.clone()),
        (Some(_), None) => Namespace::New,
    };
    Namespaces {
        network: own(&asked.network, |pinned| &pinned.net),
        ipc: own(&asked.ipc, |pinned| &pinned.ipc),
        uts: match facts.config.extras.host_uts {
            true => Namespace::Host,
            false => own(&asked.network, |pinned| &pinned.uts),
        },
        user,
        ..Namespaces::default()
    }
}

fn derive(facts: &SandboxRecord, boot_id: &str) -> SandboxView {
    let own_network = facts.config.security.namespaces.network == NamespaceMode::Pod;
    let pinned = facts.namespaces.as_ref().filter(|_| own_network && facts.released_at.is_none());
    SandboxView {
        id: facts.id.clone(),
        config: Arc::clone(&facts.config),
        state: sandbox_state(facts, boot_id),
        created_at: facts.created_at,
        ips: facts.ips.clone(),
        netns: pinned.map(|pinned| pinned.net.clone()),
        init_pid: facts
            .init_pid
            .filter(|_| facts.init_ended_at.is_none() && facts.released_at.is_none()),
        cgroup_parent: facts.cgroup_parent.clone(),
        overhead: facts.overhead.clone().or_else(|| facts.config.overhead.clone()),
        resources: facts.resources.clone().or_else(|| facts.config.resources.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::sandbox_facts;

    #[test]
    fn namespaces_of_containers() {
        let pinned = orlop_network::Namespaces {
            slot: "1".into(),
            net: "/n/net".into(),
            ipc: "/n/ipc".into(),
            uts: "/n/uts".into(),
            user: None,
        };
        let path = |name: &str| Namespace::Path(format!("/n/{name}").into());
        for (network, ipc, expected) in [
            (NamespaceMode::Pod, NamespaceMode::Pod, [path("net"), path("ipc"), path("uts")]),
            (
                NamespaceMode::Node,
                NamespaceMode::Pod,
                [Namespace::Host, path("ipc"), Namespace::Host],
            ),
            (NamespaceMode::Pod, NamespaceMode::Node, [path("net"), Namespace::Host, path("uts")]),
        ] {
            let mut facts = sandbox_facts();
            let mut config = (*facts.config).clone();
            config.security.namespaces.network = network;
            config.security.namespaces.ipc = ipc;
            facts.config = Arc::new(config);
            facts.namespaces = Some(pinned.clone());
            let shared = shared_namespaces(&facts);
            assert_eq!([shared.network, shared.ipc, shared.uts], expected);
            assert_eq!(shared.user, Namespace::Host);
        }
    }
}
