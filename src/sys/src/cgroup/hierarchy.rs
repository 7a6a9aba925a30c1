//! Which control group hierarchies the host has, and where.

use super::unit::Unit;
use crate::error::Result;
use crate::mount::{MountEntry, mount_table};
use std::path::{Path, PathBuf};

/// How the host mounts its control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Controllers on v1 only.
    V1,
    /// Controllers on v1, and a unified hierarchy (with few or none) beside them.
    Hybrid,
    /// The unified hierarchy holds the controllers.
    V2,
}

/// A v1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Legacy {
    pub(super) controllers: Vec<String>,
    pub(super) mount: PathBuf,
}

/// What the host has, read once from `/proc/self/mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchies {
    /// The layout.
    pub layout: Layout,
    pub(super) legacy: Vec<Legacy>,
    pub(super) unified: Option<PathBuf>,
    /// Named hierarchies, such as systemd's: we make nothing there, other OCI runtimes do.
    named: Vec<PathBuf>,
}

/// The controllers that limits are for. Named hierarchies and those without limits are left alone.
const CONTROLLERS: [&str; 11] = [
    "cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "hugetlb",
    "net_cls", "net_prio",
];

impl Hierarchies {
    /// Reads the host's mounts.
    pub fn detect() -> Result<Self> {
        Ok(Self::from_mounts(&mount_table()?))
    }

    /// Names of the controllers that there are, on any hierarchy.
    pub fn controllers(&self) -> Vec<String> {
        let file = self.unified.as_ref().map(|mount| mount.join("cgroup.controllers"));
        let unified = file.and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
        let legacy = self.legacy.iter().flat_map(|legacy| legacy.controllers.iter().cloned());
        legacy.chain(unified.split_whitespace().map(str::to_owned)).collect()
    }

    fn from_mounts(mounts: &[MountEntry]) -> Self {
        let mut legacy: Vec<Legacy> = Vec::new();
        let mut unified = None;
        let mut named = Vec::new();
        for mount in mounts {
            match mount.kind.as_str() {
                "cgroup2" if unified.is_none() => unified = Some(mount.target.clone()),
                "cgroup" => {
                    let options = mount.super_options.split(',');
                    if options.clone().any(|option| option.starts_with("name=")) {
                        named.push(mount.target.clone());
                    }
                    let controllers: Vec<String> = options
                        .filter(|option| CONTROLLERS.contains(option))
                        .map(str::to_owned)
                        .collect();
                    if !controllers.is_empty()
                        && !legacy.iter().any(|known| known.controllers == controllers)
                    {
                        legacy.push(Legacy { controllers, mount: mount.target.clone() });
                    }
                }
                _ => {}
            }
        }
        let layout = match (legacy.is_empty(), &unified) {
            (true, _) => Layout::V2,
            (false, Some(_)) => Layout::Hybrid,
            (false, None) => Layout::V1,
        };
        Self { layout, legacy, unified, named }
    }

    /// The v1 directories and the unified one of the group at `path` (absolute).
    pub(super) fn directories(&self, path: &Path) -> (Vec<Legacy>, Option<PathBuf>) {
        let below = path.strip_prefix("/").unwrap_or(path);
        let at = |legacy: &Legacy| Legacy { mount: legacy.mount.join(below), ..legacy.clone() };
        (self.legacy.iter().map(at).collect(), self.unified.as_ref().map(|mount| mount.join(below)))
    }

    fn everywhere(&self, path: &Path) -> impl Iterator<Item = PathBuf> {
        let (legacy, unified) = self.directories(path);
        legacy.into_iter().map(|legacy| legacy.mount).chain(unified)
    }

    /// The group at `path` and those above it, as far as no hierarchy has them yet; the outermost
    /// first. What is made later can be given back by [`Self::prune`]. Slices are named and not paths.
    pub fn missing(&self, path: &str) -> Vec<String> {
        if let Some(unit) = Unit::parse(path) {
            let mut slices = unit.slices();
            slices.retain(|slice| !self.has(slice));
            return slices;
        }
        let Some(path) = parse_path(path) else { return Vec::new() };
        let above = path.ancestors().filter(|above| above.parent().is_some());
        let mut missing: Vec<String> = above
            .take_while(|above| !self.everywhere(above).any(|directory| directory.exists()))
            .map(|above| above.display().to_string())
            .collect();
        missing.reverse();
        missing
    }

    fn has(&self, path: &str) -> bool {
        parse_path(path).is_some_and(|path| self.everywhere(&path).any(|found| found.exists()))
    }

    /// Removes groups of groups that nothing is in any more, the last of `paths` first. One that is
    /// in use stays, and so does every one above it.
    pub fn prune(&self, paths: &[String]) {
        for text in paths.iter().rev() {
            let Some(path) = parse_path(text) else { continue };
            for directory in self.everywhere(&path) {
                let _ = rustix::fs::rmdir(&directory);
            }
            self.prune_named(&path);
            // Whatever begins in the slice at this moment is not stopped with it, and starts it again.
            if let Some(unit) = Unit::parse(text)
                && !self.has(text)
            {
                let _ = unit.forget();
            }
        }
    }

    /// Removes the group that another OCI runtime made above a container of ours where we make none,
    /// if nothing is in it any more.
    pub fn prune_others(&self, path: &str) {
        if let Some(path) = parse_path(path) {
            self.prune_named(&path);
        }
    }

    fn prune_named(&self, path: &Path) {
        let below = path.strip_prefix("/").unwrap_or(path);
        for mount in &self.named {
            let _ = rustix::fs::rmdir(mount.join(below));
        }
    }
}

/// The path of a group below the root of each hierarchy: as given, or of the unit that is named.
/// `None` when it is neither, or would leave the hierarchy.
pub(super) fn parse_path(text: &str) -> Option<PathBuf> {
    let path = match Unit::parse(text) {
        Some(unit) => unit.path()?,
        None if text.contains(':') && !text.starts_with('/') => return None,
        None => Path::new("/").join(text),
    };
    let plain = path.components().all(|part| {
        matches!(part, std::path::Component::Normal(_) | std::path::Component::RootDir)
    });
    (plain && path != Path::new("/") && !text.contains('\0')).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_both_drivers() {
        for (text, path) in [
            ("/kubepods/pod1/c", Some("/kubepods/pod1/c")),
            ("kubepods/c", Some("/kubepods/c")),
            (
                "kubepods-burstable-pod1.slice:orlop:abc",
                Some(
                    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/orlop-abc.scope",
                ),
            ),
            (":orlop:abc", Some("/system.slice/orlop-abc.scope")),
            ("-.slice::abc", Some("/abc.scope")),
            ("a.slice:p:a-b.slice", Some("/a.slice/a-b.slice")),
            ("orlop-pod.slice", Some("/orlop.slice/orlop-pod.slice")),
            ("/orlop-pod.slice", Some("/orlop-pod.slice")),
            ("/", None),
            ("", None),
            ("/a/../../b", None),
            ("a--b.slice:p:c", None),
            ("a:p:c", None),
            ("a.slice:p:../c", None),
        ] {
            assert_eq!(parse_path(text), path.map(PathBuf::from), "{text}");
        }
    }

    #[test]
    fn layouts() {
        let mount = |kind: &str, target: &str, options: &str| MountEntry {
            id: 0,
            root: PathBuf::from("/"),
            target: PathBuf::from(target),
            options: "rw".to_owned(),
            kind: kind.to_owned(),
            source: "cgroup".to_owned(),
            super_options: options.to_owned(),
        };
        let v2 = [mount("cgroup2", "/sys/fs/cgroup", "rw,nsdelegate")];
        assert_eq!(Hierarchies::from_mounts(&v2).layout, Layout::V2);
        let joint = mount("cgroup", "/sys/fs/cgroup/cpu,cpuacct", "rw,cpu,cpuacct");
        let named = mount("cgroup", "/sys/fs/cgroup/systemd", "rw,xattr,name=systemd");
        let v1 = Hierarchies::from_mounts(&[joint.clone(), named]);
        assert_eq!((v1.layout, v1.legacy.len()), (Layout::V1, 1));
        assert_eq!(v1.named, [PathBuf::from("/sys/fs/cgroup/systemd")]);
        let hybrid =
            Hierarchies::from_mounts(&[joint, mount("cgroup2", "/sys/fs/cgroup/unified", "rw")]);
        assert_eq!(hybrid.layout, Layout::Hybrid);
    }
}
