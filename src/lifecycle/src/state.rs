//! Facts, and the states derived from them.
//!
//! A record holds what happened, never what follows from it: state, reason and exit code of a view
//! come out of one total function each. Facts only ever get added, so a record written by a process
//! that died at any point is still true.

use orlop_model::{ContainerId, Digest, SandboxId, Signal, Timestamp};
use orlop_network::Namespaces;
use orlop_spec::ResolvedUser;
use orlop_spec::request::{ContainerConfig, Resources, SandboxConfig};
use orlop_store::Record;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// State of a sandbox, in CRI's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum SandboxState {
    Ready,
    NotReady,
}

/// State of a container, in CRI's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum ContainerState {
    Created,
    Running,
    Exited,
    /// Its shim does not answer.
    Unknown,
}

impl ContainerState {
    /// For messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Exited => "exited",
            Self::Unknown => "in an unknown state",
        }
    }
}

/// The facts about a sandbox. Written when it is ready, so that a record means that all of it was
/// made; what has no record was half made and is removed by recovery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SandboxRecord {
    pub(crate) id: SandboxId,
    pub(crate) config: Arc<SandboxConfig>,
    pub(crate) created_at: Timestamp,
    /// The boot of the host during which it was made; with another one nothing of it lives.
    pub(crate) boot_id: String,
    /// Its pinned namespaces; `None`: it uses only the host's.
    pub(crate) namespaces: Option<Namespaces>,
    /// Addresses, the primary one first.
    pub(crate) ips: Vec<IpAddr>,
    /// Whether it was attached to a network, so that it must be detached.
    pub(crate) attached: bool,
    /// Parent cgroup of its containers.
    pub(crate) cgroup_parent: String,
    /// Whether that cgroup is ours to delete.
    pub(crate) own_cgroup: bool,
    /// Cgroups of the client's naming that did not exist and were made for it, the outermost first.
    #[serde(default)]
    pub(crate) made_cgroups: Vec<String>,
    /// The level of its SELinux labels, where the host has a policy; no other pod's.
    #[serde(default)]
    pub(crate) selinux_level: Option<String>,
    /// Process id of the shared PID namespace's init.
    pub(crate) init_pid: Option<u32>,
    /// The pod's overhead and limits, once they were changed.
    #[serde(default)]
    pub(crate) overhead: Option<Resources>,
    #[serde(default)]
    pub(crate) resources: Option<Resources>,
    /// When its init ended without being asked to.
    #[serde(default)]
    pub(crate) init_ended_at: Option<Timestamp>,
    /// Why it could not be made, and could not be unmade either.
    #[serde(default)]
    pub(crate) failed: Option<String>,
    /// When a stop was first asked for.
    #[serde(default)]
    pub(crate) stop_asked_at: Option<Timestamp>,
    /// When network, namespaces, mounts and cgroup were given back.
    #[serde(default)]
    pub(crate) released_at: Option<Timestamp>,
}

impl Record for SandboxRecord {
    const KIND: &'static str = "sandbox";
}

/// Whether containers can live in a sandbox.
pub(crate) fn sandbox_state(facts: &SandboxRecord, boot_id: &str) -> SandboxState {
    if not_ready_because(facts, boot_id).is_none() {
        SandboxState::Ready
    } else {
        SandboxState::NotReady
    }
}

/// Why a sandbox is not ready; `None`: it is.
pub(crate) fn not_ready_because(facts: &SandboxRecord, boot_id: &str) -> Option<&'static str> {
    if facts.failed.is_some() {
        Some("it could not be made; remove it")
    } else if facts.boot_id != boot_id {
        Some("the node was restarted since; remove it and run the pod again")
    } else if facts.released_at.is_some() || facts.stop_asked_at.is_some() {
        Some("it was stopped; remove it and run the pod again")
    } else if facts.init_ended_at.is_some() {
        Some("its init process has ended; remove it and run the pod again")
    } else {
        None
    }
}

/// The facts about a container. Written when it is created, like [`SandboxRecord`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    pub(crate) id: ContainerId,
    pub(crate) sandbox: SandboxId,
    pub(crate) config: Arc<ContainerConfig>,
    pub(crate) created_at: Timestamp,
    /// The boot of the host during which it was made.
    pub(crate) boot_id: String,
    /// Process id of its init and the start time that makes it unmistakable (clock ticks since
    /// boot; 0: not known).
    pub(crate) pid: u32,
    pub(crate) pid_start: u64,
    pub(crate) image_id: Digest,
    pub(crate) image_name: String,
    pub(crate) image_ref: String,
    pub(crate) log_path: Option<PathBuf>,
    pub(crate) user: ResolvedUser,
    pub(crate) stop_signal: Signal,
    pub(crate) cgroup: String,
    /// Ids of the images that are its volumes, by their paths in it.
    #[serde(default)]
    pub(crate) volume_images: BTreeMap<PathBuf, String>,
    /// Its limits, once they were changed.
    pub(crate) resources: Option<Resources>,
    /// When its program was let go.
    #[serde(default)]
    pub(crate) started_at: Option<Timestamp>,
    /// Its end.
    #[serde(default)]
    pub(crate) end: Option<End>,
}

impl ContainerRecord {
    /// The limits in force.
    pub(crate) fn resources(&self) -> &Resources {
        self.resources.as_ref().unwrap_or(&self.config.resources)
    }
}

impl Record for ContainerRecord {
    const KIND: &'static str = "container";
}

/// How a container came to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct End {
    pub(crate) how: How,
    /// When it was over.
    pub(crate) at: Timestamp,
    /// More words where there are some.
    #[serde(default)]
    pub(crate) message: String,
}

/// The ways to end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum How {
    /// Its init exited.
    Exited { code: u32, oom: bool },
    /// Its program could not be executed.
    StartFailed,
    /// Its sandbox was stopped before it was started.
    NeverStarted,
    /// Its shim died without leaving word.
    Lost,
    /// The node was restarted.
    Rebooted,
}

/// A container's state: `answers` says whether its shim can be asked.
pub(crate) fn container_state(facts: &ContainerRecord, answers: bool) -> ContainerState {
    match (&facts.end, facts.started_at, answers) {
        (Some(_), _, _) => ContainerState::Exited,
        (None, _, false) => ContainerState::Unknown,
        (None, Some(_), true) => ContainerState::Running,
        (None, None, true) => ContainerState::Created,
    }
}

/// Exit code and CRI's one word for an end.
pub(crate) fn verdict(how: &How) -> (i32, &'static str) {
    match how {
        How::Exited { code: 0, .. } => (0, "Completed"),
        How::Exited { code, oom: true } => (i32::try_from(*code).unwrap_or(255), "OOMKilled"),
        How::Exited { code, oom: false } => (i32::try_from(*code).unwrap_or(255), "Error"),
        How::StartFailed => (128, "StartError"),
        How::NeverStarted => (137, "Error"),
        How::Lost | How::Rebooted => (255, "Unknown"),
    }
}

/// Time never runs backwards for one container, whatever the host's clock did.
pub(crate) fn end_at(facts: &ContainerRecord, at: Timestamp) -> Timestamp {
    at.max(facts.started_at.unwrap_or_default()).max(facts.created_at)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::test_support::{container_config, sandbox_config};

    pub(crate) fn sandbox_facts() -> SandboxRecord {
        SandboxRecord {
            id: SandboxId::parse("s1").unwrap(),
            config: Arc::new(sandbox_config("pod")),
            created_at: Timestamp(1),
            boot_id: "now".into(),
            namespaces: None,
            ips: vec![],
            attached: false,
            cgroup_parent: "/orlop/s1".into(),
            own_cgroup: true,
            made_cgroups: Vec::new(),
            selinux_level: None,
            init_pid: None,
            overhead: None,
            resources: None,
            init_ended_at: None,
            failed: None,
            stop_asked_at: None,
            released_at: None,
        }
    }

    pub(crate) fn container_facts() -> ContainerRecord {
        ContainerRecord {
            id: ContainerId::parse("c1").unwrap(),
            sandbox: SandboxId::parse("s1").unwrap(),
            config: Arc::new(container_config("main")),
            created_at: Timestamp(10),
            boot_id: "now".into(),
            pid: 7,
            pid_start: 70,
            image_id: Digest::from_sha256(&[1; 32]),
            image_name: "r.io/a:1".into(),
            image_ref: "r.io/a@sha256:…".into(),
            log_path: None,
            user: ResolvedUser::default(),
            stop_signal: Signal::TERM,
            cgroup: "/orlop/s1/c1".into(),
            volume_images: BTreeMap::new(),
            resources: None,
            started_at: None,
            end: None,
        }
    }

    #[test]
    fn states_of_a_sandbox() {
        for (name, change, ready) in [
            ("made", (|_| {}) as fn(&mut SandboxRecord), true),
            ("stop asked", |f| f.stop_asked_at = Some(Timestamp(2)), false),
            ("released", |f| f.released_at = Some(Timestamp(2)), false),
            ("init ended", |f| f.init_ended_at = Some(Timestamp(2)), false),
            ("failed", |f| f.failed = Some("x".into()), false),
            ("another boot", |f| f.boot_id = "before".into(), false),
        ] {
            let mut facts = sandbox_facts();
            change(&mut facts);
            let state = sandbox_state(&facts, "now");
            assert_eq!(state == SandboxState::Ready, ready, "{name}");
            assert_eq!(not_ready_because(&facts, "now").is_none(), ready, "{name}");
        }
    }

    #[test]
    fn states_of_a_container() {
        let started = Some(Timestamp(20));
        let end = Some(End { how: How::Lost, at: Timestamp(30), message: String::new() });
        for (started_at, end, answers, expected) in [
            (None, None, true, ContainerState::Created),
            (None, None, false, ContainerState::Unknown),
            (started, None, true, ContainerState::Running),
            (started, None, false, ContainerState::Unknown),
            (None, end.clone(), true, ContainerState::Exited),
            (None, end.clone(), false, ContainerState::Exited),
            (started, end.clone(), true, ContainerState::Exited),
            (started, end, false, ContainerState::Exited),
        ] {
            let facts = ContainerRecord { started_at, end, ..container_facts() };
            assert_eq!(container_state(&facts, answers), expected);
        }
    }

    #[test]
    fn verdicts() {
        for (how, expected) in [
            (How::Exited { code: 0, oom: false }, (0, "Completed")),
            (How::Exited { code: 0, oom: true }, (0, "Completed")),
            (How::Exited { code: 3, oom: false }, (3, "Error")),
            (How::Exited { code: 137, oom: false }, (137, "Error")),
            (How::Exited { code: 137, oom: true }, (137, "OOMKilled")),
            (How::Exited { code: 1, oom: true }, (1, "OOMKilled")),
            (How::StartFailed, (128, "StartError")),
            (How::NeverStarted, (137, "Error")),
            (How::Lost, (255, "Unknown")),
            (How::Rebooted, (255, "Unknown")),
        ] {
            assert_eq!(verdict(&how), expected, "{how:?}");
        }
    }

    #[test]
    fn the_end_is_never_before_the_start() {
        let mut facts = container_facts();
        assert_eq!(end_at(&facts, Timestamp(5)), Timestamp(10));
        facts.started_at = Some(Timestamp(20));
        assert_eq!(end_at(&facts, Timestamp(5)), Timestamp(20));
        assert_eq!(end_at(&facts, Timestamp(25)), Timestamp(25));
    }

    #[test]
    fn records_survive_their_json() {
        let mut facts = container_facts();
        facts.end = Some(End {
            how: How::Exited { code: 1, oom: true },
            at: Timestamp(3),
            message: "m".into(),
        });
        let json = serde_json::to_string(&facts).unwrap();
        assert_eq!(serde_json::from_str::<ContainerRecord>(&json).unwrap(), facts);
        let facts = sandbox_facts();
        let json = serde_json::to_string(&facts).unwrap();
        assert_eq!(serde_json::from_str::<SandboxRecord>(&json).unwrap(), facts);
    }
}
