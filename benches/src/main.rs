//! Measures CRI endpoints side by side: one persistent client each, the same images and the same kind of network,
//! pair by pair in one run. `benches/run` sets the stage; `reference/performance.md` C5 is the protocol.

mod client;
mod lists;
mod measure;
mod memory;
mod stats;

use anyhow::Context;
use clap::Parser;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Measures CRI endpoints side by side.
#[derive(Parser)]
struct Arguments {
    /// The stage, as JSON: peers, images, paths (written by benches/run).
    stage: PathBuf,
    /// Where the results go, as JSON.
    out: PathBuf,
    /// Counted rounds of the serial measurements.
    #[arg(long, default_value_t = 40)]
    rounds: usize,
    /// Rounds that are not counted, first.
    #[arg(long, default_value_t = 5)]
    warmup: usize,
    /// Containers of the full node whose lists are measured.
    #[arg(long, default_value_t = 1000)]
    containers: usize,
    /// Only the rows whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
}

/// What is measured, and with what.
#[derive(Deserialize, Clone)]
pub struct Stage {
    /// The endpoints, ours first.
    pub peers: Vec<Peer>,
    /// The witness image.
    pub image: String,
    /// Images to pull: (row name, reference).
    pub pulls: Vec<(String, String)>,
    /// A directory with the witness's pipe, mounted into every pod at /witness.
    pub pipes: PathBuf,
}

/// One endpoint.
#[derive(Deserialize, Serialize, Clone)]
pub struct Peer {
    /// Name in the table.
    pub name: String,
    /// CRI socket.
    #[serde(skip_serializing)]
    pub socket: PathBuf,
    /// RuntimeClass handler.
    #[serde(default)]
    pub handler: String,
    /// The daemon's process.
    #[serde(skip_serializing)]
    pub pid: u32,
    /// Names (`comm`) of the helper processes that stay with a pod.
    pub helpers: Vec<String>,
    /// What exactly it is.
    pub version: String,
}

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let text = std::fs::read_to_string(&arguments.stage).context("the stage")?;
    let stage: Stage = serde_json::from_str(&text).context("the stage")?;
    let mut clients = vec![];
    for peer in &stage.peers {
        clients.push(
            client::Client::connect(peer.clone(), &stage)
                .await
                .with_context(|| peer.name.clone())?,
        );
    }
    let mut rows = vec![];
    for measurement in measure::all(&stage, arguments.containers) {
        if measurement.name.contains(&arguments.only) {
            for row in measurement.run(&mut clients, arguments.rounds, arguments.warmup).await? {
                println!("{row}");
                rows.push(row);
            }
        }
    }
    let report = stats::Report::new(&stage.peers, rows);
    std::fs::write(&arguments.out, serde_json::to_string_pretty(&report)?)
        .context("the results")?;
    Ok(())
}
