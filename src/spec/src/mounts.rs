//! Mounts, and the paths of /proc and /sys that are hidden or read-only.

use crate::request::{IdMapping, Mount as Volume, MountSource, Propagation};
use crate::{Inputs, Namespace, SpecError};
use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder, Mount};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Hidden where the client has not said anything about security.
pub const DEFAULT_MASKED_PATHS: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Read-only where the client has not said anything about security.
pub const DEFAULT_READONLY_PATHS: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// File systems first, then the sandbox's files and the volumes together, parents before children.
pub(crate) fn mounts(inputs: &Inputs<'_>) -> Result<Vec<Mount>, SpecError> {
    let volumes = &inputs.container.mounts;
    let taken: BTreeSet<&Path> =
        volumes.iter().map(|volume| volume.container_path.as_path()).collect();
    let hidden = |path: &Path| path.ancestors().any(|parent| taken.contains(parent));
    let mut mounts: Vec<Mount> =
        file_systems(inputs).into_iter().filter(|mount| !hidden(mount.destination())).collect();
    let mut binds: Vec<Mount> = sandbox_files(inputs)
        .into_iter()
        .filter(|mount| !taken.contains(mount.destination().as_path()))
        .collect();
    for volume in volumes {
        binds.push(bind_volume(inputs, volume)?);
    }
    binds.sort_by_key(|mount| mount.destination().components().count());
    mounts.append(&mut binds);
    Ok(mounts)
}

fn mount(destination: &str, kind: &str, source: &Path, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(PathBuf::from(destination))
        .set_typ(Some(kind.to_owned()))
        .set_source(Some(source.to_owned()))
        .set_options(Some(options.iter().map(|&option| option.to_owned()).collect()));
    mount
}

fn file_systems(inputs: &Inputs<'_>) -> Vec<Mount> {
    let mut pts = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    // The group of terminals has to exist in the container.
    if inputs.namespaces.user == Namespace::Host || mapped_group(inputs, TTY) {
        pts.push("gid=5");
    }
    let fs = |at: &str, kind: &str, options: &[&str]| mount(at, kind, Path::new(kind), options);
    let access = if inputs.container.security.privileged { "rw" } else { "ro" };
    vec![
        fs("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        fs("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        fs("/dev/pts", "devpts", &pts),
        fs("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        sysfs(inputs, access),
        fs("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", access]),
    ]
}

/// The group `tty`, by convention.
const TTY: u32 = 5;

fn mapped_group(inputs: &Inputs<'_>, gid: u32) -> bool {
    let user = inputs.sandbox.security.namespaces.user.as_ref();
    user.is_some_and(|user| {
        gid.checked_sub(user.gids.container_id).is_some_and(|at| at < user.gids.length)
    })
}

/// A user namespace may mount sysfs only where it owns the network namespace too; else it sees the
/// host's.
fn sysfs(inputs: &Inputs<'_>, access: &str) -> Mount {
    if inputs.namespaces.user != Namespace::Host && inputs.namespaces.network == Namespace::Host {
        let mut options = vec!["rbind", "rprivate", "nosuid", "noexec", "nodev", access];
        if access == "ro" && inputs.host.recursive_read_only {
            options.push("rro");
        }
        mount("/sys", "bind", Path::new("/sys"), &options)
    } else {
        mount("/sys", "sysfs", Path::new("sysfs"), &["nosuid", "noexec", "nodev", access])
    }
}

fn sandbox_files(inputs: &Inputs<'_>) -> Vec<Mount> {
    let files = inputs.files;
    let access = if inputs.container.security.readonly_rootfs { "ro" } else { "rw" };
    let etc = [
        ("/etc/hosts", &files.hosts),
        ("/etc/hostname", &files.hostname),
        ("/etc/resolv.conf", &files.resolv_conf),
    ];
    let mut mounts: Vec<Mount> = etc
        .into_iter()
        .filter_map(|(at, source)| {
            Some(mount(at, "bind", source.as_deref()?, &["rbind", "rprivate", access]))
        })
        .collect();
    mounts.push(match &files.shm {
        Some(shm) => mount(
            "/dev/shm",
            "bind",
            shm,
            &["rbind", "rprivate", "nosuid", "noexec", "nodev", "rw"],
        ),
        None => mount(
            "/dev/shm",
            "tmpfs",
            Path::new("shm"),
            &["nosuid", "noexec", "nodev", "mode=1777", &shm_size(inputs)],
        ),
    });
    mounts
}

fn shm_size(inputs: &Inputs<'_>) -> String {
    match inputs.container.extras.own_ipc {
        Some(bytes) => format!("size={bytes}"),
        None => "size=65536k".to_owned(),
    }
}

fn bind_volume(inputs: &Inputs<'_>, volume: &Volume) -> Result<Mount, SpecError> {
    let path = || volume.container_path.display().to_string();
    let source = match &volume.source {
        MountSource::Host(source) => source,
        MountSource::Image { sub_path, .. } => return image_volume(inputs, volume, sub_path),
        MountSource::Tmpfs(options) => return Ok(tmpfs(volume, options)),
    };
    let unsupported = |feature| SpecError::MountUnsupported { path: path(), feature };
    let propagation = match volume.propagation {
        Propagation::Private => "rprivate",
        Propagation::HostToContainer => "rslave",
        Propagation::Bidirectional => "rshared",
    };
    let access = match (volume.readonly, volume.recursive_read_only) {
        (_, true) if !inputs.host.recursive_read_only => {
            return Err(unsupported("recursive read-only mounts"));
        }
        (_, true) => "rro",
        (true, false) => "ro",
        (false, false) => "rw",
    };
    let mut options = vec!["rbind", propagation, access];
    let mapped = !volume.uid_mappings.is_empty() || !volume.gid_mappings.is_empty();
    if mapped && !inputs.host.idmapped_mounts {
        return Err(unsupported("id-mapped mounts"));
    }
    if mapped {
        options.push("ridmap");
    }
    let at = path();
    let mut bind = mount(&at, "bind", source, &options);
    if mapped {
        bind.set_uid_mappings(Some(id_mappings(&volume.uid_mappings)?))
            .set_gid_mappings(Some(id_mappings(&volume.gid_mappings)?));
    }
    Ok(bind)
}

/// Memory. What nobody asked for is as people know it: no programs with other rights, no devices.
fn tmpfs(volume: &Volume, asked: &[String]) -> Mount {
    let mut options = vec!["nosuid", "nodev"];
    options.push(if volume.readonly { "ro" } else { "rw" });
    options.extend(asked.iter().map(String::as_str));
    mount(&volume.container_path.display().to_string(), "tmpfs", Path::new("tmpfs"), &options)
}

/// The layers of an image, read-only, or what is at a path in them. In a user namespace its owners are
/// those of the pod's root file system.
fn image_volume(inputs: &Inputs<'_>, volume: &Volume, sub_path: &str) -> Result<Mount, SpecError> {
    let at = volume.container_path.display().to_string();
    let layers = inputs
        .image_volumes
        .get(&volume.container_path)
        .ok_or_else(|| SpecError::ImageMount { path: at.clone() })?;
    let escape =
        |path: &PathBuf| path.display().to_string().replace('\\', r"\\").replace(':', r"\:");
    let lower: Vec<String> = layers.iter().map(escape).collect();
    let mut options =
        vec!["ro".to_owned(), "nodev".to_owned(), format!("lowerdir={}", lower.join(":"))];
    if !sub_path.is_empty() {
        options.push(format!("{SUB_PATH}{sub_path}"));
    }
    let mut made = mount(&at, "overlay", Path::new("overlay"), &[]);
    let mapped = !volume.uid_mappings.is_empty() || !volume.gid_mappings.is_empty();
    if mapped || inputs.namespaces.user != Namespace::Host {
        options.push("idmap".to_owned());
    }
    if mapped {
        made.set_uid_mappings(Some(id_mappings(&volume.uid_mappings)?))
            .set_gid_mappings(Some(id_mappings(&volume.gid_mappings)?));
    }
    made.set_options(Some(options));
    Ok(made)
}

/// An option of overlay mounts that only our shim knows: what is mounted is the part at this path.
const SUB_PATH: &str = "orlop.subpath=";

/// Mappings in OCI's words.
pub(crate) fn id_mappings(mappings: &[IdMapping]) -> Result<Vec<LinuxIdMapping>, SpecError> {
    mappings
        .iter()
        .map(|mapping| {
            let oci = LinuxIdMappingBuilder::default()
                .container_id(mapping.container_id)
                .host_id(mapping.host_id)
                .size(mapping.length);
            Ok(oci.build()?)
        })
        .collect()
}

/// The root's own propagation must let the volumes' through.
pub(crate) fn root_propagation(volumes: &[Volume]) -> Option<String> {
    let widest =
        volumes.iter().map(|volume| volume.propagation).max_by_key(
            |propagation| match propagation {
                Propagation::Private => 0,
                Propagation::HostToContainer => 1,
                Propagation::Bidirectional => 2,
            },
        )?;
    match widest {
        Propagation::Private => None,
        Propagation::HostToContainer => Some("rslave".to_owned()),
        Propagation::Bidirectional => Some("rshared".to_owned()),
    }
}
