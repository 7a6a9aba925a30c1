//! The shim's own complaints. There are few; nobody reads its stderr, so they go to `shim.log` in
//! the bundle, or to the `log` FIFO that containerd puts there.

use rustix::fs::{Mode, OFlags};
use std::time::SystemTime;

/// Appends one line. The working directory is the bundle. A shim that cannot complain works on.
pub(crate) fn note(text: &str) {
    let fifo =
        rustix::fs::open("log", OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty());
    let file = fifo.or_else(|_| {
        let flags =
            OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::open("shim.log", flags, Mode::RUSR | Mode::WUSR)
    });
    if let Ok(file) = file {
        let seconds = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let _ = rustix::io::write(&file, format!("{seconds} {text}\n").as_bytes());
    }
}
