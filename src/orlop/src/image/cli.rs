//! The command line of `orlop image`.

use crate::cli::SettingArgs;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Which node, and what to do with its images.
#[derive(Debug, Args)]
pub(crate) struct ImageArgs {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(subcommand)]
    pub(crate) call: Call,
}

/// Where the daemon listens, or where the images are without one.
#[derive(Debug, Default, Args)]
pub(crate) struct Place {
    /// Configuration file of the daemon; without it /etc/orlop/orlop.toml is read where it exists.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Directory of durable state.
    #[arg(long, value_name = "DIR", global = true)]
    root: Option<String>,
    /// Directory of live state.
    #[arg(long, value_name = "DIR", global = true)]
    run: Option<String>,
    /// Unix socket of the daemon.
    #[arg(long, value_name = "SOCKET", global = true)]
    socket: Option<String>,
}

impl Place {
    pub(crate) fn settings(&self) -> SettingArgs {
        SettingArgs {
            config: self.config.clone(),
            root: self.root.clone(),
            run: self.run.clone(),
            listen: self.socket.clone(),
            ..SettingArgs::default()
        }
    }
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

#[derive(Debug, Subcommand)]
pub(crate) enum Call {
    /// Fetch an image from its registry.
    Pull {
        /// Name of the image.
        name: String,
        #[command(flatten)]
        login: Login,
    },
    /// Send an image to a registry.
    Push {
        /// Name or id of the image.
        image: String,
        /// Where to [default: the image's own name].
        target: Option<String>,
        #[command(flatten)]
        login: Login,
    },
    /// Read images from an OCI layout or a Docker archive, as a tar file.
    Import {
        /// The file; - reads standard input.
        #[arg(default_value = "-")]
        file: PathBuf,
        /// Name for the only image of the archive, instead of its own; may be given several times.
        #[arg(long, value_name = "NAME")]
        name: Vec<String>,
    },
    /// Write images into a tar file that is an OCI layout and that docker load reads.
    Export {
        /// Names or ids of images.
        #[arg(required = true)]
        image: Vec<String>,
        /// The file; - writes to standard output.
        #[arg(long, short, value_name = "FILE", default_value = "-")]
        output: PathBuf,
    },
    /// Give an image a further name.
    Tag {
        /// Name or id of the image.
        image: String,
        /// The new name.
        name: String,
    },
    /// Take a name from an image; with its last name, or by its id, the image goes.
    Rm {
        /// Names or ids of images.
        #[arg(required = true)]
        image: Vec<String>,
    },
    /// List images.
    Ls,
    /// Show all that is known of an image, as JSON.
    Inspect {
        /// Name or id of the image.
        image: String,
    },
    /// Show the steps that made an image.
    History {
        /// Name or id of the image.
        image: String,
    },
    /// Remove images without a name that no container uses.
    Prune {
        /// Also those with a name.
        #[arg(long)]
        all: bool,
    },
    /// Compare blobs and unpacked layers with their digests. As slow as unpacking them again.
    Verify {
        /// Put right what is wrong and not in use.
        #[arg(long)]
        repair: bool,
    },
    /// List the pulls that run.
    Pulls,
}
