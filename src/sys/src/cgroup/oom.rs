//! Being told when the kernel kills for memory.

use super::{Cgroup, files};
use crate::error::{Context, Result};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// A descriptor that becomes readable (poll: POLLIN or POLLPRI) when the kernel may have killed for memory.
#[derive(Debug)]
pub struct OomNotifier {
    fd: OwnedFd,
    event: bool,
}

impl Cgroup {
    /// How often the kernel killed for memory here since it exists.
    pub fn oom_kills(&self) -> Result<u64> {
        let text = match (self.v2(), self.legacy("memory")) {
            (Some(dir), _) => files::read(dir, "memory.events")?,
            (None, Some(dir)) => files::read(dir, "memory.oom_control")?,
            (None, None) => return Ok(0),
        };
        Ok(files::keyed(&text, "oom_kill").unwrap_or(0))
    }

    /// Opens the notification of memory kills.
    pub fn oom_notifier(&self) -> Result<OomNotifier> {
        let open = |path: &std::path::Path| {
            rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .context("open", || path.display().to_string())
        };
        match (self.v2(), self.legacy("memory")) {
            (Some(dir), _) => {
                Ok(OomNotifier { fd: open(&dir.join("memory.events"))?, event: false })
            }
            (None, Some(dir)) => {
                let control = open(&dir.join("memory.oom_control"))?;
                let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
                    .context("eventfd", || "for memory kills")?;
                let pair = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
                files::write(dir, "cgroup.event_control", &pair)?;
                Ok(OomNotifier { fd: event, event: true })
            }
            (None, None) => Err(files::no_controller("memory")),
        }
    }
}

impl OomNotifier {
    /// The descriptor to poll: POLLIN (v1, an eventfd) or POLLPRI (v2, a file that is always readable).
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether the event is POLLPRI (v2) and not POLLIN (v1).
    pub fn is_priority(&self) -> bool {
        !self.event
    }

    /// Takes the event; then ask [`Cgroup::oom_kills`].
    pub fn consume(&self) {
        let mut buffer = [0_u8; 4096];
        if self.event {
            let _ = rustix::io::read(&self.fd, buffer.get_mut(..8).unwrap_or_default());
        } else {
            // Reading it again arms the next event.
            let _ = rustix::io::pread(&self.fd, &mut buffer, 0);
        }
    }
}
