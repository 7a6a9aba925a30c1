//! The orlop binary: command line, configuration, wiring.

mod args;
mod build;
mod check;
mod cli;
mod config;
mod container;
mod dispatch;
mod door;
mod files;
mod health;
mod host;
mod image;
mod image_config;
mod incoming;
mod lock;
mod logging;
mod logs;
mod metrics;
mod network;
mod notify;
mod observe;
mod probe;
mod reload;
mod runtimes;
mod serve;
mod show;
mod size;
mod stream;
mod suggest;
mod telemetry;
mod volume;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    match dispatch::run(cli::Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "orlop: {error:#}");
            ExitCode::FAILURE
        }
    }
}
