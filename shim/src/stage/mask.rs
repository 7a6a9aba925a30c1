//! Paths that the workload must not see, or not write.

use super::error::{At, Result, Step};
use super::plan::Container;
use super::tree::Root;
use orlop_sys::mount::{self, Attributes, Filesystem};
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Makes the read-only paths read-only.
pub(super) fn read_only(container: &Container, root: &Root) -> Result<()> {
    for path in &container.readonly {
        let Some(target) = present(root, path)? else { continue };
        let name = || path.display().to_string();
        let tree = mount::clone_tree(&target, true).at(Step::Mask, name)?;
        mount::set_attributes(&tree, Attributes::set(Attributes::READ_ONLY), true)
            .at(Step::Mask, name)?;
        mount::attach(tree, target).at(Step::Mask, name)?;
    }
    Ok(())
}

/// Hides the masked paths: directories behind one empty, read-only tmpfs, all else behind `null`,
/// which is the host's own device by descriptor.
pub(super) fn hide(container: &Container, root: &Root, null: &OwnedFd) -> Result<()> {
    let mut empty: Option<OwnedFd> = None;
    for path in &container.masked {
        let Some(target) = present(root, path)? else { continue };
        let name = || path.display().to_string();
        let stat = rustix::fs::fstat(&target).at(Step::Mask, name)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            let tree = mount::clone_tree(null, false).at(Step::Mask, name)?;
            // It is the host's own file: its mode and owner must not change through the mask.
            let attributes =
                Attributes::set(Attributes::READ_ONLY | Attributes::NO_SUID | Attributes::NO_EXEC);
            mount::set_attributes(&tree, attributes, false).at(Step::Mask, name)?;
            mount::attach(tree, target).at(Step::Mask, name)?;
            continue;
        }
        match &empty {
            Some(first) => {
                let tree = mount::clone_tree(first, false).at(Step::Mask, name)?;
                mount::attach(tree, target).at(Step::Mask, name)?;
            }
            None => {
                let first = empty_directory().at(Step::Mask, name)?;
                mount::attach(&first, target).at(Step::Mask, name)?;
                empty = Some(first);
            }
        }
    }
    Ok(())
}

fn empty_directory() -> orlop_sys::error::Result<OwnedFd> {
    let filesystem = Filesystem::open("tmpfs")?;
    filesystem.option("mode=0755")?.option("nr_inodes=1")?;
    filesystem.mount(
        Attributes::READ_ONLY | Attributes::NO_SUID | Attributes::NO_DEV | Attributes::NO_EXEC,
    )
}

/// The target, or nothing when this kernel or image has no such path.
fn present(root: &Root, path: &Path) -> Result<Option<OwnedFd>> {
    match root.open(path, OFlags::PATH) {
        Ok(target) => Ok(Some(target)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(errno).at(Step::Mask, || path.display().to_string()),
    }
}
