//! From a command to the room that does it.

use crate::args::containers::{ContainerCall, ContainerCommand};
use crate::args::images::ImageCommand;
use crate::args::system::SystemCall;
use crate::cli::{Cli, Command, Place};
use crate::container as work;
use crate::{
    build, check, config, files, generate, image, login, logs, network, observe, serve, stream,
    system, volume,
};
use anyhow::bail;
use clap::{CommandFactory, Parser};
use std::ffi::OsString;
use std::process::ExitCode;

/// The status of a line that cannot be read, as Docker has it.
const USAGE: u8 = 125;

/// Reads a line and carries it out; `as_docker`: with that one's version.
pub(crate) fn line(words: Vec<OsString>, as_docker: bool) -> anyhow::Result<ExitCode> {
    let words = crate::argv::normal(&Cli::command(), words);
    match Cli::try_parse_from(words) {
        Ok(cli) => run(cli, as_docker),
        Err(mut error) => {
            suggest(&mut error);
            let code = if error.use_stderr() { USAGE } else { 0 };
            // A help that cannot be shown is no failure to tell.
            let _ = error.print();
            Ok(ExitCode::from(code))
        }
    }
}

/// The nearest command, where clap has found none.
fn suggest(error: &mut clap::Error) {
    use clap::error::{ContextKind, ContextValue};
    let Some(ContextValue::String(wrong)) = error.get(ContextKind::InvalidSubcommand) else {
        return;
    };
    let root = Cli::command();
    let known: Vec<_> = root.get_subcommands().filter(|sub| !sub.is_hide_set()).collect();
    let near = crate::suggest::nearest(wrong, known.iter().map(|sub| sub.get_name()));
    if let (Some(near), None) = (near, error.get(ContextKind::SuggestedSubcommand)) {
        let value = ContextValue::Strings(vec![near.to_owned()]);
        error.insert(ContextKind::SuggestedSubcommand, value);
    }
}

/// Carries out one command.
fn run(cli: Cli, as_docker: bool) -> anyhow::Result<ExitCode> {
    let place = cli.place;
    crate::login::take_directory(&place);
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
        Command::Builder { call } => build::builder(&place, &call).map(done),
        Command::Build(arguments) => build::run(&place, &arguments).map(done),
        Command::Container(call) => container(&place, call),
        Command::Ps(arguments) => work::ps(&place, &arguments),
        Command::Containers { call: ContainerCommand::Call(call) } => container(&place, call),
        Command::Containers { call: ContainerCommand::Ls(arguments) } => {
            work::ps(&place, &arguments)
        }
        Command::Containers { call: ContainerCommand::Inspect(arguments) } => {
            work::inspect(&place, &arguments)
        }
        Command::Containers { call: ContainerCommand::Prune(flags) } => {
            system::prune_containers(&place, &flags)
        }
        Command::Image(call) => image::run(&place, &ImageCommand::Call(call)).map(done),
        Command::Images(list) => image::run(&place, &ImageCommand::Ls(list)).map(done),
        Command::Rmi(rm) => image::run(&place, &ImageCommand::Rm(rm)).map(done),
        Command::ImageGroup { call: ImageCommand::Build(arguments) } => {
            build::run(&place, &arguments).map(done)
        }
        Command::ImageGroup { call } => image::run(&place, &call).map(done),
        Command::Network { call } => network::run(&place, &call),
        Command::Volume { call } => volume::run(&place, &call),
        Command::System { call } => whole(&place, call, as_docker),
        Command::Login(arguments) => login::login(&place, &arguments),
        Command::Logout(arguments) => login::logout(&arguments),
        Command::Inspect(arguments) => system::inspect(&place, &arguments),
        Command::Events(arguments) => observe::events(&place, &arguments).map(done),
        Command::Info(format) => system::info(&place, &format, as_docker),
        Command::Search(_) => bail!(
            "search: registries have no common way to search; look on the registry's own page, then orlop pull"
        ),
        Command::Version(format) => system::version(&format, as_docker).map(done),
        Command::Generate(arguments) => generate::run(&arguments).map(done),
    }
}

fn done((): ()) -> ExitCode {
    ExitCode::SUCCESS
}

fn container(place: &Place, call: ContainerCall) -> anyhow::Result<ExitCode> {
    match call {
        ContainerCall::Run(arguments) => work::run(place, &arguments),
        ContainerCall::Create(arguments) => work::create(place, &arguments),
        ContainerCall::Start(arguments) => stream::start(place, &arguments),
        ContainerCall::Stop(arguments) => work::stop(place, &arguments),
        ContainerCall::Restart(arguments) => work::restart(place, &arguments),
        ContainerCall::Kill(arguments) => work::kill(place, &arguments),
        ContainerCall::Pause(of) => work::pause(place, &of.containers),
        ContainerCall::Unpause(of) => work::unpause(place, &of.containers),
        ContainerCall::Rm(arguments) => work::rm(place, &arguments),
        ContainerCall::Logs(arguments) => logs::run(place, &arguments).map(done),
        ContainerCall::Exec(arguments) => stream::exec(place, &arguments),
        ContainerCall::Attach(arguments) => stream::attach(place, &arguments),
        ContainerCall::Cp(arguments) => files::cp(place, &arguments).map(done),
        ContainerCall::Top(arguments) => observe::top(place, &arguments).map(done),
        ContainerCall::Stats(arguments) => observe::stats(place, &arguments).map(done),
        ContainerCall::Wait(arguments) => work::wait(place, &arguments),
        ContainerCall::Port(arguments) => work::port(place, &arguments),
        ContainerCall::Rename(arguments) => work::rename(place, &arguments),
        ContainerCall::Update(arguments) => work::update(place, &arguments),
        ContainerCall::Diff(of) => files::diff(place, &of.container).map(done),
        ContainerCall::Commit(arguments) => files::commit(place, &arguments).map(done),
        ContainerCall::Export(arguments) => files::export(place, &arguments).map(done),
    }
}

fn whole(place: &Place, call: SystemCall, as_docker: bool) -> anyhow::Result<ExitCode> {
    match call {
        SystemCall::Df(arguments) => system::df(place, &arguments),
        SystemCall::Prune(arguments) => system::prune(place, &arguments),
        SystemCall::Info(format) => system::info(place, &format, as_docker),
        SystemCall::Events(arguments) => observe::events(place, &arguments).map(done),
        SystemCall::Check(mut arguments) => {
            arguments.settings = place.with(arguments.settings);
            check::run(&arguments)
        }
    }
}
