//! `orlop system`, `events`, `info`, `version`, `inspect`.

use super::{FormatFlag, values};
use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum SystemCall {
    /// Show what images, containers, volumes and the build cache take on the disk.
    Df(DfArgs),
    /// Remove what is not in use.
    Prune(SystemPruneArgs),
    /// Show what is known of this machine and its engine.
    Info(FormatFlag),
    /// Say what this host has and lacks; fails where containers cannot run.
    Check(Box<crate::cli::CheckArgs>),
    /// Show what happens, from now on.
    Events(EventsArgs),
}

/// `system df`.
#[derive(Debug, Args)]
pub(crate) struct DfArgs {
    /// json, or a template such as '{{.Type}} {{.Size}}'.
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Show each object.
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// `system prune`.
#[derive(Debug, Args)]
pub(crate) struct SystemPruneArgs {
    /// All images that no container uses, not only those without a name.
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Volumes too.
    #[arg(long)]
    pub(crate) volumes: bool,
    #[command(flatten)]
    pub(crate) prune: super::PruneFlags,
}

/// `events`.
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Only what matches: KEY=VALUE; may be given several times.
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = values::pair)]
    pub(crate) filter: Vec<(String, String)>,
    /// json, or a template such as '{{.Action}} {{.Actor.ID}}'.
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// From a time on: 2026-01-02T03:04:05Z, or 10m ago.
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Up to a time, in the same forms.
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
}

/// `inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    pub(crate) format: FormatFlag,
    /// Show sizes too.
    #[arg(short, long)]
    pub(crate) size: bool,
    /// Kind of the object [default: whatever has the name].
    #[arg(long, value_name = "KIND", value_parser = ["container", "image", "network", "volume"])]
    pub(crate) r#type: Option<String>,
    /// Names or ids.
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
}
