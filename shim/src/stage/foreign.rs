//! Mounts that the container's half has no right to make: in a user namespace it is nobody on the host.
//! The shim makes them, detached, and hands them over by number.

use super::error::{At, Result, StageError, Step};
use super::plan::{Container, Device, IdMaps, LayerIds, Mount, MountKind, Rootfs};
use super::translate::NamespacePlan;
use super::translate_mounts::split_escaped;
use super::{dev, made, mounts};
use orlop_sys::mount::{self, Attributes, Layers, Mapping};
use orlop_sys::ns;
use orlop_sys::process::{NamespaceHolder, Namespaces};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What was made.
#[derive(Debug, Default)]
pub(super) struct Foreign {
    /// The container's user namespace, which the child joins.
    pub(super) userns: Option<OwnedFd>,
    /// Mounts, numbered from [`made::FIRST`].
    pub(super) mounts: Vec<OwnedFd>,
}

/// Makes the user namespace if it is a new one, and all mounts that the child cannot make; the plan then
/// speaks of their numbers.
pub(super) fn prepare(
    container: &mut Container,
    namespaces: &NamespacePlan,
    maps: &IdMaps,
    bundle: &Path,
) -> Result<Foreign> {
    let userns = user_namespace(namespaces, maps)?;
    let mut work =
        Work { maps, bundle, other: Vec::new(), foreign: Foreign { userns, mounts: Vec::new() } };
    work.root(&mut container.rootfs)?;
    for mount in &mut container.mounts {
        work.bind(mount)?;
        work.layers(mount)?;
    }
    if work.foreign.userns.is_some() {
        if container.populate_dev {
            work.devices(container)?;
        }
        for view in &mut container.cgroups {
            // On v2 the child mounts its own.
            if !(view.name.is_empty() && container.cgroup_namespace) {
                let tree = mount::clone_path(&view.host, false)
                    .at(Step::Mount, || view.host.display().to_string())?;
                view.number = Some(work.hand_over(tree));
            }
        }
    }
    Ok(work.foreign)
}

fn user_namespace(namespaces: &NamespacePlan, maps: &IdMaps) -> Result<Option<OwnedFd>> {
    if !namespaces.all.contains(Namespaces::USER) {
        return Ok(None);
    }
    let joined = namespaces.join.iter().find(|(_, bit)| *bit == Namespaces::USER);
    if let Some((path, _)) = joined {
        return ns::open(path).at(Step::Namespace, || path.display().to_string()).map(Some);
    }
    root_of(maps)?;
    make(maps).map(Some)
}

/// Root of the container on the host.
fn root_of(maps: &IdMaps) -> Result<(u32, u32)> {
    maps.root().ok_or_else(|| {
        let cause = "uidMappings and gidMappings must map the container's id 0";
        StageError::refuse(Step::Namespace, "user", cause)
    })
}

/// A new user namespace, which lives as long as its descriptor.
fn make(maps: &IdMaps) -> Result<OwnedFd> {
    let holder =
        NamespaceHolder::new(Namespaces::default(), &maps.uids, &maps.gids).map_err(|error| {
            let refused = StageError::refuse(Step::Namespace, "user", error.to_string());
            StageError { errno: error.errno, ..refused }
        })?;
    holder.open("user").at(Step::Namespace, || "user")
}

struct Work<'a> {
    /// The container's own.
    maps: &'a IdMaps,
    bundle: &'a Path,
    /// User namespaces of other maps, made for single mounts.
    other: Vec<(IdMaps, OwnedFd)>,
    foreign: Foreign,
}

impl Work<'_> {
    /// Notes a mount that is handed over; its number.
    fn hand_over(&mut self, mount: OwnedFd) -> i32 {
        let index = i32::try_from(self.foreign.mounts.len()).unwrap_or(i32::MAX);
        self.foreign.mounts.push(mount);
        made::FIRST.saturating_add(index)
    }

    fn root(&mut self, rootfs: &mut Rootfs) -> Result<()> {
        let Some(userns) = &self.foreign.userns else {
            return match rootfs {
                Rootfs::Overlay { ids: LayerIds::Host, .. } => Ok(()),
                Rootfs::Overlay { .. } => {
                    let cause = "its ids are to be mapped, but the container has no user namespace";
                    Err(StageError::refuse(Step::Rootfs, "overlay", cause))
                }
                _ => Ok(()),
            };
        };
        let made = match rootfs {
            Rootfs::Empty | Rootfs::Made { .. } => return Ok(()),
            Rootfs::Overlay { lowers, upper, options, attributes, ids } => {
                let layers = Layers {
                    lowers,
                    upper: upper.as_ref().map(|(upper, work)| (upper.as_path(), work.as_path())),
                    map_upper: *ids == LayerIds::Container,
                    options,
                    attributes: attributes.set,
                };
                self.overlay(userns, &layers, ids)?
            }
            Rootfs::Bind { source, attributes } => {
                let name = || source.display().to_string();
                let tree = mount::clone_path(source, true).at(Step::Rootfs, name)?;
                mount::set_attributes(&tree, (*attributes).into(), false).at(Step::Rootfs, name)?;
                tree
            }
            Rootfs::Other { kind, source, options, attributes } => {
                mounts::filesystem(kind, source, options, attributes.set)
                    .at(Step::Rootfs, || source.as_str())?
            }
        };
        // A device node of the image would be the host's device.
        mount::set_attributes(&made, Attributes::set(Attributes::NO_DEV), false)
            .at(Step::Rootfs, || "nodev")?;
        *rootfs = Rootfs::Made { number: self.hand_over(made) };
        Ok(())
    }

    fn overlay(&self, userns: &OwnedFd, layers: &Layers<'_>, ids: &LayerIds) -> Result<OwnedFd> {
        match ids {
            LayerIds::Host => {
                let options: Vec<&str> = layers.options.iter().map(String::as_str).collect();
                return mount::overlay(layers.lowers, layers.upper, &options, layers.attributes)
                    .at(Step::Rootfs, || "overlay");
            }
            LayerIds::Lowers { uids, gids } => self.maps.check(uids, gids)?,
            LayerIds::Container => {}
        }
        let mapping = Mapping { userns: userns.as_fd(), root: root_of(self.maps)? };
        self.with_scratch(|scratch| {
            mount::idmapped_overlay(layers, &mapping, scratch)
                .at(Step::Rootfs, || "id-mapped overlay")
        })
    }

    /// Lends an empty directory of the bundle.
    fn with_scratch<T>(&self, work: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        let scratch = self.bundle.join("layers");
        match std::fs::create_dir(&scratch) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(error).at(Step::Mount, || scratch.display().to_string());
            }
            _ => {}
        }
        let result = work(&scratch);
        // It is empty, and goes with the bundle at the latest.
        let _ = std::fs::remove_dir(&scratch);
        result
    }

    /// Makes an overlay of read-only layers, which is how an image becomes a volume.
    fn layers(&mut self, mount: &mut Mount) -> Result<()> {
        let MountKind::New { kind, options, .. } = &mount.kind else { return Ok(()) };
        let Some(volume) = LayerVolume::read(kind, options) else { return Ok(()) };
        let name = || mount.target.display().to_string();
        let attributes = mount.attributes.set | Attributes::READ_ONLY;
        let tree = match &mount.idmap {
            None => {
                let options: Vec<&str> = volume.options.iter().map(String::as_str).collect();
                mount::overlay(&volume.lowers, None, &options, attributes).at(Step::Mount, name)?
            }
            Some(idmap) => {
                let userns = self.namespace_of(&idmap.maps, &mount.target)?.as_fd();
                let layers = Layers {
                    lowers: &volume.lowers,
                    upper: None,
                    map_upper: false,
                    options: &volume.options,
                    attributes,
                };
                let userns = userns.try_clone_to_owned().at(Step::Mount, name)?;
                let mapping = Mapping { userns: userns.as_fd(), root: (0, 0) };
                self.with_scratch(|scratch| {
                    mount::idmapped_overlay(&layers, &mapping, scratch).at(Step::Mount, name)
                })?
            }
        };
        let tree = match &volume.sub_path {
            None => tree,
            Some(path) => self.part_of(&tree, path, &name())?,
        };
        let number = self.hand_over(tree);
        mount.kind = MountKind::Made { source: PathBuf::from("overlay"), number };
        Ok(())
    }

    /// What is at `path` in a mount, which leads out of it by no link.
    fn part_of(&self, tree: &OwnedFd, path: &Path, name: &str) -> Result<OwnedFd> {
        use rustix::fs::ResolveFlags;
        // Older kernels copy a part only of what is attached somewhere.
        self.with_scratch(|scratch| {
            mount::attach_path(tree, scratch).at(Step::Mount, || name)?;
            let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
            let part = super::tree::resolve(tree.as_fd(), path, OFlags::PATH, how)
                .at(Step::Mount, || format!("{name}: {}", path.display()))
                .and_then(|part| mount::clone_tree(part, false).at(Step::Mount, || name));
            mount::detach(scratch).at(Step::Mount, || name)?;
            part
        })
    }

    /// Opens the source of a bind that the child cannot reach, or whose ids are mapped.
    fn bind(&mut self, mount: &mut Mount) -> Result<()> {
        let MountKind::Bind { source, recursive } = &mount.kind else { return Ok(()) };
        if self.foreign.userns.is_none() && mount.idmap.is_none() {
            return Ok(());
        }
        let (source, recursive) = (source.clone(), *recursive);
        let tree = mount::clone_path(&source, recursive)
            .map_err(|error| mounts::missing(&source, error.errno))?;
        if let Some(idmap) = &mount.idmap {
            let below = idmap.recursive && recursive;
            self.map_ids(&tree, &source, &idmap.maps, below)?;
        }
        let number = self.hand_over(tree);
        mount.kind = MountKind::Made { source, number };
        Ok(())
    }

    fn map_ids(
        &mut self,
        tree: &OwnedFd,
        source: &Path,
        maps: &IdMaps,
        recursive: bool,
    ) -> Result<()> {
        let userns = self.namespace_of(maps, source)?;
        mount::set_idmap(tree, userns, recursive).map_err(|error| {
            let why = orlop_sys::error::reason(error.errno);
            let cause = format!(
                "its ids cannot be mapped ({why}): the file system there, or one mounted below it, does not support id-mapped mounts; use another, or a pod without a user namespace"
            );
            let name = source.display().to_string();
            StageError { errno: error.errno, ..StageError::refuse(Step::Mount, name, cause) }
        })
    }

    /// A user namespace with these maps; empty ones are the container's own.
    fn namespace_of(&mut self, maps: &IdMaps, of: &Path) -> Result<&OwnedFd> {
        let own = maps.is_empty() || maps == self.maps;
        if own && self.foreign.userns.is_none() && maps.is_empty() {
            let cause = "idmap without mappings needs a container with a user namespace";
            return Err(StageError::refuse(Step::Mount, of.display().to_string(), cause));
        }
        if let Some(userns) = self.foreign.userns.as_ref().filter(|_| own) {
            return Ok(userns);
        }
        let known = self.other.iter().position(|(known, _)| known == maps);
        let index = match known {
            Some(index) => index,
            None => {
                self.other.push((maps.clone(), make(maps)?));
                self.other.len() - 1
            }
        };
        self.other.get(index).map(|(_, userns)| userns).ok_or_else(|| {
            StageError::refuse(Step::Mount, of.display().to_string(), "its maps were not kept")
        })
    }

    /// Device nodes: those below `/dev` in the file system that becomes it, others one by one.
    fn devices(&mut self, container: &mut Container) -> Result<()> {
        let root = root_of(self.maps)?;
        let own = dev::nodes().map(|device| Device { uid: root.0, gid: root.1, ..device });
        let mut devices: Vec<Device> = own.chain(container.devices.drain(..)).collect();
        let fresh = container.mounts.iter_mut().find(|mount| {
            mount.target == Path::new("/dev")
                && matches!(&mount.kind, MountKind::New { kind, .. } if kind == "tmpfs")
        });
        if let Some(mount) = fresh {
            let (below, others): (Vec<_>, Vec<_>) =
                devices.into_iter().partition(|device| device.path.starts_with("/dev"));
            let tree = dev_tree(mount, root, &below)?;
            mount.kind =
                MountKind::Made { source: PathBuf::from("tmpfs"), number: self.hand_over(tree) };
            devices = others;
        }
        for device in devices {
            let number = self.single_device(&device)?;
            container.mounts.push(Mount {
                target: device.path.clone(),
                kind: MountKind::Made { source: device.path, number },
                attributes: super::plan::Attributes::default(),
                recursive: super::plan::Attributes::default(),
                propagation: None,
                idmap: None,
            });
        }
        Ok(())
    }

    /// A bind of a node in the bundle, with which it goes: what has lost its name cannot be attached.
    fn single_device(&mut self, device: &Device) -> Result<i32> {
        let name = || device.path.display().to_string();
        let place = self.bundle.join(format!("device-{}", self.foreign.mounts.len()));
        // An earlier attempt may have left it.
        let _ = std::fs::remove_file(&place);
        make_node(CWD, &place, device)?;
        let tree = mount::clone_path(&place, false).at(Step::Device, name)?;
        // The bundle may be where devices have no effect.
        let open = Attributes {
            set: Attributes::NO_SUID | Attributes::NO_EXEC,
            clear: Attributes::NO_DEV,
        };
        mount::set_attributes(&tree, open, false).at(Step::Device, name)?;
        Ok(self.hand_over(tree))
    }
}

/// An overlay without a writable layer, and the part of it that is wanted.
struct LayerVolume {
    lowers: Vec<PathBuf>,
    options: Vec<String>,
    sub_path: Option<PathBuf>,
}

impl LayerVolume {
    /// Reads the options; an overlay with a writable layer is another matter.
    fn read(kind: &str, options: &[String]) -> Option<Self> {
        let (mut lowers, mut rest, mut sub_path) = (Vec::new(), Vec::new(), None);
        for option in options {
            if let Some(list) = option.strip_prefix("lowerdir=") {
                lowers = split_escaped(list);
            } else if let Some(path) = option.strip_prefix("orlop.subpath=") {
                sub_path = Some(PathBuf::from(path));
            } else if option.starts_with("upperdir=") {
                return None;
            } else {
                rest.push(option.clone());
            }
        }
        (kind == "overlay" && !lowers.is_empty()).then_some(Self {
            lowers,
            options: rest,
            sub_path,
        })
    }
}

/// A `/dev` with its nodes, owned by root of the container.
fn dev_tree(mount: &Mount, root: (u32, u32), devices: &[Device]) -> Result<OwnedFd> {
    let MountKind::New { kind, source, options } = &mount.kind else {
        return Err(StageError::refuse(Step::Device, "/dev", "it is no new file system"));
    };
    let mut all = vec![format!("uid={}", root.0), format!("gid={}", root.1)];
    all.extend(options.iter().cloned());
    let tree =
        mounts::filesystem(kind, source, &all, mount.attributes.set).at(Step::Device, || "/dev")?;
    for device in devices {
        let name = || device.path.display().to_string();
        let below = device.path.strip_prefix("/dev").unwrap_or(&device.path);
        let mut dir = tree.try_clone().at(Step::Device, name)?;
        for part in below.parent().into_iter().flat_map(Path::iter) {
            match rustix::fs::mkdirat(&dir, part, Mode::from_raw_mode(0o755)) {
                Ok(()) => own(&dir, Path::new(part), root, name)?,
                Err(rustix::io::Errno::EXIST) => {}
                Err(errno) => return Err(errno).at(Step::Device, name),
            }
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            dir = rustix::fs::openat(&dir, part, flags, Mode::empty()).at(Step::Device, name)?;
        }
        let file = below
            .file_name()
            .ok_or_else(|| StageError::refuse(Step::Device, name(), "it needs a name"))?;
        // Of two devices with one name the later one is meant.
        let _ = rustix::fs::unlinkat(&dir, file, AtFlags::empty());
        make_node(&dir, Path::new(file), device)?;
    }
    Ok(tree)
}

fn own(
    dir: &OwnedFd,
    path: &Path,
    (uid, gid): (u32, u32),
    name: impl FnOnce() -> String,
) -> Result<()> {
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    rustix::fs::chownat(dir, path, uid, gid, AtFlags::SYMLINK_NOFOLLOW).at(Step::Device, name)
}

/// Makes a node with the mode and the owner, in numbers of the host, that the device has.
fn make_node(dir: impl AsFd, path: &Path, device: &Device) -> Result<()> {
    let name = || device.path.display().to_string();
    let kind = match device.kind {
        'b' => FileType::BlockDevice,
        'p' => FileType::Fifo,
        _ => FileType::CharacterDevice,
    };
    let number =
        if device.kind == 'p' { 0 } else { rustix::fs::makedev(device.major, device.minor) };
    let mode = Mode::from_raw_mode(device.mode & 0o7777);
    let dir = dir.as_fd();
    rustix::fs::mknodat(dir, path, kind, mode, number).at(Step::Device, name)?;
    // Nobody else knows the place: it is no link.
    rustix::fs::chmodat(dir, path, mode, AtFlags::empty()).at(Step::Device, name)?;
    let (uid, gid) = (Some(Uid::from_raw(device.uid)), Some(Gid::from_raw(device.gid)));
    rustix::fs::chownat(dir, path, uid, gid, AtFlags::SYMLINK_NOFOLLOW).at(Step::Device, name)
}
