//! What the container sees of control groups: its own and nothing above.

use super::error::{At, Result, StageError, Step};
use super::made::Made;
use super::plan::{CgroupView, Container, Mount};
use super::tree::Root;
use orlop_sys::mount::{self, Attributes};
use rustix::fs::{Mode, OFlags};
use std::os::fd::OwnedFd;

/// The container's groups as mounts, in the order of its views: opened first, while the host's tree is
/// as it was. A view that is mounted anew is not among them.
pub(super) fn open(container: &Container, made: &mut Made) -> Result<Vec<Option<OwnedFd>>> {
    let open = |view: &CgroupView| match view.number {
        _ if view.name.is_empty() && container.cgroup_namespace => Ok(None),
        Some(number) => Ok(made.take(number)),
        None => mount::clone_path(&view.host, false)
            .at(Step::Mount, || view.host.display().to_string())
            .map(Some),
    };
    container.cgroups.iter().map(open).collect()
}

/// Mounts the container's groups, or copies of their `trees`, at the target of `mount`.
pub(super) fn mount(
    container: &Container,
    mount: &Mount,
    root: &Root,
    trees: &mut [Option<OwnedFd>],
) -> Result<()> {
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
            let tree = view(only, trees.first_mut(), attributes)?;
            mount::attach(tree, target).at(Step::Mount, name)
        }
        several => {
            let options = ["mode=0755".to_owned(), "size=64k".to_owned()];
            let writable = attributes & !Attributes::READ_ONLY;
            let tmpfs = super::mounts::filesystem("tmpfs", "cgroup", &options, writable)
                .at(Step::Mount, name)?;
            mount::attach(&tmpfs, target).at(Step::Mount, name)?;
            for (index, view_of) in several.iter().enumerate() {
                let below = || mount.target.join(&view_of.name).display().to_string();
                rustix::fs::mkdirat(&tmpfs, &*view_of.name, Mode::from_raw_mode(0o755))
                    .at(Step::Mount, below)?;
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let place = rustix::fs::openat(&tmpfs, &*view_of.name, flags, Mode::empty())
                    .at(Step::Mount, below)?;
                let tree = view(view_of, trees.get_mut(index), attributes)?;
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

/// What is mounted for a view.
fn view(view: &CgroupView, tree: Option<&mut Option<OwnedFd>>, attributes: u64) -> Result<OwnedFd> {
    let name = || view.host.display().to_string();
    let Some(tree) = tree.and_then(Option::take) else {
        if !view.name.is_empty() {
            let cause = "the groups are mounted already: one cgroup mount is enough";
            return Err(StageError::refuse(Step::Mount, name(), cause));
        }
        return super::mounts::filesystem("cgroup2", "cgroup", &[], attributes)
            .at(Step::Mount, name);
    };
    mount::set_attributes(&tree, Attributes::set(attributes), false).at(Step::Mount, name)?;
    mount::set_propagation(&tree, mount::Propagation::Private, false).at(Step::Mount, name)?;
    Ok(tree)
}
