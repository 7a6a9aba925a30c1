//! Called as `ctr`, in the image of a node: what tools ask of it about images. Namespaces mean nothing
//! here: all images are those of the node.

use crate::cli::Place;
use crate::container::said;
use crate::door::{Door, Images};
use crate::image::{Sent, export_to, fetch, send_file};
use clap::{Args, Parser, Subcommand};
use orlop_api::images_v1 as v1;
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Parser)]
#[command(
    name = "ctr",
    about = "Orlop under the name of ctr: images alone",
    disable_version_flag = true
)]
struct Cli {
    /// Print the version.
    #[arg(short, long)]
    version: bool,
    /// Means nothing here.
    #[arg(short, long, global = true, env = "CONTAINERD_NAMESPACE", default_value = "default")]
    namespace: String,
    /// Unix socket of the daemon.
    #[arg(short, long, global = true, env = "CONTAINERD_ADDRESS", value_name = "SOCKET")]
    address: Option<String>,
    /// Means nothing here.
    #[arg(long, global = true)]
    debug: bool,
    /// Means nothing here.
    #[arg(long, global = true, value_name = "TIME")]
    timeout: Option<String>,
    /// Means nothing here.
    #[arg(long, global = true, value_name = "TIME")]
    connect_timeout: Option<String>,
    /// Directory of durable state.
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<String>,
    /// Directory of live state.
    #[arg(long, global = true, value_name = "DIR")]
    run: Option<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Work with images.
    #[command(visible_aliases = ["image", "i"])]
    Images {
        #[command(subcommand)]
        call: ImageCall,
    },
    /// Print the version.
    Version,
}

/// Flags that say how containerd keeps an image; Orlop keeps each in its one way.
#[derive(Debug, Default, Args)]
struct Kept {
    #[arg(long, hide = true)]
    all_platforms: bool,
    #[arg(long, hide = true)]
    platform: Option<String>,
    #[arg(long, hide = true)]
    digests: bool,
    #[arg(long, hide = true)]
    snapshotter: Option<String>,
    #[arg(long, hide = true)]
    no_unpack: bool,
    #[arg(long, hide = true)]
    local: bool,
    #[arg(long, hide = true)]
    discard_unpacked_layers: bool,
    #[arg(long, hide = true)]
    compress_blobs: bool,
    #[arg(long, hide = true)]
    skip_digest_for_named: bool,
    #[arg(long, hide = true, value_name = "NAME=VALUE")]
    label: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum ImageCall {
    /// Read images from an archive.
    Import {
        #[command(flatten)]
        kept: Kept,
        /// Name of an image that has none in the archive.
        #[arg(long, visible_alias = "index-name", value_name = "NAME")]
        base_name: Option<String>,
        /// The file; - reads standard input.
        file: PathBuf,
    },
    /// Write images into an archive.
    Export {
        #[command(flatten)]
        kept: Kept,
        /// The file; - writes to standard output.
        file: PathBuf,
        /// Names of images.
        #[arg(required = true)]
        images: Vec<String>,
    },
    /// Fetch an image from its registry.
    Pull {
        #[command(flatten)]
        kept: Kept,
        /// Name of the image.
        image: String,
    },
    /// Give an image further names.
    Tag {
        /// Also where the name is another image's.
        #[arg(long)]
        force: bool,
        #[arg(long, hide = true)]
        local: bool,
        /// Name or id of the image.
        image: String,
        /// The new names.
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// List images.
    #[command(visible_alias = "list")]
    Ls {
        /// Print only names.
        #[arg(short, long)]
        quiet: bool,
        /// Only those whose name is, or has: name==NAME, name~=PART.
        filters: Vec<String>,
    },
    /// Remove names.
    #[command(visible_aliases = ["remove", "del", "delete"])]
    Rm {
        #[arg(long, hide = true)]
        sync: bool,
        /// Names of images.
        #[arg(required = true)]
        images: Vec<String>,
    },
    /// Say of each image whether all of it is here.
    Check {
        #[command(flatten)]
        kept: Kept,
        /// Print only names.
        #[arg(short, long)]
        quiet: bool,
        filters: Vec<String>,
    },
}

pub(super) fn run(line: Vec<OsString>) -> anyhow::Result<ExitCode> {
    let cli = Cli::parse_from(line);
    let own = env!("CARGO_PKG_VERSION");
    let Some(Command::Images { call }) = cli.command else {
        let mut out = std::io::stdout().lock();
        if cli.version {
            writeln!(out, "ctr orlop v2.0.0+orlop-{own}")?;
        } else if cli.command.is_some() {
            writeln!(out, "Client:\n  Version:  v2.0.0+orlop-{own}\n  Revision: {own}\n")?;
            writeln!(out, "Server:\n  Version:  v2.0.0+orlop-{own}\n  Revision: {own}")?;
        } else {
            anyhow::bail!("ctr has images here, and nothing else: see ctr images --help");
        }
        return Ok(ExitCode::SUCCESS);
    };
    let address = cli.address.map(|at| at.strip_prefix("unix://").unwrap_or(&at).to_owned());
    let usual = || {
        let there = cli.root.is_none() && std::path::Path::new(super::SOCKET).exists();
        there.then(|| super::SOCKET.to_owned())
    };
    let host = address.or_else(usual);
    let place = Place { host, root: cli.root.clone(), run: cli.run.clone(), ..Place::default() };
    crate::container::with_config(&place, async |config| {
        let door = Door::to_images(&config).await?;
        let done = images(&mut door.images(), &call).await;
        door.close().await;
        done.map(|()| ExitCode::SUCCESS)
    })
}

async fn images(client: &mut Images, call: &ImageCall) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match call {
        ImageCall::Import { base_name, file, .. } => {
            for Sent { id, names } in send_file(client, file).await? {
                let name = match (names.first(), base_name) {
                    (Some(name), _) => name.clone(),
                    (None, Some(base)) => {
                        let request = v1::TagRequest { image: id.clone(), name: base.clone() };
                        client.tag(request).await.map_err(said)?;
                        base.clone()
                    }
                    (None, None) => id.clone(),
                };
                writeln!(out, "unpacking {name} ({id})...done")?;
            }
        }
        ImageCall::Export { file, images, .. } => export_to(client, images, file).await?,
        ImageCall::Pull { image, .. } => {
            fetch(client, image, false).await?;
            writeln!(out, "done")?;
        }
        ImageCall::Tag { image, names, force, .. } => {
            for name in names {
                let taken = listed(client).await?.into_iter().find(|(known, _)| known == name);
                let same = taken.is_none() || *force;
                anyhow::ensure!(same, "image {name} exists already: give --force to replace it");
                let request = v1::TagRequest { image: image.clone(), name: name.clone() };
                client.tag(request).await.map_err(said)?;
                writeln!(out, "{name}")?;
            }
        }
        ImageCall::Ls { quiet, filters } => {
            let mut rows = vec!["REF\tTYPE\tDIGEST\tSIZE\tPLATFORMS\tLABELS".to_owned()];
            for (name, image) in listed(client).await? {
                if !filters.is_empty() && !filters.iter().any(|filter| fits(filter, &name)) {
                    continue;
                }
                if *quiet {
                    writeln!(out, "{name}")?;
                    continue;
                }
                let digest = image.digests.first().and_then(|name| name.split_once('@'));
                let digest = digest.map_or(image.id.as_str(), |(_, digest)| digest);
                let size = crate::show::bytes(image.size);
                let platform = orlop_model::Platform::host();
                rows.push(format!("{name}\tapplication/vnd.oci.image.manifest.v1+json\t{digest}\t{size}\t{platform}\t-"));
            }
            if !quiet {
                crate::show::columns(&mut out, &rows)?;
            }
        }
        ImageCall::Rm { images, .. } => {
            for image in images {
                let request = v1::RemoveRequest { image: image.clone() };
                if !client.remove(request).await.map_err(said)?.into_inner().removed {
                    anyhow::bail!("image {image}: not found");
                }
                writeln!(out, "{image}")?;
            }
        }
        ImageCall::Check { quiet, filters, .. } => {
            let mut rows = vec!["REF\tSTATUS\tUNPACKED".to_owned()];
            for (name, _) in listed(client).await? {
                if filters.is_empty() || filters.iter().any(|filter| fits(filter, &name)) {
                    rows.push(if *quiet { name } else { format!("{name}\tcomplete\ttrue") });
                }
            }
            crate::show::columns(&mut out, &rows[usize::from(*quiet)..])?;
        }
    }
    Ok(())
}

/// Every name with its image, in order.
async fn listed(client: &mut Images) -> anyhow::Result<Vec<(String, v1::ListedImage)>> {
    let all = client.list(v1::ListRequest {}).await.map_err(said)?.into_inner().images;
    let mut names: Vec<_> = all
        .into_iter()
        .flat_map(|image| {
            let names: Vec<_> = image.tags.iter().chain(&image.digests).cloned().collect();
            names.into_iter().map(move |name| (name, image.clone()))
        })
        .collect();
    names.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(names)
}

/// `name==X`, `name~=X`, or a name alone.
fn fits(filter: &str, name: &str) -> bool {
    let bare = |text: &str| text.trim_matches(['"', '\'', '/']).to_owned();
    match filter.split_once("==") {
        Some(("name", wanted)) => name == bare(wanted),
        _ => match filter.split_once("~=") {
            Some(("name", part)) => name.contains(&bare(part)),
            _ => name == filter,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn what_kind_says() {
        Cli::command().debug_assert();
        for line in [
            "ctr --namespace=k8s.io images import --all-platforms --digests --snapshotter=overlayfs -",
            "ctr --namespace=k8s.io images import --all-platforms --no-unpack --digests -",
            "ctr --namespace=k8s.io images tag --force sha256:0123 docker.io/library/app:1",
            "ctr -n k8s.io images rm docker.io/library/app:1",
            "ctr -n k8s.io i ls -q name==docker.io/library/app:1",
            "ctr -n=k8s.io images list",
        ] {
            Cli::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        assert!(fits("name==a", "a") && !fits("name==a", "ab") && fits("name~=b", "abc"));
    }
}
