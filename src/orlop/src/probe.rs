//! What this host can do, found out by doing it.

use anyhow::Context;
use orlop_api::Abilities;
use orlop_sys::mount::{Attributes, Layers, Mapping, clone_path, idmapped_overlay, set_attributes};
use orlop_sys::process::{IdMap, NamespaceHolder, Namespaces};
use std::os::fd::AsFd;
use std::path::Path;

/// What requests may ask for on this host, with the layers of images in `root`.
pub(crate) fn abilities(systemd: bool, root: &Path) -> Abilities {
    let user_namespaces = match user_namespaces(root) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!("no user namespaces for pods on this host: {error:#}");
            false
        }
    };
    Abilities {
        user_namespaces,
        // Such a pod sees the host's own sysfs.
        user_namespaces_host_network: user_namespaces
            && clone_path(Path::new("/sys"), true).is_ok(),
        recursive_read_only: recursive_read_only(root),
        supplemental_groups: has_capability(SETGID),
        systemd,
    }
}

/// Capability 6: without it nobody's groups can be chosen.
const SETGID: u32 = 6;

fn has_capability(number: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let hex = status.lines().find_map(|line| line.strip_prefix("CapEff:")).map(str::trim);
    hex.and_then(|hex| u64::from_str_radix(hex, 16).ok()).is_some_and(|set| set >> number & 1 == 1)
}

/// Linux 5.12, unless something forbids the call.
fn recursive_read_only(dir: &Path) -> bool {
    let read_only = Attributes::set(Attributes::READ_ONLY);
    clone_path(dir, true).and_then(|tree| set_attributes(tree, read_only, true)).is_ok()
}

/// The root of a container with a user namespace, in small.
fn user_namespaces(root: &Path) -> anyhow::Result<()> {
    let map = [IdMap { inside: 0, outside: 65_536, count: 65_536 }];
    let others = Namespaces::NET.with(Namespaces::IPC).with(Namespaces::UTS);
    let holder = NamespaceHolder::new(others, &map, &map)
        .context("one cannot be made: see user.max_user_namespaces")?;
    let userns = holder.open("user")?;
    let dir = fresh(root)?;
    let made = overlay(&dir, userns.as_fd());
    std::fs::remove_dir_all(&dir).with_context(|| format!("{} stays", dir.display()))?;
    made
}

fn fresh(root: &Path) -> anyhow::Result<std::path::PathBuf> {
    let root = std::fs::canonicalize(root).context("state directory")?;
    let dir = root.join("probe");
    // An earlier daemon may have been killed over it.
    let _ = std::fs::remove_dir_all(&dir);
    for name in ["lower", "upper", "work", "scratch"] {
        std::fs::create_dir_all(dir.join(name)).with_context(|| dir.display().to_string())?;
    }
    Ok(dir)
}

fn overlay(dir: &Path, userns: std::os::fd::BorrowedFd<'_>) -> anyhow::Result<()> {
    let (lower, upper, work) = (dir.join("lower"), dir.join("upper"), dir.join("work"));
    let layers = Layers {
        lowers: &[lower],
        upper: Some((&upper, &work)),
        map_upper: true,
        options: &["volatile".to_owned()],
        attributes: 0,
    };
    let mapping = Mapping { userns, root: (65_536, 65_536) };
    idmapped_overlay(&layers, &mapping, &dir.join("scratch"))
        .map(drop)
        .context("layers cannot be id-mapped: the state directory needs a file system such as ext4 or xfs, the kernel Linux 5.19")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_is_able() {
        let dir = tempfile::tempdir().unwrap();
        let able = abilities(false, dir.path());
        assert!(able.user_namespaces && able.user_namespaces_host_network);
        assert!(able.recursive_read_only && able.supplemental_groups);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn layers_on_a_file_system_without_mappings_are_told() {
        // procfs allows no id mappings; a directory in it cannot even be made.
        let error = user_namespaces(Path::new("/proc")).unwrap_err();
        assert!(format!("{error:#}").contains("/proc"), "{error:#}");
        let error = overlay(Path::new("/proc/self"), holder().as_fd()).unwrap_err();
        assert!(format!("{error:#}").contains("ext4"), "{error:#}");
    }

    fn holder() -> std::os::fd::OwnedFd {
        let map = [IdMap { inside: 0, outside: 65_536, count: 65_536 }];
        NamespaceHolder::new(Namespaces::default(), &map, &map).unwrap().open("user").unwrap()
    }
}
