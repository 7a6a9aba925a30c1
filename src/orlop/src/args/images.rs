//! Commands that work on images.

use super::{FormatFlag, ListFlags};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Commands on images that stand alone and under `image`.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCall {
    /// Fetch an image from its registry.
    Pull(PullArgs),
    /// Send an image to a registry.
    Push(PushArgs),
    /// Give an image a further name.
    Tag {
        /// Name or id of the image.
        image: String,
        /// The new name.
        name: String,
    },
    /// Show the steps that made an image.
    History(HistoryArgs),
    /// Write images into a tar file that is an OCI layout and that docker load reads.
    Save(SaveArgs),
    /// Read images from an OCI layout or a Docker archive, as a tar file.
    Load(LoadArgs),
    /// Make an image from a tar file of a root.
    Import(ImportArgs),
}

/// `orlop image …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    #[command(flatten)]
    Call(ImageCall),
    /// List images.
    #[command(visible_alias = "list")]
    Ls(ImagesArgs),
    /// Take a name from an image; with its last name, or by its id, the image goes.
    #[command(visible_alias = "remove")]
    Rm(RmiArgs),
    /// Show all that is known of images.
    Inspect(InspectImageArgs),
    /// Remove images without a name that no container uses.
    Prune(PruneImagesArgs),
    /// Build an image from a Dockerfile.
    Build(Box<crate::build::BuildArgs>),
    /// Compare blobs and unpacked layers with their digests. As slow as unpacking them again.
    Verify {
        /// Put right what is wrong and not in use.
        #[arg(long)]
        repair: bool,
    },
    /// List the pulls that run.
    Pulls,
}

/// Credentials for a registry; without them those of Docker's configuration of the user are sent.
#[derive(Debug, Default, Args)]
pub(crate) struct Login {
    /// User name for the registry.
    #[arg(long, value_name = "NAME", requires = "password_stdin")]
    pub(crate) username: Option<String>,
    /// Read the password from standard input.
    #[arg(long, requires = "username")]
    pub(crate) password_stdin: bool,
}

/// `pull`.
#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// All tags of the repository.
    #[arg(short, long)]
    pub(crate) all_tags: bool,
    /// Show no progress.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Platform of the image [default: the machine's].
    #[arg(
        long,
        value_name = "OS/ARCH[/VARIANT]",
        env = "DOCKER_DEFAULT_PLATFORM",
        hide_env = true
    )]
    pub(crate) platform: Option<String>,
    #[arg(long, hide = true)]
    pub(crate) disable_content_trust: bool,
    #[command(flatten)]
    pub(crate) login: Login,
    /// Name of the image.
    pub(crate) name: String,
}

/// `push`.
#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    /// All tags of the repository.
    #[arg(short, long)]
    pub(crate) all_tags: bool,
    /// Show no progress.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[arg(long, hide = true)]
    pub(crate) disable_content_trust: bool,
    #[command(flatten)]
    pub(crate) login: Login,
    /// Name or id of the image.
    pub(crate) image: String,
    /// Where to [default: the image's own name].
    pub(crate) target: Option<String>,
}

/// `history`.
#[derive(Debug, Default, Args)]
pub(crate) struct HistoryArgs {
    /// json, table, or a template such as '{{.CreatedBy}}'.
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Show sizes and times for people.
    #[arg(short = 'H', long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", default_value_t = true, action = clap::ArgAction::Set)]
    pub(crate) human: bool,
    /// Show whole ids and texts.
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Print only ids.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// As everywhere, but for the short form, which is taken here.
    #[arg(id = "host", long = "host", hide = true)]
    pub(crate) host: Option<String>,
    /// Name or id of the image.
    pub(crate) image: String,
}

/// `save`.
#[derive(Debug, Args)]
pub(crate) struct SaveArgs {
    /// The file [default: standard output].
    #[arg(short, long, value_name = "FILE", default_value = "-", hide_default_value = true)]
    pub(crate) output: PathBuf,
    /// Names or ids of images.
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

/// `load`.
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// The file [default: standard input].
    #[arg(short, long, value_name = "FILE", default_value = "-", hide_default_value = true)]
    pub(crate) input: PathBuf,
    /// Print only what went wrong.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Name for the only image of the archive, instead of its own; may be given several times.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Vec<String>,
}

/// `import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Dockerfile instruction that changes the configuration; may be given several times.
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub(crate) change: Vec<String>,
    /// What the image's history says.
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) message: Option<String>,
    /// Platform of the image [default: the machine's].
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<String>,
    /// The file; - reads standard input.
    pub(crate) file: PathBuf,
    /// Name of the image [default: none].
    #[arg(value_name = "NAME[:TAG]")]
    pub(crate) name: Option<String>,
}

/// `images`.
#[derive(Debug, Default, Args)]
pub(crate) struct ImagesArgs {
    /// All; none is hidden here.
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Show digests too.
    #[arg(long)]
    pub(crate) digests: bool,
    #[command(flatten)]
    pub(crate) list: ListFlags,
    /// Only those of this name: REPOSITORY, or REPOSITORY:TAG; * stands for anything but a slash.
    pub(crate) name: Option<String>,
}

/// `rmi`.
#[derive(Debug, Args)]
pub(crate) struct RmiArgs {
    /// Also with several names; what is not there is no error.
    #[arg(short, long)]
    pub(crate) force: bool,
    #[arg(long, hide = true)]
    pub(crate) no_prune: bool,
    /// Names or ids of images.
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

/// `image inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectImageArgs {
    #[command(flatten)]
    pub(crate) format: FormatFlag,
    /// Names or ids of images.
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

/// `image prune`.
#[derive(Debug, Args)]
pub(crate) struct PruneImagesArgs {
    /// Also those with a name.
    #[arg(short, long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) prune: super::PruneFlags,
}

/// `login`.
#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// User name.
    #[arg(short, long, value_name = "NAME")]
    pub(crate) username: Option<String>,
    /// Password; others can see it in the list of processes.
    #[arg(short, long, value_name = "TEXT", conflicts_with = "password_stdin")]
    pub(crate) password: Option<String>,
    /// Read the password from standard input.
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// The registry [default: Docker's].
    pub(crate) registry: Option<String>,
}

/// `logout`.
#[derive(Debug, Args)]
pub(crate) struct LogoutArgs {
    /// The registry [default: Docker's].
    pub(crate) registry: Option<String>,
}
