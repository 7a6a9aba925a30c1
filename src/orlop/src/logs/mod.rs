//! `logs`: what a container has written, from the file that its shim keeps. No daemon has a part in it.

mod record;
pub(crate) mod time;

use crate::args::containers::LogsArgs;
use crate::cli::Place;
use crate::config::Config;
use crate::container::with_config;
use crate::stream;
use anyhow::{Context, bail};
use orlop_engine::Tail;
use orlop_task::{Bundle, Client};
use record::{Joiner, Shown, Wanted, last_lines};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};

/// Shows a log.
pub(crate) fn run(place: &Place, asked: &LogsArgs) -> anyhow::Result<()> {
    with_config(place, async |config| logs(&config, asked).await)
}

async fn logs(config: &Config, asked: &LogsArgs) -> anyhow::Result<()> {
    let now = time::now();
    let time =
        |text: &Option<String>| text.as_deref().map(|text| time::parse(text, now)).transpose();
    let wanted = Wanted {
        since: time(&asked.since)?,
        until: time(&asked.until)?,
        timestamps: asked.timestamps,
    };
    let last = last(&asked.tail)?;
    let location = stream::locate(config, &asked.of.container).await?;
    let Some(path) = location.log.clone() else {
        bail!("container {} keeps no log: it was made with --log-driver none", location.name);
    };
    let follow = asked.follow && location.running;
    let opened = Tail::open(&path, follow);
    let mut tail = match opened {
        Ok(tail) => tail,
        // It has never been started.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("log {}", path.display())),
    };
    if let Some(last) = last {
        let start = tail.file().map(|file| start_of(file, last)).transpose()?;
        tail.seek(start.unwrap_or(0))?;
    }
    let end = async {
        match &location.bundle {
            Some(bundle) if follow => ended(&location.task, bundle).await,
            _ => {}
        }
    };
    let shown = show(&mut tail, Joiner::new(wanted), follow, end).await;
    match shown {
        // Whoever read has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.with_context(|| format!("log {}", path.display())),
    }
}

/// `None`: all; negative numbers too, as people know it.
fn last(text: &str) -> anyhow::Result<Option<usize>> {
    if text.is_empty() || text == "all" {
        return Ok(None);
    }
    match text.parse::<i64>() {
        Ok(number) => Ok(usize::try_from(number).ok()),
        Err(_) => bail!("--tail {text:?}: expected a number of lines, or all"),
    }
}

/// Ready when the shim says that the run is over, or has gone itself.
async fn ended(task: &str, bundle: &std::path::Path) {
    let Ok(address) = Bundle::new(bundle).address() else { return };
    if let Ok(client) = Client::connect(task, &address).await {
        // Whatever it answers: there is nothing more to wait for.
        let _ = client.wait("").await;
    }
}

/// Where the last lines of a log begin.
fn start_of(file: &mut (impl Read + Seek), lines: usize) -> io::Result<u64> {
    let size = file.seek(SeekFrom::End(0))?;
    let mut part: u64 = 64 << 10;
    loop {
        let begin = size.saturating_sub(part);
        file.seek(SeekFrom::Start(begin))?;
        let mut bytes = Vec::new();
        file.take(size - begin).read_to_end(&mut bytes)?;
        if let Some(at) = last_lines(&bytes, lines, begin == 0) {
            return Ok(begin + at as u64);
        }
        part = part.saturating_mul(2);
    }
}

async fn show(
    tail: &mut Tail,
    mut joiner: Joiner,
    follow: bool,
    end: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut end = std::pin::pin!(end);
    let mut over = !follow;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut err = io::stderr().lock();
    loop {
        while let Some(line) = tail.line()? {
            match joiner.feed(&line) {
                Shown::Nothing => {}
                Shown::Bytes(false, bytes) => out.write_all(&bytes)?,
                Shown::Bytes(true, bytes) => {
                    // In the order in which it was written, as far as a reader of both can see it.
                    out.flush()?;
                    err.write_all(&bytes)?;
                }
                Shown::Beyond => return out.flush(),
            }
        }
        out.flush()?;
        if over {
            break;
        }
        tokio::select! {
            news = tail.wait() => news?,
            // What was written before the end is in the file by now: once more.
            () = &mut end => over = true,
        }
    }
    let rest = tail.unfinished();
    if let (false, Shown::Bytes(error, bytes)) = (rest.is_empty(), joiner.feed(&rest)) {
        if error { err.write_all(&bytes)? } else { out.write_all(&bytes)? }
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_of_a_long_log() {
        let mut log = Vec::new();
        for n in 0..20_000 {
            writeln!(log, "2026-01-01T00:00:01.000000000Z stdout F line {n}").unwrap();
        }
        let mut file = io::Cursor::new(&log);
        for count in [0, 1, 10, 5_000, 20_000, 30_000] {
            let at = start_of(&mut file, count).unwrap();
            let lines = log.get(at as usize..).unwrap().iter().filter(|b| **b == b'\n').count();
            assert_eq!(lines, count.min(20_000));
        }
    }

    #[test]
    fn numbers_of_lines() {
        assert_eq!(last("all").unwrap(), None);
        assert_eq!(last("-1").unwrap(), None);
        assert_eq!(last("0").unwrap(), Some(0));
        assert_eq!(last("12").unwrap(), Some(12));
        assert!(last("many").unwrap_err().to_string().contains("many"));
    }
}
