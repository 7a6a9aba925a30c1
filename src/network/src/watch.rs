//! Watching the configuration directory, which may appear, go and come back at any time.

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

/// A thread that calls back after every change; it ends when this is dropped.
pub(crate) struct DirWatch {
    stop: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

impl DirWatch {
    /// Starts to watch. `changed` is called once at first, so that nothing is lost in between.
    pub(crate) fn start(dir: &Path, changed: impl Fn() + Send + 'static) -> io::Result<Self> {
        let stop = eventfd(0, EventfdFlags::CLOEXEC)?;
        let stop_seen = stop.try_clone()?;
        let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let dir = dir.to_owned();
        let thread = std::thread::Builder::new().name("cni-watch".into()).stack_size(256 * 1024).spawn(move || {
            if let Err(error) = run(&dir, &events, &stop_seen, changed) {
                tracing::error!(dir = %dir.display(), %error, "network configuration is no longer watched");
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for DirWatch {
    fn drop(&mut self) {
        let _ = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(dir: &Path, events: &OwnedFd, stop: &OwnedFd, changed: impl Fn()) -> rustix::io::Result<()> {
    loop {
        watch(dir, events)?;
        changed();
        let mut fds = [PollFd::new(events, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        if !fds[1].revents().is_empty() {
            return Ok(());
        }
        drain(events)?;
    }
}

/// Watches the directory, or the nearest one above it that exists. Watching one twice is one watch.
fn watch(dir: &Path, events: &OwnedFd) -> rustix::io::Result<()> {
    let content = WatchFlags::CREATE
        | WatchFlags::CLOSE_WRITE
        | WatchFlags::MOVED_FROM
        | WatchFlags::MOVED_TO
        | WatchFlags::DELETE
        | WatchFlags::ATTRIB
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF
        | WatchFlags::ONLYDIR;
    let appearing =
        WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
    let mut at: PathBuf = dir.to_owned();
    loop {
        let flags = if at == dir { content } else { appearing | WatchFlags::ONLYDIR };
        match inotify::add_watch(events, &at, flags) {
            Ok(_) if at == dir => return Ok(()),
            Ok(_) => {
                // It may have appeared between the two calls.
                let below = dir.strip_prefix(&at).ok().and_then(|rest| rest.components().next());
                match below.map(|name| at.join(name)).filter(|next| next.is_dir()) {
                    Some(_) => at = dir.to_owned(),
                    None => return Ok(()),
                }
            }
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => match at.parent() {
                Some(parent) => at = parent.to_owned(),
                None => return Ok(()),
            },
            Err(errno) => return Err(errno),
        }
    }
}

/// What exactly happened does not matter: the directory is read again.
fn drain(events: &OwnedFd) -> rustix::io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match rustix::io::read(events, &mut buffer) {
            Ok(0) | Err(rustix::io::Errno::AGAIN) => return Ok(()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    /// Waits for calls until the wanted state was seen.
    fn until(calls: &mpsc::Receiver<Vec<String>>, wanted: &[&str]) {
        loop {
            let seen = calls.recv_timeout(Duration::from_secs(20)).expect("a change is announced");
            if seen == wanted {
                return;
            }
        }
    }

    #[test]
    fn a_directory_that_comes_and_goes() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a/b");
        let (sender, calls) = mpsc::channel();
        let listed = dir.clone();
        let watch = DirWatch::start(&dir, move || {
            let mut names: Vec<String> = std::fs::read_dir(&listed)
                .map(|entries| {
                    entries
                        .flatten()
                        .map(|e| e.file_name().to_string_lossy().into_owned())
                        .collect()
                })
                .unwrap_or_default();
            names.sort();
            let _ = sender.send(names);
        })
        .unwrap();
        until(&calls, &[]);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("x"), "1").unwrap();
        until(&calls, &["x"]);
        std::fs::write(dir.join(".y"), "1").unwrap();
        std::fs::rename(dir.join(".y"), dir.join("y")).unwrap();
        until(&calls, &["x", "y"]);
        std::fs::remove_dir_all(root.path().join("a")).unwrap();
        until(&calls, &[]);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("z"), "1").unwrap();
        until(&calls, &["z"]);
        drop(watch);
    }
}
