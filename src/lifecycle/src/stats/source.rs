//! Readings in portions.

use crate::Result;
use crate::kept::blocking;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Objects that are read before the first of them is handed out.
const PORTION: usize = 128;
/// Threads that read at the same time for the whole node: reading is the kernel's work, and more of
/// them would only wait for each other.
pub(crate) const READERS: usize = 4;

/// One object to be read.
pub(crate) type Job<T> = Box<dyn FnOnce() -> T + Send>;

/// Objects that are read as they are asked for. Dropping it leaves the rest unread.
pub struct Source<T> {
    jobs: VecDeque<Job<T>>,
    readers: Arc<Semaphore>,
}

impl<T: Send + 'static> Source<T> {
    pub(crate) fn new(jobs: impl Iterator<Item = Job<T>>, readers: &Arc<Semaphore>) -> Self {
        Self { jobs: jobs.collect(), readers: Arc::clone(readers) }
    }

    /// The next portion; `None`: there is nothing more.
    pub async fn next(&mut self) -> Option<Result<Vec<T>>> {
        if self.jobs.is_empty() {
            return None;
        }
        let portion = self.jobs.len().min(PORTION);
        let share = portion.div_ceil(READERS);
        let mut parts = JoinSet::new();
        let mut left = portion;
        let mut count = 0;
        while left > 0 {
            let jobs: Vec<_> = self.jobs.drain(..share.min(left)).collect();
            left -= jobs.len();
            let (readers, number) = (Arc::clone(&self.readers), count);
            count += 1;
            // Dropped with this future, unless it is reading already: then after its share.
            parts.spawn(async move {
                let _turn = readers.acquire_owned().await;
                let read = move || Ok(jobs.into_iter().map(|job| job()).collect::<Vec<T>>());
                (number, blocking(read).await)
            });
        }
        let mut shares = parts.join_all().await;
        shares.sort_by_key(|(number, _)| *number);
        let read: Result<Vec<Vec<T>>> = shares.into_iter().map(|(_, read)| read).collect();
        Some(read.map(|shares| shares.into_iter().flatten().collect()))
    }

    /// All that is left.
    pub async fn all(mut self) -> Result<Vec<T>> {
        let mut all = Vec::with_capacity(self.jobs.len());
        while let Some(portion) = self.next().await {
            all.extend(portion?);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn source(count: usize, read: &Arc<AtomicUsize>) -> Source<usize> {
        let jobs = (0..count).map(|n| {
            let read = Arc::clone(read);
            Box::new(move || {
                read.fetch_add(1, Ordering::Relaxed);
                n
            }) as Job<usize>
        });
        Source::new(jobs, &Arc::new(Semaphore::new(READERS)))
    }

    #[tokio::test]
    async fn each_once_and_in_order() {
        let read = Arc::new(AtomicUsize::new(0));
        for count in [0, 1, 5, PORTION, 2 * PORTION + 3] {
            assert_eq!(source(count, &read).all().await.unwrap(), (0..count).collect::<Vec<_>>());
        }
        assert_eq!(read.load(Ordering::Relaxed), 1 + 5 + PORTION + 2 * PORTION + 3);
    }

    #[tokio::test]
    async fn what_nobody_asks_for_is_not_read() {
        let read = Arc::new(AtomicUsize::new(0));
        let mut source = source(10 * PORTION, &read);
        assert_eq!(source.next().await.unwrap().unwrap().len(), PORTION);
        drop(source);
        assert_eq!(read.load(Ordering::Relaxed), PORTION);
    }
}
