//! What a client asked for, after validation: types that cannot be wrong. `api` makes them from raw
//! CRI messages, `lifecycle` keeps them in its records, [`crate::generate`] turns them into an OCI
//! spec. Field by field they follow CRI v1; a rule that CRI states is a type here.

use orlop_model::Signal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

/// Labels or annotations: opaque to the runtime, returned unaltered.
pub type Map = BTreeMap<String, String>;

/// Who a pod sandbox is: all four together are its identity.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct SandboxMetadata {
    pub name: String,
    pub uid: String,
    pub namespace: String,
    pub attempt: u32,
}

/// A pod sandbox as asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SandboxConfig {
    /// Identity.
    pub metadata: SandboxMetadata,
    /// Host name of the pod; empty only for pods in the host's network namespace.
    pub hostname: String,
    /// Absolute directory for the containers' logs; `None`: no logs are written.
    pub log_directory: Option<PathBuf>,
    /// `None`: the host's resolv.conf.
    pub dns: Option<DnsConfig>,
    /// Host ports; never with the host's network.
    pub port_mappings: Vec<PortMapping>,
    /// Returned unaltered.
    pub labels: Map,
    /// Returned unaltered.
    pub annotations: Map,
    /// Absolute cgroup path in cgroupfs syntax, or a slice for the systemd driver; empty: the
    /// runtime's default parent.
    pub cgroup_parent: String,
    /// Namespaced sysctls, already checked against the namespaces the pod has of its own.
    pub sysctls: BTreeMap<String, String>,
    /// Namespaces, users, profiles.
    pub security: SandboxSecurity,
    /// Pod overhead, informational.
    pub overhead: Option<Resources>,
    /// Sum of the containers' resources, informational.
    pub resources: Option<Resources>,
    /// Runtime handler; empty: the default.
    pub runtime_handler: String,
    /// What CRI has no field for.
    #[serde(default)]
    pub extras: SandboxExtras,
}

/// Whose a pod is. Each sees only its own: a kubelet ends pods that it does not know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Owner {
    /// A client of CRI.
    #[default]
    Cri,
    /// The engine, for people.
    Engine,
}

/// What a pod's own network namespace is attached to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PodNetwork {
    /// What the node's CNI configuration says.
    #[default]
    Node,
    /// Nothing: it has loopback only.
    None,
    /// Networks of somebody's choice, an interface each.
    Places(Vec<NetworkPlace>),
}

/// An interface on a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkPlace {
    /// The network, as the text of a CNI configuration list.
    pub list: String,
    /// Name of the interface in the pod.
    pub interface: String,
    /// Addresses of its own choice.
    pub ips: Vec<IpAddr>,
    /// Hardware address.
    pub mac: Option<String>,
    /// Whether the pod's host ports lead here.
    pub ports: bool,
}

/// What the shim does for a container by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Supervise {
    /// When it is started again.
    pub restart: Restart,
    /// How its health is looked at; `None`: not at all.
    pub health: Option<HealthCheck>,
}

/// When a container that ended by itself is started again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Not at all.
    #[default]
    No,
    /// Each time.
    Always,
    /// After a failure.
    OnFailure {
        /// So many times; 0: without end.
        max: u32,
    },
}

/// A command that tells a container's health; times in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// Program and arguments; its status 0 is health.
    pub command: Vec<String>,
    /// Between two looks.
    pub interval: u64,
    /// For one look.
    pub timeout: u64,
    /// In which failures do not count.
    pub start_period: u64,
    /// Between two looks in that time.
    pub start_interval: u64,
    /// Failures in a row that make it unhealthy.
    pub retries: u32,
}

/// What a pod can have and CRI has no field for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SandboxExtras {
    /// Whose it is.
    pub owner: Owner,
    /// Bytes of /dev/shm; `None`: 64 MiB.
    pub shm_size: Option<u64>,
    /// NIS domain name; empty: as a new namespace has it.
    pub domainname: String,
    /// Further lines of /etc/hosts: name and address.
    pub hosts: Vec<(String, String)>,
    /// Further names of the pod itself in /etc/hosts.
    pub aliases: Vec<String>,
    /// The host's uts namespace also with a network of its own.
    pub host_uts: bool,
    /// What a network namespace of its own is attached to.
    pub network: PodNetwork,
}

/// What `resolv.conf` of a pod says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct DnsConfig {
    pub servers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

/// Transport protocol of a host port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

/// One host port; mappings with host port 0 are dropped by validation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct PortMapping {
    pub protocol: Protocol,
    pub container_port: u16,
    pub host_port: u16,
    /// `None`: every address of the host.
    pub host_ip: Option<IpAddr>,
}

/// Where a namespace comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NamespaceMode {
    /// One for the pod.
    Pod,
    /// One for each container (PID only).
    Container,
    /// The host's.
    Node,
    /// That of another container in the pod (PID only), by its id.
    Target(String),
}

/// Namespaces of a pod or container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct NamespaceOptions {
    /// Pod or Node.
    pub network: NamespaceMode,
    /// Any.
    pub pid: NamespaceMode,
    /// Pod or Node.
    pub ipc: NamespaceMode,
    /// `None`: the host's user namespace.
    pub user: Option<UserNamespace>,
}

/// A pod's own user namespace: one mapping of each kind that covers id 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct UserNamespace {
    pub uids: IdMapping,
    pub gids: IdMapping,
}

/// A run of ids: `container_id..container_id + length` is `host_id..` outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct IdMapping {
    pub container_id: u32,
    pub host_id: u32,
    pub length: u32,
}

/// A seccomp or AppArmor profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecurityProfile {
    /// The runtime's own default.
    RuntimeDefault,
    /// None.
    Unconfined,
    /// A file (seccomp, absolute path) or a loaded profile's name (AppArmor).
    Localhost(String),
}

/// SELinux label parts; empty parts are the policy's defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct SelinuxOptions {
    pub user: String,
    pub role: String,
    pub kind: String,
    pub level: String,
}

/// How supplemental groups of the image and of the request meet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupsPolicy {
    /// The image's groups and the listed ones.
    #[default]
    Merge,
    /// Only the listed ones.
    Strict,
}

/// Security of a sandbox; containers carry their own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct SandboxSecurity {
    pub namespaces: NamespaceOptions,
    pub selinux: Option<SelinuxOptions>,
    pub run_as_user: Option<u32>,
    pub run_as_group: Option<u32>,
    pub readonly_rootfs: bool,
    pub supplemental_groups: Vec<u32>,
    pub groups_policy: GroupsPolicy,
    pub privileged: bool,
    /// `None` is unconfined, as CRI says.
    pub seccomp: Option<SecurityProfile>,
    pub apparmor: Option<SecurityProfile>,
}

/// cgroup limits; `None` and empty mean "not set".
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Resources {
    /// CFS period in microseconds.
    pub cpu_period: Option<u64>,
    /// CFS quota in microseconds; negative: none.
    pub cpu_quota: Option<i64>,
    /// Relative weight, 2 to 262144.
    pub cpu_shares: Option<u64>,
    /// Memory limit in bytes.
    pub memory_limit: Option<i64>,
    /// Memory and swap together in bytes, −1: unlimited.
    pub memory_swap_limit: Option<i64>,
    /// −1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// CPU list, `0-3,7`.
    pub cpuset_cpus: String,
    /// Memory node list.
    pub cpuset_mems: String,
    /// (`2MB`, bytes).
    pub hugepage_limits: Vec<(String, u64)>,
    /// Raw cgroup v2 keys.
    pub unified: BTreeMap<String, String>,
    /// Processes and threads; CRI has no field for it, nor for those below.
    #[serde(default)]
    pub pids: Option<i64>,
    /// Soft limit of memory in bytes.
    #[serde(default)]
    pub memory_reservation: Option<i64>,
    /// Block IO weight, 10 to 1000.
    #[serde(default)]
    pub blkio_weight: Option<u16>,
    /// Not killed for want of memory, but stopped until there is some (cgroup v1).
    #[serde(default)]
    pub oom_kill_disable: bool,
}

/// Name and attempt of a container; unique in its sandbox.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ContainerMetadata {
    pub name: String,
    pub attempt: u32,
}

/// How a container names its image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSpec {
    /// What the client resolved: an id, or a reference.
    pub image: String,
    /// What the user wrote.
    pub user_specified: String,
    /// Returned unaltered.
    pub annotations: Map,
    /// Handler that the image was pulled for.
    pub runtime_handler: String,
}

/// How mounts travel between host and container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Propagation {
    #[default]
    Private,
    HostToContainer,
    Bidirectional,
}

/// What is mounted at a container path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// An absolute path on the host.
    Host(PathBuf),
    /// An image, read-only, from a path inside it.
    Image {
        /// Its name.
        image: ImageSpec,
        /// Path beneath the image's root; empty: all of it.
        sub_path: String,
    },
    /// Memory, with these mount options; CRI has no such mount.
    Tmpfs(Vec<String>),
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Mount {
    /// Absolute, cleaned.
    pub container_path: PathBuf,
    pub source: MountSource,
    pub readonly: bool,
    pub recursive_read_only: bool,
    pub selinux_relabel: bool,
    pub propagation: Propagation,
    pub uid_mappings: Vec<IdMapping>,
    pub gid_mappings: Vec<IdMapping>,
}

/// A device node of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Device {
    pub container_path: PathBuf,
    pub host_path: PathBuf,
    /// Subset of `rwm`.
    pub permissions: String,
}

/// Who a container's process is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunAsUser {
    /// A numeric uid.
    Id(u32),
    /// A name that the image's /etc/passwd must know.
    Name(String),
}

/// Capabilities as CRI asks: added to and dropped from the default set; `ALL` is honoured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct CapabilityRequest {
    /// Names with the `CAP_` prefix, or `ALL`; known ones only.
    pub add: Vec<String>,
    pub drop: Vec<String>,
    pub add_ambient: Vec<String>,
}

/// Security of a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ContainerSecurity {
    pub namespaces: NamespaceOptions,
    pub privileged: bool,
    pub capabilities: CapabilityRequest,
    pub selinux: Option<SelinuxOptions>,
    /// `None`: the image's user.
    pub run_as_user: Option<RunAsUser>,
    /// Only with `run_as_user`.
    pub run_as_group: Option<u32>,
    pub readonly_rootfs: bool,
    pub supplemental_groups: Vec<u32>,
    pub groups_policy: GroupsPolicy,
    pub no_new_privs: bool,
    pub masked_paths: Vec<String>,
    pub readonly_paths: Vec<String>,
    pub seccomp: Option<SecurityProfile>,
    pub apparmor: Option<SecurityProfile>,
}

/// A container as asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerConfig {
    /// Identity in its sandbox.
    pub metadata: ContainerMetadata,
    /// Its image.
    pub image: ImageSpec,
    /// Replaces the image's entrypoint and command.
    pub command: Vec<String>,
    /// Replaces the image's command.
    pub args: Vec<String>,
    /// Empty: the image's, else `/`.
    pub working_dir: String,
    /// Values are bytes since CRI 1.36; a later duplicate wins.
    pub envs: Vec<(String, Vec<u8>)>,
    /// Volumes.
    pub mounts: Vec<Mount>,
    /// Devices.
    pub devices: Vec<Device>,
    /// CDI device names.
    pub cdi_devices: Vec<String>,
    /// Returned unaltered.
    pub labels: Map,
    /// Returned unaltered.
    pub annotations: Map,
    /// Relative path under the sandbox's log directory; `None`: no log.
    pub log_path: Option<PathBuf>,
    /// Keep standard input open.
    pub stdin: bool,
    /// Close standard input after the first attach detaches.
    pub stdin_once: bool,
    /// Give it a terminal.
    pub tty: bool,
    /// Limits.
    pub resources: Resources,
    /// Security.
    pub security: ContainerSecurity,
    /// `None`: the image's stop signal, else SIGTERM.
    pub stop_signal: Option<Signal>,
    /// What CRI has no field for.
    #[serde(default)]
    pub extras: ContainerExtras,
}

/// What a container can have and CRI has no field for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerExtras {
    /// Whose it is: its pod's owner.
    pub owner: Owner,
    /// A writable layer that is somebody else's and outlives the container.
    pub layer: Option<BorrowedLayer>,
    /// `user[:group]` as in an image's USER, in its stead; only without `run_as_user`.
    pub user: Option<String>,
    /// Further groups, by names of the image or numbers.
    pub groups: Vec<String>,
    /// Name (`nofile`), soft and hard limit.
    pub ulimits: Vec<(String, u64, u64)>,
    /// The cgroup namespace; `None`: one of its own where the host's cgroups are unified and the
    /// container is not privileged.
    pub own_cgroup_namespace: Option<bool>,
    /// An ipc namespace and /dev/shm (of these bytes) of its own, not the pod's.
    pub own_ipc: Option<u64>,
    /// A small init as process 1, which reaps and passes signals on.
    pub init: bool,
    /// What its shim does by itself; `None`: nothing. Not in somebody else's shim.
    pub supervise: Option<Supervise>,
}

/// A writable layer that a container uses and does not remove.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BorrowedLayer {
    /// Its key in the image store.
    pub key: String,
    /// What is written need not outlive the boot: the end of the container does not wait for the disk.
    pub volatile: bool,
}
