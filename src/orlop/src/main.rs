//! The orlop binary: command line, configuration, wiring.

mod args;
mod argv;
mod ask;
mod build;
mod called;
mod check;
mod cli;
mod config;
mod container;
mod dispatch;
mod door;
mod files;
mod generate;
mod health;
mod host;
mod image;
mod image_config;
mod incoming;
mod lock;
mod logging;
mod login;
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
mod system;
mod telemetry;
mod volume;

use std::process::ExitCode;

fn main() -> ExitCode {
    match called::run(std::env::args_os().collect()) {
        Ok(code) => code,
        // Whoever read has what he wanted.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "orlop: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let source = error.downcast_ref::<std::io::Error>();
    source.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
