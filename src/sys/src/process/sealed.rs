//! A copy of a program in memory that nobody can change any more.

use crate::error::{Context, Result};
use rustix::fs::{MemfdFlags, Mode, SealFlags};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Copies the file at `path` into an executable memory file and seals it against every change,
/// so that no container can reach the file on disk through `/proc/<pid>/exe`.
pub fn sealed_copy(path: &Path) -> Result<OwnedFd> {
    let name = || path.display().to_string();
    let mut source = File::open(path).context("open", name)?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // A kernel with vm.memfd_noexec wants the exec flag; one before 6.3 does not know it.
    let memfd = rustix::fs::memfd_create("orlop-shim", flags | MemfdFlags::EXEC)
        .or_else(|_| rustix::fs::memfd_create("orlop-shim", flags))
        .context("memfd_create", name)?;
    let mut target = File::from(memfd);
    std::io::copy(&mut source, &mut target).context("copy", name)?;
    // Who may not read a program that he runs may not look into the process either: root of a
    // container's user namespace, however much it may do there, cannot trace one of ours.
    rustix::fs::fchmod(&target, Mode::from_raw_mode(0o711)).context("chmod", name)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&target, seals).context("seal", name)?;
    // The writable description goes; what is left can only be read and executed.
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&target));
    let read_only = File::open(&path).context("open", || path.as_str())?;
    Ok(read_only.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{Command, Exit, Program};
    use std::io::Write;
    use std::os::fd::AsFd;

    #[test]
    fn a_sealed_copy_runs_and_cannot_be_written() {
        let copy = sealed_copy(Path::new("/bin/busybox")).unwrap();
        let mut command = Command::new(Program::Fd(copy.as_fd()));
        let child = command.args(["sh", "-c", "exit 7"]).spawn().unwrap();
        assert_eq!(child.pidfd.wait().unwrap(), Exit::Code(7));
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&copy));
        let refused = std::fs::OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|mut file| file.write(b"x"));
        assert!(refused.is_err());
    }
}
