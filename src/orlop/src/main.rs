//! The orlop binary: command line, configuration, wiring.

mod build;
mod check;
mod cli;
mod config;
mod door;
mod health;
mod host;
mod image;
mod image_config;
mod incoming;
mod lock;
mod logging;
mod metrics;
mod notify;
mod probe;
mod reload;
mod runtimes;
mod serve;
mod size;
mod suggest;
mod telemetry;

use clap::Parser;
use cli::{Cli, Command};
use std::process::ExitCode;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve(arguments) => serve::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Check(arguments) => check::run(&arguments),
        Command::Config(arguments) => config::command(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Image(arguments) => image::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Build(arguments) => build::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Version => version().map(|()| ExitCode::SUCCESS),
    };
    match done {
        Ok(code) => code,
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
