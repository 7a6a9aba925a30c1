//! The null device as standard input or output: the container's own.
//!
//! The host's, which we were born with, is one file for all: through that descriptor a container's root
//! could change its mode and owner for the whole host.

use super::error::{At, Result, StageError, Step};
use super::tree::{Root, resolve};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, major, minor};
use rustix::io::Errno;
use rustix::stdio;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

const NULL: &str = "/dev/null";

/// Opens the container's null device in the place of the host's. Runs in the container's root.
pub(super) fn replace() -> Result<()> {
    let (input, output, error) =
        (is_null(stdio::stdin()), is_null(stdio::stdout()), is_null(stdio::stderr()));
    if !(input || output || error) {
        return Ok(());
    }
    let root = rustix::fs::open(c"/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .at(Step::Device, || "/")?;
    match open(&Root::new(root)) {
        Ok(null) => {
            if input {
                stdio::dup2_stdin(&null).at(Step::Device, || NULL)?;
            }
            if output {
                stdio::dup2_stdout(&null).at(Step::Device, || NULL)?;
            }
            if error {
                stdio::dup2_stderr(&null).at(Step::Device, || NULL)?;
            }
            Ok(())
        }
        // The device rules or a nodev mount forbid it: nothing that the workload can bring about.
        Err(Errno::PERM | Errno::ACCESS) => Ok(()),
        Err(_) if output || error => {
            let cause = "it is not the null device (1:3) in the container: restore it";
            Err(StageError::refuse(Step::Device, NULL, cause))
        }
        // Without any, an input that has ended already says the same.
        Err(_) => {
            let (empty, _) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
                .at(Step::Device, || "pipe")?;
            stdio::dup2_stdin(&empty).at(Step::Device, || "pipe")
        }
    }
}

/// What is there may be anything that the image or a running container put there.
fn open(root: &Root) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY;
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    // Looked at before it is opened: opening some devices has effects.
    let found = resolve(root.fd(), Path::new(NULL), OFlags::PATH, how)?;
    if !is_null(&found) {
        return Err(Errno::NODEV);
    }
    let null = resolve(root.fd(), Path::new(NULL), flags, how)?;
    if !is_null(&null) {
        return Err(Errno::NODEV);
    }
    rustix::io::ioctl_fionbio(&null, false)?;
    Ok(null)
}

fn is_null(fd: impl AsFd) -> bool {
    fstat(fd).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
            && (major(stat.st_rdev), minor(stat.st_rdev)) == (1, 3)
    })
}
