//! What containers' writable layers take on disk, without a walk in the call that asks.
//!
//! Where the file system counts for projects (ext4 and xfs with project quotas), each layer is a
//! project and the answer is one system call, exact at that moment. Elsewhere a layer is walked in
//! the background, by one thread for the whole store, in slices with pauses between them, and only
//! while somebody asks: an answer is then what the last whole walk found, with its time, and a layer
//! that takes long to walk is walked rarely (docs/decisions/0021-writable-layer-usage.md).

use orlop_model::Timestamp;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, statat};
use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Projects of other programs are rarely numbered like this.
const FIRST_PROJECT: u32 = 0x4f52_0000;
const PROJECTS: u32 = 0x10_0000;
/// A walk's result is good for this long, and for [`REST`] times what the walk took.
const FRESH: Duration = Duration::from_secs(2);
const REST: u32 = 10;
/// Entries between two pauses of a walk; a pause is as long as the slice took, times [`PAUSE`].
const SLICE: u32 = 4096;
const PAUSE: u32 = 3;
/// Deeper directories are not counted: their number decides how many descriptors a walk holds.
const DEEPEST: usize = 128;
/// Files with several names that are remembered so as to be counted once.
const MANY_NAMES: usize = 1 << 20;

/// What a writable layer takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WritableUsage {
    /// Bytes on disk.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
    /// When that was so.
    pub at: Timestamp,
}

/// The books on all writable layers of a store. Clones are the same books.
#[derive(Clone, Default)]
pub(crate) struct Accounts(Arc<Shared>);

#[derive(Default)]
struct Shared {
    known: Mutex<HashMap<String, Account>>,
    queue: Mutex<Queue>,
    /// The next project to try; 0: nobody looked yet.
    next_project: AtomicU32,
    closed: AtomicBool,
}

#[derive(Clone)]
struct Account {
    /// The file system counts.
    project: Option<u32>,
    last: Option<WritableUsage>,
    measured: Option<(Instant, Duration)>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(String, PathBuf)>,
    /// Those in `waiting`, and the one in work.
    queued: HashSet<String>,
    working: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Accounts {
    /// Makes the new directory `dir` of the layer `key` a project, where there are such. Called
    /// before anything is made in it.
    pub(crate) fn open(&self, key: &str, dir: &OwnedFd) {
        let project = self.new_project(dir);
        let at = Timestamp::now();
        // Empty but for its root; a walk will know better.
        let last = Some(WritableUsage { bytes: 0, inodes: 1, at });
        let account = Account { project, last, measured: None };
        lock(&self.0.known).insert(key.to_owned(), account);
    }

    pub(crate) fn close(&self, key: &str) {
        lock(&self.0.known).remove(key);
    }

    /// No more walks.
    pub(crate) fn end(&self) {
        self.0.closed.store(true, Ordering::Release);
    }

    /// A project that is empty, with the directory in it; `None`: no projects here.
    fn new_project(&self, dir: &OwnedFd) -> Option<u32> {
        use orlop_sys::fs::{project, project_usage, set_project};
        // A directory made by us may have inherited one from an administrator's own scheme: left alone.
        if project(dir).ok()? != 0 {
            return None;
        }
        for _ in 0..PROJECTS {
            let id = FIRST_PROJECT + self.0.next_project.fetch_add(1, Ordering::Relaxed) % PROJECTS;
            match project_usage(dir, id) {
                // In use by a layer of an earlier daemon, or by somebody else.
                Ok((bytes, inodes)) if bytes != 0 || inodes != 0 => {}
                Ok(_) => return set_project(dir, id).is_ok().then_some(id),
                Err(_) => return None,
            }
        }
        None
    }

    /// What is known of the layer, which lies at `dir`; asks for a new walk where that is due.
    pub(crate) fn usage(&self, key: &str, dir: &Path) -> Option<WritableUsage> {
        let known = lock(&self.0.known).get(key).cloned();
        let account = match known {
            Some(account) => account,
            // Made by an earlier daemon.
            None => {
                let account = Account { project: project_of(dir), last: None, measured: None };
                lock(&self.0.known).insert(key.to_owned(), account.clone());
                account
            }
        };
        if let Some(project) = account.project
            && let Ok(fd) = orlop_sys::fs::open_dir(dir)
            && let Ok((bytes, inodes)) = orlop_sys::fs::project_usage(&fd, project)
        {
            return Some(WritableUsage { bytes, inodes, at: Timestamp::now() });
        }
        let fresh = |(when, took): (Instant, Duration)| when.elapsed() < FRESH.max(took * REST);
        if !account.measured.is_some_and(fresh) {
            self.ask(key, dir);
        }
        account.last
    }

    fn ask(&self, key: &str, dir: &Path) {
        let mut queue = lock(&self.0.queue);
        if !queue.queued.insert(key.to_owned()) {
            return;
        }
        queue.waiting.push_back((key.to_owned(), dir.join("upper")));
        if !queue.working {
            let shared = Arc::clone(&self.0);
            let thread = std::thread::Builder::new().name("layer-usage".to_owned());
            queue.working = thread.spawn(move || shared.work()).is_ok();
        }
    }
}

fn project_of(dir: &Path) -> Option<u32> {
    let fd = orlop_sys::fs::open_dir(dir).ok()?;
    let id = orlop_sys::fs::project(&fd).ok()?;
    (FIRST_PROJECT..FIRST_PROJECT + PROJECTS).contains(&id).then_some(id)
}

impl Shared {
    /// Walks what is asked for until there is nothing more.
    fn work(&self) {
        loop {
            let next = {
                let mut queue = lock(&self.queue);
                let next = queue.waiting.pop_front();
                queue.working = next.is_some();
                next
            };
            let Some((key, upper)) = next else { return };
            let begun = Instant::now();
            let walked = walk(&upper, || self.closed.load(Ordering::Acquire));
            let took = begun.elapsed();
            if let Some(account) = lock(&self.known).get_mut(&key) {
                account.measured = Some((Instant::now(), took));
                match walked {
                    Ok((bytes, inodes)) => {
                        let at = Timestamp::now();
                        account.last = Some(WritableUsage { bytes, inodes, at });
                    }
                    Err(error) => tracing::debug!(key, %error, "writable layer not measured"),
                }
            }
            lock(&self.queue).queued.remove(&key);
        }
    }
}

/// Counts bytes and inodes below `top`. What the container changes meanwhile may or may not be seen;
/// nothing is followed out of the tree.
fn walk(top: &Path, ended: impl Fn() -> bool) -> io::Result<(u64, u64)> {
    let top = orlop_sys::fs::open_dir(top)?;
    let root = rustix::fs::fstat(&top)?;
    let mut totals = (blocks(&root), 1);
    let mut several = HashSet::new();
    let mut open = vec![(Dir::read_from(&top)?, top)];
    let (mut entries, mut begun) = (0, Instant::now());
    while let Some((dir, fd)) = open.last_mut() {
        let Some(entry) = dir.next() else {
            open.pop();
            continue;
        };
        let entry = entry?;
        let name = entry.file_name();
        if name.to_bytes() == b"." || name.to_bytes() == b".." {
            continue;
        }
        entries += 1;
        if entries % SLICE == 0 {
            if ended() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            std::thread::park_timeout(begun.elapsed() * PAUSE);
            begun = Instant::now();
        }
        // It may have gone since it was listed.
        let Ok(stat) = statat(&*fd, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if !is_dir
            && stat.st_nlink > 1
            && several.len() < MANY_NAMES
            && !several.insert(stat.st_ino)
        {
            continue;
        }
        totals.0 += blocks(&stat);
        totals.1 += 1;
        if is_dir {
            let level = enter(fd, &name.to_owned());
            if open.len() < DEEPEST {
                open.extend(level);
            }
        }
    }
    Ok(totals)
}

fn enter(parent: &OwnedFd, name: &CString) -> Option<(Dir, OwnedFd)> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(parent.as_fd(), name, flags, Mode::empty()).ok()?;
    Some((Dir::read_from(&fd).ok()?, fd))
}

fn blocks(stat: &rustix::fs::Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0) * 512
}

#[cfg(test)]
mod tests;
