//! Flags of `run` and `create`: what the container is.

use super::values;
use clap::{Args, ValueEnum};
use orlop_engine::spec::{Device, PullPolicy, RestartPolicy};
use std::path::PathBuf;

/// What `run` and `create` make.
#[derive(Debug, Default, Args)]
pub(crate) struct ContainerFlags {
    #[command(flatten)]
    pub(crate) what: WhatFlags,
    #[command(flatten)]
    pub(crate) process: ProcessFlags,
    #[command(flatten)]
    pub(crate) files: FileFlags,
    #[command(flatten)]
    pub(crate) network: NetworkFlags,
    #[command(flatten)]
    pub(crate) limits: LimitFlags,
    #[command(flatten)]
    pub(crate) confinement: ConfinementFlags,
    #[command(flatten)]
    pub(crate) life: LifeFlags,
    #[command(flatten)]
    pub(crate) health: HealthFlags,
    #[command(flatten)]
    pub(crate) refused: RefusedFlags,
}

/// `--pull`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pull {
    /// Each time.
    Always,
    /// Where the image is not here.
    #[default]
    Missing,
    /// Not at all.
    Never,
}

impl From<Pull> for PullPolicy {
    fn from(pull: Pull) -> Self {
        match pull {
            Pull::Always => Self::Always,
            Pull::Missing => Self::Missing,
            Pull::Never => Self::Never,
        }
    }
}

#[derive(Debug, Default, Args)]
pub(crate) struct WhatFlags {
    /// Name of the container [default: one is drawn].
    #[arg(long, value_name = "NAME", value_parser = values::name)]
    pub(crate) name: Option<String>,
    /// Label; may be given several times.
    #[arg(short, long, value_name = "NAME[=VALUE]", value_parser = values::label)]
    pub(crate) label: Vec<(String, String)>,
    /// File of labels, one a line.
    #[arg(long, value_name = "FILE")]
    pub(crate) label_file: Vec<PathBuf>,
    /// Platform of the image [default: the machine's].
    #[arg(
        long,
        value_name = "OS/ARCH[/VARIANT]",
        env = "DOCKER_DEFAULT_PLATFORM",
        hide_env = true
    )]
    pub(crate) platform: Option<String>,
    /// When to ask the registry for the image.
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    pub(crate) pull: Pull,
    /// Show no progress of a pull.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Write the container's id to a file, which must not be there yet.
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Option<PathBuf>,
    /// Runtime: a handler of the configuration [default: the built-in one].
    #[arg(long, value_name = "HANDLER")]
    pub(crate) runtime: Option<String>,
    /// Join the pod of this name, or make it: its containers share network, ports and host name.
    #[arg(long, value_name = "NAME", value_parser = values::name)]
    pub(crate) pod: Option<String>,
}

#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Process")]
pub(crate) struct ProcessFlags {
    /// Variable of the environment; without a value that of the caller.
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// File of variables, one a line.
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Keep standard input open.
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give it a terminal.
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Program instead of the image's ENTRYPOINT and CMD; empty for none.
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) entrypoint: Option<String>,
    /// Working directory.
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// User, and group, by name or number.
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
    /// Further group; may be given several times.
    #[arg(long, value_name = "GROUP")]
    pub(crate) group_add: Vec<String>,
    /// Run a small init as process 1, which passes signals on and reaps.
    #[arg(long)]
    pub(crate) init: bool,
    /// Where the log goes: json-file and local keep it for `orlop logs`, none keeps none.
    #[arg(long, value_name = "DRIVER", value_parser = log_driver)]
    pub(crate) log_driver: Option<String>,
}

fn log_driver(text: &str) -> Result<String, String> {
    match text {
        "json-file" | "local" | "none" => Ok(text.to_owned()),
        _ => Err(
            "expected json-file, local or none; a collector reads the files that `orlop inspect` \
                  names in LogPath"
                .into(),
        ),
    }
}

#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Files")]
pub(crate) struct FileFlags {
    /// Volume or directory of the host; may be given several times.
    #[arg(short, long, value_name = "[SOURCE:]TARGET[:OPTIONS]", value_parser = values::volume)]
    pub(crate) volume: Vec<values::Mounted>,
    /// The same in words: type=bind|volume|tmpfs|image,source=…,target=….
    #[arg(long, value_name = "MOUNT", value_parser = values::mount)]
    pub(crate) mount: Vec<values::Mounted>,
    /// Directory in memory; may be given several times.
    #[arg(long, value_name = "PATH[:OPTIONS]", value_parser = values::tmpfs)]
    pub(crate) tmpfs: Vec<values::Mounted>,
    /// The container's root cannot be written.
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Device of the host, or a CDI device; may be given several times.
    #[arg(long, value_name = "DEVICE", value_parser = values::device)]
    pub(crate) device: Vec<Device>,
    /// Size of /dev/shm [default: 64m].
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    pub(crate) shm_size: Option<u64>,
}

#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct NetworkFlags {
    /// bridge, host, none, container:NAME, or a network's name; several names for several networks.
    #[arg(long, visible_alias = "net", value_name = "NETWORK", value_parser = values::join)]
    pub(crate) network: Vec<values::Join>,
    /// Further name of the container on its network.
    #[arg(long, alias = "net-alias", value_name = "NAME", value_parser = values::name)]
    pub(crate) network_alias: Vec<String>,
    /// Address of the container on its network.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) ip: Option<std::net::Ipv4Addr>,
    /// The same for IPv6.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) ip6: Option<std::net::Ipv6Addr>,
    /// Hardware address of the container.
    #[arg(long, value_name = "ADDRESS", value_parser = values::mac)]
    pub(crate) mac_address: Option<String>,
    /// Port of the host for one of the container; may be given several times.
    #[arg(short, long, value_name = "[[IP:]HOST:]CONTAINER[/udp]", value_parser = values::publish)]
    pub(crate) publish: Vec<values::Published>,
    /// Give every exposed port one of the host.
    #[arg(short = 'P', long)]
    pub(crate) publish_all: bool,
    /// Port that the container listens on; may be given several times.
    #[arg(long, value_name = "PORT[/udp]", value_parser = values::expose)]
    pub(crate) expose: Vec<values::Exposed>,
    /// Host name [default: the start of the id].
    #[arg(short = 'h', long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,
    /// NIS domain name.
    #[arg(long, value_name = "NAME")]
    pub(crate) domainname: Option<String>,
    /// Line of /etc/hosts; host-gateway stands for the host.
    #[arg(long, value_name = "NAME:ADDRESS", value_parser = values::extra_host)]
    pub(crate) add_host: Vec<(String, String)>,
    /// Name server; may be given several times.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) dns: Vec<std::net::IpAddr>,
    /// Search domain; may be given several times.
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) dns_search: Vec<String>,
    /// Option of the resolver; may be given several times.
    #[arg(long, alias = "dns-opt", value_name = "OPTION")]
    pub(crate) dns_option: Vec<String>,
}

#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitFlags {
    /// What `update` can change too.
    #[command(flatten)]
    pub(crate) changeable: ResourceFlags,
    /// Block IO weight, 10 to 1000; 0 for none.
    #[arg(long, value_name = "WEIGHT", value_parser = clap::value_parser!(u16).range(0..=1000))]
    pub(crate) blkio_weight: Option<u16>,
    /// How soon the kernel kills it for want of memory, −1000 to 1000.
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true,
          value_parser = clap::value_parser!(i32).range(-1000..=1000))]
    pub(crate) oom_score_adj: Option<i32>,
    /// The kernel does not kill it for want of memory (cgroup v1 alone).
    #[arg(long)]
    pub(crate) oom_kill_disable: bool,
    /// Limit of its processes: nofile=1024:2048; may be given several times.
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = values::ulimit)]
    pub(crate) ulimit: Vec<(String, u64, u64)>,
    /// Cgroup above the container's.
    #[arg(long, value_name = "CGROUP")]
    pub(crate) cgroup_parent: Option<String>,
}

/// Limits that can change while a container runs.
#[derive(Debug, Default, Args)]
pub(crate) struct ResourceFlags {
    /// Memory: 512m, 2g.
    #[arg(short, long, value_name = "SIZE", value_parser = values::size)]
    pub(crate) memory: Option<u64>,
    /// Memory and swap together; −1 for no limit.
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true, value_parser = values::memory_swap)]
    pub(crate) memory_swap: Option<i64>,
    /// Memory that is left to it when memory is short.
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    pub(crate) memory_reservation: Option<u64>,
    /// CPUs: 2, 0.5.
    #[arg(long, value_name = "NUMBER", value_parser = values::cpus)]
    pub(crate) cpus: Option<u64>,
    /// Weight among others that want the CPU.
    #[arg(short, long, value_name = "WEIGHT")]
    pub(crate) cpu_shares: Option<u64>,
    /// Period of the CPU quota in microseconds.
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) cpu_period: Option<u64>,
    /// CPU time in a period in microseconds.
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true)]
    pub(crate) cpu_quota: Option<i64>,
    /// CPUs that it may use: 0-3, 0,1.
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_cpus: Option<String>,
    /// Memory nodes that it may use.
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_mems: Option<String>,
    /// Processes and threads; −1 for no limit.
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub(crate) pids_limit: Option<i64>,
}

#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Confinement")]
pub(crate) struct ConfinementFlags {
    /// Capability to add, or ALL; may be given several times.
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) cap_add: Vec<String>,
    /// Capability to drop, or ALL; may be given several times.
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) cap_drop: Vec<String>,
    /// All capabilities and devices, and none of the confinement.
    #[arg(long)]
    pub(crate) privileged: bool,
    /// seccomp=, apparmor=, label=, no-new-privileges, systempaths=unconfined; may be given several times.
    #[arg(long, value_name = "OPTION", value_parser = values::security_option)]
    pub(crate) security_opt: Vec<values::SecurityOption>,
    /// Kernel parameter of the container's namespaces; may be given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = values::pair)]
    pub(crate) sysctl: Vec<(String, String)>,
    /// User namespace: host, or auto for one of its own.
    #[arg(long, value_name = "MODE", value_parser = values::userns)]
    pub(crate) userns: Option<String>,
    /// PID namespace: host or container:NAME.
    #[arg(long, value_name = "MODE", value_parser = values::pid)]
    pub(crate) pid: Option<String>,
    /// IPC namespace: private, shareable, none, host or container:NAME.
    #[arg(long, value_name = "MODE", value_parser = values::ipc)]
    pub(crate) ipc: Option<String>,
    /// UTS namespace: host.
    #[arg(long, value_name = "MODE", value_parser = values::uts)]
    pub(crate) uts: Option<String>,
    /// Cgroup namespace: private or host.
    #[arg(long, value_name = "MODE", value_parser = values::cgroupns)]
    pub(crate) cgroupns: Option<String>,
}

#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Life")]
pub(crate) struct LifeFlags {
    /// Remove the container, and its unnamed volumes, when it has ended.
    #[arg(long)]
    pub(crate) rm: bool,
    /// What happens when it ends: no, always, unless-stopped, on-failure[:COUNT].
    #[arg(long, value_name = "POLICY", value_parser = values::restart)]
    pub(crate) restart: Option<RestartPolicy>,
    /// Signal that asks it to end [default: the image's, else SIGTERM].
    #[arg(long, value_name = "SIGNAL")]
    pub(crate) stop_signal: Option<String>,
    /// Seconds from that signal to SIGKILL; −1 waits without end [default: 10].
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true,
          value_parser = values::stop_timeout)]
    pub(crate) stop_timeout: Option<i32>,
}

#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Health")]
pub(crate) struct HealthFlags {
    /// Shell command that looks at the container's health.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) health_cmd: Option<String>,
    /// Time between two looks [default: 30s].
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub(crate) health_interval: Option<u64>,
    /// Time for one look [default: 30s].
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub(crate) health_timeout: Option<u64>,
    /// Time at the start in which failures do not count.
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub(crate) health_start_period: Option<u64>,
    /// Time between two looks at the start [default: 5s].
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub(crate) health_start_interval: Option<u64>,
    /// Failures in a row that make it unhealthy [default: 3].
    #[arg(long, value_name = "NUMBER")]
    pub(crate) health_retries: Option<u32>,
    /// Do not look, whatever the image says.
    #[arg(long)]
    pub(crate) no_healthcheck: bool,
}

/// Flags of Docker's that have no place here; each says what to do instead.
#[derive(Debug, Default, Args)]
pub(crate) struct RefusedFlags {
    #[arg(long, hide = true, value_name = "CARDS", value_parser = values::refuse_gpus)]
    gpus: Option<String>,
    #[arg(long, hide = true, value_name = "NAME", value_parser = values::refuse_link)]
    link: Vec<String>,
    #[arg(long, hide = true, value_name = "NAME", value_parser = refuse_volumes_from)]
    volumes_from: Vec<String>,
    #[arg(long, hide = true, value_name = "OPTION", value_parser = refuse_log_opt)]
    log_opt: Vec<String>,
    #[arg(long, hide = true, value_name = "RULE", value_parser = refuse_device_rule)]
    device_cgroup_rule: Vec<String>,
    /// Image signatures are a matter of the configuration; accepted as Docker does.
    #[arg(long, hide = true)]
    disable_content_trust: bool,
}

fn refuse_volumes_from(_: &str) -> Result<String, String> {
    Err("name what is shared instead: make a volume (orlop volume create NAME) and give it to both with \
         -v NAME:PATH"
        .into())
}

fn refuse_log_opt(_: &str) -> Result<String, String> {
    Err("logs have no options here; leave the flag out".into())
}

fn refuse_device_rule(_: &str) -> Result<String, String> {
    Err("rules for kinds of devices are not possible: name each device with --device".into())
}
