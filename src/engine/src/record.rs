//! The facts about a container.

use crate::{ContainerSpec, Merged};
use orlop_model::{ContainerId, Digest, SandboxId, Timestamp};
use orlop_spec::request::PortMapping;
use orlop_store::Record as Stored;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// What happened to a container. Facts only: states follow from them, see [`crate::state`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its id, for good.
    pub id: ContainerId,
    /// Its name; unique among containers.
    pub name: String,
    /// As asked for, with later updates.
    pub spec: ContainerSpec,
    /// When it was made.
    pub created_at: Timestamp,
    /// Id of its image, which its layer keeps.
    pub image: Digest,
    /// What spec and image make together.
    pub merged: Merged,
    /// How many starts there were.
    #[serde(default)]
    pub attempts: u32,
    /// The start that is, or was last and is not cleared away yet.
    #[serde(default)]
    pub attempt: Option<Attempt>,
    /// How the last attempt that was cleared away ended.
    #[serde(default)]
    pub last: Option<Ended>,
    /// The boot of the host in which it was last started; empty: never.
    #[serde(default)]
    pub boot: String,
    /// Somebody stopped it: a restart policy does not start it after a boot.
    #[serde(default)]
    pub stopped: bool,
    /// Its removal has begun: what is left goes at the next opportunity.
    #[serde(default)]
    pub removing: bool,
}

/// One start: a pod with a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// Counted from 1.
    pub number: u32,
    /// The pod.
    pub sandbox: SandboxId,
    /// Its processes were told to hold still.
    #[serde(default)]
    pub paused: bool,
    /// Ports of the host that are its.
    #[serde(default)]
    pub ports: Vec<PortMapping>,
    /// Addresses on networks that people made, by their names.
    #[serde(default)]
    pub networks: Vec<(String, Vec<IpAddr>)>,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// Zero: it never ran.
    pub started_at: Timestamp,
    /// When it was over.
    pub finished_at: Timestamp,
    /// The program's, or 128 and a signal; 125 to 127 where it could not be started.
    pub exit_code: i32,
    /// For want of memory.
    pub oom: bool,
    /// Why it could not be started; else empty.
    pub error: String,
    /// How often its shim had started it again.
    #[serde(default)]
    pub restarts: u32,
}

impl Stored for Record {
    const KIND: &'static str = "engine-container";
}

impl Record {
    /// Name of its writable layer in the image store. Not a container id of lifecycle's form: recovery
    /// there leaves it alone.
    pub fn layer(&self) -> String {
        layer_key(&self.id)
    }
}

/// Begins the keys of all layers of this room.
pub(crate) const LAYER_PREFIX: &str = "engine-";

pub(crate) fn layer_key(id: &ContainerId) -> String {
    format!("{LAYER_PREFIX}{id}")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn record(name: &str) -> Record {
        Record {
            id: ContainerId::parse("c1").unwrap(),
            name: name.to_owned(),
            spec: ContainerSpec::default(),
            created_at: Timestamp(1),
            image: Digest::from_sha256(&[1; 32]),
            merged: Merged::default(),
            attempts: 0,
            attempt: None,
            last: None,
            boot: String::new(),
            stopped: false,
            removing: false,
        }
    }

    #[test]
    fn an_older_record_is_read() {
        let mut json = serde_json::to_value(record("one")).unwrap();
        let fields = json.as_object_mut().unwrap();
        for field in ["attempts", "attempt", "last", "boot", "stopped", "removing"] {
            fields.remove(field);
        }
        assert_eq!(serde_json::from_value::<Record>(json).unwrap(), record("one"));
    }
}
