//! One container: its facts with their record, and who is told when they change.

use crate::{Error, Record, Result};
use orlop_model::ContainerId;
use orlop_store::{Durability, RecordDir};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::{Mutex, watch};

/// A container that has a record.
pub struct Container {
    /// Its id.
    pub id: ContainerId,
    records: Arc<RecordDir<Record>>,
    facts: RwLock<Arc<Record>>,
    /// Held by whoever changes what it is: start, end, removal, rename.
    pub(crate) turn: Mutex<()>,
    /// It is stopped in order to be started again: its end is not one that it is removed after.
    pub(crate) restarting: AtomicBool,
    /// Held while a record is written; true once it is removed for good.
    writing: Mutex<bool>,
    changed: watch::Sender<()>,
}

impl Container {
    /// One whose record was read.
    pub(crate) fn loaded(records: Arc<RecordDir<Record>>, facts: Record) -> Self {
        Self {
            id: facts.id.clone(),
            records,
            facts: RwLock::new(Arc::new(facts)),
            turn: Mutex::new(()),
            restarting: AtomicBool::new(false),
            writing: Mutex::new(false),
            changed: watch::Sender::new(()),
        }
    }

    /// Writes the first record; when that fails there is no container.
    pub(crate) async fn create(records: Arc<RecordDir<Record>>, facts: Record) -> Result<Self> {
        let made = Self::loaded(records, facts);
        made.write(made.record()).await?;
        Ok(made)
    }

    /// The facts now.
    pub fn record(&self) -> Arc<Record> {
        Arc::clone(&self.facts.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// For messages.
    pub(crate) fn name(&self) -> String {
        self.record().name.clone()
    }

    /// Changes the facts to what is wanted: disk first, and nothing where that fails.
    pub(crate) async fn change(&self, change: impl FnOnce(&mut Record)) -> Result<()> {
        let removed = self.writing.lock().await;
        let mut facts = (*self.record()).clone();
        change(&mut facts);
        let facts = Arc::new(facts);
        if !*removed {
            self.write(Arc::clone(&facts)).await?;
        }
        *self.facts.write().unwrap_or_else(PoisonError::into_inner) = facts;
        drop(removed);
        self.changed.send_replace(());
        Ok(())
    }

    /// Adds what has happened already. It holds in memory also where it cannot be written; the next
    /// opening learns it again.
    pub(crate) async fn observe(&self, change: impl FnOnce(&mut Record)) {
        let removed = self.writing.lock().await;
        let mut facts = (*self.record()).clone();
        change(&mut facts);
        let facts = Arc::new(facts);
        if !*removed && let Err(error) = self.write(Arc::clone(&facts)).await {
            tracing::warn!(container = %self.id, %error, "record not written");
        }
        *self.facts.write().unwrap_or_else(PoisonError::into_inner) = facts;
        drop(removed);
        self.changed.send_replace(());
    }

    /// Removes the record; later facts stay in memory.
    pub(crate) async fn forget(&self) -> Result<()> {
        let mut removed = self.writing.lock().await;
        let (records, name) = (Arc::clone(&self.records), self.id.to_string());
        blocking(move || Ok(records.remove(&name)?)).await?;
        *removed = true;
        drop(removed);
        self.changed.send_replace(());
        Ok(())
    }

    /// Whether its record is gone.
    pub(crate) async fn is_forgotten(&self) -> bool {
        *self.writing.lock().await
    }

    /// Told after each change.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Something about it has changed that is not in its record.
    pub(crate) fn poke(&self) {
        self.changed.send_replace(());
    }

    async fn write(&self, facts: Arc<Record>) -> Result<()> {
        let records = Arc::clone(&self.records);
        blocking(move || Ok(records.put(facts.id.as_str(), &facts, Durability::Process)?)).await
    }
}

/// Runs what blocks on a thread that may.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(Error::Background(error.to_string())),
    }
}

/// Runs `work` to its end whether or not the caller stays.
pub(crate) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    match tokio::spawn(work).await {
        Ok(done) => done,
        Err(error) => Err(Error::Background(error.to_string())),
    }
}
