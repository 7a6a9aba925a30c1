//! Nodes to typed instructions: every flag and argument is checked here, and what cannot be is an
//! error that names the line, the flag and the nearest known one. Values keep their variables.

mod build;
mod flags;
mod health;
mod mount;
mod transfer;

pub use health::{Health, Healthcheck};
pub use mount::{Mount, MountKind, Sharing, bytes};
pub use transfer::{Source, Transfer};

use crate::parse::{Directives, Heredoc, Pair, Parsed};
use crate::{Diagnostic, Lines};

/// A whole Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// The directives at its top.
    pub directives: Directives,
    /// `ARG` before the first `FROM`.
    pub arguments: Vec<Command>,
    /// The stages, at least one.
    pub stages: Vec<Stage>,
    /// Instructions with an empty line inside their continuation, and their joined text.
    pub empty_continuations: Vec<(Lines, String)>,
}

/// `FROM` and what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// The name after `AS`, in lower case.
    pub name: Option<String>,
    /// The name after `AS` as written.
    pub written_name: Option<String>,
    /// `AS` as written.
    pub written_as: Option<String>,
    /// Image or stage, with its variables.
    pub base: String,
    /// `--platform`, with its variables.
    pub platform: Option<String>,
    /// `FROM` as written.
    pub written: String,
    /// Where `FROM` stands.
    pub lines: Lines,
    /// Comment lines directly above.
    pub comments: Vec<String>,
    /// The instructions of the stage.
    pub commands: Vec<Command>,
}

/// One instruction and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// What it does.
    pub instruction: Instruction,
    /// Its name as written.
    pub written: String,
    /// Where it stands.
    pub lines: Lines,
    /// Comment lines directly above.
    pub comments: Vec<String>,
}

/// What an instruction does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    /// `ADD`.
    Add(Transfer),
    /// `ARG`: names with defaults.
    Arg(Vec<(String, Option<String>)>),
    /// `CMD`.
    Cmd(CommandLine),
    /// `COPY`.
    Copy(Transfer),
    /// `ENTRYPOINT`.
    Entrypoint(CommandLine),
    /// `ENV`.
    Env(Vec<Pair>),
    /// `EXPOSE`.
    Expose(Vec<String>),
    /// `HEALTHCHECK`.
    Healthcheck(Healthcheck),
    /// `LABEL`.
    Label(Vec<Pair>),
    /// `MAINTAINER`.
    Maintainer(String),
    /// `ONBUILD`: the instruction's text, with its heredocs.
    Onbuild(String),
    /// `RUN`.
    Run(Run),
    /// `SHELL`.
    Shell(Vec<String>),
    /// `STOPSIGNAL`.
    StopSignal(String),
    /// `USER`.
    User(String),
    /// `VOLUME`.
    Volume(Vec<String>),
    /// `WORKDIR`.
    Workdir(String),
}

impl Instruction {
    /// The instruction's name in upper case.
    pub fn keyword(&self) -> &'static str {
        match self {
            Self::Add(_) => "ADD",
            Self::Arg(_) => "ARG",
            Self::Cmd(_) => "CMD",
            Self::Copy(_) => "COPY",
            Self::Entrypoint(_) => "ENTRYPOINT",
            Self::Env(_) => "ENV",
            Self::Expose(_) => "EXPOSE",
            Self::Healthcheck(_) => "HEALTHCHECK",
            Self::Label(_) => "LABEL",
            Self::Maintainer(_) => "MAINTAINER",
            Self::Onbuild(_) => "ONBUILD",
            Self::Run(_) => "RUN",
            Self::Shell(_) => "SHELL",
            Self::StopSignal(_) => "STOPSIGNAL",
            Self::User(_) => "USER",
            Self::Volume(_) => "VOLUME",
            Self::Workdir(_) => "WORKDIR",
        }
    }
}

/// A command of `RUN`, `CMD`, `ENTRYPOINT` or `HEALTHCHECK`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandLine {
    /// A text for the shell. `broken_json` says that it looks like an exec form and is none.
    Shell {
        /// The text.
        text: String,
        /// It starts with a bracket.
        broken_json: bool,
    },
    /// Program and arguments.
    Exec(Vec<String>),
}

/// `RUN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The command without the bodies of its heredocs.
    pub command: CommandLine,
    /// Bodies that follow.
    pub heredocs: Vec<Heredoc>,
    /// `--mount` as written, checked.
    pub mounts: Vec<String>,
    /// `--network`.
    pub network: Option<NetworkMode>,
    /// `--security`.
    pub security: SecurityMode,
}

/// Which network a step has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NetworkMode {
    /// A network of its own that reaches the outside.
    Default,
    /// Loopback only.
    None,
    /// The host's.
    Host,
}

/// How a step is confined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SecurityMode {
    /// As a pod's container.
    #[default]
    Sandbox,
    /// With all rights; the caller has to allow it.
    Insecure,
}

/// Gives the nodes of a file their meaning.
pub fn build(parsed: Parsed) -> Result<Dockerfile, Diagnostic> {
    build::dockerfile(parsed)
}

/// Parses a Dockerfile wholly.
pub fn read(source: &str) -> Result<Dockerfile, Diagnostic> {
    build(crate::parse::parse(source)?)
}

/// The instruction that an image's `ONBUILD` carries.
pub fn read_trigger(text: &str) -> Result<Command, Diagnostic> {
    build::command(crate::parse::parse_trigger(text)?)
}

#[cfg(test)]
mod tests;
