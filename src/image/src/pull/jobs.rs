//! Work that several callers want at once is done once, and stops when the last of them is gone.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Running jobs by key.
pub(crate) struct Jobs<K, T>(Arc<Mutex<HashMap<K, Weak<Ticket<T>>>>>);

/// The right to a job's result. The job is told to stop when the last ticket is gone.
pub(crate) struct Ticket<T> {
    result: watch::Receiver<Option<T>>,
    cancel: CancellationToken,
}

impl<T> Drop for Ticket<T> {
    fn drop(&mut self) {
        // Nobody listens any more where the job has ended.
        self.cancel.cancel();
    }
}

impl<K, T> Default for Jobs<K, T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K, T> Jobs<K, T>
where
    K: Eq + Hash + Clone + Send + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// Joins the job of that key or starts it; the second value says that it was started here.
    pub(crate) fn join<F>(
        &self,
        key: K,
        start: impl FnOnce(CancellationToken) -> F,
    ) -> (Arc<Ticket<T>>, bool)
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ticket) = jobs.get(&key).and_then(Weak::upgrade) {
            return (ticket, false);
        }
        let cancel = CancellationToken::new();
        let (send, result) = watch::channel(None);
        let ticket = Arc::new(Ticket { result, cancel: cancel.clone() });
        let own = Arc::downgrade(&ticket);
        jobs.insert(key.clone(), own.clone());
        let work = start(cancel);
        let jobs = self.0.clone();
        tokio::spawn(async move {
            let value = work.await;
            {
                // A later job may have taken the key after the last ticket of this one was gone.
                let mut jobs = jobs.lock().unwrap_or_else(PoisonError::into_inner);
                if jobs.get(&key).is_some_and(|present| present.ptr_eq(&own)) {
                    jobs.remove(&key);
                }
            }
            // Nobody may be waiting.
            let _ = send.send(Some(value));
        });
        (ticket, true)
    }
}

impl<T: Clone> Ticket<T> {
    /// The job's result; `None` where it died without one.
    pub(crate) async fn wait(&self) -> Option<T> {
        let mut result = self.result.clone();
        let value = result.wait_for(Option::is_some).await;
        value.ok()?.clone()
    }

    /// Gives up the result. Where nobody else wants it, returns when the job has ended.
    pub(crate) async fn leave(self: Arc<Self>) {
        let mut result = self.result.clone();
        if let Some(last) = Arc::into_inner(self) {
            drop(last);
            // Closed or filled: ended either way.
            let _ = result.wait_for(Option::is_some).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn shared_and_stopped_by_the_last() {
        let jobs: Jobs<&str, u32> = Jobs::default();
        let (go, wait) = oneshot::channel::<()>();
        let (first, started) = jobs.join("k", |_| async move {
            let _ = wait.await;
            7
        });
        assert!(started);
        let (second, started) = jobs.join("k", |_| async { 8 });
        assert!(!started);
        go.send(()).unwrap();
        assert_eq!((first.wait().await, second.wait().await), (Some(7), Some(7)));
        let (third, started) = jobs.join("k", |_| async { 9 });
        assert!(started);
        assert_eq!(third.wait().await, Some(9));

        let (stopped, saw) = oneshot::channel();
        let (one, _) = jobs.join("c", |cancel| async move {
            cancel.cancelled().await;
            let _ = stopped.send(());
            0
        });
        let (two, started) = jobs.join("c", |_| async { 1 });
        assert!(!started);
        drop(one);
        assert!(!two.cancel.is_cancelled());
        drop(two);
        saw.await.unwrap();
    }
}
