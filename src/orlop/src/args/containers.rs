//! Commands that work on containers.

use super::container::{ContainerFlags, ResourceFlags};
use super::values;
use super::{FormatFlag, ListFlags, PruneFlags};
use clap::{Args, Subcommand};
use orlop_engine::spec::RestartPolicy;
use std::path::PathBuf;

/// Commands on containers that stand alone and under `container`.
#[derive(Debug, Subcommand)]
pub(crate) enum ContainerCall {
    /// Make a container from an image and start it.
    Run(Box<RunArgs>),
    /// Make a container from an image, for `start`.
    Create(Box<CreateArgs>),
    /// Start containers that do not run.
    Start(StartArgs),
    /// Ask containers to end, and end them after a time.
    Stop(StopArgs),
    /// Stop containers and start them again.
    Restart(StopArgs),
    /// Send containers a signal.
    Kill(KillArgs),
    /// Freeze all processes of containers.
    Pause(Containers),
    /// Let the processes of containers go on.
    Unpause(Containers),
    /// Remove containers.
    #[command(visible_alias = "remove")]
    Rm(RmArgs),
    /// Show what containers have written.
    Logs(LogsArgs),
    /// Run a command in a container.
    Exec(ExecArgs),
    /// Join the streams of a running container.
    Attach(AttachArgs),
    /// Copy files between a container and this machine.
    Cp(CpArgs),
    /// Show the processes of a container.
    Top(TopArgs),
    /// Show what containers use.
    Stats(StatsArgs),
    /// Wait until containers end, and print their exit status.
    Wait(WaitArgs),
    /// Show the host's ports of a container.
    Port(PortArgs),
    /// Give a container another name.
    Rename(RenameArgs),
    /// Change limits of containers.
    Update(UpdateArgs),
    /// Show the paths where a container differs from its image.
    Diff(OneContainer),
    /// Make an image from a container.
    Commit(CommitArgs),
    /// Write a container's root as a tar file.
    Export(ExportArgs),
}

/// `orlop container …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ContainerCommand {
    #[command(flatten)]
    Call(ContainerCall),
    /// List containers.
    #[command(visible_aliases = ["list", "ps"])]
    Ls(PsArgs),
    /// Show all that is known of containers.
    Inspect(InspectContainerArgs),
    /// Remove containers that do not run.
    Prune(PruneFlags),
}

/// `run`.
#[derive(Debug, Args)]
#[command(
    disable_help_flag = true,
    override_usage = "orlop run [OPTIONS] IMAGE [COMMAND] [ARGUMENT]..."
)]
pub(crate) struct RunArgs {
    /// Leave it running and print its id.
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Stream to join: stdin, stdout or stderr; may be given several times.
    #[arg(short, long, value_name = "STREAM", value_parser = ["stdin", "stdout", "stderr"], ignore_case = true)]
    pub(crate) attach: Vec<String>,
    /// Keys that leave a container with a terminal running [default: ctrl-p,ctrl-q].
    #[arg(long, value_name = "KEYS")]
    pub(crate) detach_keys: Option<String>,
    /// Pass signals on to the container.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", default_value_t = true, action = clap::ArgAction::Set)]
    pub(crate) sig_proxy: bool,
    #[command(flatten)]
    pub(crate) flags: ContainerFlags,
    /// Print help.
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// The image, then what its container runs instead of the image's CMD.
    #[arg(required = true, trailing_var_arg = true, value_names = ["IMAGE", "COMMAND"])]
    pub(crate) image_and_command: Vec<String>,
}

/// `create`.
#[derive(Debug, Args)]
#[command(
    disable_help_flag = true,
    override_usage = "orlop create [OPTIONS] IMAGE [COMMAND] [ARGUMENT]..."
)]
pub(crate) struct CreateArgs {
    #[arg(short, long, hide = true, value_name = "STREAM", value_parser = ["stdin", "stdout", "stderr"], ignore_case = true)]
    pub(crate) attach: Vec<String>,
    #[command(flatten)]
    pub(crate) flags: ContainerFlags,
    /// Print help.
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// The image, then what its container runs instead of the image's CMD.
    #[arg(required = true, trailing_var_arg = true, value_names = ["IMAGE", "COMMAND"])]
    pub(crate) image_and_command: Vec<String>,
}

/// The image and the command of `run` and `create`; clap takes both as one list, so that flags after the
/// image are the command's.
pub(crate) fn image_and_command(all: &[String]) -> (&str, &[String]) {
    all.split_first().map_or(("", &[]), |(image, command)| (image, command))
}

/// Containers by name, id, or start of an id.
#[derive(Debug, Args)]
pub(crate) struct Containers {
    /// Names or ids.
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

/// One container by name, id, or start of an id.
#[derive(Debug, Args)]
pub(crate) struct OneContainer {
    /// Name or id.
    pub(crate) container: String,
}

/// `start`.
#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    /// Join output and errors, and pass signals on.
    #[arg(short, long)]
    pub(crate) attach: bool,
    /// Join standard input too.
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Keys that leave a container with a terminal running [default: ctrl-p,ctrl-q].
    #[arg(long, value_name = "KEYS")]
    pub(crate) detach_keys: Option<String>,
    #[command(flatten)]
    pub(crate) of: Containers,
}

/// `stop` and `restart`.
#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// Signal that asks it to end [default: the container's].
    #[arg(short, long, value_name = "SIGNAL")]
    pub(crate) signal: Option<String>,
    /// Seconds from that signal to SIGKILL; −1 waits without end [default: the container's].
    #[arg(short, long, visible_alias = "timeout", value_name = "SECONDS",
          allow_negative_numbers = true, value_parser = values::stop_timeout)]
    pub(crate) time: Option<i32>,
    #[command(flatten)]
    pub(crate) of: Containers,
}

/// `kill`.
#[derive(Debug, Args)]
pub(crate) struct KillArgs {
    /// Signal by name or number.
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    pub(crate) signal: String,
    #[command(flatten)]
    pub(crate) of: Containers,
}

/// `rm`.
#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    /// Also where it runs; what is not there is no error.
    #[arg(short, long)]
    pub(crate) force: bool,
    /// With its unnamed volumes.
    #[arg(short, long)]
    pub(crate) volumes: bool,
    #[arg(short, long, hide = true, value_parser = refuse_rm_link, num_args = 0..=1,
          require_equals = true, default_missing_value = "")]
    link: Option<String>,
    #[command(flatten)]
    pub(crate) of: Containers,
}

fn refuse_rm_link(_: &str) -> Result<String, String> {
    Err("there are no links to remove: containers find each other by name on a network".into())
}

/// `ps`.
#[derive(Debug, Default, Args)]
pub(crate) struct PsArgs {
    /// Also those that do not run.
    #[arg(short, long)]
    pub(crate) all: bool,
    /// The last so many made, whatever their state.
    #[arg(short = 'n', long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub(crate) last: Option<i64>,
    /// The last one made, whatever its state.
    #[arg(short, long)]
    pub(crate) latest: bool,
    /// Show sizes too.
    #[arg(short, long)]
    pub(crate) size: bool,
    #[command(flatten)]
    pub(crate) list: ListFlags,
}

/// `logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Go on with what comes.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// From a time on: 2026-01-02T03:04:05Z, or 10m ago.
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Up to a time, in the same forms.
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// The last so many lines.
    #[arg(short = 'n', long, value_name = "NUMBER", default_value = "all")]
    pub(crate) tail: String,
    /// With the time of each line.
    #[arg(short, long)]
    pub(crate) timestamps: bool,
    #[arg(long, hide = true)]
    pub(crate) details: bool,
    #[command(flatten)]
    pub(crate) of: OneContainer,
}

/// `exec`.
#[derive(Debug, Args)]
#[command(override_usage = "orlop exec [OPTIONS] CONTAINER COMMAND [ARGUMENT]...")]
pub(crate) struct ExecArgs {
    /// Do not wait for it.
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Keys that leave it running [default: ctrl-p,ctrl-q].
    #[arg(long, value_name = "KEYS")]
    pub(crate) detach_keys: Option<String>,
    /// Variable of the environment; without a value that of the caller.
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// File of variables, one a line.
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Keep standard input open.
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// With all capabilities.
    #[arg(long)]
    pub(crate) privileged: bool,
    /// Give it a terminal.
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// User, and group, by name or number.
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
    /// Working directory.
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// The container, then the command.
    #[arg(required = true, num_args = 2.., trailing_var_arg = true, value_names = ["CONTAINER", "COMMAND"])]
    pub(crate) container_and_command: Vec<String>,
}

impl ExecArgs {
    /// The container, and the engine's form of the command.
    pub(crate) fn spec(
        &self,
        outside: &dyn super::spec::Outside,
    ) -> Result<(&str, orlop_engine::spec::ExecSpec), super::spec::Wrong> {
        let (container, command) = image_and_command(&self.container_and_command);
        let spec = orlop_engine::spec::ExecSpec {
            command: command.to_vec(),
            env: super::spec::environment(&self.env_file, &self.env, outside)?,
            working_dir: self.workdir.clone(),
            user: self.user.clone(),
            tty: self.tty,
            stdin: self.interactive,
            privileged: self.privileged,
        };
        Ok((container, spec))
    }
}

/// `attach`.
#[derive(Debug, Args)]
pub(crate) struct AttachArgs {
    /// Keys that leave the container running [default: ctrl-p,ctrl-q].
    #[arg(long, value_name = "KEYS")]
    pub(crate) detach_keys: Option<String>,
    /// Do not join standard input.
    #[arg(long)]
    pub(crate) no_stdin: bool,
    /// Pass signals on to the container.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", default_value_t = true, action = clap::ArgAction::Set)]
    pub(crate) sig_proxy: bool,
    #[command(flatten)]
    pub(crate) of: OneContainer,
}

/// `cp`.
#[derive(Debug, Args)]
#[command(
    override_usage = "orlop cp [OPTIONS] CONTAINER:PATH PATH|-\n       orlop cp [OPTIONS] PATH|- CONTAINER:PATH"
)]
pub(crate) struct CpArgs {
    /// Keep owners and modes.
    #[arg(short, long)]
    pub(crate) archive: bool,
    /// Follow a link at the source.
    #[arg(short = 'L', long)]
    pub(crate) follow_link: bool,
    /// Show no progress.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// CONTAINER:PATH, a path of this machine, or - for a tar file on standard input.
    pub(crate) source: String,
    /// CONTAINER:PATH, a path of this machine, or - for a tar file on standard output.
    pub(crate) target: String,
}

/// `top`.
#[derive(Debug, Args)]
#[command(override_usage = "orlop top CONTAINER [PS OPTIONS]")]
pub(crate) struct TopArgs {
    /// The container, then options as of ps(1).
    #[arg(required = true, trailing_var_arg = true, value_names = ["CONTAINER", "PS OPTIONS"])]
    pub(crate) container_and_options: Vec<String>,
}

/// `stats`.
#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    /// Also those that do not run.
    #[arg(short, long)]
    pub(crate) all: bool,
    /// json, table, or a template such as '{{.Name}} {{.CPUPerc}}'.
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// One reading, then the end.
    #[arg(long)]
    pub(crate) no_stream: bool,
    /// Show whole ids.
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Names or ids [default: all that run].
    #[arg(value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

/// `wait`.
#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// Until when: not-running, next-exit, removed.
    #[arg(long, value_name = "WHEN", default_value = "not-running",
          value_parser = ["not-running", "next-exit", "removed"])]
    pub(crate) condition: String,
    #[command(flatten)]
    pub(crate) of: Containers,
}

/// `port`.
#[derive(Debug, Args)]
pub(crate) struct PortArgs {
    #[command(flatten)]
    pub(crate) of: OneContainer,
    /// Port of the container: 80, 53/udp [default: all].
    #[arg(value_parser = values::expose)]
    pub(crate) port: Option<values::Exposed>,
}

/// `rename`.
#[derive(Debug, Args)]
pub(crate) struct RenameArgs {
    #[command(flatten)]
    pub(crate) of: OneContainer,
    /// The new name.
    #[arg(value_parser = values::name)]
    pub(crate) name: String,
}

/// `update`.
#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    #[command(flatten)]
    pub(crate) limits: ResourceFlags,
    /// What happens when it ends: no, always, unless-stopped, on-failure[:COUNT].
    #[arg(long, value_name = "POLICY", value_parser = values::restart)]
    pub(crate) restart: Option<RestartPolicy>,
    #[command(flatten)]
    pub(crate) of: Containers,
}

/// `commit`.
#[derive(Debug, Args)]
pub(crate) struct CommitArgs {
    /// Who made it.
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) author: Option<String>,
    /// What changed.
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) message: Option<String>,
    /// Dockerfile instruction that changes the configuration; may be given several times.
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub(crate) change: Vec<String>,
    /// Hold the container meanwhile.
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", default_value_t = true, action = clap::ArgAction::Set)]
    pub(crate) pause: bool,
    #[command(flatten)]
    pub(crate) of: OneContainer,
    /// Name of the image [default: none].
    #[arg(value_name = "NAME[:TAG]")]
    pub(crate) name: Option<String>,
}

/// `export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The file [default: standard output].
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) of: OneContainer,
}

/// `container inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectContainerArgs {
    #[command(flatten)]
    pub(crate) format: FormatFlag,
    /// Show sizes too.
    #[arg(short, long)]
    pub(crate) size: bool,
    #[command(flatten)]
    pub(crate) of: Containers,
}
