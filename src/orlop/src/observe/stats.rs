//! `stats`: what containers use, as a table that is drawn anew, or once.

use super::write_table;
use crate::args::containers::StatsArgs;
use crate::config::Config;
use crate::container::said;
use crate::door::Door;
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
    match asked.format.as_deref() {
        None | Some("table") => {
            let titles = [
                "CONTAINER ID",
                "NAME",
                "CPU %",
                "MEM USAGE / LIMIT",
                "MEM %",
                "NET I/O",
                "BLOCK I/O",
                "PIDS",
            ];
            let rows: Vec<Vec<String>> = rows
                .iter()
                .map(|row| {
                    let id = row.shown_id(asked).to_owned();
                    let cells = [
                        &id,
                        &row.name,
                        &row.cpu,
                        &row.memory,
                        &row.memory_share,
                        &row.network,
                        &row.block,
                        &row.pids,
                    ];
                    cells.into_iter().cloned().collect()
                })
                .collect();
            write_table(&mut out, &titles.map(str::to_owned), &rows)?;
        }
        Some("json" | "{{json .}}") => {
            for row in rows {
                writeln!(out, "{}", row.json(asked))?;
            }
        }
        Some(template) => {
            for row in rows {
                writeln!(out, "{}", filled(template, &row.json(asked))?)?;
            }
        }
    }
    Ok(out.flush()?)
}

/// A template whose fields are those of a flat object.
pub(super) fn filled(template: &str, object: &Value) -> anyhow::Result<String> {
    let template = template.strip_prefix("table ").unwrap_or(template);
    let mut out = String::new();
    let mut rest = template;
    while let Some((text, behind)) = rest.split_once("{{") {
        out.push_str(text);
        let (field, behind) = behind
            .split_once("}}")
            .ok_or_else(|| anyhow::anyhow!("--format {template:?}: }}}} is missing"))?;
        let field = field.trim();
        let found = field
            .strip_prefix('.')
            .map(|path| path.split('.').try_fold(object, |at, name| at.get(name)));
        match found.flatten() {
            Some(Value::String(text)) => out.push_str(text),
            Some(other) => out.push_str(&other.to_string()),
            None if field == "json ." => out.push_str(&object.to_string()),
            None => {
                let fields = object.as_object().map(|object| {
                    object.keys().map(|key| format!(".{key}")).collect::<Vec<_>>().join(", ")
                });
                anyhow::bail!(
                    "--format: there is no field {field}; there are {}",
                    fields.unwrap_or_default()
                );
            }
        }
        rest = behind;
    }
    out.push_str(rest);
    Ok(out.replace("\\t", "\t").replace("\\n", "\n"))
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

    #[test]
    fn templates() {
        let object = json!({"Name": "web", "PIDs": 3, "Actor": {"ID": "x"}});
        assert_eq!(filled("{{.Name}}: {{ .PIDs }}!", &object).unwrap(), "web: 3!");
        assert_eq!(filled("{{.Actor.ID}}", &object).unwrap(), "x");
        assert!(filled("{{.Colour}}", &object).unwrap_err().to_string().contains(".Name"));
        assert!(filled("{{.Name", &object).is_err());
    }
}
