//! Snapshots of sandboxes and containers for whoever asks. Cheap to share: behind an `Arc`, never
//! changed after they were made.

use crate::{ContainerState, SandboxState};
use orlop_model::{ContainerId, Digest, SandboxId, Signal, Timestamp};
use orlop_spec::ResolvedUser;
use orlop_spec::request::{ContainerConfig, Resources, SandboxConfig};
use orlop_task::{HealthRecord, RunsRecord};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// A sandbox as it is known now.
#[derive(Debug, Clone, PartialEq)]
pub struct SandboxView {
    /// Its id.
    pub id: SandboxId,
    /// As asked for.
    pub config: Arc<SandboxConfig>,
    /// Derived from the facts.
    pub state: SandboxState,
    /// When it was made.
    pub created_at: Timestamp,
    /// Addresses, the primary one first; empty with the host's network.
    pub ips: Vec<IpAddr>,
    /// Its network namespace; `None`: the host's, or released.
    pub netns: Option<PathBuf>,
    /// Process id of its init, where the pod shares its PID namespace.
    pub init_pid: Option<u32>,
    /// Cgroup that its containers are in.
    pub cgroup_parent: String,
    /// What the pod takes beside its containers, as last told.
    pub overhead: Option<Resources>,
    /// Limits of the pod, as last told.
    pub resources: Option<Resources>,
}

/// A container as it is known now.
#[derive(Debug, Clone, PartialEq)]
pub struct ContainerView {
    /// Its id.
    pub id: ContainerId,
    /// Its sandbox.
    pub sandbox: SandboxId,
    /// As asked for.
    pub config: Arc<ContainerConfig>,
    /// Derived from the facts.
    pub state: ContainerState,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its program began; zero: not yet.
    pub started_at: Timestamp,
    /// When it ended; zero: not yet.
    pub finished_at: Timestamp,
    /// Exit code; 0 before the end.
    pub exit_code: i32,
    /// CRI's one word for the end: `Completed`, `Error`, `OOMKilled`, `StartError`, `Unknown`.
    pub reason: String,
    /// Why it could not start, or what else is to be said.
    pub message: String,
    /// Process id of its init on the host, while it runs.
    pub pid: Option<u32>,
    /// Id of the image: digest of its config.
    pub image_id: Digest,
    /// What status calls the image: first tag, else what the user wrote.
    pub image_name: String,
    /// First repository digest, else the id.
    pub image_ref: String,
    /// Absolute path of the log; `None`: no log.
    pub log_path: Option<PathBuf>,
    /// Who its process is.
    pub user: ResolvedUser,
    /// Limits in force.
    pub resources: Resources,
    /// Signal that StopContainer sends first.
    pub stop_signal: Signal,
    /// Absolute cgroup path.
    pub cgroup: String,
    /// Ids of the images that are its volumes, by their paths in it.
    pub volume_images: BTreeMap<PathBuf, String>,
    /// Its OCI bundle.
    pub bundle: PathBuf,
    /// How often its shim started it; `None`: its shim does nothing by itself.
    pub runs: Option<RunsRecord>,
    /// Its health; `None`: nobody looks.
    pub health: Option<HealthRecord>,
}

/// What a command in a container said and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutput {
    /// Standard output, cut at the cap.
    pub stdout: Vec<u8>,
    /// Standard error, cut at the cap.
    pub stderr: Vec<u8>,
    /// 0 to 255.
    pub exit_code: i32,
}
