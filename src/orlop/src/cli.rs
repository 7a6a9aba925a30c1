//! The command line.

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Orlop: runs the pods of a Kubernetes node.
#[derive(Debug, Parser)]
#[command(name = "orlop", version, about, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build an image from a Dockerfile.
    Build(Box<crate::build::BuildArgs>),
    /// Run the daemon: CRI on a unix socket.
    Serve(Box<SettingArgs>),
    /// Print the configuration in force, and where each value came from.
    Config(Box<ConfigArgs>),
    /// Say what this host has and lacks for running pods; fails where pods cannot run.
    Check(Box<CheckArgs>),
    /// Work with the images of this node, through its daemon or without one.
    Image(Box<crate::image::ImageArgs>),
    /// Print the version.
    Version,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// Print a file with every key at its default, explained.
    #[arg(long, conflicts_with = "json")]
    pub(crate) default: bool,
    /// Print JSON: each key with value and origin.
    #[arg(long)]
    pub(crate) json: bool,
    /// Print docs/configuration.md.
    #[arg(long, hide = true)]
    pub(crate) reference: bool,
    #[command(flatten)]
    pub(crate) settings: SettingArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Show also what is as it should be.
    #[arg(long)]
    pub(crate) all: bool,
    /// Fail with status 3 where something lesser is lacking.
    #[arg(long)]
    pub(crate) strict: bool,
    #[command(flatten)]
    pub(crate) settings: SettingArgs,
}

/// Each flag wins over the configuration file.
#[derive(Debug, Default, Args)]
pub(crate) struct SettingArgs {
    /// Configuration file in TOML, with drop-ins in conf.d beside it; without this flag
    /// /etc/orlop/orlop.toml is read where it exists.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Directory of durable state [default: /var/lib/orlop].
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<String>,
    /// Directory of live state, which a reboot must empty [default: /run/orlop].
    #[arg(long, value_name = "DIR")]
    pub(crate) run: Option<String>,
    /// Unix socket for CRI, as a path or unix:// address [default: orlop.sock in the run directory].
    #[arg(long, value_name = "SOCKET")]
    pub(crate) listen: Option<String>,
    /// The shim's program [default: orlop-shim beside this one].
    #[arg(long, value_name = "FILE")]
    pub(crate) shim: Option<String>,
    /// Directory of CNI configurations [default: /etc/cni/net.d].
    #[arg(long, value_name = "DIR")]
    pub(crate) cni_conf_dir: Option<String>,
    /// Directory of CNI plugins; may be given several times [default: /opt/cni/bin and /usr/lib/cni].
    #[arg(long, value_name = "DIR")]
    pub(crate) cni_bin_dir: Vec<String>,
    /// Directory of CNI results and addresses [default: /var/lib/cni].
    #[arg(long, value_name = "DIR")]
    pub(crate) cni_cache_dir: Option<String>,
    /// Registry that is spoken to in plain HTTP; may be given several times. Loopback always may be.
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) insecure_registry: Vec<String>,
    /// What is logged: error, warn, info, debug, trace, or a filter such as orlop_image=debug,info.
    #[arg(long, value_name = "FILTER")]
    pub(crate) log_level: Option<String>,
    /// Form of the log on standard error: text or json.
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<String>,
}

impl SettingArgs {
    /// Each flag that was given, as flag, key and value.
    pub(crate) fn settings(&self) -> Vec<(&'static str, &'static str, toml::Value)> {
        let listen =
            self.listen.as_deref().map(|at| at.strip_prefix("unix://").unwrap_or(at).to_owned());
        let texts = [
            ("--root", "root", &self.root),
            ("--run", "run", &self.run),
            ("--listen", "socket", &listen),
            ("--shim", "shim", &self.shim),
            ("--cni-conf-dir", "network.conf_dir", &self.cni_conf_dir),
            ("--cni-cache-dir", "network.cache_dir", &self.cni_cache_dir),
            ("--log-level", "log.level", &self.log_level),
            ("--log-format", "log.format", &self.log_format),
        ];
        let lists = [
            ("--cni-bin-dir", "network.bin_dirs", &self.cni_bin_dir),
            ("--insecure-registry", "images.insecure_registries", &self.insecure_registry),
        ];
        let texts = texts
            .into_iter()
            .filter_map(|(flag, key, text)| Some((flag, key, text.as_deref()?.into())));
        let lists = lists
            .into_iter()
            .filter(|(_, _, list)| !list.is_empty())
            .map(|(flag, key, list)| (flag, key, list.clone().into()));
        texts.chain(lists).collect()
    }
}

/// Form of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object for each line.
    Json,
}
