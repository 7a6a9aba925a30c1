//! Volumes at use: what mounts something elsewhere is mounted while a container has it, and a part of a
//! volume is bound by descriptor.

use super::VolumeRecord;
use crate::engine::Inner;
use crate::spec::{Mount, MountSource};
use crate::{Error, Record, Result};
use orlop_model::ContainerId;
use orlop_sys::fs::{open_beneath, open_dir};
use orlop_sys::mount::{
    Attributes, Filesystem, attach_path, clone_path, clone_tree, detach, mount_table,
    set_attributes,
};
use rustix::fs::{FileType, Mode, OFlags};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

impl Inner {
    /// Where what a container sees of a volume is on the host, mounted. `number` tells its mounts apart.
    /// Blocks.
    pub(crate) fn volume_path(
        &self,
        record: &Record,
        number: usize,
        mount: &Mount,
    ) -> Result<PathBuf> {
        let MountSource::Volume { name: Some(name), sub_path, .. } = &mount.source else {
            return Err(Error::Background("a volume without a name".into()));
        };
        let volume = self.volumes.find(name)?;
        let data = self.volumes.data(name);
        if !volume.spec.options.is_empty() && !is_mounted(&data)? {
            mount_volume(&volume, &data)?;
        }
        if sub_path.is_empty() {
            return Ok(data);
        }
        let place = self.parts(&record.id).join(number.to_string());
        bind_part(&volume, &data, sub_path, &place)?;
        Ok(place)
    }

    /// Lets go of what was mounted for a container, as far as no other one that lives has it. Blocks.
    pub(crate) fn release_volumes(&self, record: &Record) -> Result<()> {
        let parts = self.parts(&record.id);
        if let Ok(entries) = std::fs::read_dir(&parts) {
            for entry in entries.flatten() {
                unmount_all(&entry.path())?;
                // Directory or file: a place of ours, and empty.
                let _ = std::fs::remove_dir(entry.path());
                let _ = std::fs::remove_file(entry.path());
            }
            let _ = std::fs::remove_dir(&parts);
        }
        for name in super::names(record) {
            let Ok(volume) = self.volumes.find(name) else { continue };
            if !volume.spec.options.is_empty() && !self.is_in_use(name, &record.id) {
                unmount_all(&self.volumes.data(name))?;
            }
        }
        Ok(())
    }

    fn parts(&self, id: &ContainerId) -> PathBuf {
        self.options.run.join("volumes").join(id.as_str())
    }

    /// Whether another container with an attempt has it.
    fn is_in_use(&self, name: &str, but: &ContainerId) -> bool {
        self.index.all().into_iter().any(|container| {
            let record = container.record();
            record.id != *but
                && record.attempt.is_some()
                && super::names(&record).any(|other| other == name)
        })
    }
}

/// Whatever is mounted at a path, until nothing is.
pub(super) fn unmount_all(path: &Path) -> Result<()> {
    while is_mounted(path)? {
        detach(path).map_err(|error| Error::io("unmounting", path)(io::Error::from(error)))?;
    }
    Ok(())
}

fn is_mounted(path: &Path) -> Result<bool> {
    let table = mount_table();
    let table =
        table.map_err(|error| Error::io("reading the mounts for", path)(io::Error::from(error)))?;
    Ok(table.iter().any(|entry| entry.target == path))
}

/// Binds a part of a volume: what was looked up is what is bound, whatever others who have the volume
/// make of the path meanwhile. Links in the path are refused.
fn bind_part(volume: &VolumeRecord, data: &Path, part: &str, place: &Path) -> Result<()> {
    let wrong = |error: io::Error| Error::Invalid {
        field: "volume-subpath",
        value: part.to_owned(),
        why: format!("volume {:?} has no such directory or file ({error})", volume.name()),
    };
    let dir = open_dir(data).map_err(Error::io("opening", data))?;
    let part = open_beneath(dir.as_fd(), part, OFlags::PATH, Mode::empty()).map_err(wrong)?;
    let stat = rustix::fs::fstat(&part).map_err(|error| wrong(error.into()))?;
    unmount_all(place)?;
    let above = place.parent().unwrap_or(place);
    std::fs::create_dir_all(above).map_err(Error::io("making directory", above))?;
    let made = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => std::fs::create_dir(place),
        _ => std::fs::write(place, []),
    };
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(Error::io("making", place)(error));
        }
        _ => {}
    }
    let bound = clone_tree(&part, true).and_then(|tree| attach_path(&tree, place));
    bound.map_err(|error| Error::io("binding a part of a volume at", place)(io::Error::from(error)))
}

/// Mounts what `type`, `device` and `o` say, as mount(8) would.
fn mount_volume(volume: &VolumeRecord, data: &Path) -> Result<()> {
    let option = |name: &str| volume.spec.options.get(name).map_or("", String::as_str);
    let (kind, device) = (option("type"), option("device"));
    let mut attributes = Attributes::default();
    let (mut bind, mut rest) = (None, Vec::new());
    for word in option("o").split(',').filter(|word| !word.is_empty()) {
        match (word, Attributes::parse(word)) {
            ("bind", _) => bind = Some(false),
            ("rbind", _) => bind = Some(true),
            (_, Some(attribute)) => attributes = attributes.then(attribute),
            // Of mount(8) alone.
            ("defaults" | "auto" | "noauto" | "async" | "user" | "nouser" | "_netdev", None) => {}
            (word, None) => rest.push(word),
        }
    }
    let tree = match bind {
        Some(recursive) => clone_path(Path::new(device), recursive),
        None => Filesystem::open(kind).and_then(|filesystem| {
            if !device.is_empty() {
                filesystem.string("source", device.as_bytes())?;
            }
            rest.iter().try_for_each(|word| filesystem.option(word).map(drop))?;
            filesystem.mount(0)
        }),
    };
    let mounted = tree.and_then(|tree| {
        if !attributes.is_empty() {
            set_attributes(&tree, attributes, false)?;
        }
        attach_path(&tree, data)
    });
    mounted.map_err(|error| Error::State {
        what: "volume",
        name: volume.name().to_owned(),
        why: format!("cannot be mounted ({error}): see its type, device and o in volume inspect"),
    })
}
