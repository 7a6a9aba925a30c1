//! `stats`: what containers use, as a table that is drawn anew, or once.

use crate::args::containers::StatsArgs;
use crate::config::Config;
use crate::container::said;
use crate::door::Door;
use crate::show::{self, Column, Shape};
use crate::size::size;
use crate::stream::from_json;
use orlop_api::engine_v1 as v1;
use orlop_engine::Reading;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{self, Write};
use std::time::Duration;

/// Between two tables.
const PAUSE: Duration = Duration::from_secs(1);
/// Between the two readings that a single table needs for its rates.
const SHORT: Duration = Duration::from_millis(300);

/// The table.
const SHAPE: Shape<'_> = Shape {
    columns: &[
        Column { field: "ID", title: "CONTAINER ID" },
        Column { field: "Container", title: "CONTAINER" },
        Column { field: "Name", title: "NAME" },
        Column { field: "CPUPerc", title: "CPU %" },
        Column { field: "MemUsage", title: "MEM USAGE / LIMIT" },
        Column { field: "MemPerc", title: "MEM %" },
        Column { field: "NetIO", title: "NET I/O" },
        Column { field: "BlockIO", title: "BLOCK I/O" },
        Column { field: "PIDs", title: "PIDS" },
    ],
    shown: &["ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"],
    quiet: "ID",
};

/// Shows what containers use.
pub(super) async fn stats(config: &Config, asked: &StatsArgs) -> anyhow::Result<()> {
    let mut before: HashMap<String, Reading> = HashMap::new();
    let mut shown = false;
    let terminal = rustix::termios::isatty(rustix::stdio::stdout());
    let mut stop = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        let readings = read(config, asked).await?;
        let first = before.is_empty() && readings.iter().any(|reading| reading.running);
        // Rates need two readings; a table without them would only flicker.
        if !first {
            let rows: Vec<Row> =
                readings.iter().map(|now| Row::new(now, before.get(&now.id))).collect();
            draw(asked, &rows, terminal && !asked.no_stream)?;
            shown = true;
        }
        if asked.no_stream && shown {
            return Ok(());
        }
        before = readings.into_iter().map(|reading| (reading.id.clone(), reading)).collect();
        tokio::select! {
            () = tokio::time::sleep(if first { SHORT } else { PAUSE }) => {}
            _ = &mut stop => return Ok(()),
        }
    }
}

/// One reading of each. The door is closed again: others want to work while a table stands.
async fn read(config: &Config, asked: &StatsArgs) -> anyhow::Result<Vec<Reading>> {
    let door = Door::open(config).await?;
    let request = v1::StatsRequest { containers: asked.containers.clone() };
    let found = door.engine().stats(request).await;
    door.close().await;
    let list = found.map_err(said)?.into_inner().json;
    let readings: Vec<Reading> =
        list.iter().map(|json| from_json(json)).collect::<anyhow::Result<_>>()?;
    let wanted = |reading: &Reading| reading.running || asked.all || !asked.containers.is_empty();
    let mut readings: Vec<Reading> = readings.into_iter().filter(wanted).collect();
    readings.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(readings)
}

/// A row of the table, in words.
struct Row {
    id: String,
    name: String,
    cpu: String,
    memory: String,
    memory_share: String,
    network: String,
    block: String,
    pids: String,
}

impl Row {
    fn new(now: &Reading, before: Option<&Reading>) -> Self {
        let nothing = || "--".to_owned();
        let pair = |pair: (u64, u64)| format!("{} / {}", size(pair.0), size(pair.1));
        let or = |text: String| if now.running { text } else { nothing() };
        let rate = before.filter(|before| before.running && now.running).map(|before| {
            let used = now.cpu_ns.saturating_sub(before.cpu_ns);
            let time = u64::try_from(now.time - before.time).unwrap_or(0).max(1);
            percent(used, time)
        });
        Self {
            id: now.id.clone(),
            name: now.name.clone(),
            cpu: rate.unwrap_or_else(nothing),
            memory: or(pair((now.memory, now.memory_limit))),
            memory_share: or(percent(now.memory, now.memory_limit.max(1))),
            network: or(now.network.map_or_else(nothing, pair)),
            block: or(pair(now.block)),
            pids: or(now.pids.to_string()),
        }
    }

    fn json(&self, asked: &StatsArgs) -> Value {
        json!({
            "BlockIO": self.block, "CPUPerc": self.cpu, "Container": self.shown_id(asked),
            "ID": self.shown_id(asked), "MemPerc": self.memory_share, "MemUsage": self.memory,
            "Name": self.name, "NetIO": self.network, "PIDs": self.pids,
        })
    }

    fn shown_id(&self, asked: &StatsArgs) -> &str {
        let short = self.id.get(..12).unwrap_or(&self.id);
        if asked.no_trunc { &self.id } else { short }
    }
}

/// With two digits behind the point.
fn percent(part: u64, whole: u64) -> String {
    let hundredths = u128::from(part) * 10_000 / u128::from(whole.max(1));
    format!("{}.{:02}%", hundredths / 100, hundredths % 100)
}

fn draw(asked: &StatsArgs, rows: &[Row], anew: bool) -> anyhow::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    if anew {
        // Home, and clear what is below.
        write!(out, "\u{1b}[H\u{1b}[J")?;
    }
    let rows: Vec<Value> = rows.iter().map(|row| row.json(asked)).collect();
    let width = show::terminal_width().filter(|_| !asked.no_trunc);
    let format = asked.format.as_deref();
    show::list(&mut out, &SHAPE, &rows, format, false, width)?;
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_shares() {
        let before = Reading { running: true, time: 1_000_000_000, ..Reading::default() };
        let now = Reading {
            running: true,
            time: 2_000_000_000,
            cpu_ns: 1_500_000_000,
            memory: 1 << 20,
            memory_limit: 4 << 20,
            pids: 3,
            ..Reading::default()
        };
        let row = Row::new(&now, Some(&before));
        assert_eq!((row.cpu.as_str(), row.memory_share.as_str()), ("150.00%", "25.00%"));
        assert_eq!((row.network.as_str(), row.pids.as_str()), ("--", "3"));
        assert_eq!(Row::new(&now, None).cpu, "--");
        assert_eq!(Row::new(&Reading::default(), None).memory, "--");
    }
}
