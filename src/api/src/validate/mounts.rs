//! Volumes and devices.

use super::namespaces::id_mappings;
use super::text::{absolute_path, has_control};
use super::{Abilities, Result, bad, enumeration, missing, unsupported};
use crate::v1;
use orlop_spec::request::{Device, Mount, MountSource, Propagation};
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

const MAX_MOUNTS: usize = 4_096;

/// Files beneath /proc that may be covered, by those who show a container its own limits.
const IN_PROC: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// Volumes, each at a path of its own.
pub(super) fn mounts(raw: &[v1::Mount], able: Abilities) -> Result<Vec<Mount>> {
    if raw.len() > MAX_MOUNTS {
        return Err(bad("mounts", format!("{} mounts", raw.len()), "use at most 4096"));
    }
    let mut taken = BTreeSet::new();
    let mut mounts = Vec::with_capacity(raw.len());
    for (i, mount) in raw.iter().enumerate() {
        let field = format!("mounts[{i}]");
        let mount = one(&field, mount, able)?;
        if !taken.insert(mount.container_path.clone()) {
            let path = mount.container_path.display();
            return Err(bad(format!("{field}.container_path"), path, "mount one volume at a path"));
        }
        mounts.push(mount);
    }
    Ok(mounts)
}

fn one(field: &str, raw: &v1::Mount, able: Abilities) -> Result<Mount> {
    let propagation = match enumeration(&format!("{field}.propagation"), raw.propagation)? {
        v1::MountPropagation::PropagationPrivate => Propagation::Private,
        v1::MountPropagation::PropagationHostToContainer => Propagation::HostToContainer,
        v1::MountPropagation::PropagationBidirectional => Propagation::Bidirectional,
    };
    let source = source(field, raw)?;
    recursive(field, raw, propagation, able)?;
    let uid_mappings = id_mappings(&format!("{field}.uidMappings"), &raw.uid_mappings)?;
    let gid_mappings = id_mappings(&format!("{field}.gidMappings"), &raw.gid_mappings)?;
    if uid_mappings.is_empty() != gid_mappings.is_empty() {
        let value = format!("{} and {} mappings", uid_mappings.len(), gid_mappings.len());
        return Err(bad(format!("{field}.uidMappings"), value, "map users and groups, or neither"));
    }
    Ok(Mount {
        container_path: target(&format!("{field}.container_path"), &raw.container_path)?,
        source,
        readonly: raw.readonly,
        recursive_read_only: raw.recursive_read_only,
        selinux_relabel: raw.selinux_relabel,
        propagation,
        uid_mappings,
        gid_mappings,
    })
}

fn target(field: &str, raw: &str) -> Result<PathBuf> {
    if raw.is_empty() {
        return Err(missing(field, "use an absolute path in the container"));
    }
    let path = absolute_path(field, raw)?;
    if path == Path::new("/") {
        return Err(bad(field, raw, "a volume cannot take the place of the root"));
    }
    if path.starts_with("/proc") && !IN_PROC.iter().any(|known| path == Path::new(known)) {
        return Err(bad(field, raw, "nothing may be mounted at or beneath /proc"));
    }
    Ok(path)
}

fn source(field: &str, raw: &v1::Mount) -> Result<MountSource> {
    match (&raw.image, raw.host_path.as_str()) {
        (None, "") => {
            Err(missing(format!("{field}.host_path"), "use an absolute path on the host"))
        }
        (None, path) => Ok(MountSource::Host(absolute_path(&format!("{field}.host_path"), path)?)),
        (Some(_), path) if !path.is_empty() => {
            Err(bad(format!("{field}.host_path"), path, "set either host_path or image"))
        }
        (Some(_), _) if !raw.readonly => {
            Err(bad(format!("{field}.readonly"), false, "an image can only be mounted read-only"))
        }
        (Some(image), _) => Ok(MountSource::Image {
            image: super::container::image(&format!("{field}.image"), Some(image))?,
            sub_path: sub_path(&format!("{field}.image_sub_path"), &raw.image_sub_path)?,
        }),
    }
}

/// A path in an image: relative, and what `..` means in it is nobody's guess.
fn sub_path(field: &str, raw: &str) -> Result<String> {
    let path = Path::new(raw);
    let plain = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    if !path.components().all(plain) || raw.len() > 4095 || has_control(raw) {
        let remedy =
            "ImageVolumeMountFailed: use a relative path without '..' and control characters";
        return Err(bad(field, raw, remedy));
    }
    let path: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
    Ok(path.display().to_string())
}

fn recursive(
    field: &str,
    raw: &v1::Mount,
    propagation: Propagation,
    able: Abilities,
) -> Result<()> {
    let field = format!("{field}.recursive_read_only");
    match raw.recursive_read_only {
        false => Ok(()),
        true if !raw.readonly => Err(bad(field, true, "set readonly too")),
        true if propagation != Propagation::Private => {
            Err(bad(field, true, "use private propagation with it"))
        }
        true if !able.recursive_read_only => Err(unsupported(
            field,
            true,
            "RROUnsupported: the kernel is too old: Linux 5.12 has it",
        )),
        true => Ok(()),
    }
}

/// Devices; the container path defaults to the host's, the permissions to all.
pub(super) fn devices(raw: &[v1::Device]) -> Result<Vec<Device>> {
    raw.iter().enumerate().map(|(i, device)| one_device(&format!("devices[{i}]"), device)).collect()
}

fn one_device(field: &str, raw: &v1::Device) -> Result<Device> {
    if raw.host_path.is_empty() {
        return Err(missing(format!("{field}.host_path"), "use the absolute path of a device"));
    }
    let host_path = absolute_path(&format!("{field}.host_path"), &raw.host_path)?;
    let container_path = match raw.container_path.as_str() {
        "" => host_path.clone(),
        path => absolute_path(&format!("{field}.container_path"), path)?,
    };
    let letters = &raw.permissions;
    let twice = letters.chars().enumerate().any(|(i, letter)| letters[..i].contains(letter));
    if !letters.bytes().all(|letter| b"rwm".contains(&letter)) || twice {
        return Err(bad(
            format!("{field}.permissions"),
            letters,
            "use letters of \"rwm\", each once",
        ));
    }
    let permissions = if letters.is_empty() { "rwm".to_owned() } else { letters.clone() };
    Ok(Device { container_path, host_path, permissions })
}
