//! Being told when the kernel kills for memory.

use super::{Cgroup, files};
use crate::error::{Context, Result};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::Ordering;

/// A descriptor whose events say that the kernel may have killed for memory; which events, [`OomNotifier::is_priority`] says.
#[derive(Debug)]
pub struct OomNotifier {
    fd: OwnedFd,
    event: bool,
}

impl Cgroup {
    /// How often the kernel killed for memory here since it exists.
    pub fn oom_kills(&self) -> Result<u64> {
        let text = match (self.v2(), self.legacy("memory")) {
            (Some(dir), _) if self.unit.is_some() => return self.unit_oom_kills(dir),
            (Some(dir), _) => files::read(dir, "memory.events")?,
            (None, Some(dir)) => files::read(dir, "memory.oom_control")?,
            (None, None) => return Ok(0),
        };
        Ok(files::keyed(&text, "oom_kill").unwrap_or(0))
    }

    /// systemd removes a scope the moment it is empty, maybe before anybody could look. The group
    /// above counts what is below it, too: by how much it has grown since the last look then tells.
    fn unit_oom_kills(&self, dir: &Path) -> Result<u64> {
        let count = |dir: &Path| -> Result<u64> {
            Ok(files::keyed(&files::read(dir, "memory.events")?, "oom_kill").unwrap_or(0))
        };
        let above = dir.parent().and_then(|above| count(above).ok());
        let (own_before, above_before) = &self.seen_oom_kills;
        match count(dir) {
            Ok(own) => {
                own_before.store(own, Ordering::Relaxed);
                above_before.store(above.unwrap_or(0), Ordering::Relaxed);
                Ok(own)
            }
            Err(error) if matches!(error.errno, libc::ENOENT | libc::ENODEV) => {
                let grown = above.unwrap_or(0).saturating_sub(above_before.load(Ordering::Relaxed));
                Ok(own_before.load(Ordering::Relaxed) + grown)
            }
            Err(error) => Err(error),
        }
    }

    /// Opens the notification of memory kills.
    pub fn oom_notifier(&self) -> Result<OomNotifier> {
        let open = |path: &Path| {
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

    /// Takes the event; then ask [`Cgroup::oom_kills`]. Whether more can come: a file whose group has
    /// been removed would be ready for ever.
    pub fn consume(&self) -> bool {
        let mut buffer = [0_u8; 4096];
        if self.event {
            let _ = rustix::io::read(&self.fd, buffer.get_mut(..8).unwrap_or_default());
            return true;
        }
        // Reading it again arms the next event.
        rustix::io::pread(&self.fd, &mut buffer, 0) != Err(rustix::io::Errno::NODEV)
    }
}
