//! From a command to the room that does it.

use crate::args::containers::{ContainerCall, ContainerCommand};
use crate::args::images::ImageCommand;
use crate::args::networks::NetworkCall;
use crate::args::system::SystemCall;
use crate::args::volumes::VolumeCall;
use crate::cli::{Cli, Command, Place};
use crate::{build, check, config, image, serve};
use anyhow::bail;
use std::process::ExitCode;

/// Carries out one command.
pub(crate) fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let place = cli.place;
    match cli.command {
        Command::Serve(arguments) => serve::run(&place.with(*arguments)).map(done),
        Command::Check(mut arguments) => {
            arguments.settings = place.with(arguments.settings);
            check::run(&arguments)
        }
        Command::Config(mut arguments) => {
            arguments.settings = place.with(arguments.settings);
            config::command(&arguments).map(done)
        }
        Command::Build(arguments) => build::run(&place, &arguments).map(done),
        Command::Container(call) => container(&place, call),
        Command::Ps(_) => absent("ps"),
        Command::Containers { call: ContainerCommand::Call(call) } => container(&place, call),
        Command::Containers { call: ContainerCommand::Ls(_) } => absent("container ls"),
        Command::Containers { call: ContainerCommand::Inspect(_) } => absent("container inspect"),
        Command::Containers { call: ContainerCommand::Prune(_) } => absent("container prune"),
        Command::Image(call) => image::run(&place, &ImageCommand::Call(call)).map(done),
        Command::Images(list) => image::run(&place, &ImageCommand::Ls(list)).map(done),
        Command::Rmi(rm) => image::run(&place, &ImageCommand::Rm(rm)).map(done),
        Command::ImageGroup { call: ImageCommand::Build(arguments) } => {
            build::run(&place, &arguments).map(done)
        }
        Command::ImageGroup { call } => image::run(&place, &call).map(done),
        Command::Network { call } => network(&place, &call),
        Command::Volume { call } => volume(&place, &call),
        Command::System { call } => system(&place, call),
        Command::Login(_) => absent("login"),
        Command::Logout(_) => absent("logout"),
        Command::Inspect(_) => absent("inspect"),
        Command::Events(_) => absent("events"),
        Command::Info(_) => absent("info"),
        Command::Search(_) => bail!(
            "search: registries have no common way to search; look on the registry's own page, then orlop pull"
        ),
        Command::Version(_) => version().map(done),
    }
}

fn done((): ()) -> ExitCode {
    ExitCode::SUCCESS
}

/// Whose work has not landed.
fn absent(command: &str) -> anyhow::Result<ExitCode> {
    bail!("{command} is not there yet in this version")
}

fn container(_: &Place, call: ContainerCall) -> anyhow::Result<ExitCode> {
    match call {
        ContainerCall::Run(_) => absent("run"),
        ContainerCall::Create(_) => absent("create"),
        ContainerCall::Start(_) => absent("start"),
        ContainerCall::Stop(_) => absent("stop"),
        ContainerCall::Restart(_) => absent("restart"),
        ContainerCall::Kill(_) => absent("kill"),
        ContainerCall::Pause(_) => absent("pause"),
        ContainerCall::Unpause(_) => absent("unpause"),
        ContainerCall::Rm(_) => absent("rm"),
        ContainerCall::Logs(_) => absent("logs"),
        ContainerCall::Exec(_) => absent("exec"),
        ContainerCall::Attach(_) => absent("attach"),
        ContainerCall::Cp(_) => absent("cp"),
        ContainerCall::Top(_) => absent("top"),
        ContainerCall::Stats(_) => absent("stats"),
        ContainerCall::Wait(_) => absent("wait"),
        ContainerCall::Port(_) => absent("port"),
        ContainerCall::Rename(_) => absent("rename"),
        ContainerCall::Update(_) => absent("update"),
        ContainerCall::Diff(_) => absent("diff"),
        ContainerCall::Commit(_) => absent("commit"),
        ContainerCall::Export(_) => absent("export"),
    }
}

fn network(_: &Place, call: &NetworkCall) -> anyhow::Result<ExitCode> {
    match call {
        NetworkCall::Ls(_) => absent("network ls"),
        NetworkCall::Create(_) => absent("network create"),
        NetworkCall::Rm(_) => absent("network rm"),
        NetworkCall::Inspect(_) => absent("network inspect"),
        NetworkCall::Connect(_) => absent("network connect"),
        NetworkCall::Disconnect(_) => absent("network disconnect"),
        NetworkCall::Prune(_) => absent("network prune"),
    }
}

fn volume(_: &Place, call: &VolumeCall) -> anyhow::Result<ExitCode> {
    match call {
        VolumeCall::Create(_) => absent("volume create"),
        VolumeCall::Ls(_) => absent("volume ls"),
        VolumeCall::Rm(_) => absent("volume rm"),
        VolumeCall::Inspect(_) => absent("volume inspect"),
        VolumeCall::Prune(_) => absent("volume prune"),
    }
}

fn system(place: &Place, call: SystemCall) -> anyhow::Result<ExitCode> {
    match call {
        SystemCall::Df(_) => absent("system df"),
        SystemCall::Prune(_) => absent("system prune"),
        SystemCall::Info(_) => absent("system info"),
        SystemCall::Events(_) => absent("system events"),
        SystemCall::Check(mut arguments) => {
            arguments.settings = place.with(arguments.settings);
            check::run(&arguments)
        }
    }
}

fn version() -> anyhow::Result<()> {
    use std::io::Write;
    writeln!(std::io::stdout(), "orlop {}", env!("CARGO_PKG_VERSION"))?;
    Ok(())
}
