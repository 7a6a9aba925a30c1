//! Who is there: ids, prefixes of ids, names. Everything here is memory and never waits.

use crate::container::Container;
use crate::sandbox::Sandbox;
use crate::{Error, Result};
use orlop_model::{ContainerId, SandboxId};
use orlop_spec::request::{ContainerConfig, ContainerMetadata, SandboxConfig, SandboxMetadata};
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use tokio::sync::watch;

type Outcome<I> = Option<std::result::Result<I, Arc<Error>>>;

/// Names with their owners.
pub(crate) struct Names<N, I, C>(Mutex<HashMap<N, Owner<I, C>>>);

enum Owner<I, C> {
    /// Somebody makes it from this request; the outcome is told here.
    Making { id: I, config: Arc<C>, outcome: watch::Receiver<Outcome<I>> },
    /// It exists.
    Made(I),
}

/// What became of a claim to a name.
pub(crate) enum Claim<I> {
    /// It is the caller's to make, and to settle.
    Mine(watch::Sender<Outcome<I>>),
    /// The same is being made; its outcome comes here.
    Join(watch::Receiver<Outcome<I>>),
    /// Somebody else has it.
    Taken(I),
}

impl<N: Hash + Eq, I: Clone + PartialEq, C: PartialEq> Names<N, I, C> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<N, Owner<I, C>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims a name for the object `id`, which the caller is about to make from `config`.
    pub(crate) fn claim(&self, name: N, id: &I, config: &Arc<C>) -> Claim<I> {
        let mut names = self.lock();
        match names.get(&name) {
            Some(Owner::Made(other)) => Claim::Taken(other.clone()),
            Some(Owner::Making { config: other, outcome, .. }) if other == config => {
                Claim::Join(outcome.clone())
            }
            Some(Owner::Making { id: other, .. }) => Claim::Taken(other.clone()),
            None => {
                let (tell, outcome) = watch::channel(None);
                let owner = Owner::Making { id: id.clone(), config: Arc::clone(config), outcome };
                names.insert(name, owner);
                Claim::Mine(tell)
            }
        }
    }

    /// The object of a claimed name exists now, or was loaded.
    pub(crate) fn settle(&self, name: N, id: I) {
        self.lock().insert(name, Owner::Made(id));
    }

    /// Frees the name if `id` has it.
    pub(crate) fn free(&self, name: &N, id: &I) {
        let mut names = self.lock();
        if let Some(Owner::Made(other) | Owner::Making { id: other, .. }) = names.get(name)
            && other == id
        {
            names.remove(name);
        }
    }
}

/// Waits for the outcome of a creation that somebody else carries out.
pub(crate) async fn joined<I: Clone>(mut outcome: watch::Receiver<Outcome<I>>) -> Result<I> {
    let told = outcome.wait_for(Option::is_some).await.map(|outcome| outcome.clone());
    match told {
        Ok(Some(Ok(id))) => Ok(id),
        Ok(Some(Err(error))) => Err(Error::Shared(error)),
        // The maker's task ended without a word, which only happens when the daemon stops.
        Ok(None) | Err(_) => Err(Error::NotRecovered),
    }
}

/// All objects.
pub(crate) struct Index {
    sandboxes: RwLock<BTreeMap<SandboxId, Arc<Sandbox>>>,
    containers: RwLock<BTreeMap<ContainerId, Arc<Container>>>,
    pub(crate) sandbox_names: Names<SandboxMetadata, SandboxId, SandboxConfig>,
    pub(crate) container_names: Names<(SandboxId, ContainerMetadata), ContainerId, ContainerConfig>,
}

macro_rules! objects {
    ($field:ident, $Id:ident, $Object:ident, $what:literal, $insert:ident, $remove:ident, $all:ident, $find:ident) => {
        impl Index {
            pub(crate) fn $insert(&self, object: Arc<$Object>) {
                let mut all = self.$field.write().unwrap_or_else(PoisonError::into_inner);
                all.insert(object.id.clone(), object);
            }

            pub(crate) fn $remove(&self, id: &$Id) {
                self.$field.write().unwrap_or_else(PoisonError::into_inner).remove(id);
            }

            pub(crate) fn $all(&self) -> Vec<Arc<$Object>> {
                let all = self.$field.read().unwrap_or_else(PoisonError::into_inner);
                all.values().cloned().collect()
            }

            /// By id or by a prefix that only one id has.
            pub(crate) fn $find(&self, text: &str) -> Result<Option<Arc<$Object>>> {
                let all = self.$field.read().unwrap_or_else(PoisonError::into_inner);
                // What is no id is no prefix of one either.
                let Ok(from) = $Id::parse(text) else { return Ok(None) };
                by_prefix(&all, &from, $Id::as_str)
                    .map_err(|Several| Error::Ambiguous { what: $what, id: text.to_owned() })
            }
        }
    };
}

objects!(
    sandboxes,
    SandboxId,
    Sandbox,
    "sandbox",
    insert_sandbox,
    remove_sandbox,
    all_sandboxes,
    find_sandbox
);
objects!(
    containers,
    ContainerId,
    Container,
    "container",
    insert_container,
    remove_container,
    all_containers,
    find_container
);

impl Index {
    pub(crate) fn new() -> Self {
        Self {
            sandboxes: RwLock::default(),
            containers: RwLock::default(),
            sandbox_names: Names::new(),
            container_names: Names::new(),
        }
    }

    /// A sandbox that must be there.
    pub(crate) fn sandbox(&self, text: &str) -> Result<Arc<Sandbox>> {
        let missing = || Error::NotFound { what: "sandbox", id: printable(text) };
        self.find_sandbox(text)?.ok_or_else(missing)
    }

    /// A container that must be there.
    pub(crate) fn container(&self, text: &str) -> Result<Arc<Container>> {
        let missing = || Error::NotFound { what: "container", id: printable(text) };
        self.find_container(text)?.ok_or_else(missing)
    }

    /// Containers of one sandbox.
    pub(crate) fn containers_of(&self, sandbox: &SandboxId) -> Vec<Arc<Container>> {
        let all = self.containers.read().unwrap_or_else(PoisonError::into_inner);
        all.values().filter(|container| container.sandbox == *sandbox).cloned().collect()
    }
}

/// Several ids begin with the text.
#[derive(Debug, PartialEq)]
struct Several;

fn by_prefix<K: Ord, V: Clone>(
    all: &BTreeMap<K, V>,
    prefix: &K,
    as_str: impl Fn(&K) -> &str,
) -> std::result::Result<Option<V>, Several> {
    let text = as_str(prefix);
    // Ids sort as their text does, so those with the prefix are neighbours.
    let mut fits = all.range(prefix..).take_while(|(key, _)| as_str(key).starts_with(text));
    match (fits.next(), fits.next()) {
        (None, _) => Ok(None),
        (Some((_, value)), None) => Ok(Some(value.clone())),
        // An id that is the prefix of another one is meant when it is written out.
        (Some((key, value)), Some(_)) if as_str(key) == text => Ok(Some(value.clone())),
        (Some(_), Some(_)) => Err(Several),
    }
}

/// What a client sent, fit for a message.
fn printable(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::sandbox_config;

    type SandboxNames = Names<SandboxMetadata, SandboxId, SandboxConfig>;

    fn id(text: &str) -> SandboxId {
        SandboxId::parse(text).unwrap()
    }

    #[test]
    fn prefixes() {
        let all: BTreeMap<SandboxId, u8> =
            [("ab1", 1), ("ab12", 2), ("ac", 3), ("b", 4)].map(|(k, v)| (id(k), v)).into();
        for (text, expected) in [
            ("b", Ok(Some(4))),
            ("ac", Ok(Some(3))),
            ("a", Err(Several)),
            ("ab", Err(Several)),
            ("ab1", Ok(Some(1))),
            ("ab12", Ok(Some(2))),
            ("ab123", Ok(None)),
            ("z", Ok(None)),
        ] {
            assert_eq!(by_prefix(&all, &id(text), SandboxId::as_str), expected, "{text:?}");
        }
    }

    #[tokio::test]
    async fn the_same_request_joins_and_another_one_is_refused() {
        let names = SandboxNames::new();
        let config = Arc::new(sandbox_config("web"));
        let name = || config.metadata.clone();
        let Claim::Mine(tell) = names.claim(name(), &id("one"), &config) else {
            panic!("free name")
        };
        let Claim::Join(first) = names.claim(name(), &id("two"), &config) else {
            panic!("same request")
        };
        let mut other = (*config).clone();
        other.hostname = "other".into();
        let Claim::Taken(owner) = names.claim(name(), &id("three"), &Arc::new(other)) else {
            panic!("another request")
        };
        assert_eq!(owner, id("one"));
        names.settle(name(), id("one"));
        tell.send(Some(Ok(id("one")))).unwrap();
        assert_eq!(joined(first).await.unwrap(), id("one"));
        assert!(
            matches!(names.claim(name(), &id("four"), &config), Claim::Taken(owner) if owner == id("one"))
        );
        names.free(&name(), &id("other"));
        assert!(
            matches!(names.claim(name(), &id("five"), &config), Claim::Taken(_)),
            "not its to free"
        );
        names.free(&name(), &id("one"));
        assert!(matches!(names.claim(name(), &id("six"), &config), Claim::Mine(_)));
    }

    #[tokio::test]
    async fn of_many_at_once_one_makes_it() {
        let names = Arc::new(SandboxNames::new());
        let config = Arc::new(sandbox_config("web"));
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..50 {
            let (names, config) = (Arc::clone(&names), Arc::clone(&config));
            tasks.spawn(async move {
                let mine = id(&format!("s{n}"));
                match names.claim(config.metadata.clone(), &mine, &config) {
                    Claim::Mine(tell) => {
                        tokio::task::yield_now().await;
                        names.settle(config.metadata.clone(), mine.clone());
                        let _ = tell.send(Some(Ok(mine.clone())));
                        mine
                    }
                    Claim::Join(outcome) => joined(outcome).await.unwrap(),
                    Claim::Taken(owner) => owner,
                }
            });
        }
        let ids: std::collections::HashSet<_> = tasks.join_all().await.into_iter().collect();
        assert_eq!(ids.len(), 1);
    }

    #[tokio::test]
    async fn a_failure_is_shared() {
        let names = SandboxNames::new();
        let config = Arc::new(sandbox_config("web"));
        let Claim::Mine(tell) = names.claim(config.metadata.clone(), &id("one"), &config) else {
            panic!()
        };
        let Claim::Join(outcome) = names.claim(config.metadata.clone(), &id("two"), &config) else {
            panic!()
        };
        names.free(&config.metadata, &id("one"));
        tell.send(Some(Err(Arc::new(Error::NotRecovered)))).unwrap();
        let error = joined(outcome).await.unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Unavailable);
    }
}
