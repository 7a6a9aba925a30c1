//! An overlay whose layers are seen through one id mapping.
//!
//! One copy of the mount that holds all layers gets the mapping, and the layers are directories in that
//! copy: the cost does not grow with their number, and nothing on the disk changes its owner.

use super::{Filesystem, attach_path, clone_path, detach, set_idmap};
use crate::error::{Context, Error, Result};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::thread::{Gid, Uid};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Whose ids the layers shall have.
#[derive(Debug, Clone, Copy)]
pub struct Mapping<'a> {
    /// The user namespace with the maps.
    pub userns: BorrowedFd<'a>,
    /// What its id 0 is on the host: user and group.
    pub root: (u32, u32),
}

/// The layers of an overlay.
#[derive(Debug, Clone, Copy)]
pub struct Layers<'a> {
    /// Top first.
    pub lowers: &'a [PathBuf],
    /// The writable layer and its work space.
    pub upper: Option<(&'a Path, &'a Path)>,
    /// Whether the writable layer is seen through the mapping too, so that what it keeps has the ids of
    /// the container; else it keeps those of the host.
    pub map_upper: bool,
    /// Further options of overlayfs.
    pub options: &'a [String],
    /// `MOUNT_ATTR_*` bits.
    pub attributes: u64,
}

/// Mounts them, detached. `scratch` is an empty directory of the caller's own: kernels before 6.13,
/// which take no layers by descriptor, find them there for as long as the call takes. All layers have to be in
/// one mount, of a file system that allows id mappings.
pub fn idmapped_overlay(
    layers: &Layers<'_>,
    mapping: &Mapping<'_>,
    scratch: &Path,
) -> Result<OwnedFd> {
    let mapped_upper = layers.upper.filter(|_| layers.map_upper);
    let dirs = mapped_upper.iter().flat_map(|(upper, work)| [*upper, *work]);
    let all: Vec<&Path> = layers.lowers.iter().map(PathBuf::as_path).chain(dirs).collect();
    let base = common_parent(&all);
    let tree = clone_path(&base, false)?;
    set_idmap(&tree, mapping.userns, false)
        .map_err(|error| Error::new("map the ids of", base.display().to_string(), error.errno))?;
    let found = all
        .iter()
        .map(|path| {
            open_in(&tree, &base, path).context("open layer", || path.display().to_string())
        })
        .collect::<Result<Vec<_>>>()?;
    let by_descriptor = || {
        let (lowers, rest) = found.split_at(layers.lowers.len());
        let overlay = Filesystem::open("overlay")?;
        for lower in lowers {
            overlay.descriptor("lowerdir+", lower.as_fd())?;
        }
        if let [upper, work] = rest {
            overlay.descriptor("upperdir", upper.as_fd())?;
            overlay.descriptor("workdir", work.as_fd())?;
        }
        finish(&overlay, layers)
    };
    // What overlayfs makes for itself in a mapped layer must have an owner there.
    let owner = if mapped_upper.is_some() { mapping.root } else { (0, 0) };
    match as_owner(owner, by_descriptor) {
        Err(error) if error.errno == Errno::INVAL.raw_os_error() && !layers_by_descriptor() => {
            as_owner(owner, || by_path(layers, &base, &tree, scratch))
        }
        other => other,
    }
}

/// As [`idmapped_overlay`] for kernels that want paths.
fn by_path(layers: &Layers<'_>, base: &Path, tree: &OwnedFd, scratch: &Path) -> Result<OwnedFd> {
    attach_path(tree, scratch)?;
    let moved = |path: &Path| scratch.join(path.strip_prefix(base).unwrap_or(path));
    let mount = || {
        let overlay = Filesystem::open("overlay")?;
        let lowers: Vec<PathBuf> = layers.lowers.iter().map(|path| moved(path)).collect();
        overlay.lowers(&lowers)?;
        if let Some((upper, work)) = layers.upper.filter(|_| layers.map_upper) {
            overlay.string("upperdir", moved(upper).as_os_str().as_bytes())?;
            overlay.string("workdir", moved(work).as_os_str().as_bytes())?;
        }
        finish(&overlay, layers)
    };
    let mounted = mount();
    detach(scratch)?;
    mounted
}

fn finish(overlay: &Filesystem, layers: &Layers<'_>) -> Result<OwnedFd> {
    if let Some((upper, work)) = layers.upper.filter(|_| !layers.map_upper) {
        overlay.string("upperdir", upper.as_os_str().as_bytes())?;
        overlay.string("workdir", work.as_os_str().as_bytes())?;
    }
    for option in layers.options {
        overlay.option(option)?;
    }
    overlay.mount(layers.attributes)
}

/// Whether this kernel's overlayfs takes layers by descriptor (Linux 6.13).
fn layers_by_descriptor() -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().ok());
    let mut next = || numbers.next().flatten().unwrap_or(0_u32);
    (next(), next()) >= (6, 13)
}

/// The directory that holds all of them.
fn common_parent(paths: &[&Path]) -> PathBuf {
    let mut paths = paths.iter().filter_map(|path| path.parent());
    let mut base = paths.next().unwrap_or(Path::new("/"));
    for path in paths {
        while !path.starts_with(base) {
            base = base.parent().unwrap_or(Path::new("/"));
        }
    }
    base.to_owned()
}

/// Opens the same directory as `path` in the copy of the mount.
fn open_in(tree: &OwnedFd, base: &Path, path: &Path) -> rustix::io::Result<OwnedFd> {
    let below = path.strip_prefix(base).unwrap_or(path);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let found = rustix::fs::openat2(tree, below, flags, Mode::empty(), how)?;
    let (ours, theirs) = (
        rustix::fs::fstat(&found)?,
        rustix::fs::statat(rustix::fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW)?,
    );
    // Another mount covers it there: its content would be missing here.
    if (ours.st_dev, ours.st_ino) != (theirs.st_dev, theirs.st_ino) {
        return Err(Errno::XDEV);
    }
    Ok(found)
}

/// Runs `work` with the host's rights and another owner for what it makes. The thread that had that owner ends
/// with it.
fn as_owner<T: Send>((uid, gid): (u32, u32), work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    if (uid, gid) == (0, 0) {
        return work();
    }
    let named = || format!("user {uid}, group {gid}");
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("owner".into())
            .stack_size(128 * 1024)
            .spawn_scoped(scope, || {
                become_owner(Uid::from_raw(uid), Gid::from_raw(gid)).context("become", named)?;
                work()
            })
            .context("thread", named)?;
        thread.join().unwrap_or_else(|_| Err(Error::new("thread", named(), libc::EIO)))
    })
}

fn become_owner(uid: Uid, gid: Gid) -> rustix::io::Result<()> {
    use rustix::thread::{
        capabilities, set_capabilities, set_keep_capabilities, set_thread_res_gid,
        set_thread_res_uid,
    };
    let sets = capabilities(None)?;
    set_keep_capabilities(true)?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    set_capabilities(None, sets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{IdMap, NamespaceHolder, Namespaces};
    use std::os::unix::fs::MetadataExt;

    fn layers(dir: &Path) -> (Vec<PathBuf>, PathBuf, PathBuf) {
        for name in ["a/b/1", "a/c/2", "upper", "work", "scratch"] {
            std::fs::create_dir_all(dir.join(name)).unwrap();
        }
        std::fs::write(dir.join("a/b/1/file"), "x").unwrap();
        std::os::unix::fs::chown(dir.join("a/c/2"), Some(5), Some(6)).unwrap();
        (vec![dir.join("a/b/1"), dir.join("a/c/2")], dir.join("upper"), dir.join("work"))
    }

    /// What a container sees and what the disk keeps, with either way to name the layers.
    fn check(by_path_only: bool) {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().canonicalize().unwrap();
        let (lowers, upper, work) = layers(&dir);
        let map = [IdMap { inside: 0, outside: 100_000, count: 65536 }];
        let userns = NamespaceHolder::new(Namespaces::default(), &map, &map).unwrap();
        let userns = userns.open("user").unwrap();
        let mapping = Mapping { userns: userns.as_fd(), root: (100_000, 100_000) };
        let layers = Layers {
            lowers: &lowers,
            upper: Some((&upper, &work)),
            map_upper: true,
            options: &["volatile".to_owned()],
            attributes: 0,
        };
        let root = if by_path_only {
            let tree = clone_path(&dir, false).unwrap();
            set_idmap(&tree, &userns, false).unwrap();
            as_owner(mapping.root, || by_path(&layers, &dir, &tree, &dir.join("scratch"))).unwrap()
        } else {
            idmapped_overlay(&layers, &mapping, &dir.join("scratch")).unwrap()
        };
        let stat = rustix::fs::statat(&root, "file", AtFlags::empty()).unwrap();
        assert_eq!((stat.st_uid, stat.st_gid), (100_000, 100_000));
        let to = (Some(Uid::from_raw(100_007)), Some(Gid::from_raw(100_008)));
        rustix::fs::chownat(&root, "file", to.0, to.1, AtFlags::empty()).unwrap();
        drop(root);
        let kept = std::fs::metadata(upper.join("file")).unwrap();
        assert_eq!((kept.uid(), kept.gid()), (7, 8));
        assert_eq!(std::fs::metadata(lowers[0].join("file")).unwrap().uid(), 0);
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!table.contains(dir.to_str().unwrap()));
    }

    #[test]
    fn layers_by_descriptor_keep_container_ids_on_disk() {
        check(false);
    }

    #[test]
    fn layers_by_path_keep_container_ids_on_disk() {
        check(true);
    }

    #[test]
    fn the_common_parent_holds_all() {
        let base = |paths: &[&str]| common_parent(&paths.iter().map(Path::new).collect::<Vec<_>>());
        assert_eq!(base(&["/a/b/c", "/a/b/d", "/a/x/upper"]), Path::new("/a"));
        assert_eq!(base(&["/a/b"]), Path::new("/a"));
        assert_eq!(base(&["/a/b", "/ab/c"]), Path::new("/"));
    }

    #[test]
    fn a_layer_below_another_mount_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().canonicalize().unwrap();
        let (_, _, _) = layers(&dir);
        let tree = clone_path(&dir, false).unwrap();
        assert_eq!(open_in(&tree, &dir, &dir.join("none")).unwrap_err(), Errno::NOENT);
        assert_eq!(
            open_in(&tree, Path::new("/"), Path::new("/proc/self")).unwrap_err(),
            Errno::NOENT
        );
    }
}
