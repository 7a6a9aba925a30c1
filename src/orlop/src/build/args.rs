//! Flags of `orlop build`, as people know them.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Build an image from a Dockerfile.
#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// Directory or git address with the files to build from; `-` for a tar archive or a Dockerfile on
    /// standard input.
    #[arg(value_name = "CONTEXT")]
    pub(crate) context: String,
    /// Dockerfile [default: Dockerfile in the context]; `-` for standard input.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<String>,
    /// Name of the image; may be given several times.
    #[arg(short, long, value_name = "NAME[:TAG]")]
    pub(crate) tag: Vec<String>,
    /// Stage to build, by name or number [default: the last].
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,
    /// Value of an ARG; without a value that of the environment.
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(crate) build_arg: Vec<String>,
    /// A further context: NAME=DIRECTORY or NAME=docker-image://IMAGE.
    #[arg(long, value_name = "NAME=SOURCE")]
    pub(crate) build_context: Vec<String>,
    /// A secret for RUN --mount=type=secret: id=NAME[,src=FILE][,env=VARIABLE].
    #[arg(long, value_name = "SECRET")]
    pub(crate) secret: Vec<String>,
    /// Sockets of SSH agents for RUN --mount=type=ssh: default or ID=SOCKET.
    #[arg(long, value_name = "ID[=SOCKET]")]
    pub(crate) ssh: Vec<String>,
    /// Annotation of the image's manifest; may be given several times.
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) annotation: Vec<String>,
    /// Send the image to the registries that its names name.
    #[arg(long)]
    pub(crate) push: bool,
    /// Does nothing: the image is in the node's store the moment it is built.
    #[arg(long)]
    pub(crate) load: bool,
    /// Label of the image; may be given several times.
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) label: Vec<String>,
    /// Line of /etc/hosts in steps: NAME:ADDRESS.
    #[arg(long, value_name = "NAME:ADDRESS")]
    pub(crate) add_host: Vec<String>,
    /// Network of steps that choose none.
    #[arg(long, value_name = "MODE", default_value = "default")]
    pub(crate) network: Network,
    /// What steps may ask for: network.host, security.insecure.
    #[arg(long, value_name = "RIGHT")]
    pub(crate) allow: Vec<String>,
    /// Size of /dev/shm in steps, such as 128m.
    #[arg(long, value_name = "SIZE")]
    pub(crate) shm_size: Option<String>,
    /// Limit of the processes in steps: nofile=1024:2048.
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub(crate) ulimit: Vec<String>,
    /// Reuse nothing.
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Reuse nothing in these stages.
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub(crate) no_cache_filter: Vec<String>,
    /// Ask the registry for newer base images.
    #[arg(long)]
    pub(crate) pull: bool,
    /// Platform to build for: the machine's own, or one that it has an interpreter for.
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// Time of everything that has none of its own, in seconds since 1970.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) timestamp: Option<i64>,
    /// Where the result goes beside the store: type=oci|docker|tar|local,dest=PATH.
    #[arg(short, long, value_name = "OUTPUT")]
    pub(crate) output: Vec<String>,
    /// Write the image's id to a file.
    #[arg(long, value_name = "FILE")]
    pub(crate) iidfile: Option<PathBuf>,
    /// Write what the build was to a file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,
    /// How progress is shown.
    #[arg(long, value_name = "FORM", default_value = "auto")]
    pub(crate) progress: ProgressForm,
    /// Print only the image's id.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Say why steps were not reused.
    #[arg(long)]
    pub(crate) explain: bool,
    /// Check the Dockerfile and build nothing.
    #[arg(long)]
    pub(crate) check: bool,
    /// What to do: build, check, outline, targets; with ,format=json for programs.
    #[arg(long, value_name = "WHAT", default_value = "build")]
    pub(crate) call: String,
    /// The shim's program [default: orlop-shim beside this one].
    #[arg(long, value_name = "FILE")]
    pub(crate) shim: Option<PathBuf>,
}

/// `--network`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Network {
    /// A network of its own that reaches the outside.
    Default,
    /// Loopback only.
    None,
    /// The host's.
    Host,
}

/// `--progress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressForm {
    /// Moving on a terminal, lines elsewhere.
    Auto,
    /// Lines.
    Plain,
    /// Lines, and the running steps with their time.
    Tty,
    /// One JSON object for each event.
    Rawjson,
    /// Nothing.
    #[value(alias = "none")]
    Quiet,
}
