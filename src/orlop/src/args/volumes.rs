//! `orlop volume`.

use super::values;
use super::{FormatFlag, ListFlags};
use clap::{Args, Subcommand};
use orlop_engine::spec::VolumeSpec;

#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCall {
    /// Make a volume.
    Create(CreateVolumeArgs),
    /// List volumes.
    #[command(visible_alias = "list")]
    Ls(ListFlags),
    /// Remove volumes.
    #[command(visible_alias = "remove")]
    Rm(RmVolumeArgs),
    /// Show all that is known of volumes.
    Inspect(InspectVolumeArgs),
    /// Remove volumes that no container uses.
    Prune(PruneVolumeArgs),
}

/// `volume create`.
#[derive(Debug, Args)]
pub(crate) struct CreateVolumeArgs {
    /// Kind; only local.
    #[arg(short, long, value_name = "DRIVER", default_value = "local", value_parser = driver)]
    driver: String,
    /// type=, device= or o=, as of mount(8); may be given several times.
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = option)]
    opt: Vec<(String, String)>,
    /// Label; may be given several times.
    #[arg(long, value_name = "NAME[=VALUE]", value_parser = values::label)]
    label: Vec<(String, String)>,
    /// The name, as a flag.
    #[arg(long = "name", hide = true, value_name = "NAME", value_parser = values::name)]
    flagged: Option<String>,
    /// Name of the volume [default: one is drawn].
    #[arg(value_parser = values::name, conflicts_with = "flagged")]
    name: Option<String>,
}

fn driver(text: &str) -> Result<String, String> {
    match text {
        "local" => Ok(text.to_owned()),
        _ => Err("only local is possible; --opt type=nfs and such mount what is elsewhere".into()),
    }
}

fn option(text: &str) -> Result<(String, String), String> {
    let (name, value) = values::pair(text)?;
    match name.as_str() {
        "type" | "device" | "o" => Ok((name, value)),
        _ => Err("expected type=, device= or o=, as of mount(8)".into()),
    }
}

impl CreateVolumeArgs {
    /// The engine's form.
    pub(crate) fn spec(&self) -> VolumeSpec {
        VolumeSpec {
            name: self.name.clone().or(self.flagged.clone()).unwrap_or_default(),
            driver: self.driver.clone(),
            options: self.opt.iter().cloned().collect(),
            labels: self.label.iter().cloned().collect(),
        }
    }
}

/// `volume rm`.
#[derive(Debug, Args)]
pub(crate) struct RmVolumeArgs {
    /// What is not there is no error.
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Names.
    #[arg(required = true, value_name = "VOLUME")]
    pub(crate) volumes: Vec<String>,
}

/// `volume inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectVolumeArgs {
    #[command(flatten)]
    pub(crate) format: FormatFlag,
    /// Names.
    #[arg(required = true, value_name = "VOLUME")]
    pub(crate) volumes: Vec<String>,
}

/// `volume prune`.
#[derive(Debug, Args)]
pub(crate) struct PruneVolumeArgs {
    /// Also those with a name.
    #[arg(short, long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) prune: super::PruneFlags,
}
