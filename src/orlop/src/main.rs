//! The orlop binary: command line, configuration, wiring.

mod build;
mod cli;
mod config;
mod host;
mod image;
mod image_config;
mod incoming;
mod lock;
mod logging;
mod notify;
mod probe;
mod runtimes;
mod serve;
mod size;
mod suggest;

use clap::Parser;
use cli::{Cli, Command};
use std::process::ExitCode;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Build(arguments) => build::run(&arguments),
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Image(arguments) => image::run(&arguments),
        Command::Version => version(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "orlop: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn version() -> anyhow::Result<()> {
    use std::io::Write;
    writeln!(std::io::stdout(), "orlop {}", env!("CARGO_PKG_VERSION"))?;
    Ok(())
}
