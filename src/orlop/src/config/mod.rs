//! The configuration: what an operator can choose, read from files, environment and flags.
//!
//! [`Config`] and its sections are declared with [`settings!`], one line for each key: adding a key
//! there is all that it takes to have it read, validated, shown by `orlop config` and written down
//! in `docs/configuration.md` (`orlop config --reference` prints that file). What depends on several
//! keys is in `check.rs`; what becomes of a key is in `options.rs`.

mod check;
mod load;
mod options;
mod problem;
mod reference;
pub(crate) mod schema;
mod show;
pub(crate) mod value;

pub(crate) use load::{Loaded, Sources};
pub(crate) use show::run as command;

use crate::cli::LogFormat;
use crate::host;
use crate::image_config::Images;
use crate::runtimes::ForeignRuntime;
use ipnet::IpNet;
use orlop_lifecycle::Options as RuntimeOptions;
use orlop_network::NetworkConfig;
use schema::{Named, Sub, settings};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use value::{Size, Span, words};

settings! {
    /// Everything that an operator can choose. Every default works with no file at all.
    pub(crate) struct Config {
        /// Directory of durable state: images, records, writable layers.
        root: PathBuf = RuntimeOptions::default().root;
        /// Directory of live state, on a file system that a reboot empties.
        run: PathBuf = RuntimeOptions::default().run;
        /// Unix socket that CRI is served on; without it `orlop.sock` in the run directory.
        socket: Option<PathBuf> = None;
        /// The shim's program; without it `orlop-shim` beside the program `orlop`.
        shim: Option<PathBuf> = None;
        /// Threads that answer calls, from 1 to 64.
        workers: usize = 2, check |n| range(*n, 1, 64);
        /// The daemon's own log, on standard error.
        log: Sub<Log> = Sub::default();
        /// Control groups.
        cgroup: Sub<Cgroup> = Sub::default();
        /// The server that clients of Exec, Attach and PortForward are sent to.
        streaming: Sub<Streaming> = Sub::default();
        /// Containers.
        runtime: Sub<Runtime> = Sub::default();
        /// Runtime handlers whose containers run in shims of other makers, by name.
        runtimes: Named<ForeignRuntime> = Named::default();
        /// Networks of pods.
        network: Sub<Network> = Sub::default();
        /// Images and registries.
        images: Sub<Images> = Sub::default();
        /// Builds of images.
        build: Sub<Build> = Sub::default();
        /// Metrics in Prometheus' format.
        metrics: Sub<Metrics> = Sub::default();
        /// Traces in OpenTelemetry's format.
        traces: Sub<Traces> = Sub::default();
    }
}

settings! {
    /// The daemon's own log.
    pub(crate) struct Log {
        /// What is logged: error, warn, info, debug, trace, or a filter such as
        /// `orlop_image=debug,info`. The variable RUST_LOG is used where neither file nor flag says
        /// anything.
        level: String = "info".into(), check |text| crate::logging::check_filter(text) => reload;
        /// Form of the log: lines for people, or one JSON object for each line.
        format: LogFormat = LogFormat::Text;
    }
}

settings! {
    /// Control groups.
    pub(crate) struct Cgroup {
        /// Who makes the groups of pods; must be what the kubelet uses. Without it systemd where it
        /// manages the host and cgroups are version 2, else cgroupfs.
        driver: Option<CgroupDriver> = None;
        /// Parent of pods that name none: an absolute path with the cgroupfs driver, a name that
        /// ends in `.slice` with systemd. Without it `/orlop` or `orlop.slice`.
        default_parent: Option<String> = None;
    }
}

settings! {
    /// Builds of images.
    pub(crate) struct Build {
        /// How much disk the steps and cache mounts of builds may take together, from 0; what was
        /// not used for longest goes first.
        cache_size: Size = Size(20 << 30);
    }
}

settings! {
    /// The server that clients of Exec, Attach and PortForward are sent to.
    pub(crate) struct Streaming {
        /// A loopback address, since there is no encryption; with port 0 any that is free.
        address: SocketAddr = (std::net::Ipv4Addr::LOCALHOST, 0).into(),
            check |address| loopback(*address);
    }
}

settings! {
    /// Containers.
    pub(crate) struct Runtime {
        /// Names of runtime handlers beside the empty one that mean the built-in runtime.
        handlers: Vec<String> = RuntimeOptions::default().handlers;
        /// Directory that relative Localhost seccomp profiles are in.
        seccomp_dir: PathBuf = RuntimeOptions::default().seccomp_dir;
        /// The CRIU program, which makes CheckpointContainer work; without it that call answers
        /// FailedPrecondition.
        criu: Option<PathBuf> = None;
        /// How much of each stream an ExecSync reply carries at most; from 1 KiB to 16 MiB.
        exec_output_cap: Size = Size(RuntimeOptions::default().exec_output_cap as u64),
            check |size| in_sizes(*size, 1 << 10, 16 << 20);
    }
}

settings! {
    /// Networks of pods.
    pub(crate) struct Network {
        /// Directory of CNI configurations.
        conf_dir: PathBuf = NetworkConfig::default().conf_dir;
        /// Directories of CNI plugins, in the order in which they are looked through.
        bin_dirs: Vec<PathBuf> = NetworkConfig::default().bin_dirs;
        /// Directory of CNI results.
        cache_dir: PathBuf = NetworkConfig::default().cache_dir;
        /// Directory of addresses in use; without it `networks` in the directory of results.
        ipam_dir: Option<PathBuf> = None;
        /// Sets of namespaces that are kept ready, from 0 to 1024.
        pool_size: usize = NetworkConfig::default().pool_size, check |n| range(*n, 0, MAX_POOL);
        /// How long one executed CNI plugin may run, from 1 s to 1 h.
        plugin_timeout: Span = Span(NetworkConfig::default().plugin_timeout),
            check |span| in_times(*span, Duration::from_secs(1), Duration::from_secs(3600));
        /// The built-in network, used where the directory of CNI configurations has none.
        bridge: Sub<Bridge> = Sub::default();
    }
}

settings! {
    /// The built-in network.
    pub(crate) struct Bridge {
        /// Whether pods get this network; otherwise the node waits for a CNI configuration.
        enabled: bool = NetworkConfig::default().builtin.enabled;
        /// Name of the bridge device, from 1 to 15 characters.
        name: String = NetworkConfig::default().builtin.bridge, check |name| device_name(name);
        /// IPv4 subnet of pods; the bridge has its first address.
        subnet: IpNet = NetworkConfig::default().builtin.subnet, check |net| family(*net, true);
        /// IPv6 subnet of pods.
        subnet6: Option<IpNet> = NetworkConfig::default().builtin.subnet6,
            check |net| net.map_or(Ok(()), |net| family(net, false));
    }
}

settings! {
    /// Metrics in Prometheus' format.
    pub(crate) struct Metrics {
        /// Where `http://ADDRESS/metrics` is served, to anybody who can reach it; use a loopback
        /// address, such as `127.0.0.1:9400`, or one that only the scraper reaches. Off without it.
        address: Option<SocketAddr> = None => reload;
    }
}

settings! {
    /// Traces in OpenTelemetry's format.
    pub(crate) struct Traces {
        /// Collector that traces are sent to over OTLP/gRPC, such as `http://127.0.0.1:4317`. Off
        /// without it.
        endpoint: Option<String> = None, check |endpoint| collector(endpoint.as_deref());
        /// How many of a hundred calls are traced. A client that traces its call decides for itself.
        sampled_percent: u32 = 100, check |n| range(*n as usize, 0, 100);
    }
}

impl Cgroup {
    /// The driver in use.
    pub(crate) fn driver(&self) -> CgroupDriver {
        self.driver.unwrap_or_else(|| match host::systemd_manages_cgroups() {
            Ok(()) => CgroupDriver::Systemd,
            Err(_) => CgroupDriver::Cgroupfs,
        })
    }

    /// The parent in use.
    pub(crate) fn default_parent(&self) -> String {
        self.default_parent.clone().unwrap_or_else(|| match self.driver() {
            CgroupDriver::Cgroupfs => RuntimeOptions::default().default_cgroup_parent,
            CgroupDriver::Systemd => "orlop.slice".to_owned(),
        })
    }
}

/// Who makes the control groups of pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CgroupDriver {
    /// We do, by their files.
    Cgroupfs,
    /// systemd does.
    Systemd,
}

words!(CgroupDriver { "cgroupfs" => Cgroupfs, "systemd" => Systemd });
words!(LogFormat { "text" => Text, "json" => Json });

/// More sets of namespaces than a node has pods help nobody.
const MAX_POOL: usize = 1024;

pub(crate) fn range(number: usize, least: usize, most: usize) -> Result<(), String> {
    let inside = (least..=most).contains(&number);
    inside.then_some(()).ok_or_else(|| format!("use a number from {least} to {most}, not {number}"))
}

fn loopback(address: SocketAddr) -> Result<(), String> {
    let inside = address.ip().is_loopback();
    inside
        .then_some(())
        .ok_or_else(|| format!("use a loopback address, such as \"127.0.0.1:0\", not {address}"))
}

/// A collector without TLS: it is meant to be on the node.
fn collector(endpoint: Option<&str>) -> Result<(), String> {
    let Some(endpoint) = endpoint else { return Ok(()) };
    let place = endpoint.strip_prefix("http://").map(|place| place.trim_end_matches('/'));
    let fits = place.and_then(|place| place.rsplit_once(':')).is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains(['/', '@', ' ']) && port.parse::<u16>().is_ok()
    });
    fits.then_some(()).ok_or_else(|| {
        format!("use http://HOST:PORT, such as \"http://127.0.0.1:4317\", not {endpoint:?}")
    })
}

fn in_sizes(size: Size, least: u64, most: u64) -> Result<(), String> {
    between(&size, &Size(least), &Size(most))
}

fn in_times(span: Span, least: Duration, most: Duration) -> Result<(), String> {
    between(&span, &Span(least), &Span(most))
}

fn between<T: schema::Setting + PartialOrd>(value: &T, least: &T, most: &T) -> Result<(), String> {
    let text = |value: &T| value.show().map(|shown| shown.to_string()).unwrap_or_default();
    let inside = value >= least && value <= most;
    inside.then_some(()).ok_or_else(|| {
        format!("use a value from {} to {}, not {}", text(least), text(most), text(value))
    })
}

/// What the kernel takes for a network device.
fn device_name(name: &str) -> Result<(), String> {
    let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if name.is_empty() || name.len() > 15 || name.contains(bad) || name == "." || name == ".." {
        return Err("use a name of 1 to 15 bytes without space, slash and colon".into());
    }
    Ok(())
}

/// Whether a subnet is of the family and has room for a bridge and a pod.
fn family(net: IpNet, v4: bool) -> Result<(), String> {
    if matches!(net, IpNet::V4(_)) != v4 {
        return Err(format!("use an IPv{} subnet, not {net}", if v4 { 4 } else { 6 }));
    }
    if net.max_prefix_len() - net.prefix_len() < 2 {
        return Err(format!("use a larger subnet than {net}: it has no room for pods"));
    }
    Ok(())
}
