//! Every command that people type, with Docker's names and flags: forms alone, no work. `values` reads the
//! value of a flag, `spec` makes the engine's form of a container from flags.

// Until every command has its work.
#![allow(dead_code)]

pub(crate) mod container;
pub(crate) mod containers;
#[cfg(test)]
mod help;
pub(crate) mod images;
pub(crate) mod networks;
pub(crate) mod spec;
pub(crate) mod system;
#[cfg(test)]
mod tests;
pub(crate) mod values;
pub(crate) mod volumes;

use clap::Args;

/// How a list is shown.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ListFlags {
    /// Only what matches: KEY=VALUE; may be given several times.
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = values::pair)]
    pub(crate) filter: Vec<(String, String)>,
    /// json, table, or a template such as '{{.Names}}' or 'table {{.ID}}\t{{.Names}}'.
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Show whole ids and texts.
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Print only ids, or names.
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// How one object is shown.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct FormatFlag {
    /// json, or a template such as '{{.State.Status}}'.
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
}

/// What `prune` removes.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct PruneFlags {
    /// Only what matches: until=TIME, label=NAME[=VALUE]; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = values::pair)]
    pub(crate) filter: Vec<(String, String)>,
    /// Do not ask.
    #[arg(short, long)]
    pub(crate) force: bool,
}
