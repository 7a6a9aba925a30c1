//! The configuration: defaults, then the file, then the command line. Every default works.

use crate::cli::{LogFormat, ServeArgs};
use crate::image_config::Images;
use crate::runtimes::ForeignRuntime;
use crate::{host, suggest};
use anyhow::{Context, bail};
use orlop_lifecycle::{ForeignHandler, Options as RuntimeOptions};
use orlop_network::NetworkConfig;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

const DEFAULT_FILE: &str = "/etc/orlop/orlop.toml";
/// `sun_path` less its closing NUL byte.
const MAX_SOCKET_PATH: usize = 107;
/// More sets of namespaces than a node has pods help nobody.
const MAX_POOL: usize = 1024;
const MAX_PLUGIN_SECONDS: u64 = 3600;

/// Everything that an operator can choose.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Durable state.
    pub(crate) root: PathBuf,
    /// Live state.
    pub(crate) run: PathBuf,
    /// CRI socket; `None`: `orlop.sock` in `run`.
    pub(crate) socket: Option<PathBuf>,
    /// The shim's program; `None`: `orlop-shim` beside this one.
    pub(crate) shim: Option<PathBuf>,
    /// Threads that answer calls.
    pub(crate) workers: usize,
    pub(crate) log: Log,
    pub(crate) cgroup: Cgroup,
    pub(crate) streaming: Streaming,
    pub(crate) runtime: Runtime,
    /// Runtime handlers whose containers run in shims of other makers, by name.
    pub(crate) runtimes: BTreeMap<String, ForeignRuntime>,
    pub(crate) network: Network,
    pub(crate) images: Images,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Log {
    /// A level or filter; `None`: the environment's RUST_LOG, else info.
    pub(crate) level: Option<String>,
    pub(crate) format: LogFormat,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Cgroup {
    /// `None`: systemd where it manages the host and cgroups are v2, else cgroupfs.
    pub(crate) driver: Option<CgroupDriver>,
    /// Parent of pods that name none; `None`: `/orlop`, or `orlop.slice` with systemd.
    pub(crate) default_parent: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CgroupDriver {
    Cgroupfs,
    Systemd,
}

/// Where clients of Exec, Attach and PortForward are served.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Streaming {
    /// A loopback address, since there is no encryption; port 0: any free one.
    pub(crate) address: std::net::SocketAddr,
}

impl Default for Streaming {
    fn default() -> Self {
        Self { address: (std::net::Ipv4Addr::LOCALHOST, 0).into() }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Runtime {
    /// Names of runtime handlers beside the empty one.
    pub(crate) handlers: Vec<String>,
    pub(crate) seccomp_dir: PathBuf,
    /// The CRIU program, which makes CheckpointContainer work; `None`: it answers FailedPrecondition.
    pub(crate) criu: Option<PathBuf>,
    /// Bytes of each stream that an ExecSync reply carries at most.
    pub(crate) exec_output_cap: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Network {
    pub(crate) conf_dir: PathBuf,
    pub(crate) bin_dirs: Vec<PathBuf>,
    pub(crate) cache_dir: PathBuf,
    /// `None`: `networks` in `cache_dir`.
    pub(crate) ipam_dir: Option<PathBuf>,
    /// Sets of namespaces that are kept ready.
    pub(crate) pool_size: usize,
    pub(crate) plugin_timeout_seconds: u64,
    pub(crate) bridge: Bridge,
}

/// The built-in network, used where `conf_dir` has no configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Bridge {
    pub(crate) enabled: bool,
    pub(crate) name: String,
    pub(crate) subnet: String,
    /// Empty: no IPv6.
    pub(crate) subnet6: String,
}

impl Default for Config {
    fn default() -> Self {
        let runtime = RuntimeOptions::default();
        Self {
            root: runtime.root,
            run: runtime.run,
            socket: None,
            shim: None,
            workers: 2,
            log: Log::default(),
            cgroup: Cgroup::default(),
            streaming: Streaming::default(),
            runtime: Runtime::default(),
            runtimes: BTreeMap::new(),
            network: Network::default(),
            images: Images::default(),
        }
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

    fn check(&self) -> anyhow::Result<()> {
        let (driver, parent) = (self.driver(), self.default_parent());
        let slice = driver == CgroupDriver::Systemd;
        if slice != parent.ends_with(".slice") || slice == parent.starts_with('/') {
            bail!(
                "cgroup.default_parent {parent:?} is not valid: use an absolute path with the cgroupfs driver, a name that ends in .slice with systemd"
            );
        }
        if self.driver == Some(CgroupDriver::Systemd)
            && let Err(lack) = host::systemd_manages_cgroups()
        {
            bail!("cgroup.driver \"systemd\" cannot work here: {lack}; use \"cgroupfs\"");
        }
        Ok(())
    }
}

impl Default for Runtime {
    fn default() -> Self {
        let options = RuntimeOptions::default();
        Self {
            handlers: options.handlers,
            seccomp_dir: options.seccomp_dir,
            criu: None,
            exec_output_cap: options.exec_output_cap,
        }
    }
}

impl Default for Network {
    fn default() -> Self {
        let network = NetworkConfig::default();
        Self {
            conf_dir: network.conf_dir,
            bin_dirs: network.bin_dirs,
            cache_dir: network.cache_dir,
            ipam_dir: None,
            pool_size: network.pool_size,
            plugin_timeout_seconds: network.plugin_timeout.as_secs(),
            bridge: Bridge::default(),
        }
    }
}

impl Default for Bridge {
    fn default() -> Self {
        let builtin = NetworkConfig::default().builtin;
        Self {
            enabled: builtin.enabled,
            name: builtin.bridge,
            subnet: builtin.subnet.to_string(),
            subnet6: builtin.subnet6.map(|subnet| subnet.to_string()).unwrap_or_default(),
        }
    }
}

impl Config {
    /// Reads the file, which may be absent only where none was named, and puts the flags on top.
    pub(crate) fn load(arguments: &ServeArgs) -> anyhow::Result<Self> {
        let mut config = match &arguments.config {
            Some(file) => Self::read(file)?,
            None => match Self::read(Path::new(DEFAULT_FILE)) {
                Err(error) if is_absent(&error) => Self::default(),
                read => read?,
            },
        };
        config.apply(arguments);
        config.check()?;
        Ok(config)
    }

    fn read(file: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("configuration file {} cannot be read", file.display()))?;
        Self::parse(&text).with_context(|| format!("configuration file {}", file.display()))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        toml::from_str(text).map_err(|error| {
            let hint = suggest::for_unknown_field(error.message());
            anyhow::anyhow!(
                "{}{}",
                error.to_string().trim_end(),
                hint.map(|h| format!("\n{h}")).unwrap_or_default()
            )
        })
    }

    fn apply(&mut self, arguments: &ServeArgs) {
        fn set<T: Clone>(to: &mut T, from: Option<&T>) {
            if let Some(from) = from {
                to.clone_from(from);
            }
        }
        set(&mut self.root, arguments.root.as_ref());
        set(&mut self.run, arguments.run.as_ref());
        set(&mut self.network.conf_dir, arguments.cni_conf_dir.as_ref());
        set(&mut self.network.cache_dir, arguments.cni_cache_dir.as_ref());
        set(&mut self.log.format, arguments.log_format.as_ref());
        if let Some(listen) = &arguments.listen {
            self.socket = Some(PathBuf::from(listen.strip_prefix("unix://").unwrap_or(listen)));
        }
        if arguments.shim.is_some() {
            self.shim.clone_from(&arguments.shim);
        }
        if arguments.log_level.is_some() {
            self.log.level.clone_from(&arguments.log_level);
        }
        if !arguments.cni_bin_dir.is_empty() {
            self.network.bin_dirs.clone_from(&arguments.cni_bin_dir);
        }
        self.images.insecure_registries.extend(arguments.insecure_registry.iter().cloned());
    }

    fn check(&self) -> anyhow::Result<()> {
        let socket = self.socket();
        for (name, path) in [("root", &self.root), ("run", &self.run), ("socket", &socket)] {
            if !path.is_absolute() {
                bail!("{name} {path:?} is not valid: use an absolute path");
            }
        }
        if self.root.starts_with(&self.run) || self.run.starts_with(&self.root) {
            bail!(
                "root {:?} and run {:?} are not valid: neither may lie in the other",
                self.root,
                self.run
            );
        }
        let length = socket.as_os_str().len();
        if length > MAX_SOCKET_PATH {
            bail!(
                "socket {socket:?} is not valid: its path has {length} bytes, at most {MAX_SOCKET_PATH} are possible"
            );
        }
        if !(1..=64).contains(&self.workers) {
            bail!("workers {} is not valid: use a number from 1 to 64", self.workers);
        }
        let address = self.streaming.address;
        if !address.ip().is_loopback() {
            bail!(
                "streaming.address {address} is not valid: use a loopback address, such as 127.0.0.1:0"
            );
        }
        let network = &self.network;
        if network.pool_size > MAX_POOL {
            let size = network.pool_size;
            bail!("network.pool_size {size} is not valid: use a number from 0 to {MAX_POOL}");
        }
        let seconds = network.plugin_timeout_seconds;
        if !(1..=MAX_PLUGIN_SECONDS).contains(&seconds) {
            bail!(
                "network.plugin_timeout_seconds {seconds} is not valid: use a number from 1 to {MAX_PLUGIN_SECONDS}"
            );
        }
        for (name, runtime) in &self.runtimes {
            if self.runtime.handlers.contains(name) || name.is_empty() {
                bail!("runtimes.{name:?} is not valid: the built-in runtime has that name");
            }
            runtime.check().with_context(|| format!("runtimes.{name} is not valid"))?;
        }
        self.cgroup.check()?;
        self.image_options().map(drop)
    }

    /// Where CRI is served.
    pub(crate) fn socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| self.run.join("orlop.sock"))
    }

    pub(crate) fn image_options(&self) -> anyhow::Result<orlop_image::Options> {
        self.images.options(&self.root)
    }

    pub(crate) fn network_config(&self) -> anyhow::Result<NetworkConfig> {
        let mut config = NetworkConfig::default();
        let network = &self.network;
        config.conf_dir.clone_from(&network.conf_dir);
        config.bin_dirs.clone_from(&network.bin_dirs);
        config.cache_dir.clone_from(&network.cache_dir);
        config.ipam_dir =
            network.ipam_dir.clone().unwrap_or_else(|| network.cache_dir.join("networks"));
        config.run_dir.clone_from(&self.run);
        config.pool_size = network.pool_size;
        config.plugin_timeout = Duration::from_secs(network.plugin_timeout_seconds);
        let (bridge, builtin) = (&network.bridge, &mut config.builtin);
        builtin.enabled = bridge.enabled;
        builtin.bridge.clone_from(&bridge.name);
        builtin.subnet = bridge
            .subnet
            .parse()
            .with_context(|| format!("network.bridge.subnet {:?} is not valid", bridge.subnet))?;
        builtin.subnet6 = match bridge.subnet6.as_str() {
            "" => None,
            text => Some(
                text.parse()
                    .with_context(|| format!("network.bridge.subnet6 {text:?} is not valid"))?,
            ),
        };
        Ok(config)
    }

    /// The handlers of other makers. Checked before, so that none is left out.
    pub(crate) fn foreign_handlers(&self) -> Vec<ForeignHandler> {
        let systemd = self.cgroup.driver() == CgroupDriver::Systemd;
        let all = self.runtimes.iter();
        all.filter_map(|(name, runtime)| runtime.handler(name, systemd).ok()).collect()
    }

    pub(crate) fn runtime_options(&self) -> RuntimeOptions {
        let runtime = &self.runtime;
        RuntimeOptions {
            root: self.root.clone(),
            run: self.run.clone(),
            default_cgroup_parent: self.cgroup.default_parent(),
            handlers: runtime.handlers.clone(),
            runtimes: self.foreign_handlers(),
            seccomp_dir: runtime.seccomp_dir.clone(),
            criu: runtime.criu.clone(),
            exec_output_cap: runtime.exec_output_cap,
            ..RuntimeOptions::default()
        }
    }
}

fn is_absent(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_needed() {
        assert_eq!(Config::parse("").unwrap(), Config::default());
        Config::default().check().unwrap();
        Config::default().network_config().unwrap();
    }

    #[test]
    fn defaults_survive_the_file() {
        let text = toml::to_string(&Config::default()).unwrap();
        assert_eq!(Config::parse(&text).unwrap(), Config::default());
    }

    #[test]
    fn unknown_keys_get_a_suggestion() {
        for (text, line, hint) in [
            ("rot = '/x'", "line 1", "did you mean \"root\"?"),
            ("\n[network]\nconfdir = '/x'", "line 3", "did you mean \"conf_dir\"?"),
            ("[image]\n", "line 1", "did you mean \"images\"?"),
        ] {
            let error = Config::parse(text).unwrap_err().to_string();
            assert!(error.contains(line) && error.contains(hint), "{error}");
        }
        let error = Config::parse("zzzzzzzz = 1").unwrap_err().to_string();
        assert!(!error.contains("did you mean"), "{error}");
    }

    #[test]
    fn refuses() {
        for (text, word) in [
            ("root = 'x'", "absolute"),
            ("root = '/run/orlop/x'", "neither may lie in the other"),
            ("workers = 0", "1 to 64"),
            ("[streaming]\naddress = '0.0.0.0:0'", "loopback"),
            ("[streaming]\naddress = 'localhost'", "socket address"),
            ("workers = 'two'", "line 1"),
            ("[network]\npool_size = 5000000000", "0 to 1024"),
            ("[network]\nplugin_timeout_seconds = 0", "1 to 3600"),
            ("[network]\nplugin_timeout_seconds = 9223372036854775807", "1 to 3600"),
            ("[cgroup]\ndriver = 'systemd'\ndefault_parent = '/x'", "default_parent"),
            ("[cgroup]\ndriver = 'cgroupfs'\ndefault_parent = 'x.slice'", "default_parent"),
            ("[cgroup]\ndriver = 'other'", "cgroupfs"),
            ("[runtimes.orlop]\npath = '/b'", "built-in"),
            ("[runtimes.x]\npath = 'b'", "absolute path"),
            ("[runtimes.x]\nkind = 'b'", "unknown field"),
            ("[runtimes.x]\ntype = 'runc'", "io.containerd"),
        ] {
            let error = match Config::parse(text) {
                Ok(config) => config.check().unwrap_err(),
                Err(error) => error,
            };
            assert!(error.to_string().contains(word), "{text}: {error}");
        }
        let long =
            Config { socket: Some(format!("/{}", "s".repeat(107)).into()), ..Default::default() };
        assert!(long.check().unwrap_err().to_string().contains("108 bytes"));
    }

    #[test]
    fn token_services_are_listed_by_registry() {
        let text = "[images.token_hosts]\n'r.example' = ['id.example', 'id.example:444']";
        let options = Config::parse(text).unwrap().image_options().unwrap();
        let listed = options.registry.token_hosts;
        let pair = |host: &str| ("r.example".to_owned(), host.to_owned());
        assert_eq!(listed, [pair("id.example"), pair("id.example:444")]);
    }

    #[test]
    fn flags_win() {
        let arguments = ServeArgs {
            root: Some("/r".into()),
            listen: Some("unix:///r2/s".to_owned()),
            cni_cache_dir: Some("/c".into()),
            ..Default::default()
        };
        let mut config = Config::parse("root = '/other'").unwrap();
        config.apply(&arguments);
        assert_eq!(config.root, Path::new("/r"));
        assert_eq!(config.socket(), Path::new("/r2/s"));
        assert_eq!(config.network_config().unwrap().ipam_dir, Path::new("/c/networks"));
    }
}
