//! What happened, for `events`: lines of a file that every engine of this node appends to, so that
//! whoever listens needs neither a daemon nor the lock.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes after which the file becomes the old one.
const LIMIT: u64 = 4 << 20;

/// Something happened to an object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Event {
    /// Nanoseconds since 1970.
    pub time: i64,
    /// `container`, `image`, `network`, `volume`.
    pub kind: String,
    /// `create`, `start`, `die`, `stop`, `kill`, `pause`, `unpause`, `destroy`, `rename`, `update`,
    /// `attach`, `exec_start`, …
    pub action: String,
    /// Id of the object, or its name where it has no id.
    pub id: String,
    /// `name`, `image`, `exitCode`, `signal`, and the labels of the object.
    pub attributes: BTreeMap<String, String>,
}

impl Event {
    /// Of now.
    pub fn new(kind: &str, action: &str, id: &str) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = i64::try_from(since.as_nanos()).unwrap_or(i64::MAX);
        let (kind, action, id) = (kind.to_owned(), action.to_owned(), id.to_owned());
        Self { time, kind, action, id, attributes: BTreeMap::new() }
    }

    /// With an attribute.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.attributes.insert(name.to_owned(), value.into());
        self
    }
}

/// Which events are wanted: of each key that is given one value must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// Reads `key=value`: `type`, `event`, `container`, `image`, `network`, `volume`, `label`, `scope`,
    /// `daemon`.
    pub fn parse(filters: &[String]) -> crate::Result<Self> {
        const KEYS: [&str; 9] = [
            "container",
            "daemon",
            "event",
            "image",
            "label",
            "network",
            "scope",
            "type",
            "volume",
        ];
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for filter in filters {
            match filter.split_once('=') {
                Some((key, value)) if KEYS.contains(&key) => {
                    found.entry(key.to_owned()).or_default().push(value.to_owned());
                }
                _ => {
                    let why = format!("give KEY=VALUE with one of the keys {}", KEYS.join(", "));
                    let value = filter.clone();
                    return Err(crate::Error::Invalid { field: "filter", value, why });
                }
            }
        }
        Ok(Self(found))
    }

    /// Whether an event is wanted.
    pub fn fit(&self, event: &Event) -> bool {
        self.0.iter().all(|(key, values)| values.iter().any(|value| fits(event, key, value)))
    }
}

fn fits(event: &Event, key: &str, value: &str) -> bool {
    match key {
        "type" => event.kind == value,
        // `exec_start: ls` is an exec_start.
        "event" => event.action == value || event.action.split(':').next() == Some(value),
        "label" => match value.split_once('=') {
            Some((name, value)) => event.attributes.get(name).is_some_and(|found| found == value),
            None => event.attributes.contains_key(value),
        },
        "scope" => value == "local",
        "daemon" => true,
        kind => {
            let named = event.attributes.get("name").is_some_and(|name| name == value);
            let of_kind =
                event.kind == kind && (named || (!value.is_empty() && event.id.starts_with(value)));
            // A container's events are its image's too.
            of_kind
                || (kind == "image"
                    && event.attributes.get("image").is_some_and(|name| name == value))
        }
    }
}

/// The file; clones are the same. Writing never fails a call that has done its work: what cannot be
/// written is lost, and the log says so.
#[derive(Debug, Clone)]
pub struct EventLog(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    file: Mutex<Option<File>>,
}

impl EventLog {
    /// The log of the node whose live state is in `run`. Nothing is touched yet.
    pub fn new(run: &Path) -> Self {
        Self(Arc::new(Shared { dir: run.join("events"), file: Mutex::default() }))
    }

    /// The file that is written now.
    pub fn path(&self) -> PathBuf {
        self.0.dir.join("log")
    }

    /// The file that was written before, if there is one.
    pub fn old(&self) -> PathBuf {
        self.0.dir.join("log.1")
    }

    /// Makes the directory, so that it can be watched.
    pub fn make(&self) -> io::Result<()> {
        match DirBuilder::new().recursive(true).mode(0o700).create(&self.0.dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    /// Appends an event.
    pub fn emit(&self, event: &Event) {
        if let Err(error) = self.append(event) {
            tracing::warn!(file = %self.path().display(), %error, "an event is lost");
        }
    }

    fn append(&self, event: &Event) -> io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        let mut slot = self.0.file.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |file: &File| file.metadata().is_ok_and(|found| found.len() > LIMIT);
        if slot.as_ref().is_some_and(full) {
            std::fs::rename(self.path(), self.old())?;
            *slot = None;
        }
        let file = match &mut *slot {
            Some(file) => file,
            none => none.insert(self.open()?),
        };
        // One write to a file that is appended to: lines of several processes do not mix.
        file.write_all(&line)
    }

    fn open(&self) -> io::Result<File> {
        self.make()?;
        OpenOptions::new().create(true).append(true).mode(0o600).open(self.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters() {
        let event = Event::new("container", "die", "abc123")
            .with("name", "web")
            .with("image", "nginx")
            .with("tier", "front");
        let fit = |filters: &[&str]| {
            let filters: Vec<String> = filters.iter().map(|text| (*text).to_owned()).collect();
            Filters::parse(&filters).unwrap().fit(&event)
        };
        assert!(fit(&[]));
        assert!(fit(&["event=start", "event=die", "type=container"]));
        assert!(fit(&["container=web", "container=other"]));
        assert!(fit(&["container=abc", "label=tier=front", "label=tier", "image=nginx"]));
        assert!(!fit(&["event=start"]));
        assert!(!fit(&["container=we", "event=die"]));
        assert!(!fit(&["label=tier=back"]));
        assert!(!fit(&["network=web"]));
        assert!(Filters::parse(&["colour=red".to_owned()]).is_err());
        assert!(Filters::parse(&["event".to_owned()]).is_err());
    }

    #[test]
    fn lines_of_two_writers() {
        let temp = tempfile::tempdir().unwrap();
        let (one, two) = (EventLog::new(temp.path()), EventLog::new(temp.path()));
        one.emit(&Event::new("container", "create", "a").with("name", "x\ny"));
        two.emit(&Event::new("container", "start", "a"));
        one.emit(&Event::new("container", "die", "a").with("exitCode", "3"));
        let text = std::fs::read_to_string(one.path()).unwrap();
        let events: Vec<Event> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let actions: Vec<&str> = events.iter().map(|event| event.action.as_str()).collect();
        assert_eq!(actions, ["create", "start", "die"]);
        assert_eq!(events[0].attributes["name"], "x\ny");
        assert_eq!(events[2].attributes["exitCode"], "3");
    }
}
