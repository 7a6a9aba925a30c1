//! Control groups: v1, hybrid and v2, by the files themselves (docs/decisions/0001-cgroups.md).

mod bpf;
mod devices;
mod files;
mod hierarchy;
mod lifecycle;
mod limits;
mod meter;
mod oom;
mod unit;
mod usage;

pub use hierarchy::{Hierarchies, Layout};
pub use meter::{Detail, DeviceTraffic, Faults, Memory, Meter, Pressure, Sample, Stall};
pub use oom::OomNotifier;
pub use usage::Usage;

use crate::error::{Context, Error, Result};
use crate::process::Placeholder;
use hierarchy::Legacy;
use oci_spec::runtime::LinuxResources;
use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use unit::Unit;

/// One control group in every hierarchy.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    layout: Layout,
    legacy: Vec<Legacy>,
    unified: Option<(PathBuf, OwnedFd)>,
    /// Where systemd manages it.
    unit: Option<Unit>,
    /// Keeps a new scope from ending before the first process is in it.
    placeholder: Option<Placeholder>,
    /// Kills for memory at the last look, in it and in the group above; kept for units only.
    seen_oom_kills: (AtomicU64, AtomicU64),
}

impl Cgroup {
    /// Creates the group at `path` and sets its limits: `/a/b/c` below the hierarchy's root, or, made
    /// by systemd, `slice:prefix:name` (a scope) or `name.slice`; the latter two only on v2. A scope
    /// wants a process in it before [`Self::inhabited`] is called or this is dropped. `None` is for a group of groups, such as a pod's: it gets no limits and
    /// no device rules, because on v1 a group below cannot be allowed what the one above denies.
    /// `Some` is for a container: without device rules of its own it gets the default devices only.
    /// Whatever was made is removed when it fails.
    pub fn create(
        hierarchies: &Hierarchies,
        path: &str,
        resources: Option<&LinuxResources>,
    ) -> Result<Self> {
        if let Some(unit) = Unit::parse(path) {
            return Self::create_unit(hierarchies, unit, resources);
        }
        let path = hierarchy::parse_path(path).ok_or_else(|| bad_path(path))?;
        let (legacy, unified) = hierarchies.directories(&path);
        let mut made = Vec::new();
        let result = make(hierarchies, &legacy, unified.as_deref(), &mut made).and_then(|()| {
            let group = Self::with(hierarchies.layout, path, None, legacy, unified)?;
            if let Some(resources) = resources {
                limits::apply(&group, resources, limits::Kind::New)?;
            }
            Ok(group)
        });
        if result.is_err() {
            for directory in made.iter().rev() {
                let _ = std::fs::remove_dir(directory);
            }
        }
        result
    }

    /// What fails leaves a scope to systemd, which ends it for want of processes.
    fn create_unit(
        hierarchies: &Hierarchies,
        unit: Unit,
        resources: Option<&LinuxResources>,
    ) -> Result<Self> {
        let path = unit.path().ok_or_else(|| bad_path(""))?;
        if hierarchies.layout != Layout::V2 {
            let object = format!("{}: the systemd driver needs cgroup v2", path.display());
            return Err(Error::new("cgroup", object, libc::ENOTSUP));
        }
        let placeholder = unit.start(resources)?;
        let (legacy, unified) = hierarchies.directories(&path);
        let mut group = Self::with(hierarchies.layout, path, Some(unit), legacy, unified)?;
        group.placeholder = placeholder;
        // The first look, for later ones to compare with.
        let _ = group.oom_kills();
        if let Some(resources) = resources {
            limits::apply(&group, resources, limits::Kind::New)?;
        }
        Ok(group)
    }

    /// A process of the container is in it now, so nothing else has to be.
    pub fn inhabited(&mut self) {
        self.placeholder = None;
    }

    /// The group at `path`, which exists.
    pub fn open(hierarchies: &Hierarchies, path: &str) -> Result<Self> {
        let unit = Unit::parse(path);
        let path = hierarchy::parse_path(path).ok_or_else(|| bad_path(path))?;
        let (legacy, unified) = hierarchies.directories(&path);
        Self::with(hierarchies.layout, path, unit, legacy, unified)
    }

    fn with(
        layout: Layout,
        path: PathBuf,
        unit: Option<Unit>,
        legacy: Vec<Legacy>,
        unified: Option<PathBuf>,
    ) -> Result<Self> {
        let open = |directory: PathBuf| -> Result<(PathBuf, OwnedFd)> {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let name = || directory.display().to_string();
            let fd = rustix::fs::open(&directory, flags, Mode::empty()).context("open", name)?;
            Ok((directory, fd))
        };
        let unified = unified.map(open).transpose()?;
        Ok(Self {
            path,
            layout,
            legacy,
            unified,
            unit,
            placeholder: None,
            seen_oom_kills: Default::default(),
        })
    }

    /// Its path below the root of each hierarchy.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Changes limits; what `resources` does not name stays.
    pub fn update(&self, resources: &LinuxResources) -> Result<()> {
        if let Some(unit) = &self.unit {
            unit.update(resources)?;
        }
        limits::apply(self, resources, limits::Kind::Update)
    }

    /// The unified directory for CLONE_INTO_CGROUP, where there is one.
    pub fn unified(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(|(_, fd)| fd.as_fd())
    }

    /// The v1 `tasks` files, open for a process that joins itself: a single thread that writes "0"
    /// does not wait for the kernel's grace period, unlike a write of its number by someone else.
    pub fn tasks_files(&self) -> Result<Vec<OwnedFd>> {
        let open = |legacy: &Legacy| {
            let path = legacy.mount.join("tasks");
            rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
                .context("open", || path.display().to_string())
        };
        self.legacy.iter().map(open).collect()
    }

    /// What a container may see of it: directory under `/sys/fs/cgroup` (empty: itself), further
    /// names of that directory, and the group's directory on the host.
    pub fn views(&self) -> Vec<(String, Vec<String>, PathBuf)> {
        if self.layout == Layout::V2 {
            return self
                .unified
                .iter()
                .map(|(directory, _)| (String::new(), Vec::new(), directory.clone()))
                .collect();
        }
        let view = |legacy: &Legacy| {
            let name = legacy.controllers.join(",");
            let links =
                if legacy.controllers.len() > 1 { legacy.controllers.clone() } else { Vec::new() };
            (name, links, legacy.mount.clone())
        };
        self.legacy.iter().map(view).collect()
    }

    /// The v1 directory of a controller.
    fn legacy(&self, controller: &str) -> Option<&Path> {
        let has = |legacy: &&Legacy| legacy.controllers.iter().any(|name| name == controller);
        self.legacy.iter().find(has).map(|legacy| legacy.mount.as_path())
    }

    /// The unified directory.
    fn unified_dir(&self) -> Option<&Path> {
        self.unified.as_ref().map(|(directory, _)| directory.as_path())
    }

    /// The directory that holds the controllers on v2.
    fn v2(&self) -> Option<&Path> {
        self.unified_dir().filter(|_| self.layout == Layout::V2)
    }
}

fn bad_path(path: &str) -> Error {
    Error::new(
        "cgroup path",
        format!("{path:?}: use /a/b, slice:prefix:name or a.slice"),
        libc::EINVAL,
    )
}

/// Makes the directories, and remembers each that was not there.
fn make(
    hierarchies: &Hierarchies,
    legacy: &[Legacy],
    unified: Option<&Path>,
    made: &mut Vec<PathBuf>,
) -> Result<()> {
    for (group, root) in legacy.iter().zip(&hierarchies.legacy) {
        let cpuset = group.controllers.iter().any(|name| name == "cpuset");
        for directory in levels(&root.mount, &group.mount) {
            if make_one(&directory, made)? && cpuset {
                inherit_cpuset(&directory)?;
            }
        }
    }
    if let (Some(leaf), Some(root)) = (unified, &hierarchies.unified) {
        let mut parent = root.clone();
        for directory in levels(root, leaf) {
            if hierarchies.layout == Layout::V2 {
                delegate(&parent)?;
            }
            make_one(&directory, made)?;
            parent = directory;
        }
    }
    Ok(())
}

/// The directories from below `root` down to `leaf`.
fn levels(root: &Path, leaf: &Path) -> Vec<PathBuf> {
    let mut levels: Vec<PathBuf> =
        leaf.ancestors().take_while(|ancestor| *ancestor != root).map(Path::to_owned).collect();
    levels.reverse();
    levels
}

fn make_one(directory: &Path, made: &mut Vec<PathBuf>) -> Result<bool> {
    match rustix::fs::mkdir(directory, Mode::from_raw_mode(0o755)) {
        Ok(()) => {
            made.push(directory.to_owned());
            Ok(true)
        }
        Err(rustix::io::Errno::EXIST) => Ok(false),
        Err(errno) => Err(errno).context("mkdir", || directory.display().to_string()),
    }
}

/// A new v1 cpuset is empty, and nothing may join it: it takes what its parent has.
fn inherit_cpuset(directory: &Path) -> Result<()> {
    let Some(parent) = directory.parent() else { return Ok(()) };
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if files::read(directory, file)?.trim().is_empty() {
            files::write(directory, file, files::read(parent, file)?.trim())?;
        }
    }
    Ok(())
}

/// Lets the children of a v2 group have every controller that it has itself.
fn delegate(directory: &Path) -> Result<()> {
    const WANTED: [&str; 8] = ["cpu", "cpuset", "hugetlb", "io", "memory", "misc", "pids", "rdma"];
    let available = files::read(directory, "cgroup.controllers")?;
    let enabled = files::read(directory, "cgroup.subtree_control")?;
    let enabled: Vec<&str> = enabled.split_ascii_whitespace().collect();
    let missing: Vec<String> = available
        .split_ascii_whitespace()
        .filter(|name| WANTED.contains(name) && !enabled.contains(name))
        .map(|name| format!("+{name}"))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    files::write(directory, "cgroup.subtree_control", &missing.join(" "))
}

#[cfg(test)]
mod tests;
