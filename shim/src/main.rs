//! `orlop-shim`: one small, single-threaded process per container. It creates the container, holds
//! its input and output, its log and its exit status, and answers containerd's Task service over
//! ttrpc. It outlives the daemon that started it.
//!
//! As `orlop-shim names` it is something else: the one that answers for the names of a network's
//! containers.

mod args;
mod attach;
mod container;
mod diagnostics;
mod error;
mod events;
mod foreign;
mod health;
mod hooks;
mod io;
mod keeper;
mod launch;
mod names;
mod poll;
mod publish;
mod rpc;
mod server;
mod service;
mod shim;
mod shim_hooks;
mod stage;
mod supervise;

use std::process::ExitCode;

fn main() -> ExitCode {
    // The stage of a container's start runs in the container's namespaces: nothing before it.
    if std::env::args_os().nth(1).is_some_and(|first| first == "stage") {
        stage::main();
    }
    if std::env::args_os().nth(1).is_some_and(|first| first == "names") {
        return names::main();
    }
    match args::parse(std::env::args_os().skip(1)).and_then(launch::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

#[expect(
    clippy::print_stderr,
    reason = "the one place where a shim that serves nobody yet can speak"
)]
pub(crate) fn complain(error: &impl std::fmt::Display) {
    eprintln!("orlop-shim: {error}");
}
