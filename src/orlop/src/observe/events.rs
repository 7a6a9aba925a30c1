//! `events`: lines of the file that every engine of this machine appends to. Neither a daemon nor the
//! lock is needed to read it.

use crate::args::system::EventsArgs;
use crate::config::Config;
use crate::logs::time::{self, Nanos};
use crate::show::{Missing, Template};
use anyhow::Context;
use orlop_engine::event::Filters;
use orlop_engine::{Event, EventLog, Tail};
use serde_json::json;
use std::io::{self, Write};
use std::time::Duration;

/// Shows what happens, and with `--since` what has happened.
pub(super) async fn events(config: &Config, asked: &EventsArgs) -> anyhow::Result<()> {
    let now = time::now();
    let time =
        |text: &Option<String>| text.as_deref().map(|text| time::parse(text, now)).transpose();
    let (since, until) = (time(&asked.since)?, time(&asked.until)?);
    let filters: Vec<String> =
        asked.filter.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let filters = Filters::parse(&filters)?;
    let log = EventLog::new(&config.run);
    let place = || format!("events in {}", log.path().display());
    log.make().with_context(place)?;
    // A file that is written to next is seen from its begin on.
    let mut tail = Tail::open(&log.path(), true).with_context(place)?;
    let mut shown = Shown { asked, filters, since: since.unwrap_or(now), until };
    if since.is_some() {
        let mut old = Tail::open(&log.old(), false).with_context(place)?;
        while let Some(line) = old.line().with_context(place)? {
            shown.line(&line)?;
        }
    } else {
        tail.to_end().with_context(place)?;
    }
    let end = until.map(|until| Duration::from_nanos(u64::try_from(until - now).unwrap_or(0)));
    let mut end = std::pin::pin!(async {
        match end {
            Some(end) => tokio::time::sleep(end).await,
            None => std::future::pending().await,
        }
    });
    loop {
        while let Some(line) = tail.line().with_context(place)? {
            if !shown.line(&line)? {
                return Ok(());
            }
        }
        tokio::select! {
            biased;
            news = tail.wait() => news.with_context(place)?,
            () = &mut end => {
                // What came up to the last moment.
                while let Some(line) = tail.line().with_context(place)? {
                    shown.line(&line)?;
                }
                return Ok(());
            }
        }
    }
}

struct Shown<'a> {
    asked: &'a EventsArgs,
    filters: Filters,
    since: Nanos,
    until: Option<Nanos>,
}

impl Shown<'_> {
    /// Shows one line of the file, if it is wanted; whether somebody still listens.
    fn line(&mut self, line: &[u8]) -> anyhow::Result<bool> {
        // A line of another version says nothing to us.
        let Ok(event) = serde_json::from_slice::<Event>(line) else { return Ok(true) };
        let at = Nanos::from(event.time);
        let in_time = at >= self.since && self.until.is_none_or(|until| at <= until);
        if !in_time || !self.filters.fit(&event) {
            return Ok(true);
        }
        let text = match self.asked.format.as_deref() {
            None => words(&event),
            Some("json") => json(&event).to_string(),
            Some(template) => Template::parse(template)?.render(&json(&event), Missing::NoValue)?,
        };
        let mut out = io::stdout().lock();
        match writeln!(out, "{text}").and_then(|()| out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            other => Ok(other.map(|()| true)?),
        }
    }
}

/// As people know it: time, kind, what, who, and what is known of it.
fn words(event: &Event) -> String {
    let attributes: Vec<String> =
        event.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let shown =
        if attributes.is_empty() { String::new() } else { format!(" ({})", attributes.join(", ")) };
    let text = format!(
        "{} {} {} {}{shown}",
        time::written(Nanos::from(event.time)),
        event.kind,
        event.action,
        event.id
    );
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The object that tools know.
fn json(event: &Event) -> serde_json::Value {
    json!({
        "status": event.action, "id": event.id,
        "from": event.attributes.get("image").cloned().unwrap_or_default(),
        "Type": event.kind, "Action": event.action, "scope": "local",
        "Actor": {"ID": event.id, "Attributes": event.attributes},
        "time": event.time / 1_000_000_000, "timeNano": event.time,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_event_is_one_line() {
        let mut event = Event::new("container", "die", "abc").with("exitCode", "3");
        event.time = 951_868_799_000_000_001;
        event = event.with("name", "a\nb");
        assert_eq!(
            words(&event),
            "2000-02-29T23:59:59.000000001Z container die abc (exitCode=3, name=a b)"
        );
        assert_eq!(json(&event)["Actor"]["Attributes"]["exitCode"], "3");
    }
}
