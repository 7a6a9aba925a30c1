//! Image volumes: the layers of an image, read-only, at a path in a container.

use crate::error::below;
use crate::{Error, ErrorKind, Result};
use orlop_image::ImageStore;
use orlop_spec::request::{ContainerConfig, MountSource};
use orlop_sys::mount::{self, Attributes};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The image volumes of a container.
#[derive(Debug, Default)]
pub(super) struct ImageVolumes {
    /// Layers, top first, by path in the container; never fewer than two.
    pub(super) layers: BTreeMap<PathBuf, Vec<PathBuf>>,
    /// Ids of the images.
    pub(super) ids: BTreeMap<PathBuf, String>,
}

/// Finds the images, takes hold of their layers until [`remove_layers`], and makes sure that what is
/// wanted of each is there.
pub(super) fn take(
    images: &ImageStore,
    id: &str,
    config: &ContainerConfig,
) -> Result<ImageVolumes> {
    let mut volumes = ImageVolumes::default();
    for (number, mount) in config.mounts.iter().enumerate() {
        let MountSource::Image { image: wanted, sub_path } = &mount.source else { continue };
        let fail = |why: String| Error::ImageVolume { image: wanted.image.clone(), why };
        let image = images
            .get(&wanted.image)
            .ok_or_else(|| fail("it is not present on this node: pull it first".to_owned()))?;
        let root = images.create_rootfs(&image.id, &key(id, number)).map_err(|error| {
            below("taking hold of the layers", wanted.image.as_str(), ErrorKind::Internal, error)
        })?;
        // The empty directory below all: overlayfs wants two.
        let layers: Vec<PathBuf> = root.lower.into_iter().chain([root.upper]).collect();
        if !sub_path.is_empty() {
            check(&layers, Path::new(sub_path))
                .map_err(|why| fail(format!("{sub_path:?} {why}")))?;
        }
        volumes.layers.insert(mount.container_path.clone(), layers);
        volumes.ids.insert(mount.container_path.clone(), image.id.to_string());
    }
    Ok(volumes)
}

fn key(id: &str, number: usize) -> String {
    format!("{id}.{number}")
}

/// Looks for the path in the layers together, as the container will see them.
fn check(layers: &[PathBuf], path: &Path) -> std::result::Result<(), String> {
    let tree = mount::overlay(layers, None, &[], Attributes::READ_ONLY)
        .map_err(|error| format!("cannot be looked for: {error}"))?;
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    match rustix::fs::openat2(&tree, path, flags, Mode::empty(), how) {
        Ok(_) => Ok(()),
        Err(Errno::NOENT | Errno::NOTDIR) => Err("is not in the image".to_owned()),
        Err(Errno::XDEV | Errno::LOOP) => Err("leads out of the image".to_owned()),
        Err(errno) => Err(format!("cannot be opened: {}", std::io::Error::from(errno))),
    }
}

/// Removes the writable layer of a container and lets go of all layers that it uses.
pub(crate) fn remove_layers(images: &ImageStore, id: &str, config: &ContainerConfig) -> Result<()> {
    let fail = |error| below("removing the root file system", id, ErrorKind::Internal, error);
    for (number, mount) in config.mounts.iter().enumerate() {
        if matches!(mount.source, MountSource::Image { .. }) {
            images.remove_rootfs(&key(id, number)).map_err(fail)?;
        }
    }
    if config.extras.layer.is_some() {
        return Ok(());
    }
    images.remove_rootfs(id).map_err(fail)
}
