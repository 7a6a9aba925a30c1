//! Waiting for another process that has what we need.

use anyhow::bail;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long somebody else is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// After that long the user is told for whom.
const SILENCE: Duration = Duration::from_millis(700);
/// Between two looks. A lock on a file can be waited for only without an end.
const LOOK: Duration = Duration::from_millis(5);

/// One wait, over however many looks.
pub(crate) struct Turn {
    since: Instant,
    told: bool,
}

impl Turn {
    pub(crate) fn new() -> Self {
        Self { since: Instant::now(), told: false }
    }

    /// Returns when it is time to look again; fails when it has been too long.
    pub(crate) async fn wait_for(&mut self, pid: &str, dir: &Path) -> anyhow::Result<()> {
        let waited = self.since.elapsed();
        if waited > PATIENCE {
            bail!(
                "{} is in use by process {pid}{}, which was waited for for {} seconds: wait for its end or stop it, then try again",
                dir.display(),
                called(pid),
                waited.as_secs()
            );
        }
        if waited > SILENCE && !self.told {
            use std::io::Write;
            self.told = true;
            let _ = writeln!(
                std::io::stderr(),
                "orlop: waiting for process {pid}{}, which uses {}",
                called(pid),
                dir.display()
            );
        }
        tokio::time::sleep(LOOK).await;
        Ok(())
    }
}

/// The command line of a process, for people.
fn called(pid: &str) -> String {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = line
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .take(3)
        .map(|word| String::from_utf8_lossy(word).replace(|c: char| c.is_control(), " "))
        .collect();
    if words.is_empty() { String::new() } else { format!(" ({})", words.join(" ")) }
}
