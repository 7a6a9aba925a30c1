//! Facts in memory and on disk. Disk first, memory second.
//!
//! What is durable when: records are renamed into place, never synced, so nothing on the way to a
//! running pod waits for the disk. Killing the daemon loses nothing. A power cut may lose the latest
//! records, or leave a file without content; as everything that a record speaks of lives under
//! `/run` or dies with the boot, recovery then finds an object without a record (its writable layer,
//! its network attachment) and removes it, which is what a restarted kubelet expects. A record that is
//! damaged while its object lives has a copy (`records`).

use crate::error::below;
use crate::records::Records;
use crate::{Error, ErrorKind, Result};
use orlop_store::{Record, StoreError};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::Mutex;
use tracing::{Instrument, Span};

/// Facts of one object with their record.
pub(crate) struct Kept<R> {
    name: String,
    dir: Arc<Records<R>>,
    facts: RwLock<Arc<R>>,
    /// Held by the writer of the record; true once the record is removed for good.
    turn: Mutex<bool>,
}

impl<R: Record + Clone + Send + Sync + 'static> Kept<R> {
    /// Writes the first record. When that fails there is no object.
    pub(crate) async fn create(dir: Arc<Records<R>>, name: &str, facts: R) -> Result<Self> {
        let kept = Self::loaded(dir, name, facts);
        kept.write(kept.get()).await?;
        Ok(kept)
    }

    /// For a record that was read.
    pub(crate) fn loaded(dir: Arc<Records<R>>, name: &str, facts: R) -> Self {
        let facts = RwLock::new(Arc::new(facts));
        Self { name: name.to_owned(), dir, facts, turn: Mutex::new(false) }
    }

    /// The facts now.
    pub(crate) fn get(&self) -> Arc<R> {
        Arc::clone(&self.facts.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds to the facts something that has happened already. If the record cannot be written
    /// (the disk is full), memory changes all the same: a dead container that is listed as running,
    /// or a stop that cannot happen, would be worse, and recovery learns the fact again.
    pub(crate) async fn observe(&self, change: impl FnOnce(&mut R)) {
        let removed = self.turn.lock().await;
        let mut facts = (*self.get()).clone();
        change(&mut facts);
        let facts = Arc::new(facts);
        if !*removed && let Err(error) = self.write(Arc::clone(&facts)).await {
            tracing::warn!(object = self.name, error = error.report(), "record not written");
        }
        *self.facts.write().unwrap_or_else(PoisonError::into_inner) = facts;
        drop(removed);
    }

    /// Removes the record; later facts stay in memory.
    pub(crate) async fn remove(&self) -> Result<()> {
        let mut removed = self.turn.lock().await;
        let (dir, name) = (Arc::clone(&self.dir), self.name.clone());
        blocking(move || dir.remove(&name).map_err(|error| from_store(&name, error))).await?;
        *removed = true;
        Ok(())
    }

    async fn write(&self, facts: Arc<R>) -> Result<()> {
        let (dir, name) = (Arc::clone(&self.dir), self.name.clone());
        blocking(move || dir.put(&name, &facts).map_err(|error| from_store(&name, error))).await
    }
}

/// An error of the record store.
pub(crate) fn from_store(name: &str, error: StoreError) -> Error {
    let kind = match &error {
        StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
            ErrorKind::ResourceExhausted
        }
        _ => ErrorKind::Internal,
    };
    below("keeping the record", name, kind, error)
}

/// Runs what blocks on a thread that may.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let span = Span::current();
    match tokio::task::spawn_blocking(move || span.in_scope(work)).await {
        Ok(result) => result,
        Err(error) => Err(below("background work", "the runtime", ErrorKind::Internal, error)),
    }
}

/// Runs `work` to its end whether or not the caller stays.
pub(crate) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    match tokio::spawn(work.in_current_span()).await {
        Ok(result) => result,
        Err(error) => Err(below("background work", "the runtime", ErrorKind::Internal, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Fact(u32);
    impl Record for Fact {
        const KIND: &'static str = "fact";
    }

    fn records(path: &std::path::Path) -> Arc<Records<Fact>> {
        Arc::new(Records::open(&path.join("main"), &path.join("copies")).unwrap())
    }

    #[tokio::test]
    async fn disk_first_and_gone_for_good() {
        let temp = tempfile::tempdir().unwrap();
        let dir = records(temp.path());
        let stored = || dir.load_all().unwrap().0.pop().map(|(_, fact)| fact);
        let kept = Kept::create(Arc::clone(&dir), "a", Fact(1)).await.unwrap();
        assert_eq!(stored(), Some(Fact(1)));
        kept.observe(|fact| fact.0 = 2).await;
        assert_eq!((stored(), kept.get().0), (Some(Fact(2)), 2));
        kept.remove().await.unwrap();
        kept.observe(|fact| fact.0 = 3).await;
        assert_eq!((stored(), kept.get().0), (None, 3));
    }

    #[tokio::test]
    async fn a_fact_holds_though_it_cannot_be_written() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("records");
        let dir = records(&path);
        let kept = Kept::create(Arc::clone(&dir), "a", Fact(1)).await.unwrap();
        std::fs::remove_dir_all(&path).unwrap();
        kept.observe(|fact| fact.0 = 2).await;
        assert_eq!(kept.get().0, 2);
        assert!(
            Kept::create(dir, "b", Fact(1)).await.is_err(),
            "without a record there is no object"
        );
    }
}
