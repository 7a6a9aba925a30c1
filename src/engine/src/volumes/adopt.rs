//! The volumes of a container that is being made: those it names are there afterwards, and those it
//! does not name have one.

use super::{VolumeRecord, copy};
use crate::container::blocking;
use crate::engine::Inner;
use crate::spec::{ContainerSpec, Mount, MountSource, VolumeSpec};
use crate::{Merged, Record, Result, names};
use orlop_model::Timestamp;
use rand::RngCore;
use std::fmt::Write;
use std::path::{Component, Path, PathBuf};

/// Volumes that were made for a container.
#[derive(Debug, Default)]
pub(crate) struct Adopted(Vec<String>);

impl Adopted {
    /// The container could not be made: they go again.
    pub(crate) fn undo(self, inner: &Inner) {
        for name in self.0 {
            if let Err(error) = inner.volumes.forget(&name) {
                tracing::warn!(volume = name, %error, "not removed");
            }
        }
    }
}

/// Gives a name to every volume of `spec`, which the image's are added to, and makes what is missing.
pub(crate) async fn adopt(
    inner: &Inner,
    spec: &mut ContainerSpec,
    merged: &Merged,
) -> Result<Adopted> {
    for path in &merged.volumes {
        let Some(target) = plain(path) else { continue };
        // Whatever is mounted there is in its place.
        if !spec.mounts.iter().any(|mount| mount.target == target) {
            let (name, no_copy, sub_path) = (None, false, String::new());
            let source = MountSource::Volume { name, no_copy, sub_path };
            spec.mounts.push(Mount { target, source, read_only: false });
        }
    }
    let _turn = inner.volumes.turn.lock().await;
    let mut adopted = Adopted::default();
    for mount in &mut spec.mounts {
        let MountSource::Volume { name, .. } = &mut mount.source else { continue };
        let anonymous = name.is_none();
        let wanted = name.get_or_insert_with(draw).clone();
        if inner.volumes.find(&wanted).is_ok() {
            continue;
        }
        let made = names::check(&wanted).and_then(|()| {
            let spec = VolumeSpec { name: wanted.clone(), ..VolumeSpec::default() };
            inner.volumes.keep(VolumeRecord { spec, created_at: Timestamp::now(), anonymous })
        });
        if let Err(error) = made {
            adopted.undo(inner);
            return Err(error);
        }
        adopted.0.push(wanted);
    }
    Ok(adopted)
}

/// An image may say anything.
fn plain(text: &str) -> Option<PathBuf> {
    let path = Path::new(text);
    let named = |part| matches!(part, Component::RootDir | Component::Normal(_));
    let clean: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
    let fits = path.is_absolute() && clean.components().all(named) && clean != Path::new("/");
    (fits && !text.contains('\0')).then_some(clean)
}

/// A name for a volume that has none.
pub(super) fn draw() -> String {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Copies what the image has at the place of a volume into it, where that is empty: names, owners, modes
/// and all. Volumes that mount something else are left alone.
pub(crate) async fn populate(inner: &Inner, record: &Record) -> Result<()> {
    let mut work = Vec::new();
    for mount in &record.spec.mounts {
        if let MountSource::Volume { name: Some(name), no_copy: false, sub_path } = &mount.source
            && sub_path.is_empty()
            && inner.volumes.find(name)?.spec.options.is_empty()
        {
            work.push((mount.target.clone(), inner.volumes.data(name)));
        }
    }
    let Some(root) = inner.images.rootfs(&record.layer()).filter(|_| !work.is_empty()) else {
        return Ok(());
    };
    // Nobody else fills one meanwhile.
    let _turn = inner.volumes.turn.lock().await;
    blocking(move || {
        let layers = copy::layers(&root.lower)?;
        work.iter().try_for_each(|(target, data)| copy::into_volume(&layers, target, data))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_images() {
        for (text, path) in [
            ("/data", Some("/data")),
            ("/data/", Some("/data")),
            ("/a/./b", Some("/a/b")),
            ("data", None),
            ("/", None),
            ("/a/../b", None),
            ("", None),
            ("/a\0b", None),
        ] {
            assert_eq!(plain(text), path.map(PathBuf::from), "{text:?}");
        }
        assert_eq!(draw().len(), 64);
    }
}
