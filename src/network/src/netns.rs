//! Entering namespaces for a moment.

use crate::NetworkError;
use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Opens a pinned namespace.
pub(crate) fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Whether the path is a namespace: an unpinned file is left where a pin was removed.
pub(crate) fn is_namespace(path: &Path) -> bool {
    const NSFS_MAGIC: u64 = 0x6e73_6673;
    open(path)
        .and_then(|fd| Ok(rustix::fs::fstatfs(&fd)?))
        .is_ok_and(|stat| stat.f_type as u64 == NSFS_MAGIC)
}

/// Runs `work` on a thread that is inside the namespaces and ends with the work: no thread of a
/// pool can be left behind in the wrong place.
pub(crate) fn inside<T, F>(
    namespaces: &[(BorrowedFd<'_>, LinkNameSpaceType)],
    work: F,
) -> io::Result<T>
where
    T: Send,
    F: FnOnce() -> T + Send,
{
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("netns".into())
            .stack_size(256 * 1024)
            .spawn_scoped(scope, || {
                for (namespace, kind) in namespaces {
                    move_into_link_name_space(*namespace, Some(*kind))?;
                }
                Ok(work())
            })?;
        thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("a thread inside a namespace panicked")))
    })
}

/// Runs `work` inside a network namespace.
pub(crate) fn inside_net<T, F>(netns: impl AsFd, work: F) -> io::Result<T>
where
    T: Send,
    F: FnOnce() -> T + Send,
{
    inside(&[(netns.as_fd(), LinkNameSpaceType::Network)], work)
}

/// Why entering failed.
pub(crate) fn error(action: &'static str) -> impl FnOnce(io::Error) -> NetworkError {
    move |source| NetworkError::Namespace { action, source }
}
