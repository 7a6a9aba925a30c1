//! Entering namespaces for a moment.
//!
//! The calling thread itself goes in and comes back: handing the work to another thread would cost
//! a wake-up on each way, which on a busy node is milliseconds, against microseconds for setns.

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

/// Brings the thread back when it is dropped, also by a panic.
struct Return(Vec<(OwnedFd, LinkNameSpaceType)>);

impl Drop for Return {
    fn drop(&mut self) {
        for (namespace, kind) in &self.0 {
            if let Err(error) = move_into_link_name_space(namespace.as_fd(), Some(*kind)) {
                // Any further work of this thread would be done to the wrong namespace. No
                // container notices that the daemon restarts.
                tracing::error!(%error, "a thread cannot leave a sandbox's namespace: the daemon stops");
                std::process::abort();
            }
        }
    }
}

/// The file under `/proc/thread-self/ns` for a kind of namespace.
fn own(kind: LinkNameSpaceType) -> io::Result<OwnedFd> {
    let name = match kind {
        LinkNameSpaceType::Network => "net",
        LinkNameSpaceType::InterProcessCommunication => "ipc",
        LinkNameSpaceType::HostNameAndNISDomainName => "uts",
        _ => return Err(io::Error::from(io::ErrorKind::Unsupported)),
    };
    open(&Path::new("/proc/thread-self/ns").join(name))
}

/// Runs `work` inside the namespaces.
pub(crate) fn inside<T>(
    namespaces: &[(BorrowedFd<'_>, LinkNameSpaceType)],
    work: impl FnOnce() -> T,
) -> io::Result<T> {
    let own = namespaces.iter().map(|(_, kind)| Ok((own(*kind)?, *kind)));
    let _return = Return(own.collect::<io::Result<_>>()?);
    for (namespace, kind) in namespaces {
        move_into_link_name_space(*namespace, Some(*kind))?;
    }
    Ok(work())
}

/// Runs `work` inside a network namespace.
pub(crate) fn inside_net<T>(netns: impl AsFd, work: impl FnOnce() -> T) -> io::Result<T> {
    inside(&[(netns.as_fd(), LinkNameSpaceType::Network)], work)
}

/// Why entering failed.
pub(crate) fn error(action: &'static str) -> impl FnOnce(io::Error) -> NetworkError {
    move |source| NetworkError::Namespace { action, source }
}
