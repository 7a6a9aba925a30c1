//! Lists.

use crate::engine::Inner;
use crate::spec::{MountSource, NetworkMode};
use crate::state::State;
use crate::{Container, Engine, Record};
use orlop_spec::request::{PortMapping, Protocol};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One line of `ps`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Whole.
    pub id: String,
    /// Unique.
    pub name: String,
    /// As typed.
    pub image: String,
    /// Digest of its configuration.
    pub image_id: String,
    /// The whole command line.
    pub command: Vec<String>,
    /// Nanoseconds since 1970.
    pub created_at: i64,
    /// Nanoseconds since 1970; 0: never.
    pub started_at: i64,
    /// Nanoseconds since 1970; 0: not yet.
    pub finished_at: i64,
    /// In one word.
    pub state: State,
    /// Of the last run.
    pub exit_code: i32,
    /// `starting`, `healthy`, `unhealthy`; empty: it is not looked at.
    pub health: String,
    /// Process id; 0: it does not run.
    pub pid: u32,
    /// Ports that it listens on, with those of the host that lead there.
    pub ports: Vec<PortLine>,
    /// The image's and its own.
    pub labels: BTreeMap<String, String>,
    /// Sources of its mounts.
    pub mounts: Vec<String>,
    /// Names of its networks.
    pub networks: Vec<String>,
    /// Bytes of its writable layer, as last counted.
    pub size: u64,
    /// Name of the pod that it shares; empty: it has its own.
    pub pod: String,
}

/// A port of a container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortLine {
    /// In the container.
    pub container_port: u16,
    /// `tcp`, `udp`, `sctp`.
    pub protocol: String,
    /// On the host; 0: not published.
    pub host_port: u16,
    /// `0.0.0.0`: every address of the host; empty: not published.
    pub host_ip: String,
}

impl Engine {
    /// All containers, newest first. From memory.
    pub fn list(&self) -> Vec<Summary> {
        let mut all: Vec<_> =
            self.containers().iter().map(|container| self.0.summary(container)).collect();
        all.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| a.id.cmp(&b.id)));
        all
    }
}

impl Inner {
    fn summary(&self, container: &Container) -> Summary {
        let record = container.record();
        let status = self.status_of(&record);
        Summary {
            id: record.id.to_string(),
            name: record.name.clone(),
            image: record.spec.image.clone(),
            image_id: record.image.to_string(),
            command: record.merged.args(),
            created_at: record.created_at.0,
            started_at: status.started_at.0,
            finished_at: status.finished_at.0,
            state: status.state,
            exit_code: status.exit_code,
            health: status.health.as_ref().map_or("", |health| health.status.as_str()).to_owned(),
            pid: status.pid,
            ports: ports(&record, status.state.lives()),
            labels: record.merged.labels.clone(),
            mounts: record.spec.mounts.iter().map(|mount| source(&mount.source)).collect(),
            networks: networks(&record),
            size: self.images.writable_usage(&record.layer()).map_or(0, |usage| usage.bytes),
            pod: record.spec.pod.clone().unwrap_or_default(),
        }
    }
}

/// What is exposed, and where it is published while the container lives.
pub(super) fn ports(record: &Record, lives: bool) -> Vec<PortLine> {
    let published = record.attempt.iter().filter(|_| lives).flat_map(|attempt| &attempt.ports);
    let mut lines: Vec<_> = published.map(line).collect();
    if lives {
        for (port, protocol) in &record.merged.exposed {
            let protocol = format!("{protocol:?}").to_lowercase();
            let same = |line: &PortLine| line.container_port == *port && line.protocol == protocol;
            if !lines.iter().any(same) {
                let (host_port, host_ip) = (0, String::new());
                lines.push(PortLine { container_port: *port, protocol, host_port, host_ip });
            }
        }
    }
    lines.sort();
    lines
}

fn line(port: &PortMapping) -> PortLine {
    let protocol = match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    };
    PortLine {
        container_port: port.container_port,
        protocol: protocol.to_owned(),
        host_port: port.host_port,
        host_ip: port.host_ip.map_or_else(|| "0.0.0.0".to_owned(), |ip| ip.to_string()),
    }
}

fn source(source: &MountSource) -> String {
    match source {
        MountSource::Bind { path, .. } => path.display().to_string(),
        MountSource::Volume { name, .. } => name.clone().unwrap_or_default(),
        MountSource::Tmpfs { .. } => String::new(),
        MountSource::Image { image, .. } => image.clone(),
    }
}

pub(super) fn networks(record: &Record) -> Vec<String> {
    match &record.spec.network {
        NetworkMode::Bridge => vec!["bridge".to_owned()],
        NetworkMode::Host => vec!["host".to_owned()],
        NetworkMode::None => vec!["none".to_owned()],
        NetworkMode::Container(other) => vec![format!("container:{other}")],
        NetworkMode::Named(all) => all.iter().map(|end| end.network.clone()).collect(),
    }
}
