//! What a spec is made from, beside the request itself: facts that the caller has looked up, so that
//! everything here stays pure.

use crate::request::{ContainerConfig, SandboxConfig};
use oci_spec::image::Config as ImageConfig;
use oci_spec::runtime::LinuxSeccomp;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Everything that [`crate::container_spec`] reads. Borrowed: no two specs share mutable state.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The pod.
    pub sandbox: &'a SandboxConfig,
    /// The container.
    pub container: &'a ContainerConfig,
    /// The `config` object of the image's configuration; `None` where the image has none.
    pub image: Option<&'a ImageConfig>,
    /// Who the process is, see [`crate::resolve_user`].
    pub user: &'a ResolvedUser,
    /// Where each namespace comes from.
    pub namespaces: &'a Namespaces,
    /// Files that the sandbox gives to its containers.
    pub files: &'a SandboxFiles,
    /// The pod's host name: for `HOSTNAME`. Never empty.
    pub hostname: &'a str,
    /// The container's cgroup: an absolute cgroupfs path, or `slice:prefix:name` for systemd.
    pub cgroups_path: &'a str,
    /// What this host can do.
    pub host: &'a HostFeatures,
    /// The profile for a seccomp request of RuntimeDefault or Localhost, already read and parsed.
    /// Ignored for Unconfined and for privileged containers; its absence otherwise is an error.
    pub seccomp: Option<&'a LinuxSeccomp>,
    /// Name of the AppArmor profile that RuntimeDefault stands for.
    pub apparmor_default: Option<&'a str>,
    /// SELinux labels, where the host enforces them.
    pub selinux: Option<&'a SelinuxLabels>,
    /// The layers of image volumes, top first, by their paths in the container.
    pub image_volumes: &'a BTreeMap<PathBuf, Vec<PathBuf>>,
    /// The request's devices, looked up on the host; for privileged containers all of the host's.
    pub devices: &'a [ResolvedDevice],
    /// The node's default resource limits; empty: those of the shim are inherited.
    pub rlimits: &'a [Rlimit],
}

/// A resource limit of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rlimit {
    /// `RLIMIT_NOFILE` and so on.
    pub kind: oci_spec::runtime::PosixRlimitType,
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// The limit that a name such as `nofile` means.
pub fn rlimit(name: &str) -> Option<oci_spec::runtime::PosixRlimitType> {
    let name = format!("RLIMIT_{}", name.to_uppercase());
    serde_json::from_value(serde_json::Value::String(name)).ok()
}

/// Who a process is, resolved once at creation and kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ResolvedUser {
    /// User id inside the container.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplemental groups; the primary group is always among them (CVE-2022-36109).
    pub additional_gids: Vec<u32>,
    /// Home directory from the image's passwd; empty: `/`.
    pub home: String,
}

/// Where one namespace of a container comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Namespace {
    /// The host's own: nothing is entered.
    #[default]
    Host,
    /// A new one for this container.
    New,
    /// An existing one, by its file.
    Path(PathBuf),
}

/// The namespaces of a container. The mount namespace is always new.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Namespaces {
    pub network: Namespace,
    pub ipc: Namespace,
    pub uts: Namespace,
    pub pid: Namespace,
    pub cgroup: Namespace,
    /// Any but the host's has the mappings of the sandbox's security settings.
    pub user: Namespace,
}

/// Files and directories on the host that a sandbox keeps for its containers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SandboxFiles {
    /// Bound to `/etc/hosts` unless the request mounts something there.
    pub hosts: Option<PathBuf>,
    /// Bound to `/etc/hostname`, likewise.
    pub hostname: Option<PathBuf>,
    /// Bound to `/etc/resolv.conf`, likewise.
    pub resolv_conf: Option<PathBuf>,
    /// Bound to `/dev/shm`; the host's own directory where the pod uses the host's ipc namespace.
    /// `None`: a tmpfs of the container's own.
    pub shm: Option<PathBuf>,
}

/// The cgroup hierarchy of a host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CgroupLayout {
    /// Only v1 controllers.
    V1,
    /// v1 controllers beside an empty unified hierarchy.
    Hybrid,
    /// Unified.
    #[default]
    V2,
}

/// What the host's kernel offers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostFeatures {
    /// cgroup hierarchy.
    pub cgroup: CgroupLayout,
    /// Swap is accounted (`memory.swap.max`, or `memory.memsw.*`); without it swap limits are left out.
    pub swap: bool,
    /// hugetlb controller; without it hugepage limits are left out.
    pub hugetlb: bool,
    /// AppArmor is enabled.
    pub apparmor: bool,
    /// `mount_setattr` with AT_RECURSIVE (Linux 5.12).
    pub recursive_read_only: bool,
    /// Id-mapped mounts (Linux 5.12).
    pub idmapped_mounts: bool,
    /// Capabilities that the daemon itself may hand on (`CAP_…`): what `ALL` and privileged stand for.
    /// Empty: every known one.
    pub capabilities: Vec<String>,
    /// Lowest oom_score_adj that the daemon may set; a smaller request is raised to it. `None`: any.
    pub min_oom_score_adj: Option<i32>,
}

/// Whole SELinux labels.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct SelinuxLabels {
    pub process: String,
    pub mount: String,
}

/// Kind of a device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum DeviceKind {
    Char,
    Block,
}

/// A device node of the host, looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ResolvedDevice {
    pub container_path: PathBuf,
    pub kind: DeviceKind,
    pub major: u32,
    pub minor: u32,
    /// Permission bits of the node.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Subset of `rwm`.
    pub permissions: String,
}
