//! `orlop check`: what this host has and lacks, and what each lack costs.
//!
//! Everything is looked at, and where that does not tell it is tried: a bridge, a veth pair and an
//! nftables chain in a network namespace that ends with the thread that made it, an overlay that is
//! mounted nowhere, in a directory that is removed again.

mod files;
mod host;
mod network;
mod report;

use crate::cli::CheckArgs;
use crate::config::{Loaded, Sources};
use report::{Finding, Level};
use std::io::Write;
use std::process::ExitCode;

/// Pods cannot run here.
const CANNOT: u8 = 1;
/// Pods can run, and something is lacking; only with `--strict`.
const LACKING: u8 = 3;

/// Runs the command: 0 where pods can run.
pub(crate) fn run(arguments: &CheckArgs) -> anyhow::Result<ExitCode> {
    let findings = findings(arguments);
    let text = if arguments.json {
        format!("{:#}\n", report::json(&findings))
    } else {
        report::text(&findings, arguments.all)
    };
    std::io::stdout().write_all(text.as_bytes())?;
    let worst = findings.iter().map(|finding| finding.level).max();
    Ok(match worst {
        Some(Level::Essential) => CANNOT.into(),
        Some(Level::Lacking) if arguments.strict => LACKING.into(),
        _ => ExitCode::SUCCESS,
    })
}

fn findings(arguments: &CheckArgs) -> Vec<Finding> {
    let (config, mut findings) = match Sources::new(&arguments.settings).load() {
        Ok(Loaded { config, .. }) => (config, vec![Finding::fine("configuration", "valid")]),
        Err(problems) => {
            let finding = Finding::essential("configuration", problems.to_string())
                .costs("orlop serve does not start")
                .remedy("mend it; the rest of this check goes by the defaults");
            (crate::config::Config::default(), vec![finding])
        }
    };
    findings.extend(host::privileges());
    findings.extend(host::kernel());
    findings.extend(host::cgroups(&config));
    findings.extend(host::security());
    findings.extend(host::limits());
    findings.extend(files::all(&config));
    findings.extend(network::all(&config));
    findings
}
