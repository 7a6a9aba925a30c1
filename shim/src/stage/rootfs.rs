//! The root file system, and becoming its inhabitant.

use super::error::{At, Result, StageError, Step};
use super::plan::{Container, Propagation, Rootfs};
use super::tree::Root;
use orlop_sys::mount::{self, Attributes, Filesystem};
use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsFd, OwnedFd};

/// No mount event leaves this namespace any more, and none comes in.
pub(super) fn make_private() -> Result<()> {
    let root = rustix::fs::open(c"/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .at(Step::Namespace, || "/")?;
    mount::set_propagation(root, mount::Propagation::Private, true)
        .at(Step::Namespace, || "mount propagation")
}

/// Mounts the root over our `/`, visible to nobody but us, and not yet our root.
pub(super) fn mount_root(rootfs: &Rootfs, made: &mut super::made::Made) -> Result<Root> {
    let mounted = detached(rootfs, made)?;
    let place = rustix::fs::open(c"/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .at(Step::Rootfs, || "/")?;
    mount::attach(&mounted, place).at(Step::Rootfs, || "attach")?;
    // A bind of a shared mount would tell the host of everything mounted in the container.
    mount::set_propagation(&mounted, mount::Propagation::Private, true)
        .at(Step::Rootfs, || "propagation")?;
    Ok(Root::new(mounted))
}

fn detached(rootfs: &Rootfs, made: &mut super::made::Made) -> Result<OwnedFd> {
    match rootfs {
        Rootfs::Empty => {
            let empty = Filesystem::open("tmpfs").at(Step::Rootfs, || "tmpfs")?;
            empty
                .option("mode=0555")
                .and_then(|empty| empty.option("nr_inodes=2"))
                .at(Step::Rootfs, || "tmpfs")?;
            empty
                .mount(Attributes::READ_ONLY | Attributes::NO_SUID | Attributes::NO_DEV)
                .at(Step::Rootfs, || "tmpfs")
        }
        Rootfs::Overlay { lowers, upper, options, attributes, .. } => {
            let upper = upper.as_ref().map(|(upper, work)| (upper.as_path(), work.as_path()));
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            mount::overlay(lowers, upper, &options, attributes.set).at(Step::Rootfs, || "overlay")
        }
        Rootfs::Bind { source, attributes } => {
            let name = || source.display().to_string();
            let tree = mount::clone_path(source, true).at(Step::Rootfs, name)?;
            let attributes = Attributes::from(*attributes);
            if !attributes.is_empty() {
                mount::set_attributes(&tree, attributes, false).at(Step::Rootfs, name)?;
            }
            Ok(tree)
        }
        Rootfs::Other { kind, source, options, attributes } => {
            super::mounts::filesystem(kind, source, options, attributes.set)
                .at(Step::Rootfs, || source.as_str())
        }
        Rootfs::Made { number } => made.take(*number).ok_or_else(|| {
            StageError::refuse(Step::Rootfs, "descriptor", "it was not handed over")
        }),
    }
}

/// Moves in: the mount becomes `/`, the host's tree is gone, and the last attributes are set.
pub(super) fn move_in(container: &Container, root: &Root) -> Result<()> {
    mount::pivot(root.fd()).at(Step::Rootfs, || "/")?;
    if container.root_readonly {
        mount::set_attributes(root.fd().as_fd(), Attributes::set(Attributes::READ_ONLY), false)
            .at(Step::Rootfs, || "read-only")?;
    }
    match container.root_propagation {
        None | Some(Propagation::Private) => Ok(()),
        Some(propagation) => mount::set_propagation(root.fd(), propagation.into(), true)
            .at(Step::Rootfs, || "propagation"),
    }
}
