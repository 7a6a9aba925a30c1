//! The facts that the child needs, and nothing else: what the spec says, checked and translated.

use super::error::{Result, StageError, Step};
use crate::hooks::Hook;
use orlop_sys::process::IdMap;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Everything for one staged process.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Plan {
    /// The container's own set-up; none for an exec in a running container.
    pub(super) container: Option<Container>,
    /// No workload: reap as process 1.
    pub(super) init_only: bool,
    /// Reap as process 1, with the workload as a child.
    pub(super) reaper: bool,
    /// A new terminal, with rows and columns.
    pub(super) terminal: Option<(u16, u16)>,
    /// The process.
    pub(super) process: Process,
}

/// The set-up of a container.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Container {
    pub(super) rootfs: Rootfs,
    pub(super) root_readonly: bool,
    pub(super) root_propagation: Option<Propagation>,
    pub(super) mounts: Vec<Mount>,
    /// Whether `/dev` gets nodes: not when it is bound from the host.
    pub(super) populate_dev: bool,
    pub(super) devices: Vec<Device>,
    pub(super) hostname: Option<String>,
    pub(super) domainname: Option<String>,
    pub(super) sysctls: Vec<(String, String)>,
    pub(super) masked: Vec<PathBuf>,
    pub(super) readonly: Vec<PathBuf>,
    /// A user namespace of its own: device nodes are among what the shim made.
    pub(super) user_namespace: bool,
    /// A cgroup namespace of its own, made once it is in its cgroup.
    pub(super) cgroup_namespace: bool,
    /// Its groups, as a `cgroup` mount shows them.
    pub(super) cgroups: Vec<CgroupView>,
    /// Hooks that run once the root stands and before it is entered; `None`: no hook at all runs then.
    pub(super) hooks: Option<Vec<Hook>>,
}

/// Where the root comes from.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) enum Rootfs {
    /// Nothing but an empty, read-only directory (the sandbox's init).
    #[default]
    Empty,
    /// A directory or mount.
    Bind { source: PathBuf, attributes: Attributes },
    /// Layers, top first.
    Overlay {
        lowers: Vec<PathBuf>,
        upper: Option<(PathBuf, PathBuf)>,
        options: Vec<String>,
        attributes: Attributes,
        #[serde(skip)]
        ids: LayerIds,
    },
    /// Any other file system.
    Other { kind: String, source: String, options: Vec<String>, attributes: Attributes },
    /// A mount that the shim made (user namespaces), by descriptor number.
    Made { number: i32 },
}

/// Whose ids the layers of an overlay have in a container with a user namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum LayerIds {
    /// The host's: they were chosen when the layers were made.
    #[default]
    Host,
    /// The layers below have the container's, with these maps in mount options' words; the writable one
    /// has the host's.
    Lowers { uids: String, gids: String },
    /// All have the container's.
    Container,
}

impl LayerIds {
    pub(super) fn with_uids(self, map: &str) -> Self {
        let gids = if let Self::Lowers { gids, .. } = self { gids } else { String::new() };
        Self::Lowers { uids: map.to_owned(), gids }
    }

    pub(super) fn with_gids(self, map: &str) -> Self {
        let uids = if let Self::Lowers { uids, .. } = self { uids } else { String::new() };
        Self::Lowers { uids, gids: map.to_owned() }
    }
}

/// Maps of users and groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct IdMaps {
    pub(super) uids: Vec<IdMap>,
    pub(super) gids: Vec<IdMap>,
}

impl IdMaps {
    pub(super) fn is_empty(&self) -> bool {
        self.uids.is_empty() && self.gids.is_empty()
    }

    /// What user and group 0 are outside.
    pub(super) fn root(&self) -> Option<(u32, u32)> {
        let root = |maps: &[IdMap]| {
            maps.iter().find(|map| map.inside == 0 && map.count > 0).map(|map| map.outside)
        };
        root(&self.uids).zip(root(&self.gids))
    }

    /// Refuses layers whose mount options name other maps.
    pub(super) fn check(&self, uids: &str, gids: &str) -> Result<()> {
        let text = |maps: &[IdMap]| {
            let lines =
                maps.iter().map(|map| format!("{}:{}:{}", map.inside, map.outside, map.count));
            lines.collect::<Vec<_>>().join(",")
        };
        if (uids, gids) == (&text(&self.uids), &text(&self.gids)) {
            return Ok(());
        }
        let cause = "its uidmap and gidmap are not those of the container: give the same";
        Err(StageError::refuse(Step::Rootfs, format!("uidmap={uids},gidmap={gids}"), cause))
    }
}

/// That the owners of a mount are mapped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Idmap {
    /// Empty: those of the container.
    pub(super) maps: IdMaps,
    /// Of what is mounted below, too.
    pub(super) recursive: bool,
}

/// Bits to set and to clear.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Attributes {
    pub(super) set: u64,
    pub(super) clear: u64,
}

impl From<Attributes> for orlop_sys::mount::Attributes {
    fn from(Attributes { set, clear }: Attributes) -> Self {
        Self { set, clear }
    }
}

impl From<orlop_sys::mount::Attributes> for Attributes {
    fn from(attributes: orlop_sys::mount::Attributes) -> Self {
        Self { set: attributes.set, clear: attributes.clear }
    }
}

/// How mounts below spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Propagation {
    Private,
    Slave,
    Shared,
    Unbindable,
}

impl From<Propagation> for orlop_sys::mount::Propagation {
    fn from(propagation: Propagation) -> Self {
        match propagation {
            Propagation::Private => Self::Private,
            Propagation::Slave => Self::Slave,
            Propagation::Shared => Self::Shared,
            Propagation::Unbindable => Self::Unbindable,
        }
    }
}

/// One mount of the spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mount {
    pub(super) target: PathBuf,
    pub(super) kind: MountKind,
    /// For the mount itself.
    pub(super) attributes: Attributes,
    /// For it and all below.
    pub(super) recursive: Attributes,
    pub(super) propagation: Option<(Propagation, bool)>,
    #[serde(skip)]
    pub(super) idmap: Option<Idmap>,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum MountKind {
    Bind {
        source: PathBuf,
        recursive: bool,
    },
    /// A bind that the shim prepared, by descriptor number.
    Made {
        source: PathBuf,
        number: i32,
    },
    /// The container's own control groups.
    Cgroup,
    /// A new file system with its options.
    New {
        kind: String,
        source: String,
        options: Vec<String>,
    },
}

/// One hierarchy of a cgroup v1 host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CgroupView {
    /// Its directory under `/sys/fs/cgroup` in the container; empty on v2.
    pub(super) name: String,
    /// Further names, as links: `cpu` for `cpu,cpuacct`.
    pub(super) links: Vec<String>,
    /// The container's group on the host.
    pub(super) host: PathBuf,
    /// Where the shim made a mount of it (user namespaces), its descriptor number.
    pub(super) number: Option<i32>,
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Device {
    pub(super) path: PathBuf,
    /// `b`, `c` or `p`.
    pub(super) kind: char,
    pub(super) major: u32,
    pub(super) minor: u32,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// The workload, or a further process.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Process {
    pub(super) args: Vec<String>,
    pub(super) env: Vec<String>,
    pub(super) cwd: PathBuf,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
    pub(super) umask: u32,
    pub(super) capabilities: Capabilities,
    /// Kernel number, soft, hard.
    pub(super) rlimits: Vec<(String, u64, u64)>,
    pub(super) no_new_privileges: bool,
    pub(super) apparmor: Option<String>,
    pub(super) selinux: Option<String>,
    /// Whether a filter follows the plan, and its flags.
    pub(super) seccomp: Option<u32>,
    pub(super) treatment: Treatment,
}

/// How the kernel treats the process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Treatment {
    pub(super) personality: Option<u32>,
    pub(super) scheduling: Option<Scheduling>,
    /// Class and level.
    pub(super) io_priority: Option<(u32, u32)>,
    /// Processors until the exec is due.
    pub(super) first_cpus: Vec<u32>,
    /// Processors of the program.
    pub(super) cpus: Vec<u32>,
}

/// The fields of [`orlop_sys::process::Scheduling`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Scheduling {
    pub(super) policy: u32,
    pub(super) flags: u64,
    pub(super) nice: i32,
    pub(super) priority: u32,
    pub(super) runtime: u64,
    pub(super) deadline: u64,
    pub(super) period: u64,
}

/// Capability sets, bit by bit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Capabilities {
    pub(super) bounding: u64,
    pub(super) permitted: u64,
    pub(super) effective: u64,
    pub(super) inheritable: u64,
    pub(super) ambient: u64,
}
