//! Threads that create everything but directories. All that goes into one directory goes to one
//! thread, in the order of the archive, so that a later member of the same name wins; a directory
//! at a time also keeps the threads from waiting for each other's directory lock.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Scope, ScopedJoinHandle};

use rustix::fs::{AtFlags, FileType};

use super::error::UnpackError;
use super::writer::{Work, Writer};

/// Orders that are handed over at once: waking a thread for each costs more than the work.
const BATCH: usize = 64;

/// Batches that wait for one thread. Contents they hold are bounded by the slabs.
const QUEUE: usize = 8;

/// Names remembered as perhaps not created yet; more make everybody wait once.
const UNSETTLED: usize = 1 << 16;

/// What the threads report.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    inodes: AtomicI64,
    failed: AtomicBool,
    error: Mutex<Option<UnpackError>>,
}

impl Progress {
    /// Keeps the first error.
    pub(crate) fn fail(&self, error: UnpackError) {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.failed.store(true, Ordering::Release);
    }

    pub(crate) fn failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    pub(crate) fn add_inodes(&self, count: i64) {
        self.inodes.fetch_add(count, Ordering::Relaxed);
    }

    /// Inodes made and not removed again.
    pub(crate) fn inodes(&self) -> u64 {
        u64::try_from(self.inodes.load(Ordering::Relaxed)).unwrap_or(0)
    }

    pub(crate) fn take_error(&self) -> Option<UnpackError> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The threads, seen from the one that reads the archive.
pub(crate) struct Writers<'scope> {
    queues: Vec<SyncSender<Vec<Work>>>,
    /// What was not handed over yet, by thread.
    batches: Vec<Vec<Work>>,
    threads: Vec<ScopedJoinHandle<'scope, ()>>,
    progress: &'scope Progress,
    hasher: RandomState,
    /// Hashes of the paths that were queued since all queues were last seen empty. Two paths with
    /// one hash only cost a wait.
    unsettled: HashSet<u64>,
}

impl<'scope> Writers<'scope> {
    pub(crate) fn spawn<'env>(
        scope: &'scope Scope<'scope, 'env>,
        count: usize,
        umask: u32,
        progress: &'scope Progress,
    ) -> Result<Self, UnpackError> {
        let mut writers = Self {
            queues: Vec::new(),
            batches: Vec::new(),
            threads: Vec::new(),
            progress,
            hasher: RandomState::new(),
            unsettled: HashSet::new(),
        };
        for number in 0..count.max(1) {
            let (queue, orders): (_, Receiver<Vec<Work>>) = sync_channel(QUEUE);
            let mut writer = Writer::new(progress, umask);
            let thread = std::thread::Builder::new()
                .name(format!("unpack-{number}"))
                .spawn_scoped(scope, move || writer.run(&orders))
                .map_err(|error| UnpackError::io("start a thread for", ".", error))?;
            writers.queues.push(queue);
            writers.batches.push(Vec::new());
            writers.threads.push(thread);
        }
        Ok(writers)
    }

    /// Which thread creates in the directory `path`.
    pub(crate) fn owner_of(&self, directory: &[u8]) -> usize {
        // The remainder is smaller than a usize.
        (self.hasher.hash_one(directory) % self.queues.len() as u64) as usize
    }

    /// Notes that the leaf `path` is about to be queued.
    pub(crate) fn note(&mut self, path: &[u8]) -> Result<(), UnpackError> {
        if self.unsettled.len() >= UNSETTLED {
            self.settle_all()?;
        }
        self.unsettled.insert(self.hasher.hash_one(path));
        Ok(())
    }

    /// Gives work to a thread, some time before or in the next [`Self::flush`].
    pub(crate) fn give(&mut self, owner: usize, work: Work) -> Result<(), UnpackError> {
        self.batches[owner].push(work);
        if self.batches[owner].len() < BATCH { Ok(()) } else { self.hand_over(owner) }
    }

    /// Hands over all work that was given. To be called whenever the reader moves on to another
    /// slab: work that is held back here pins the slabs it refers to.
    pub(crate) fn flush(&mut self) -> Result<(), UnpackError> {
        (0..self.queues.len()).try_for_each(|owner| self.hand_over(owner))
    }

    /// Waits while the thread's queue is full.
    fn hand_over(&mut self, owner: usize) -> Result<(), UnpackError> {
        if self.progress.failed() {
            return Err(self.error());
        }
        let batch = std::mem::take(&mut self.batches[owner]);
        if batch.is_empty() {
            return Ok(());
        }
        self.queues[owner].send(batch).map_err(|_| self.error())
    }

    fn error(&self) -> UnpackError {
        let lost = || UnpackError::io("write", ".", std::io::Error::other("a writer has ended"));
        self.progress.take_error().unwrap_or_else(lost)
    }

    /// Waits until `path`, if it was queued, exists.
    pub(crate) fn settle(&mut self, path: &[u8]) -> Result<(), UnpackError> {
        if self.unsettled.contains(&self.hasher.hash_one(path)) {
            self.settle_all()?;
        }
        Ok(())
    }

    /// Waits until everything that was queued is done.
    pub(crate) fn settle_all(&mut self) -> Result<(), UnpackError> {
        let (done, wait) = sync_channel(self.queues.len());
        for owner in 0..self.queues.len() {
            self.give(owner, Work::Report(done.clone()))?;
        }
        drop(done);
        self.flush()?;
        // Ends when every thread has dropped its sender.
        while wait.recv().is_ok() {}
        self.unsettled.clear();
        if self.progress.failed() { Err(self.error()) } else { Ok(()) }
    }

    /// Ends the threads when they have done all their work.
    pub(crate) fn finish(mut self) -> Result<(), UnpackError> {
        // Fails only if a thread has failed, which is seen below.
        let _ = self.flush();
        drop(self.queues);
        let mut ended_well = true;
        for thread in self.threads {
            ended_well &= thread.join().is_ok();
        }
        match self.progress.take_error() {
            Some(error) => Err(error),
            None if ended_well => Ok(()),
            None => {
                let source = std::io::Error::other("a writer thread panicked");
                Err(UnpackError::io("write", ".", source))
            }
        }
    }

    pub(crate) fn count_inode(&self) {
        self.progress.add_inodes(1);
    }

    pub(crate) fn uncount_inode(&self) {
        self.progress.add_inodes(-1);
    }

    /// Removes something that is not a directory.
    pub(crate) fn unlink(
        &self,
        dir: &OwnedFd,
        name: &[u8],
        path: &[u8],
    ) -> Result<(), UnpackError> {
        unlink(self.progress, dir, name)
            .map_err(|error| UnpackError::io("remove", path, error.into()))
    }
}

/// Removes something that is not a directory and keeps the count of inodes.
pub(crate) fn unlink(
    progress: &Progress,
    dir: &OwnedFd,
    name: &[u8],
) -> Result<(), rustix::io::Errno> {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    rustix::fs::unlinkat(dir, name, AtFlags::empty())?;
    let last = stat.st_nlink == 1;
    if last && FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        progress.add_inodes(-1);
    }
    Ok(())
}

/// Shares a descriptor with a thread.
pub(crate) type SharedDir = Arc<OwnedFd>;
