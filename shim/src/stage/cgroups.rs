//! What the container sees of control groups: its own and nothing above.

use super::error::{At, Result, StageError, Step};
use super::plan::{Container, Mount};
use super::tree::Root;
use orlop_sys::mount::{self, Attributes};
use rustix::fs::{Mode, OFlags};
use std::os::fd::OwnedFd;

/// Mounts the container's groups at the target of `mount`.
pub(super) fn mount(container: &Container, mount: &Mount, root: &Root) -> Result<()> {
    let target = root.plain_directory(&mount.target, Step::Mount)?;
    let name = || mount.target.display().to_string();
    let base = Attributes::NO_SUID | Attributes::NO_DEV | Attributes::NO_EXEC;
    let attributes = mount.attributes.set | base;
    match container.cgroups.as_slice() {
        [] => Err(StageError::refuse(
            Step::Mount,
            name(),
            "the container has no control group: set cgroupsPath",
        )),
        [only] if only.name.is_empty() => {
            let tree = view(container, only, attributes)?;
            mount::attach(tree, target).at(Step::Mount, name)
        }
        several => {
            let options = ["mode=0755".to_owned(), "size=64k".to_owned()];
            let writable = attributes & !Attributes::READ_ONLY;
            let tmpfs = super::mounts::filesystem("tmpfs", "cgroup", &options, writable)
                .at(Step::Mount, name)?;
            mount::attach(&tmpfs, target).at(Step::Mount, name)?;
            for view_of in several {
                let below = || mount.target.join(&view_of.name).display().to_string();
                rustix::fs::mkdirat(&tmpfs, &*view_of.name, Mode::from_raw_mode(0o755))
                    .at(Step::Mount, below)?;
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let place = rustix::fs::openat(&tmpfs, &*view_of.name, flags, Mode::empty())
                    .at(Step::Mount, below)?;
                let tree = view(container, view_of, attributes)?;
                mount::attach(tree, place).at(Step::Mount, below)?;
                for link in &view_of.links {
                    rustix::fs::symlinkat(&*view_of.name, &tmpfs, &**link)
                        .at(Step::Mount, below)?;
                }
            }
            if attributes & Attributes::READ_ONLY != 0 {
                mount::set_attributes(&tmpfs, Attributes::set(Attributes::READ_ONLY), false)
                    .at(Step::Mount, name)?;
            }
            Ok(())
        }
    }
}

fn view(container: &Container, view: &super::plan::CgroupView, attributes: u64) -> Result<OwnedFd> {
    let name = || view.host.display().to_string();
    if view.name.is_empty() && container.cgroup_namespace {
        return super::mounts::filesystem("cgroup2", "cgroup", &[], attributes)
            .at(Step::Mount, name);
    }
    let tree = mount::clone_path(&view.host, false).at(Step::Mount, name)?;
    mount::set_attributes(&tree, Attributes::set(attributes), false).at(Step::Mount, name)?;
    mount::set_propagation(&tree, mount::Propagation::Private, false).at(Step::Mount, name)?;
    Ok(tree)
}
