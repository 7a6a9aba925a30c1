//! The mounts of the spec.

use super::error::{At, Result, StageError, Step};
use super::made::Made;
use super::plan::{Container, Mount, MountKind};
use super::tree::{Root, Want};
use orlop_sys::mount::{self, Attributes, Filesystem};
use rustix::fs::{FileType, OFlags};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// The sources of binds, opened once and first: later steps see what was there then, and mount
/// propagation of the host is still intact.
pub(super) fn open_sources(container: &Container, made: &mut Made) -> Result<Vec<Option<OwnedFd>>> {
    let open = |mount: &Mount| -> Result<Option<OwnedFd>> {
        match &mount.kind {
            MountKind::Bind { source, recursive } => {
                let tree = mount::clone_path(source, *recursive)
                    .map_err(|error| missing(source, error.errno))?;
                Ok(Some(tree))
            }
            MountKind::Made { source, number } => match made.take(*number) {
                Some(tree) => Ok(Some(tree)),
                None => Err(StageError::refuse(
                    Step::Mount,
                    source.display().to_string(),
                    "it was not handed over",
                )),
            },
            MountKind::Cgroup | MountKind::New { .. } => Ok(None),
        }
    };
    container.mounts.iter().map(open).collect()
}

pub(super) fn missing(source: &Path, errno: i32) -> StageError {
    let source = source.display().to_string();
    if errno == rustix::io::Errno::NOENT.raw_os_error() {
        let refused = StageError::refuse(
            Step::Mount,
            source,
            "the source does not exist on the host: create it first",
        );
        return StageError { errno, ..refused };
    }
    StageError::kernel(Step::Mount, source, errno)
}

/// Mounts everything, in the order of the spec.
pub(super) fn mount_all(
    container: &Container,
    root: &Root,
    sources: Vec<Option<OwnedFd>>,
    mut cgroups: Vec<Option<OwnedFd>>,
) -> Result<()> {
    for (mount, source) in container.mounts.iter().zip(sources) {
        if mount.kind == MountKind::Cgroup {
            super::cgroups::mount(container, mount, root, &mut cgroups)?;
        } else {
            mount_one(mount, source, root)?;
        }
        if container.populate_dev && mount.target == Path::new("/dev") {
            super::dev::populate(container, root)?;
        }
    }
    if container.populate_dev
        && !container.mounts.iter().any(|mount| mount.target == Path::new("/dev"))
    {
        super::dev::populate(container, root)?;
    }
    Ok(())
}

fn mount_one(mount: &Mount, source: Option<OwnedFd>, root: &Root) -> Result<()> {
    let name = || mount.target.display().to_string();
    match (&mount.kind, source) {
        (MountKind::New { kind, source, options }, _) => {
            let target = new_target(kind, &mount.target, root)?;
            let made =
                filesystem(kind, source, options, mount.attributes.set).at(Step::Mount, name)?;
            mount::attach(&made, target).at(Step::Mount, name)?;
            finish(mount, &made, true)
        }
        (MountKind::Bind { .. } | MountKind::Made { .. }, Some(tree)) => {
            let stat = rustix::fs::fstat(&tree).at(Step::Mount, name)?;
            let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            let target = if mount.target == Path::new("/dev") {
                root.plain_directory(&mount.target, Step::Mount)?
            } else {
                root.target(
                    &mount.target,
                    if directory { Want::Directory } else { Want::File },
                    Step::Mount,
                )?
            };
            refuse_proc(&mount.target, &tree, &target)?;
            finish(mount, &tree, false)?;
            mount::attach(&tree, target).at(Step::Mount, name)
        }
        (MountKind::Bind { .. } | MountKind::Made { .. } | MountKind::Cgroup, _) => {
            Err(StageError::refuse(Step::Mount, name(), "its source was not opened"))
        }
    }
}

/// Where a new file system goes: the kernel's own must not be led elsewhere by the image.
fn new_target(kind: &str, target: &Path, root: &Root) -> Result<OwnedFd> {
    let strict =
        matches!(kind, "proc" | "sysfs" | "mqueue" | "cgroup2") || target == Path::new("/dev");
    if strict {
        root.plain_directory(target, Step::Mount)
    } else {
        root.target(target, Want::Directory, Step::Mount)
    }
}

/// Nothing but a process file system may be where we and the workload look for one.
fn refuse_proc(path: &Path, source: &OwnedFd, target: &OwnedFd) -> Result<()> {
    const PROC_SUPER_MAGIC: i64 = 0x9fa0;
    let kind = |fd: &OwnedFd| rustix::fs::fstatfs(fd).map(|stat| stat.f_type);
    let at = |error| {
        StageError::kernel(
            Step::Mount,
            path.display().to_string(),
            rustix::io::Errno::raw_os_error(error),
        )
    };
    if path == Path::new("/proc") && kind(source).map_err(at)? != PROC_SUPER_MAGIC {
        let cause = "only a proc file system may be mounted there: choose another destination";
        return Err(StageError::refuse(Step::Mount, path.display().to_string(), cause));
    }
    let inside = kind(target).map_err(at)? == PROC_SUPER_MAGIC && path != Path::new("/proc");
    // What programs such as lxcfs replace; anything else could be a trap for our own writes.
    const REPLACEABLE: [&str; 9] = [
        "/proc/cpuinfo",
        "/proc/diskstats",
        "/proc/loadavg",
        "/proc/meminfo",
        "/proc/net/dev",
        "/proc/slabinfo",
        "/proc/stat",
        "/proc/swaps",
        "/proc/uptime",
    ];
    if inside
        && !REPLACEABLE.iter().any(|allowed| path == Path::new(allowed))
        && kind(source).map_err(at)? != PROC_SUPER_MAGIC
    {
        let cause = "nothing may be mounted over this part of /proc: choose another destination";
        return Err(StageError::refuse(Step::Mount, path.display().to_string(), cause));
    }
    Ok(())
}

/// Sets what the mount itself needs; `new` file systems have their own attributes already.
fn finish(mount: &Mount, tree: &OwnedFd, new: bool) -> Result<()> {
    let name = || mount.target.display().to_string();
    let own = Attributes::from(mount.attributes);
    if !new && !own.is_empty() {
        mount::set_attributes(tree, own, false).at(Step::Mount, name)?;
    }
    let recursive = Attributes::from(mount.recursive);
    if !recursive.is_empty() {
        mount::set_attributes(tree, recursive, true).at(Step::Mount, name)?;
    }
    match mount.propagation {
        Some((propagation, all)) => {
            mount::set_propagation(tree, propagation.into(), all).at(Step::Mount, name)
        }
        // A copy of a shared mount of the host would send the container's mounts back to it.
        None if !new => {
            mount::set_propagation(tree, mount::Propagation::Private, true).at(Step::Mount, name)
        }
        None => Ok(()),
    }
}

/// A new file system, detached.
pub(super) fn filesystem(
    kind: &str,
    source: &str,
    options: &[String],
    attributes: u64,
) -> orlop_sys::error::Result<OwnedFd> {
    let filesystem = Filesystem::open(kind)?;
    if !source.is_empty() && source != "none" {
        filesystem.string("source", source.as_bytes())?;
    }
    for option in options {
        filesystem.option(option)?;
    }
    filesystem.mount(attributes)
}

/// The descriptor of a file on the host, before the host's tree is gone.
pub(super) fn host_null() -> Result<OwnedFd> {
    use rustix::fs::{Mode, major, minor, open};
    let null = open(c"/dev/null", OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .at(Step::Mask, || "/dev/null")?;
    let stat = rustix::fs::fstat(null.as_fd()).at(Step::Mask, || "/dev/null")?;
    let device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    if !device || (major(stat.st_rdev), minor(stat.st_rdev)) != (1, 3) {
        return Err(StageError::refuse(
            Step::Mask,
            "/dev/null",
            "it is not the null device (1:3) on the host",
        ));
    }
    Ok(null)
}
