//! Volumes: their sources on the host.

use crate::error::io;
use crate::{Error, Result};
use orlop_spec::request::{ContainerConfig, Mount, MountSource, Propagation};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The request with every host path resolved and existing, and mounts in an order in which none
/// hides an earlier one: parents first.
pub(super) fn resolve(config: &ContainerConfig) -> Result<ContainerConfig> {
    let mut config = config.clone();
    // Stable: of two mounts at one path the later one wins, as asked.
    config.mounts.sort_by_key(|mount| mount.container_path.components().count());
    let mut table = None;
    for mount in &mut config.mounts {
        if let MountSource::Host(path) = &mount.source {
            let source = host_source(path)?;
            if mount.propagation != Propagation::Private {
                let table = match &table {
                    Some(table) => table,
                    None => table.insert(read_mount_table()?),
                };
                check_propagation(table, mount, &source)?;
            }
            mount.source = MountSource::Host(source);
        }
    }
    Ok(config)
}

/// The path without symbolic links. What is missing is made as a directory, as both runtimes of
/// the field do.
fn host_source(path: &Path) -> Result<PathBuf> {
    match std::fs::canonicalize(path) {
        Ok(source) => Ok(source),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // A dangling symbolic link is followed to where it points only if that can be made.
            make_dirs(path).map_err(|error| unusable(path, &error))?;
            std::fs::canonicalize(path).map_err(io("resolving", path))
        }
        Err(error) => Err(unusable(path, &error)),
    }
}

/// Makes a directory and those above it, 0755 whatever our own umask says: they are not ours.
pub(super) fn make_dirs(path: &Path) -> std::io::Result<()> {
    let missing: Vec<&Path> =
        path.ancestors().take_while(|dir| std::fs::symlink_metadata(dir).is_err()).collect();
    for dir in missing.into_iter().rev() {
        match std::fs::create_dir(dir) {
            Ok(()) => {
                std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755))?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    // A dangling link, or a file, is no directory.
    if std::fs::metadata(path)?.is_dir() {
        Ok(())
    } else {
        Err(std::io::Error::from(std::io::ErrorKind::NotADirectory))
    }
}

/// Gives the volumes for which that is asked the label of the container's files, all that is in them.
pub(super) fn relabel(config: &ContainerConfig, label: &str) -> Result<()> {
    config.mounts.iter().filter(|mount| mount.selinux_relabel).try_for_each(|mount| {
        match &mount.source {
            MountSource::Host(path) => relabel_tree(path, label),
            MountSource::Image { .. } | MountSource::Tmpfs(_) => Ok(()),
        }
    })
}

fn relabel_tree(path: &Path, label: &str) -> Result<()> {
    use rustix::fs::{XattrFlags, lsetxattr};
    match lsetxattr(path, "security.selinux", label.as_bytes(), XattrFlags::empty()) {
        // A file system without labels has one for all of its files.
        Ok(()) | Err(rustix::io::Errno::NOTSUP) => {}
        Err(error) => return Err(io("labelling", path)(error.into())),
    }
    let meta = std::fs::symlink_metadata(path).map_err(io("looking at", path))?;
    if !meta.is_dir() {
        return Ok(());
    }
    for entry in std::fs::read_dir(path).map_err(io("listing", path))? {
        relabel_tree(&entry.map_err(io("listing", path))?.path(), label)?;
    }
    Ok(())
}

fn unusable(path: &Path, error: &std::io::Error) -> Error {
    Error::Invalid {
        field: "mounts.host_path",
        value: path.display().to_string(),
        why: format!("it is not there and cannot be made as a directory: {error}"),
    }
}

/// A mount of the host: where, and how it propagates.
#[derive(Debug, PartialEq)]
struct HostMount {
    at: PathBuf,
    shared: bool,
    slave: bool,
}

fn read_mount_table() -> Result<Vec<HostMount>> {
    let path = "/proc/self/mountinfo";
    let text = std::fs::read_to_string(path).map_err(io("reading", path))?;
    Ok(text.lines().filter_map(parse_line).collect())
}

/// One line of mountinfo (proc_pid_mountinfo(5)): field 5 is the mount point, and from field 7 on
/// there are tags up to a dash.
fn parse_line(line: &str) -> Option<HostMount> {
    let mut fields = line.split(' ');
    let at = PathBuf::from(unescape(fields.nth(4)?));
    let tags: Vec<_> = fields.skip(1).take_while(|tag| *tag != "-").collect();
    let has = |name: &str| tags.iter().any(|tag| tag.starts_with(name));
    Some(HostMount { at, shared: has("shared:"), slave: has("master:") })
}

/// mountinfo writes space, tab, newline and backslash as octal escapes.
fn unescape(text: &str) -> String {
    let mut out = text.to_owned();
    for (escape, plain) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        out = out.replace(escape, plain);
    }
    out
}

fn check_propagation(table: &[HostMount], mount: &Mount, source: &Path) -> Result<()> {
    let holds = table
        .iter()
        .filter(|host| source.starts_with(&host.at))
        // The last one of the longest is on top.
        .max_by_key(|host| host.at.components().count());
    let (shared, slave) = holds.map_or((false, false), |host| (host.shared, host.slave));
    let (ok, need) = match mount.propagation {
        Propagation::Private => (true, ""),
        Propagation::HostToContainer => (shared || slave, "shared or slave"),
        Propagation::Bidirectional => (shared, "shared"),
    };
    if ok {
        return Ok(());
    }
    let at = holds.map_or_else(|| "/".into(), |host| host.at.display().to_string());
    Err(Error::Invalid {
        field: "mounts.propagation",
        value: format!("{:?}", mount.propagation),
        why: format!(
            "its source {source:?} is on the mount {at}, which is not {need}: make that mount {need} on the node, or use private propagation"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::test_support::container_config;

    fn mount(container: &str, host: &Path, propagation: Propagation) -> Mount {
        Mount {
            container_path: container.into(),
            source: MountSource::Host(host.to_owned()),
            readonly: false,
            recursive_read_only: false,
            selinux_relabel: false,
            propagation,
            uid_mappings: vec![],
            gid_mappings: vec![],
        }
    }

    #[test]
    fn sources_are_made_resolved_and_sorted() {
        let temp = tempfile::tempdir().unwrap();
        let real = temp.path().canonicalize().unwrap();
        std::fs::create_dir(real.join("dir")).unwrap();
        std::os::unix::fs::symlink("dir", real.join("link")).unwrap();
        let mut config = container_config("c");
        config.mounts = vec![
            mount("/a/b/c", &real.join("new/deep"), Propagation::Private),
            mount("/a", &real.join("link"), Propagation::Private),
        ];
        let resolved = resolve(&config).unwrap();
        let sources: Vec<_> = resolved.mounts.iter().map(|mount| mount.source.clone()).collect();
        assert_eq!(
            sources,
            [MountSource::Host(real.join("dir")), MountSource::Host(real.join("new/deep"))]
        );
        assert!(real.join("new/deep").is_dir());
    }

    #[test]
    fn what_cannot_be_made_is_named() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("file");
        std::fs::write(&file, "").unwrap();
        let mut config = container_config("c");
        config.mounts = vec![mount("/a", &file.join("below"), Propagation::Private)];
        let error = resolve(&config).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains("file/below"), "{error}");
    }

    #[test]
    fn propagation_needs_a_mount_that_propagates() {
        let table: Vec<_> = [
            "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw",
            "23 22 0:5 / /private rw - tmpfs tmpfs rw",
            "24 22 0:6 / /with\\040space rw,nosuid master:3 - tmpfs tmpfs rw",
        ]
        .iter()
        .filter_map(|line| parse_line(line))
        .collect();
        for (source, propagation, ok) in [
            ("/x", Propagation::Bidirectional, true),
            ("/private/x", Propagation::Bidirectional, false),
            ("/private/x", Propagation::HostToContainer, false),
            ("/privately", Propagation::Bidirectional, true),
            ("/with space/x", Propagation::HostToContainer, true),
            ("/with space/x", Propagation::Bidirectional, false),
        ] {
            let mount = mount("/a", Path::new(source), propagation);
            let result = check_propagation(&table, &mount, Path::new(source));
            assert_eq!(result.is_ok(), ok, "{source} {propagation:?}");
        }
    }
}
