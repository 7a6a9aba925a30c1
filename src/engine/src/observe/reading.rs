//! One reading of what a container uses.

use crate::{Container, Engine, Result};
use orlop_lifecycle::ContainerState;
use serde::{Deserialize, Serialize};

/// What a container has used so far, and uses now. Two readings make a rate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reading {
    /// Whose.
    pub id: String,
    /// Its name.
    pub name: String,
    /// It runs; else everything else is zero.
    pub running: bool,
    /// Nanoseconds since 1970.
    pub time: i64,
    /// CPU time in nanoseconds.
    pub cpu_ns: u64,
    /// Bytes, without what the kernel would give back at once.
    pub memory: u64,
    /// Bytes; without a limit of its own the machine's.
    pub memory_limit: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Bytes over its interfaces: received and sent; `None`: its network is another's.
    pub network: Option<(u64, u64)>,
    /// Bytes from and to block devices.
    pub block: (u64, u64),
}

impl Engine {
    /// Reads what a container uses.
    pub async fn reading(&self, container: &Container) -> Result<Reading> {
        let record = container.record();
        let mut reading =
            Reading { id: record.id.to_string(), name: record.name.clone(), ..Reading::default() };
        let attempt = self.attempt(container);
        let Some(view) = attempt.filter(|view| view.state == ContainerState::Running) else {
            return Ok(reading);
        };
        let detail = self.runtime().sandbox_detail(view.sandbox.as_str()).await?;
        let own = detail.containers.iter().find(|one| one.stats.container.id == view.id);
        // It has ended in this moment.
        let Some(own) = own else { return Ok(reading) };
        reading.running = true;
        reading.time = own.stats.at.0;
        reading.cpu_ns = own.stats.sample.cpu_ns.unwrap_or(0);
        if let Some(memory) = &own.stats.sample.memory {
            reading.memory = memory.usage.saturating_sub(memory.inactive_file);
            reading.memory_limit = memory.limit;
        }
        let machine = machine_memory();
        if machine > 0 && (reading.memory_limit == 0 || reading.memory_limit > machine) {
            reading.memory_limit = machine;
        }
        reading.pids = own.detail.tasks.map_or(0, |(now, _)| now);
        reading.network = detail.network.as_ref().map(|interfaces| {
            interfaces.iter().fold((0, 0), |(received, sent), one| {
                (received + one.received.bytes, sent + one.sent.bytes)
            })
        });
        let devices = own.devices.iter();
        reading.block = devices.fold((0, 0), |(read, written), (_, traffic)| {
            (read + traffic.bytes.0, written + traffic.bytes.1)
        });
        Ok(reading)
    }
}

/// Bytes of memory that the machine has; 0 if the kernel does not say.
fn machine_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0).saturating_mul(1024)
}
