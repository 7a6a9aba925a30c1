//! How a transfer goes: lines that move on a terminal, few quiet ones elsewhere. What is shown is
//! what happened: bytes that have come, layers that are durable.

use crate::size::size;
use orlop_api::images_v1 as v1;
use orlop_api::images_v1::layer_progress::State;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Pause between two pictures.
const PAUSE: Duration = Duration::from_millis(100);
/// Layers that are shown at once.
const SHOWN: usize = 10;

/// Shows progress on standard error.
pub(super) struct Display {
    terminal: bool,
    started: Instant,
    drawn: Option<Instant>,
    /// Lines of the last picture.
    lines: usize,
    known: Known,
}

/// What has been heard.
#[derive(Default)]
struct Known {
    layers: u32,
    bytes: u64,
    moving: BTreeMap<String, v1::LayerProgress>,
    present: u32,
    done: u32,
    /// Bytes of layers that have ended.
    ended_bytes: u64,
}

impl Display {
    pub(super) fn new() -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            started: Instant::now(),
            drawn: None,
            lines: 0,
            known: Known::default(),
        }
    }

    pub(super) fn show(&mut self, message: &v1::Progress) {
        let line = self.known.hear(message);
        let mut out = std::io::stderr().lock();
        // A display that cannot be written stops nothing.
        if !self.terminal {
            if let Some(line) = line {
                let _ = writeln!(out, "{line}");
            }
        } else if self.drawn.is_none_or(|drawn| drawn.elapsed() >= PAUSE) {
            self.drawn = Some(Instant::now());
            let picture = self.known.picture(self.started.elapsed());
            let up = if self.lines > 0 { format!("\x1b[{}A", self.lines) } else { String::new() };
            self.lines = picture.len();
            let text: String = picture.iter().map(|line| format!("\x1b[2K{line}\n")).collect();
            let _ = write!(out, "{up}{text}\x1b[J");
        }
    }

    /// Takes the moving lines away.
    pub(super) fn end(&mut self) {
        if self.lines > 0 {
            let _ = write!(std::io::stderr(), "\x1b[{}A\x1b[J", self.lines);
            self.lines = 0;
        }
    }
}

impl Known {
    /// Takes a message in; gives a line where something ended or became known.
    fn hear(&mut self, message: &v1::Progress) -> Option<String> {
        let Some(layer) = &message.layer else {
            (self.layers, self.bytes) = (message.layers, message.bytes);
            return Some(format!("{} layers, {}", self.layers, size(self.bytes)));
        };
        let name = super::short(&layer.digest).to_owned();
        match layer.state() {
            State::Present => {
                self.present += 1;
                self.moving.remove(&layer.digest);
                Some(format!("{name}: is there already"))
            }
            State::Done => {
                self.done += 1;
                let bytes = self.moving.remove(&layer.digest).map_or(0, |last| last.total);
                self.ended_bytes += bytes;
                let how = if bytes > 0 { format!(" ({})", size(bytes)) } else { String::new() };
                Some(format!("{name}: done{how}"))
            }
            State::Fetching | State::Sending => {
                self.moving.insert(layer.digest.clone(), layer.clone());
                None
            }
        }
    }

    fn picture(&self, since: Duration) -> Vec<String> {
        let moved: u64 =
            self.moving.values().map(|layer| layer.done).sum::<u64>() + self.ended_bytes;
        let rate = moved as f64 / since.as_secs_f64().max(0.001);
        let mut lines = vec![format!(
            "{} of {} layers, {} of {}, {}/s",
            self.done + self.present,
            self.layers,
            size(moved),
            size(self.bytes),
            size(rate as u64)
        )];
        for layer in self.moving.values().take(SHOWN) {
            let what = match layer.state() {
                State::Sending => "sending",
                // All bytes are here; what is left is unpacking and the disk.
                _ if layer.done == layer.total => "unpacking",
                _ => "fetching",
            };
            lines.push(format!(
                "  {}  {what} {} of {}",
                super::short(&layer.digest),
                size(layer.done),
                size(layer.total)
            ));
        }
        if self.moving.len() > SHOWN {
            lines.push(format!("  and {} more", self.moving.len() - SHOWN));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(digest: &str, state: State, done: u64, total: u64) -> v1::Progress {
        let digest = format!("sha256:{}", digest.repeat(64));
        let layer = v1::LayerProgress { digest, state: state.into(), done, total };
        v1::Progress { layer: Some(layer), ..Default::default() }
    }

    #[test]
    fn only_what_happened() {
        let mut known = Known::default();
        let mut lines = Vec::new();
        for message in [
            v1::Progress { layers: 3, bytes: 3_000_000, ..Default::default() },
            layer("a", State::Present, 0, 0),
            layer("b", State::Fetching, 500_000, 1_000_000),
            layer("c", State::Fetching, 1_000_000, 1_000_000),
            layer("b", State::Fetching, 1_000_000, 1_000_000),
            layer("b", State::Done, 0, 0),
        ] {
            lines.extend(known.hear(&message));
        }
        assert_eq!(
            lines,
            ["3 layers, 3.0 MB", "aaaaaaaaaaaa: is there already", "bbbbbbbbbbbb: done (1.0 MB)",]
        );
        assert_eq!(
            known.picture(Duration::from_secs(2)),
            [
                "2 of 3 layers, 2.0 MB of 3.0 MB, 1.0 MB/s",
                "  cccccccccccc  unpacking 1.0 MB of 1.0 MB",
            ]
        );
    }
}
