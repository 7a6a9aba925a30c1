//! The working directory: inside the root, whatever the image or the request says.

use super::error::{At, Result, StageError, Step};
use super::tree::{Root, Want};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Opens the directory, made (0755) when it is missing. Runs in the container's root.
pub(super) fn open(path: &Path) -> Result<OwnedFd> {
    let name = || path.display().to_string();
    if !path.is_absolute() {
        return Err(StageError::refuse(Step::Cwd, name(), "it must be an absolute path"));
    }
    let root = rustix::fs::open(c"/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .at(Step::Cwd, || "/")?;
    let root = Root::new(root);
    let directory = match root.open(path, OFlags::PATH) {
        Err(Errno::NOENT) => root.target(path, Want::Directory, Step::Cwd)?,
        Err(Errno::LOOP) => {
            let cause = "it leads through a link of /proc, or through too many links";
            return Err(StageError {
                errno: Errno::LOOP.raw_os_error(),
                ..StageError::refuse(Step::Cwd, name(), cause)
            });
        }
        other => other.at(Step::Cwd, name)?,
    };
    let stat = rustix::fs::fstat(&directory).at(Step::Cwd, name)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Err(StageError::kernel(Step::Cwd, name(), Errno::NOTDIR.raw_os_error()));
    }
    Ok(directory)
}

/// Enters it, and makes sure that it is below our root.
pub(super) fn enter(directory: &OwnedFd, path: &Path) -> Result<()> {
    let name = || path.display().to_string();
    rustix::process::fchdir(directory).at(Step::Cwd, name)?;
    let here = rustix::process::getcwd(Vec::new()).at(Step::Cwd, name)?;
    if here.to_bytes().first() != Some(&b'/') {
        return Err(StageError::refuse(Step::Cwd, name(), "it is outside the container's root"));
    }
    Ok(())
}
