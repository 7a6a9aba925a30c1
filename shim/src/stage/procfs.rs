//! Our own process file system, which nobody could mount anything into: kernel parameters and
//! labels are written through it and through nothing else.

use super::error::{At, Result, StageError, Step};
use orlop_sys::mount::Filesystem;
use rustix::fs::{OFlags, ResolveFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// A private mount of procfs.
#[derive(Debug)]
pub(super) struct Procfs(OwnedFd);

impl Procfs {
    pub(super) fn new() -> Result<Self> {
        Filesystem::open("proc")
            .and_then(|proc| proc.mount(0))
            .map(Self)
            .at(Step::Security, || "procfs")
    }

    /// Writes `value` to the file at `path`, which crosses no mount and no link.
    pub(super) fn write(&self, path: &str, value: &str, step: Step) -> Result<()> {
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
        let file = super::tree::resolve(self.0.as_fd(), Path::new(path), OFlags::WRONLY, how)
            .map_err(|errno| named(step, path, errno))?;
        rustix::io::write(&file, value.as_bytes())
            .map(drop)
            .map_err(|errno| named(step, path, errno))
    }

    /// A file of this process.
    pub(super) fn write_own(&self, file: &str, value: &str, step: Step) -> Result<()> {
        let pid = rustix::process::getpid();
        self.write(&format!("{}/{file}", pid.as_raw_nonzero()), value, step)
    }
}

fn named(step: Step, path: &str, errno: Errno) -> StageError {
    match errno {
        Errno::NOENT => StageError {
            errno: errno.raw_os_error(),
            ..StageError::refuse(step, path, "this kernel has no such parameter")
        },
        _ => StageError::kernel(step, path, errno.raw_os_error()),
    }
}

/// Sets kernel parameters, by their dotted or slashed names.
pub(super) fn set_sysctls(sysctls: &[(String, String)]) -> Result<()> {
    if sysctls.is_empty() {
        return Ok(());
    }
    let procfs = Procfs::new()?;
    for (name, value) in sysctls {
        procfs.write(&format!("sys/{}", path_of(name)), value, Step::Sysctl)?;
    }
    Ok(())
}

/// As sysctl(8): the first separator decides; with dots, a slash stands for a dot in a name.
fn path_of(name: &str) -> String {
    match name.find(['.', '/']).and_then(|at| name.as_bytes().get(at)) {
        Some(b'.') => {
            let swap = |c| match c {
                '.' => '/',
                '/' => '.',
                other => other,
            };
            name.chars().map(swap).collect()
        }
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_paths() {
        for (name, path) in [
            ("kernel.msgmax", "kernel/msgmax"),
            ("net.ipv4.conf.eth0/1.forwarding", "net/ipv4/conf/eth0.1/forwarding"),
            ("net/ipv4/conf/eth0.1/forwarding", "net/ipv4/conf/eth0.1/forwarding"),
            ("plain", "plain"),
        ] {
            assert_eq!(path_of(name), path);
        }
    }
}
