//! Directories, file systems, the shim, and addresses that the daemon needs for itself.

use super::report::Finding;
use crate::config::Config;
use orlop_sys::mount::{MountEntry, mount_table};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Least room on the disk of images, in bytes.
const LEAST_ROOM: u64 = 2 << 30;

pub(super) fn all(config: &Config) -> Vec<Finding> {
    let mounts = mount_table().unwrap_or_default();
    let mut findings = vec![shim(config)];
    findings.extend(root(config, &mounts));
    findings.push(run(config, &mounts));
    findings.push(socket(config));
    findings
}

fn shim(config: &Config) -> Finding {
    match crate::serve::shim(config) {
        Ok(path) => {
            let executable =
                path.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o111 != 0);
            let shown = path.display().to_string();
            if executable {
                Finding::fine("shim", shown)
            } else {
                Finding::essential("shim", format!("{shown} is not executable"))
                    .costs("no container can be started")
                    .remedy(format!("chmod 755 {shown}"))
            }
        }
        Err(error) => {
            Finding::essential("shim", format!("{error:#}")).costs("orlop serve does not start")
        }
    }
}

/// The directory itself, or the nearest one above it that exists.
fn existing(path: &Path) -> PathBuf {
    path.ancestors().find(|above| above.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

/// The mount that a path is on.
fn mount_of<'m>(path: &Path, mounts: &'m [MountEntry]) -> Option<&'m MountEntry> {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let above = mounts.iter().enumerate().filter(|(_, mount)| path.starts_with(&mount.target));
    // Of several on one directory the last is the one that is seen.
    above.max_by_key(|(at, mount)| (mount.target.components().count(), *at)).map(|(_, mount)| mount)
}

/// Where images and writable layers are.
fn root(config: &Config, mounts: &[MountEntry]) -> Vec<Finding> {
    let dir = existing(&config.root);
    let what = format!("file system of {}", config.root.display());
    let mut findings = Vec::new();
    let Some(mount) = mount_of(&dir, mounts) else {
        return vec![Finding::note(what, "unknown").costs("nothing can be said about it")];
    };
    let kind = mount.kind.as_str();
    findings.push(match try_overlay(&dir) {
        Ok(()) => Finding::fine(what.clone(), format!("{kind}, carries an overlay")),
        Err(error) if error.contains("directory") => {
            Finding::note(what.clone(), format!("{kind}; {error}"))
                .costs("whether it carries an overlay was not tried")
                .remedy("run this check as root")
        }
        Err(error) => Finding::essential(what.clone(), format!("{kind}; {error}"))
            .costs("no container has a root file system")
            .remedy("use ext4, xfs (with ftype=1) or btrfs for the directory \"root\""),
    });
    let options: Vec<&str> = mount.options.split(',').collect();
    for (option, cost) in [
        ("ro", "nothing can be stored"),
        ("noexec", "no program of an image can be executed"),
        ("nosuid", "set-user-id programs of images do not work"),
        ("nodev", "device nodes of images do not work"),
    ] {
        if options.contains(&option) {
            let found = format!("mounted with {option}");
            let essential = ["ro", "noexec"].contains(&option);
            let lack = if essential {
                Finding::essential(what.clone(), found)
            } else {
                Finding::lacking(what.clone(), found)
            };
            findings.push(lack.costs(cost).remedy(format!("mount it without {option}")));
        }
    }
    let quota =
        mount.super_options.split(',').any(|option| option == "prjquota" || option == "pquota");
    findings.push(if quota {
        Finding::fine("project quotas", "on")
    } else {
        Finding::note("project quotas", format!("off on {}", mount.target.display()))
            .costs("the kubelet walks directories to measure ephemeral storage")
            .remedy("mount with prjquota, where file system and kubelet are to use them")
    });
    findings.extend(room(&dir));
    findings
}

fn room(dir: &Path) -> Option<Finding> {
    let stat = rustix::fs::statvfs(dir).ok()?;
    let free = stat.f_bavail * stat.f_frsize;
    let text =
        format!("{:.1} GiB free, {} inodes free", free as f64 / f64::from(1 << 30), stat.f_favail);
    // File systems that make inodes as they go count none.
    let inodes = stat.f_files == 0 || stat.f_favail > 50_000;
    Some(if free >= LEAST_ROOM && inodes {
        Finding::fine("room for images", text)
    } else {
        Finding::lacking("room for images", text)
            .costs("pulls fail when it is full")
            .remedy("free some")
    })
}

/// Mounts an overlay nowhere, in a directory that is removed again.
fn try_overlay(dir: &Path) -> Result<(), String> {
    let own = dir.join(format!(".orlop-check-{}", std::process::id()));
    let tried = (|| {
        let (upper, work, lower) = (own.join("upper"), own.join("work"), own.join("lower"));
        for made in [&own, &upper, &work, &lower] {
            std::fs::create_dir(made)
                .map_err(|error| format!("directory {} cannot be made: {error}", made.display()))?;
        }
        orlop_sys::mount::overlay(&[lower], Some((&upper, &work)), &["volatile"], 0)
            .map(drop)
            .map_err(|error| format!("an overlay cannot be mounted: {error}"))
    })();
    let _ = std::fs::remove_dir_all(&own);
    tried
}

/// Where live state is: a reboot must empty it.
fn run(config: &Config, mounts: &[MountEntry]) -> Finding {
    let what = format!("file system of {}", config.run.display());
    match mount_of(&existing(&config.run), mounts) {
        Some(mount) if mount.kind == "tmpfs" => Finding::fine(what, "tmpfs"),
        Some(mount) => Finding::lacking(what, mount.kind.clone())
            .costs("what a reboot should forget stays, and is cleaned up more slowly")
            .remedy("use a directory on a tmpfs for \"run\""),
        None => Finding::note(what, "unknown").costs("nothing can be said about it"),
    }
}

fn socket(config: &Config) -> Finding {
    let path = config.socket();
    let shown = path.display().to_string();
    match std::os::unix::net::UnixStream::connect(&path) {
        Ok(_) => Finding::note("socket", format!("{shown} answers"))
            .costs("a daemon runs there already; a second one does not start"),
        Err(error)
            if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) =>
        {
            Finding::fine("socket", format!("{shown} is free"))
        }
        Err(error) => Finding::lacking("socket", format!("{shown}: {error}"))
            .costs("orlop serve may not be able to listen there")
            .remedy("look at what is at that path"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(target: &str, kind: &str) -> MountEntry {
        let text = String::from;
        MountEntry {
            id: 1,
            root: "/".into(),
            target: target.into(),
            options: text("rw"),
            kind: text(kind),
            source: text("none"),
            super_options: text("rw"),
        }
    }

    #[test]
    fn the_innermost_mount_counts() {
        let mounts =
            [mount("/", "ext4"), mount("/proc", "a"), mount("/", "xfs"), mount("/proc/self", "b")];
        let kind = |path: &str| mount_of(Path::new(path), &mounts).map(|found| found.kind.clone());
        assert_eq!(kind("/nonexistent/x").as_deref(), Some("xfs"));
        assert_eq!(kind("/proc/sys").as_deref(), Some("a"));
        assert_eq!(kind("/procfs").as_deref(), Some("xfs"));
    }

    #[test]
    fn trying_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let _ = try_overlay(dir.path());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(try_overlay(Path::new("/proc")).unwrap_err().contains("directory"));
    }
}
