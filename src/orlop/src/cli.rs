//! The command line: every command by its name. The forms of what people type about containers and images
//! are in `args`.

use crate::args::{FormatFlag, ListFlags, containers, images, networks, system, volumes};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Orlop: runs containers, builds images, and runs the pods of a Kubernetes node.
#[derive(Debug, Parser)]
#[command(name = "orlop", version, disable_version_flag = true, args_override_self = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Print the version.
    #[arg(short = 'v', short_alias = 'V', long, action = clap::ArgAction::Version)]
    version: Option<bool>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Container(containers::ContainerCall),
    /// List containers.
    Ps(containers::PsArgs),
    /// Show all that is known of containers, images, networks and volumes.
    Inspect(system::InspectArgs),
    #[command(flatten)]
    Image(images::ImageCall),
    /// List images.
    Images(images::ImagesArgs),
    /// Take a name from an image; with its last name, or by its id, the image goes.
    Rmi(images::RmiArgs),
    /// Build an image from a Dockerfile.
    Build(Box<crate::build::BuildArgs>),
    /// Work with what builds keep.
    Builder {
        #[command(subcommand)]
        call: crate::build::BuilderCall,
    },
    /// Keep the credentials for a registry.
    Login(images::LoginArgs),
    /// Forget the credentials for a registry.
    Logout(images::LogoutArgs),
    /// Not possible: registries have no common way to search.
    #[command(hide = true)]
    Search(SearchArgs),
    /// Work with containers.
    #[command(name = "container")]
    Containers {
        #[command(subcommand)]
        call: containers::ContainerCommand,
    },
    /// Work with images.
    #[command(name = "image")]
    ImageGroup {
        #[command(subcommand)]
        call: images::ImageCommand,
    },
    /// Work with networks.
    Network {
        #[command(subcommand)]
        call: networks::NetworkCall,
    },
    /// Work with volumes.
    Volume {
        #[command(subcommand)]
        call: volumes::VolumeCall,
    },
    /// Look at the whole, and tidy it.
    System {
        #[command(subcommand)]
        call: system::SystemCall,
    },
    /// Show what happens, from now on.
    Events(system::EventsArgs),
    /// Show what is known of this machine and its engine.
    Info(FormatFlag),
    /// Print the version.
    Version(FormatFlag),
    /// Run the daemon: CRI on a unix socket.
    Serve(Box<SettingArgs>),
    /// Print the configuration in force, and where each value came from.
    Config(Box<ConfigArgs>),
    /// Say what this host has and lacks for running pods; fails where pods cannot run.
    Check(Box<CheckArgs>),
    /// Write completions or man pages.
    #[command(hide = true)]
    Generate(crate::generate::GenerateArgs),
}

/// `search`, whose flags do not matter.
#[derive(Debug, Args)]
pub(crate) struct SearchArgs {
    #[command(flatten)]
    list: ListFlags,
    #[arg(long, hide = true)]
    limit: Option<u32>,
    term: String,
}

/// Where the daemon listens, or where the state is without one. These flags go anywhere on the line.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Where")]
pub(crate) struct Place {
    /// Unix socket of the daemon, as a path or unix:// address [default: orlop.sock in the run directory].
    #[arg(short = 'H', long, alias = "socket", global = true, value_name = "SOCKET",
          env = "ORLOP_HOST", hide_env_values = true, value_parser = socket)]
    pub(crate) host: Option<String>,
    /// Configuration file in TOML, with drop-ins in conf.d beside it; without this flag
    /// /etc/orlop/orlop.toml is read where it exists. A directory is one of Docker's, with credentials.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Directory of durable state [default: /var/lib/orlop].
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) root: Option<String>,
    /// Directory of live state, which a reboot must empty [default: /run/orlop].
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) run: Option<String>,
}

/// A path or `unix://` address.
fn socket(text: &str) -> Result<String, String> {
    match text.split_once("://") {
        None if !text.is_empty() => Ok(text.to_owned()),
        Some(("unix", path)) if !path.is_empty() => Ok(path.to_owned()),
        _ => Err("expected the path of a unix socket; the daemon listens on nothing else".into()),
    }
}

impl Place {
    /// As flags of the daemon.
    pub(crate) fn settings(&self) -> SettingArgs {
        self.with(SettingArgs::default())
    }

    /// Puts this place into flags of the daemon.
    pub(crate) fn with(&self, settings: SettingArgs) -> SettingArgs {
        SettingArgs {
            config: self.config.clone().filter(|path| !path.is_dir()),
            root: self.root.clone(),
            run: self.run.clone(),
            listen: settings.listen.or_else(|| self.host.clone()),
            ..settings
        }
    }
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
    /// The flags of [`Place`].
    #[arg(skip)]
    pub(crate) config: Option<PathBuf>,
    #[arg(skip)]
    pub(crate) root: Option<String>,
    #[arg(skip)]
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
