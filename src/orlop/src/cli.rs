//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Deserialize;
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
    Serve(Box<ServeArgs>),
    /// Work with the images of this node, through its daemon or without one.
    Image(Box<crate::image::ImageArgs>),
    /// Print the version.
    Version,
}

/// Each flag wins over the configuration file.
#[derive(Debug, Default, Args)]
pub(crate) struct ServeArgs {
    /// Configuration file in TOML; without it /etc/orlop/orlop.toml is read where it exists.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Directory of durable state [default: /var/lib/orlop].
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Directory of live state, which a reboot must empty [default: /run/orlop].
    #[arg(long, value_name = "DIR")]
    pub(crate) run: Option<PathBuf>,
    /// Unix socket for CRI, as a path or unix:// address [default: orlop.sock in the run directory].
    #[arg(long, value_name = "SOCKET")]
    pub(crate) listen: Option<String>,
    /// The shim's program [default: orlop-shim beside this one].
    #[arg(long, value_name = "FILE")]
    pub(crate) shim: Option<PathBuf>,
    /// Directory of CNI configurations [default: /etc/cni/net.d].
    #[arg(long, value_name = "DIR")]
    pub(crate) cni_conf_dir: Option<PathBuf>,
    /// Directory of CNI plugins; may be given several times [default: /opt/cni/bin and /usr/lib/cni].
    #[arg(long, value_name = "DIR")]
    pub(crate) cni_bin_dir: Vec<PathBuf>,
    /// Directory of CNI results and addresses [default: /var/lib/cni].
    #[arg(long, value_name = "DIR")]
    pub(crate) cni_cache_dir: Option<PathBuf>,
    /// Registry that is spoken to in plain HTTP; may be given several times. Loopback always may be.
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) insecure_registry: Vec<String>,
    /// What is logged: error, warn, info, debug, trace, or a filter such as orlop_image=debug,info.
    #[arg(long, value_name = "FILTER")]
    pub(crate) log_level: Option<String>,
    /// Form of the log on standard error.
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
}

/// Form of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object for each line.
    Json,
}
