//! Who is there: ids, prefixes of ids, names. Memory only; nothing here waits.

use crate::{Container, Error, Result};
use orlop_model::ContainerId;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// All containers.
#[derive(Default)]
pub(crate) struct Index(RwLock<Inner>);

#[derive(Default)]
struct Inner {
    containers: BTreeMap<ContainerId, Arc<Container>>,
    /// Also names of containers that are being made.
    names: HashMap<String, ContainerId>,
}

impl Index {
    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives `name` to `id`, unless another has it.
    pub(crate) fn claim(&self, name: &str, id: &ContainerId) -> Result<()> {
        let mut inner = self.write();
        match inner.names.get(name) {
            Some(other) if other != id => Err(Error::NameTaken {
                what: "container",
                name: name.to_owned(),
                id: other.to_string(),
            }),
            _ => {
                inner.names.insert(name.to_owned(), id.clone());
                Ok(())
            }
        }
    }

    /// Frees `name` if `id` has it.
    pub(crate) fn free(&self, name: &str, id: &ContainerId) {
        let mut inner = self.write();
        if inner.names.get(name) == Some(id) {
            inner.names.remove(name);
        }
    }

    /// Whether somebody has the name.
    pub(crate) fn is_taken(&self, name: &str) -> bool {
        self.read().names.contains_key(name)
    }

    pub(crate) fn insert(&self, container: Arc<Container>) {
        let mut inner = self.write();
        inner.names.insert(container.record().name.clone(), container.id.clone());
        inner.containers.insert(container.id.clone(), container);
    }

    pub(crate) fn remove(&self, id: &ContainerId) {
        let mut inner = self.write();
        inner.containers.remove(id);
        inner.names.retain(|_, owner| owner != id);
    }

    pub(crate) fn all(&self) -> Vec<Arc<Container>> {
        self.read().containers.values().cloned().collect()
    }

    pub(crate) fn get(&self, id: &ContainerId) -> Option<Arc<Container>> {
        self.read().containers.get(id).cloned()
    }

    /// By id, by name, or by a prefix of the id that no other has; in this order.
    pub(crate) fn find(&self, text: &str) -> Result<Arc<Container>> {
        let inner = self.read();
        let name = text.strip_prefix('/').unwrap_or(text);
        let missing =
            || Error::NotFound { what: "container", name: text.chars().take(80).collect() };
        let exact = ContainerId::parse(text).ok();
        if let Some(found) = exact.as_ref().and_then(|id| inner.containers.get(id)) {
            return Ok(Arc::clone(found));
        }
        if let Some(found) = inner.names.get(name).and_then(|id| inner.containers.get(id)) {
            return Ok(Arc::clone(found));
        }
        let prefix = exact.ok_or_else(missing)?;
        // Ids sort as their text does, so those with the prefix are neighbours.
        let mut fits = inner
            .containers
            .range(&prefix..)
            .take_while(|(id, _)| id.as_str().starts_with(prefix.as_str()));
        match (fits.next(), fits.next()) {
            (Some((_, found)), None) => Ok(Arc::clone(found)),
            (Some(_), Some(_)) => Err(Error::Ambiguous { prefix: text.to_owned() }),
            (None, _) => Err(missing()),
        }
    }
}
