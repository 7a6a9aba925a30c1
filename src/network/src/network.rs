//! The door of this room.
#![allow(clippy::todo, clippy::unused_async, reason = "first signatures; bodies follow")]

use crate::{
    AttachRequest, Attached, DetachRequest, Namespaces, NetworkConfig, NetworkError, NetworkStatus,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Namespaces and networks of this host's sandboxes. Cheap to clone; needs a tokio runtime.
#[derive(Clone)]
pub struct Network(Arc<NetworkConfig>);

impl Network {
    /// Opens the room: reads the CNI configuration, starts to fill the pool of namespaces and to
    /// watch `conf_dir`. Call [`Self::recover`] before the first request is served.
    pub fn open(config: NetworkConfig) -> Result<Self, NetworkError> {
        Ok(Self(Arc::new(config)))
    }

    /// A set of fresh namespaces from the pool.
    pub async fn namespaces(&self) -> Result<Namespaces, NetworkError> {
        todo!()
    }

    /// Gives a set back: the pins are removed and the kernel frees the namespaces with their last
    /// process. Succeeds where the set is gone.
    pub async fn release(&self, slot: &str) -> Result<(), NetworkError> {
        let _ = slot;
        todo!()
    }

    /// Whether pods can be attached now; from memory.
    pub fn status(&self) -> NetworkStatus {
        todo!()
    }

    /// Attaches a sandbox. A failed attachment is undone before the error is returned.
    pub async fn attach(&self, request: AttachRequest) -> Result<Attached, NetworkError> {
        let _ = request;
        todo!()
    }

    /// Detaches a sandbox; works with the namespace gone and for a sandbox that was never attached.
    pub async fn detach(&self, request: DetachRequest) -> Result<(), NetworkError> {
        let _ = request;
        todo!()
    }

    /// Sets namespaced sysctls (`net.*`, `kernel.shm*`, `kernel.msg*`, `kernel.sem`, `fs.mqueue.*`;
    /// dots or slashes), together with the defaults of a pod with its own network unless given.
    pub async fn apply_sysctls(
        &self,
        namespaces: &Namespaces,
        sysctls: &BTreeMap<String, String>,
    ) -> Result<(), NetworkError> {
        let _ = (namespaces, sysctls);
        todo!()
    }

    /// Sets the host name (at most 64 bytes) of the sandbox's uts namespace.
    pub async fn set_hostname(
        &self,
        namespaces: &Namespaces,
        name: &str,
    ) -> Result<(), NetworkError> {
        let _ = (namespaces, name);
        todo!()
    }

    /// After a start of the daemon: drops namespaces, attachments, addresses and ports of
    /// everything that is not in `live_slots` and `live_sandboxes`.
    pub async fn recover(
        &self,
        live_slots: &[String],
        live_sandboxes: &[String],
    ) -> Result<(), NetworkError> {
        let _ = (live_slots, live_sandboxes);
        todo!()
    }
}
