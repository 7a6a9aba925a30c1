//! What somebody typed, after parsing and before any image is looked at. One form for the command line,
//! the service and the record on disk; the meaning of each field is that of the flag it is named for.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

/// A container as asked for, by `run` or `create`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContainerSpec {
    /// Unique among containers; `None`: the engine draws one.
    pub name: Option<String>,
    /// Reference or id, as typed.
    pub image: String,
    /// `os/arch[/variant]`; `None`: the host's.
    pub platform: Option<String>,
    /// When to ask the registry.
    pub pull: PullPolicy,
    /// Replaces CMD where it is not empty; appended to an exec-form ENTRYPOINT.
    pub command: Vec<String>,
    /// Replaces ENTRYPOINT and drops CMD; `Some` of nothing: no entrypoint at all.
    pub entrypoint: Option<Vec<String>>,
    /// In order; a later one of the same name wins.
    pub env: Vec<(String, String)>,
    /// Returned unaltered.
    pub labels: BTreeMap<String, String>,
    /// Absolute; `None`: the image's.
    pub working_dir: Option<String>,
    /// `user[:group]`, names or numbers; `None`: the image's.
    pub user: Option<String>,
    /// Further groups, names or numbers.
    pub groups: Vec<String>,
    /// `None`: the first twelve characters of the id.
    pub hostname: Option<String>,
    /// NIS domain name.
    pub domainname: Option<String>,
    /// Give it a terminal.
    pub tty: bool,
    /// Keep standard input open.
    pub stdin: bool,
    /// Close standard input when the first client that is attached to it leaves.
    pub stdin_once: bool,
    /// Remove it, and its unnamed volumes, when it has ended.
    pub auto_remove: bool,
    /// Volumes, binds and the like.
    pub mounts: Vec<Mount>,
    /// The root cannot be written.
    pub read_only: bool,
    /// Where its network comes from.
    pub network: NetworkMode,
    /// Ports of the host.
    pub ports: Vec<Publish>,
    /// Give every exposed port one of the host's.
    pub publish_all: bool,
    /// Ports that it listens on, beside the image's.
    pub expose: Vec<(u16, Protocol)>,
    /// Name servers.
    pub dns: Vec<String>,
    /// Search domains.
    pub dns_search: Vec<String>,
    /// Resolver options.
    pub dns_options: Vec<String>,
    /// Lines for /etc/hosts: name and address; the address `host-gateway` is the host's on that network.
    pub extra_hosts: Vec<(String, String)>,
    /// Limits.
    pub resources: Resources,
    /// All capabilities, devices and none of the confinement.
    pub privileged: bool,
    /// Names with or without the `CAP_` prefix, or `ALL`.
    pub cap_add: Vec<String>,
    /// The same.
    pub cap_drop: Vec<String>,
    /// Confinement.
    pub security: Security,
    /// Devices of the host.
    pub devices: Vec<Device>,
    /// Namespaced sysctls.
    pub sysctls: BTreeMap<String, String>,
    /// `host`, `auto`, or empty.
    pub userns: String,
    /// `host`, `container:NAME`, or empty.
    pub pid: String,
    /// `host`, `container:NAME`, `private`, `shareable`, `none`, or empty.
    pub ipc: String,
    /// `host` or empty.
    pub uts: String,
    /// `host`, `private`, or empty.
    pub cgroupns: String,
    /// Parent cgroup; empty: the runtime's.
    pub cgroup_parent: String,
    /// RuntimeClass handler; empty: the built-in runtime.
    pub runtime: String,
    /// A small init as process 1 that reaps.
    pub init: bool,
    /// What happens when it ends.
    pub restart: RestartPolicy,
    /// Name or number; `None`: the image's, else SIGTERM.
    pub stop_signal: Option<String>,
    /// Seconds between the stop signal and SIGKILL; `None`: 10.
    pub stop_timeout: Option<u32>,
    /// How its health is looked at; `None`: the image's way.
    pub health: Option<Health>,
    /// A pod to join; `None`: one of its own.
    pub pod: Option<String>,
    /// Keep no log.
    pub no_log: bool,
}

/// When to ask the registry for an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PullPolicy {
    /// Where the image is not here.
    #[default]
    Missing,
    /// Each time.
    Always,
    /// Not at all.
    Never,
}

/// Where a container's network comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// The default bridge; containers on it do not know each other by name.
    #[default]
    Bridge,
    /// The host's.
    Host,
    /// Loopback only.
    None,
    /// That of another container, by name or id.
    Container(String),
    /// Networks that were made with `network create`, by name; at least one.
    Named(Vec<Endpoint>),
}

/// A container's place on a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Endpoint {
    /// Name of the network.
    pub network: String,
    /// Further names of the container there.
    pub aliases: Vec<String>,
    /// An address of its own choice.
    pub ip: Option<IpAddr>,
    /// The same for IPv6.
    pub ip6: Option<IpAddr>,
    /// Hardware address.
    pub mac: Option<String>,
}

/// Transport protocol of a port.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[allow(missing_docs)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    #[default]
    Tcp,
    Udp,
    Sctp,
}

/// A port of the host that leads to one of the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    /// `None`: every address of the host.
    pub host_ip: Option<IpAddr>,
    /// First and last port to choose from; `None`: any that is free.
    pub host_ports: Option<(u16, u16)>,
    /// Port in the container.
    pub container_port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
}

/// Something mounted in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// Absolute path in the container.
    pub target: PathBuf,
    /// What it is.
    pub source: MountSource,
    /// Whether it cannot be written.
    pub read_only: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum MountSource {
    /// A path of the host.
    Bind {
        /// Absolute.
        path: PathBuf,
        /// `-v` makes a directory where there is none, `--mount` refuses.
        create: bool,
        /// `private`, `rprivate`, `shared`, `rshared`, `slave`, `rslave`; empty: `rprivate`.
        propagation: String,
        /// Not what is mounted below it.
        non_recursive: bool,
        /// SELinux: give it the container's label; shared by several (`z`) or its own (`Z`).
        relabel: bool,
    },
    /// A volume.
    Volume {
        /// `None`: an unnamed one, made for this container.
        name: Option<String>,
        /// What the image has at that path is not copied into an empty volume.
        no_copy: bool,
        /// Path beneath the volume; empty: all of it.
        sub_path: String,
    },
    /// Memory.
    Tmpfs {
        /// Bytes; `None`: the kernel's default.
        size: Option<u64>,
        /// Octal mode; `None`: 1777.
        mode: Option<u32>,
        /// Further mount options, as typed with `--tmpfs`.
        options: Vec<String>,
    },
    /// An image, which cannot be written.
    Image {
        /// Reference or id.
        image: String,
        /// Path beneath its root; empty: all of it.
        sub_path: String,
    },
}

/// Limits; `None` is no limit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Resources {
    /// Bytes.
    pub memory: Option<u64>,
    /// Memory and swap together in bytes; −1: unlimited.
    pub memory_swap: Option<i64>,
    /// Soft limit in bytes.
    pub memory_reservation: Option<u64>,
    /// Thousand millionths of a CPU.
    pub nano_cpus: Option<u64>,
    /// Relative weight, 2 to 262144.
    pub cpu_shares: Option<u64>,
    /// CFS period in microseconds.
    pub cpu_period: Option<u64>,
    /// CFS quota in microseconds.
    pub cpu_quota: Option<i64>,
    /// CPU list.
    pub cpuset_cpus: String,
    /// Memory node list.
    pub cpuset_mems: String,
    /// Processes and threads; −1 and 0: no limit.
    pub pids: Option<i64>,
    /// Bytes of /dev/shm; `None`: 64 MiB.
    pub shm_size: Option<u64>,
    /// Block IO weight, 10 to 1000.
    pub blkio_weight: Option<u16>,
    /// −1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// The kernel does not kill it for want of memory (cgroup v1).
    pub oom_kill_disable: bool,
    /// Name (`nofile`), soft and hard limit.
    pub ulimits: Vec<(String, u64, u64)>,
}

/// Confinement: what `--security-opt` says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Security {
    /// `unconfined` or the path of a profile; `None`: the default profile.
    pub seccomp: Option<String>,
    /// `unconfined` or a loaded profile's name; `None`: the default profile.
    pub apparmor: Option<String>,
    /// SELinux `user:U`, `role:R`, `type:T`, `level:L`, `disable`.
    pub label: Vec<String>,
    /// No gain of privileges through execve.
    pub no_new_privileges: bool,
    /// `systempaths=unconfined`: nothing of /proc and /sys is masked.
    pub unmasked: bool,
}

/// A device node of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// On the host, or the name of a CDI device.
    pub host: String,
    /// In the container.
    pub container: String,
    /// Subset of `rwm`.
    pub permissions: String,
}

/// What happens when a container ends by itself. Kept by its shim, so that it holds with no daemon.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Nothing.
    #[default]
    No,
    /// It is started again.
    Always,
    /// It is started again, also after a boot unless it was stopped before.
    UnlessStopped,
    /// It is started again after a failure.
    OnFailure {
        /// So many times; 0: always.
        max: u32,
    },
}

/// How a container's health is looked at. Times in nanoseconds; 0 is the default, as in the image
/// configuration's `Healthcheck`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Health {
    /// `["NONE"]`, `["CMD", …]`, `["CMD-SHELL", line]`; empty: the image's.
    pub test: Vec<String>,
    /// Between two looks; 30 s.
    pub interval: u64,
    /// For one look; 30 s.
    pub timeout: u64,
    /// In which failures do not count.
    pub start_period: u64,
    /// Between two looks in that time; 5 s.
    pub start_interval: u64,
    /// Failures in a row that make it unhealthy; 3.
    pub retries: u32,
}

/// A network as asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkSpec {
    /// Unique.
    pub name: String,
    /// `bridge` (also where empty), `macvlan`, `ipvlan`.
    pub driver: String,
    /// `--opt`: `com.docker.network.bridge.name`, `…driver.mtu` and what else the driver knows.
    pub options: BTreeMap<String, String>,
    /// Returned unaltered.
    pub labels: BTreeMap<String, String>,
    /// Subnets with gateway and range; empty: one that is free.
    pub subnets: Vec<Subnet>,
    /// With IPv6.
    pub ipv6: bool,
    /// Nothing leaves it.
    pub internal: bool,
    /// Containers may be connected by hand; accepted, always so.
    pub attachable: bool,
}

/// One subnet of a network, in CIDR notation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Subnet {
    /// The whole.
    pub subnet: String,
    /// The bridge's address; empty: the first.
    pub gateway: String,
    /// Where addresses are taken from; empty: all of it.
    pub range: String,
}

/// A volume as asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VolumeSpec {
    /// Unique; empty: one is drawn.
    pub name: String,
    /// `local`, also where empty.
    pub driver: String,
    /// `type`, `device`, `o`, as mount(8) takes them.
    pub options: BTreeMap<String, String>,
    /// Returned unaltered.
    pub labels: BTreeMap<String, String>,
}

/// A command in a running container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExecSpec {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Beside the container's.
    pub env: Vec<(String, String)>,
    /// `None`: the container's.
    pub working_dir: Option<String>,
    /// `None`: the container's.
    pub user: Option<String>,
    /// Give it a terminal.
    pub tty: bool,
    /// Keep standard input open.
    pub stdin: bool,
    /// With all capabilities.
    pub privileged: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_survives_its_record() {
        let spec = ContainerSpec {
            image: "nginx".into(),
            network: NetworkMode::Named(vec![Endpoint {
                network: "n".into(),
                ..Endpoint::default()
            }]),
            restart: RestartPolicy::OnFailure { max: 3 },
            mounts: vec![Mount {
                target: "/data".into(),
                source: MountSource::Volume { name: None, no_copy: false, sub_path: String::new() },
                read_only: false,
            }],
            ..ContainerSpec::default()
        };
        let text = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<ContainerSpec>(&text).unwrap(), spec);
        assert_eq!(serde_json::from_str::<ContainerSpec>("{}").unwrap(), ContainerSpec::default());
        assert!(serde_json::from_str::<ContainerSpec>(r#"{"imag": "x"}"#).is_err());
    }
}
