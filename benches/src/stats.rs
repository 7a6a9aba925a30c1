//! Figures of a row, and the report.

use crate::Peer;
use serde::Serialize;
use std::fmt;

/// What one peer did in one row.
#[derive(Serialize, Clone)]
pub struct Figures {
    pub peer: String,
    pub n: usize,
    pub min: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    /// Every reading, in order.
    pub all: Vec<f64>,
}

impl Figures {
    pub fn new(peer: &str, all: Vec<f64>) -> Self {
        let mut sorted = all.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |q: f64| {
            sorted
                .get(((sorted.len() as f64 - 1.0) * q).round() as usize)
                .copied()
                .unwrap_or(f64::NAN)
        };
        Self {
            peer: peer.to_owned(),
            n: all.len(),
            min: at(0.0),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            all,
        }
    }
}

/// One measurement over all peers.
#[derive(Serialize)]
pub struct Row {
    pub name: String,
    pub unit: &'static str,
    pub figures: Vec<Figures>,
    /// Ours by the best peer's, at p50.
    pub ratio: Option<f64>,
}

impl Row {
    pub fn new(name: &str, unit: &'static str, figures: Vec<Figures>) -> Self {
        let best = figures.iter().skip(1).map(|figures| figures.p50).min_by(f64::total_cmp);
        let ratio = best
            .filter(|best| *best > 0.0)
            .and_then(|best| figures.first().map(|ours| ours.p50 / best));
        Self { name: name.to_owned(), unit, figures, ratio }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} [{}]", self.name, self.unit)?;
        for one in &self.figures {
            writeln!(
                f,
                "  {:<18} min {:>9.2}  p50 {:>9.2}  p90 {:>9.2}  p99 {:>9.2}  n {}",
                one.peer, one.min, one.p50, one.p90, one.p99, one.n
            )?;
        }
        match self.ratio {
            Some(ratio) => write!(f, "  ratio to the best peer at p50: {ratio:.3}"),
            None => write!(f, "  no ratio"),
        }
    }
}

/// Everything that was compared, and what came of it.
#[derive(Serialize)]
pub struct Report {
    kernel: String,
    cores: usize,
    load_at_end: String,
    peers: Vec<Peer>,
    rows: Vec<Row>,
}

impl Report {
    pub fn new(peers: &[Peer], rows: Vec<Row>) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        Self {
            kernel: read("/proc/sys/kernel/osrelease"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            load_at_end: read("/proc/loadavg"),
            peers: peers.to_vec(),
            rows,
        }
    }
}
