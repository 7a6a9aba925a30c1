//! A container's root file system as one tree: of one that runs as its processes see it, with all
//! that is mounted there; of another one its layers.

use super::ids::Ids;
use crate::container::blocking;
use crate::{Container, Engine, Error, Result};
use orlop_image::Rootfs;
use orlop_lifecycle::{ContainerState, ContainerView};
use orlop_task::{Bundle, Client};
use rustix::fs::{Mode, OFlags};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The tree.
pub(crate) struct Root {
    fd: OwnedFd,
    pub(crate) ids: Ids,
    /// Its processes may change it meanwhile.
    pub(crate) live: bool,
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What is done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    /// The caller keeps the container from being started meanwhile.
    Write,
}

impl Root {
    /// That of a container, whether or not it runs.
    pub(crate) async fn of(engine: &Engine, container: &Container, access: Access) -> Result<Self> {
        let there = engine.attempt(container).filter(|view| alive(view));
        if let Some(view) = there {
            match Self::live(engine, container, &view).await {
                // It has ended in this moment.
                Err(_) if engine.attempt(container).is_none_or(|view| !alive(&view)) => {}
                other => return other,
            }
        }
        let rootfs = layers(engine, container)?;
        let name = container.name();
        let fd = blocking(move || {
            mount(&rootfs, access).map_err(Error::io("mounting the root of", name))
        })
        .await?;
        Ok(Self { fd, ids: Ids::default(), live: false })
    }

    /// As the processes of a container that has some see it.
    pub(crate) async fn live(
        _engine: &Engine,
        container: &Container,
        view: &Arc<ContainerView>,
    ) -> Result<Self> {
        let gone = || Error::State {
            what: "container",
            name: container.name(),
            why: "has just ended: try again".to_owned(),
        };
        let pid = view.pid.ok_or_else(gone)?;
        let path = format!("/proc/{pid}/root");
        let opened = blocking({
            let path = path.clone();
            move || {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let open = || -> io::Result<_> {
                    let fd = rustix::fs::open(path.as_str(), flags, Mode::empty())?;
                    Ok((fd, Ids::of_process(pid)?))
                };
                open().map_err(Error::io("opening", &path))
            }
        });
        let (fd, ids) = opened.await?;
        // The number was its number when it was opened if it still is: its shim has not reaped it.
        let address = Bundle::new(&view.bundle).address()?;
        let state = Client::connect(view.id.as_str(), &address).await?.state("").await?;
        if state.pid != pid || state.exit.is_some() {
            return Err(gone());
        }
        Ok(Self { fd, ids, live: true })
    }

    /// What is at `path`, as a descriptor that reads and wakes nothing; the last link is followed with
    /// `follow`.
    pub(crate) fn find(&self, path: &Path, follow: bool) -> io::Result<OwnedFd> {
        let last = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
        orlop_sys::fs::open_in_root(self.as_fd(), path, OFlags::PATH | last, Mode::empty())
    }
}

fn alive(view: &ContainerView) -> bool {
    matches!(view.state, ContainerState::Created | ContainerState::Running) && view.pid.is_some()
}

/// The layers of a container's root.
pub(crate) fn layers(engine: &Engine, container: &Container) -> Result<Rootfs> {
    let record = container.record();
    engine.images().rootfs(&record.layer()).ok_or_else(|| Error::State {
        what: "container",
        name: record.name.clone(),
        why: "has lost its writable layer: remove it".to_owned(),
    })
}

/// The layers as one tree that no path leads to.
fn mount(rootfs: &Rootfs, access: Access) -> io::Result<OwnedFd> {
    use rustix::mount::MountAttrFlags as Attr;
    let attributes = Attr::MOUNT_ATTR_NODEV | Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NOEXEC;
    let mounted = match access {
        Access::Read => {
            let all: Vec<PathBuf> =
                std::iter::once(&rootfs.upper).chain(&rootfs.lower).cloned().collect();
            let attributes = attributes | Attr::MOUNT_ATTR_RDONLY;
            orlop_sys::mount::overlay(&all, None, &[], attributes.bits().into())
        }
        Access::Write => {
            let upper = (rootfs.upper.as_path(), rootfs.work.as_path());
            orlop_sys::mount::overlay(&rootfs.lower, Some(upper), &[], attributes.bits().into())
        }
    };
    mounted.map_err(io::Error::other)
}
