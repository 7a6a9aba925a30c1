//! Files of containers: copied out and in, packed, compared with the image. Whatever a container can
//! change is reached through descriptors beneath its root only.

mod changes;
mod clone;
mod ids;
mod pack;
mod root;
mod unpack;

pub use changes::{Change, ChangeKind};
pub use clone::clone_layer;
pub use pack::Packer;
pub(crate) use root::Root;
pub use unpack::Unpacker;

use crate::container::blocking;
use crate::{Container, Engine, Error, Result};
use orlop_image::Rootfs;
use root::Access;
use rustix::fs::{FileType, fstat, readlinkat};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

/// What is at a path of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileStat {
    /// Last component of the path as asked for; first component of all names in the archive.
    pub name: String,
    /// `st_mode`.
    pub mode: u32,
    /// Bytes.
    pub size: u64,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Of a link: where it leads.
    pub link: String,
}

impl FileStat {
    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        FileType::from_raw_mode(self.mode) == FileType::Directory
    }

    /// Whether it is a symbolic link.
    pub fn is_link(&self) -> bool {
        FileType::from_raw_mode(self.mode) == FileType::Symlink
    }
}

/// Something of a container that can be packed.
pub struct Source {
    /// What it is.
    pub stat: FileStat,
    root: Root,
    found: OwnedFd,
    one_mount: bool,
}

impl Source {
    /// Writes the archive. Blocking.
    pub fn write(self, out: impl Write) -> io::Result<()> {
        let mut packer = Packer::with(out, self.root.ids.clone(), self.one_mount);
        packer.add(&self.found, Path::new(&self.stat.name))?;
        packer.finish().map(drop)
    }
}

impl Engine {
    /// What is at `path` of a container; its last link is followed with `follow`, or where the path ends
    /// in a slash.
    pub async fn copy_out(
        &self,
        container: &Container,
        path: &str,
        follow: bool,
    ) -> Result<Source> {
        let root = Root::of(self, container, Access::Read).await?;
        let path = path.to_owned();
        blocking(move || {
            let slash = path.ends_with('/') || path.ends_with("/.");
            let asked = Path::new("/").join(&path);
            let failed = |error: io::Error| Error::in_container(&path, error);
            let found = root.find(&asked, follow || slash).map_err(failed)?;
            let stat = describe(&found, &asked).map_err(failed)?;
            if slash && !stat.is_dir() {
                return Err(failed(rustix::io::Errno::NOTDIR.into()));
            }
            Ok(Source { stat, root, found, one_mount: false })
        })
        .await
    }

    /// The whole root of a container, without what is mounted in it.
    pub async fn export(&self, container: &Container) -> Result<Source> {
        let root = Root::of(self, container, Access::Read).await?;
        blocking(move || {
            let failed = |error: io::Error| Error::in_container("/", error);
            let found = root.find(Path::new("/"), true).map_err(failed)?;
            let stat = FileStat { name: ".".to_owned(), ..FileStat::default() };
            Ok(Source { stat, root, found, one_mount: true })
        })
        .await
    }

    /// Unpacks a tar stream into the directory `path` of a container. Owners are those of the archive
    /// with `keep`, else root's.
    pub async fn copy_in(
        &self,
        container: &Container,
        path: &str,
        keep: bool,
        archive: impl Read + Send + 'static,
    ) -> Result<()> {
        // One that does not run must not be started meanwhile: its layer would have two mounts.
        let turn = container.turn.lock().await;
        let root = Root::of(self, container, Access::Write).await?;
        let _turn = (!root.live).then_some(turn);
        if container.record().spec.read_only && !root.live {
            return Err(Error::State {
                what: "container",
                name: container.name(),
                why: "has a root that cannot be written".to_owned(),
            });
        }
        let path = path.to_owned();
        blocking(move || {
            let target = Path::new("/").join(&path);
            let failed = |error: io::Error| Error::in_container(&path, error);
            let found = root.find(&target, true).map_err(failed)?;
            if !describe(&found, &target).map_err(failed)?.is_dir() {
                return Err(failed(rustix::io::Errno::NOTDIR.into()));
            }
            let unpacker = Unpacker::in_container(root.as_fd(), &target, root.ids.clone(), keep);
            unpacker.unpack(archive).map(drop).map_err(failed)
        })
        .await
    }

    /// Paths of a container that differ from its image.
    pub async fn diff(&self, container: &Container) -> Result<Vec<Change>> {
        let rootfs = root::layers(self, container)?;
        let (places, name) = (self.places(container), container.name());
        blocking(move || {
            changes::changes(&rootfs, &places).map_err(Error::io("comparing the layer of", name))
        })
        .await
    }

    /// A container's layers.
    pub fn layers(&self, container: &Container) -> Result<Rootfs> {
        root::layers(self, container)
    }

    /// Where something is mounted in a container, without the leading slash: the runtime makes these
    /// places in its layer.
    pub fn places(&self, container: &Container) -> Vec<PathBuf> {
        const ALWAYS: [&str; 10] = [
            "proc",
            "sys",
            "dev",
            "dev/pts",
            "dev/shm",
            "dev/mqueue",
            "dev/console",
            "etc/hosts",
            "etc/hostname",
            "etc/resolv.conf",
        ];
        let record = container.record();
        let volumes = self.images().get(record.image.as_str()).map(|image| {
            let config = image.config.config().clone().unwrap_or_default();
            config.volumes().clone().unwrap_or_default()
        });
        let asked = record.spec.mounts.iter().map(|mount| mount.target.clone());
        let declared = volumes.into_iter().flatten().map(PathBuf::from);
        let targets = asked.chain(declared).flat_map(|target| {
            let plain: PathBuf =
                target.components().filter(|part| matches!(part, Component::Normal(_))).collect();
            // A place's parents are made with it.
            plain.ancestors().map(Path::to_path_buf).collect::<Vec<_>>()
        });
        let all = ALWAYS.into_iter().map(PathBuf::from).chain(["etc".into()]).chain(targets);
        all.filter(|path| !path.as_os_str().is_empty()).collect()
    }
}

fn describe(found: &OwnedFd, asked: &Path) -> io::Result<FileStat> {
    let stat = fstat(found)?;
    let link = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => {
            let link = readlinkat(found, "", Vec::new())?.into_bytes();
            OsString::from_vec(link).to_string_lossy().into_owned()
        }
        _ => String::new(),
    };
    let name = match asked.components().next_back() {
        Some(Component::Normal(name)) if !asked.as_os_str().as_encoded_bytes().ends_with(b"/.") => {
            name.to_string_lossy().into_owned()
        }
        _ => ".".to_owned(),
    };
    Ok(FileStat {
        name,
        mode: stat.st_mode,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mtime: stat.st_mtime as i64,
        link,
    })
}

/// A path to what the descriptor is, for calls that take none.
fn own_path(fd: &impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}
