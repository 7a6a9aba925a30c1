//! `orlop config`: what is in force, and why.

use super::Config;
use super::load::{Loaded, Sources, entries};
use super::problem::Origins;
use super::reference::{page, prose};
use super::schema::{Entry, What};
use crate::cli::ConfigArgs;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;

/// Runs the command.
pub(crate) fn run(arguments: &ConfigArgs) -> anyhow::Result<()> {
    let text = if arguments.reference {
        page()
    } else {
        let loaded = if arguments.default {
            Loaded { config: Config::default(), origins: Origins::new() }
        } else {
            Sources::new(&arguments.settings).load()?
        };
        if arguments.json {
            format!("{:#}\n", loaded.json())
        } else if arguments.default {
            sample(&loaded.config)
        } else {
            loaded.text()
        }
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

impl Loaded {
    /// As TOML that can be read back, each key with where it came from.
    pub(crate) fn text(&self) -> String {
        let mut lines = Vec::new();
        for entry in entries(&self.config) {
            match entry.what {
                What::Section { many: true } => {}
                What::Section { many: false } => lines.push((format!("\n[{}]", entry.key), None)),
                What::Key { value, .. } => {
                    let Some(name) = shown_name(&entry.key) else { continue };
                    let value = value.unwrap_or_else(|| "".into());
                    lines.push((format!("{name} = {value}"), Some(self.origin(&entry.key))));
                }
            }
        }
        let width = lines.iter().map(|(line, _)| line.chars().count()).filter(|n| *n < 60).max();
        lines.iter().fold(String::new(), |mut text, (line, origin)| {
            let width = width.unwrap_or(0);
            let _ = match origin {
                Some(origin) => writeln!(text, "{line:width$}  # {origin}"),
                None => writeln!(text, "{line}"),
            };
            text
        })
    }

    /// Each key by its full name, with value and origin.
    pub(crate) fn json(&self) -> serde_json::Value {
        let keys = entries(&self.config).into_iter().filter_map(|entry| match entry.what {
            What::Key { value, .. } if shown_name(&entry.key).is_some() => {
                let origin = self.origin(&entry.key);
                Some((entry.key, serde_json::json!({"value": value, "origin": origin})))
            }
            _ => None,
        });
        serde_json::Value::Object(keys.collect())
    }

    fn origin(&self, key: &str) -> String {
        self.origins.get(key).map_or("default".to_owned(), ToString::to_string)
    }
}

impl Config {
    /// Keys whose value differs in `other`, each with whether SIGHUP may change it.
    pub(crate) fn changed(&self, other: &Self) -> Vec<(String, bool)> {
        let keys = |config: &Self| -> BTreeMap<String, (Option<toml::Value>, bool)> {
            let entries = entries(config).into_iter();
            let key = |entry: Entry| match entry.what {
                What::Key { value, reload, .. } => Some((entry.key, (value, reload))),
                What::Section { .. } => None,
            };
            entries.filter_map(key).filter(|(key, _)| shown_name(key).is_some()).collect()
        };
        let (before, after) = (keys(self), keys(other));
        let all: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let differing = all.into_iter().filter(|key| before.get(*key) != after.get(*key));
        let reload = |key| before.get(key).or_else(|| after.get(key)).is_some_and(|(_, is)| *is);
        differing.map(|key| (key.clone(), reload(key))).collect()
    }

    /// Each key by its full name, for verbose Status.
    pub(crate) fn values(&self) -> serde_json::Value {
        let keys = entries(self).into_iter().filter_map(|entry| match entry.what {
            What::Key { value, .. } => Some((entry.key, serde_json::json!(value))),
            What::Section { .. } => None,
        });
        serde_json::Value::Object(keys.collect())
    }
}

/// The last part of a key; `None` for the placeholder of a section that nobody named.
fn shown_name(key: &str) -> Option<&str> {
    (!key.contains(".NAME.")).then(|| key.rsplit('.').next().unwrap_or(key))
}

/// A file with every default, commented out, as a start.
fn sample(config: &Config) -> String {
    let mut text =
        "# Every key of Orlop's configuration, at its default. Take away a # to set a key.\n"
            .to_owned();
    for entry in entries(config) {
        let doc = wrapped(&prose(entry.doc));
        let _ = match entry.what {
            What::Section { many } => {
                let mark = if many { "# " } else { "" };
                write!(text, "\n{doc}{mark}[{}]\n", entry.key)
            }
            What::Key { value, .. } => {
                let name = entry.key.rsplit('.').next().unwrap_or(&entry.key);
                let value = value.unwrap_or_else(|| "".into());
                // What is below a placeholder is not to be uncommented as it stands.
                let mark = if shown_name(&entry.key).is_some() { "#" } else { "##" };
                write!(text, "\n{doc}{mark} {name} = {value}\n")
            }
        };
    }
    text
}

/// Comment lines of at most 100 characters.
fn wrapped(prose: &str) -> String {
    let (mut text, mut line) = (String::new(), String::from("#"));
    for word in prose.split(' ') {
        if line.len() + word.len() > 98 {
            text.push_str(&line);
            text.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    text + &line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Loads one text as the file.
    fn load(text: &str) -> Loaded {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("orlop.toml");
        std::fs::write(&file, text).unwrap();
        let arguments = crate::cli::SettingArgs { config: Some(file), ..Default::default() };
        Sources::new(&arguments).load().unwrap()
    }

    #[test]
    fn what_is_shown_can_be_read_back() {
        let loaded = load(
            "workers = 5\nroot = '/a b'\n[images.token_hosts]\n'r.example' = ['i']\n[network]\nplugin_timeout = '90s'",
        );
        let again = load(&loaded.text());
        assert_eq!(again.config, loaded.config);
        assert!(
            loaded
                .text()
                .lines()
                .any(|line| line.starts_with("workers = 5 ") && line.ends_with("orlop.toml:1"))
        );
        assert!(
            loaded
                .text()
                .lines()
                .any(|line| line.starts_with("run = ") && line.ends_with("# default"))
        );
    }

    #[test]
    fn the_sample_changes_nothing_with_and_without_its_marks() {
        let text = sample(&Config::default());
        assert_eq!(load(&text).config, Config::default());
        let keys = |line: &str| {
            line.strip_prefix("# ")
                .filter(|rest| rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')))
                .map(str::to_owned)
        };
        let bare: Vec<String> =
            text.lines().map(|line| keys(line).unwrap_or_else(|| line.to_owned())).collect();
        let bare = bare.join("\n");
        assert!(bare.contains("\nworkers = 2"), "{bare}");
        assert_eq!(load(&bare).config, Config::default());
    }

    #[test]
    fn changes_are_named() {
        let changed =
            load("workers = 5\n[log]\nlevel = 'debug'").config.changed(&Config::default());
        assert_eq!(changed, [("log.level".to_owned(), true), ("workers".to_owned(), false)]);
        assert!(Config::default().changed(&Config::default()).is_empty());
    }

    #[test]
    fn json_names_value_and_origin() {
        let json = load("run = '/x'").json();
        assert_eq!(json["run"]["value"], "/x");
        assert!(json["run"]["origin"].as_str().unwrap().ends_with("orlop.toml:1"));
        assert_eq!(json["network.pool_size"]["origin"], "default");
        assert_eq!(Path::new(json["root"]["value"].as_str().unwrap()), Config::default().root);
    }
}
