//! What containers and pods use.
//!
//! A reading is a handful of small files of the container's cgroup, read by a few threads at once for
//! the whole node, without a lock and without asking the shim. A list is read in portions while the
//! client takes them, so that a client that goes away stops the rest.

mod door;
mod process;
mod rate;
mod read;
mod source;

pub use process::Processes;
pub(crate) use rate::CpuRate;
pub(crate) use read::{container_stats, sandbox_detail, sandbox_stats};
pub(crate) use source::READERS;
pub use source::Source;

use crate::container::Container;
use crate::context::Context;
use crate::sandbox::Sandbox;
use crate::{ContainerView, SandboxView};
pub use orlop_image::WritableUsage;
use orlop_model::{SandboxId, Timestamp};
pub use orlop_network::{InterfaceCounters, Traffic};
pub use orlop_sys::cgroup::{Detail, DeviceTraffic, Memory, Pressure, Sample, Stall};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

/// A container's use at one moment. One that has ended has no sample, but still a writable layer.
#[derive(Debug, Clone)]
pub struct ContainerStats {
    /// Whose.
    pub container: Arc<ContainerView>,
    /// When it was read.
    pub at: Timestamp,
    /// From its cgroup.
    pub sample: Sample,
    /// CPU use in billionths of a core since an earlier reading; `None`: there was none.
    pub nano_cores: Option<u64>,
    /// Its writable layer, with a time of its own.
    pub writable: Option<WritableUsage>,
}

/// A pod's use at one moment.
#[derive(Debug, Clone)]
pub struct SandboxStats {
    /// Whose.
    pub sandbox: Arc<SandboxView>,
    /// When it was read.
    pub at: Timestamp,
    /// From the pod's cgroup, or the sum over its containers where several pods share one.
    pub sample: Sample,
    /// As in [`ContainerStats`].
    pub nano_cores: Option<u64>,
    /// Its interfaces without the loopback; `None`: it has the host's network, or none any more.
    pub network: Option<Vec<InterfaceCounters>>,
    /// Processes in its containers.
    pub processes: u64,
    /// Those of its containers that have not ended.
    pub containers: Vec<ContainerStats>,
}

/// What the metrics of a container are made from.
#[derive(Debug, Clone)]
pub struct ContainerDetail {
    /// Its stats.
    pub stats: ContainerStats,
    /// More from its cgroup.
    pub detail: Detail,
    /// Its traffic with block devices, each with the device's name.
    pub devices: Vec<(String, DeviceTraffic)>,
    /// Its processes.
    pub processes: Processes,
}

/// What the metrics of a pod are made from.
#[derive(Debug, Clone)]
pub struct SandboxDetail {
    /// Whose.
    pub sandbox: Arc<SandboxView>,
    /// When it was read.
    pub at: Timestamp,
    /// As in [`SandboxStats`].
    pub network: Option<Vec<InterfaceCounters>>,
    /// Those of its containers that have not ended.
    pub containers: Vec<ContainerDetail>,
}

/// The file system that writable layers are on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerFs {
    /// A directory on it.
    pub mountpoint: PathBuf,
    /// The device, as the mount table has it.
    pub device: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Inodes in all, and those that are free.
    pub inodes: (u64, u64),
}

/// The file system of the image store now.
pub(crate) fn layer_fs(context: &Context) -> Option<LayerFs> {
    let root = context.images.root();
    let found = rustix::fs::statvfs(root).ok()?;
    let mounts = orlop_sys::mount::mount_table().unwrap_or_default();
    // Of several mounts above the directory the innermost; of several at one place the last.
    let above = mounts.iter().filter(|mount| root.starts_with(&mount.target));
    let mount = above.max_by_key(|mount| mount.target.components().count());
    Some(LayerFs {
        mountpoint: root.to_owned(),
        device: mount.map_or_else(String::new, |mount| mount.source.clone()),
        bytes: found.f_blocks.saturating_mul(found.f_frsize),
        inodes: (found.f_files, found.f_ffree),
    })
}

/// A sandbox with what its reading needs, looked up once for a whole list.
pub(crate) struct Pod {
    pub(crate) sandbox: Arc<Sandbox>,
    pub(crate) containers: Vec<Arc<Container>>,
    /// No other pod's containers are in its cgroup.
    pub(crate) alone: bool,
}

/// These sandboxes with their containers.
pub(crate) fn pods(context: &Context, sandboxes: Vec<Arc<Sandbox>>) -> Vec<Pod> {
    let mut users: HashMap<String, usize> = HashMap::new();
    for sandbox in context.index.all_sandboxes() {
        *users.entry(sandbox.view().cgroup_parent.clone()).or_default() += 1;
    }
    let mut containers: HashMap<SandboxId, Vec<Arc<Container>>> = HashMap::new();
    for container in context.index.all_containers() {
        if counts(&container) {
            containers.entry(container.sandbox.clone()).or_default().push(container);
        }
    }
    let pod = |sandbox: Arc<Sandbox>| Pod {
        containers: containers.remove(&sandbox.id).unwrap_or_default(),
        alone: users.get(&sandbox.view().cgroup_parent).is_none_or(|users| *users < 2),
        sandbox,
    };
    sandboxes.into_iter().map(pod).collect()
}

/// Whether a container is in lists of stats: until it ends.
pub(crate) fn counts(container: &Container) -> bool {
    container.state() != crate::ContainerState::Exited
}
