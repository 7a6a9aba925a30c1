//! What spec and image make together, by the rules that people learn.

use crate::ContainerSpec;
use crate::spec::{Health, Protocol};
use oci_spec::image::Config;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a container's process is, from its spec and its image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Merged {
    /// The first words of the command line.
    pub entrypoint: Vec<String>,
    /// The words after them.
    pub command: Vec<String>,
    /// The image's variables with the spec's over them, in order of first appearance.
    pub env: Vec<(String, String)>,
    /// Empty: `/`.
    pub working_dir: String,
    /// `user[:group]`; empty: root.
    pub user: String,
    /// The image's with the spec's over them.
    pub labels: BTreeMap<String, String>,
    /// Ports that it listens on, by what image and spec say.
    pub exposed: BTreeSet<(u16, Protocol)>,
    /// Where the image wants volumes.
    pub volumes: Vec<String>,
    /// Name or number; empty: SIGTERM.
    pub stop_signal: String,
    /// How its health is looked at; `None`: it is not.
    pub health: Option<Health>,
}

impl Merged {
    /// The whole command line; empty: nobody says what to run.
    pub fn args(&self) -> Vec<String> {
        self.entrypoint.iter().chain(&self.command).cloned().collect()
    }
}

/// Puts them together. An entrypoint on the command line drops the image's command too; a command
/// replaces the image's and follows the entrypoint. That a shell-form entrypoint ignores its command is
/// the shell's doing: `/bin/sh -c line` takes further words for `$0` and `$1`.
pub fn merge(spec: &ContainerSpec, image: Option<&Config>) -> Merged {
    let list = |of: fn(&Config) -> &Option<Vec<String>>| {
        image.and_then(|image| of(image).clone()).unwrap_or_default()
    };
    let text = |of: fn(&Config) -> &Option<String>| {
        image.and_then(|image| of(image).clone()).unwrap_or_default()
    };
    let (entrypoint, command) = match &spec.entrypoint {
        Some(words) => {
            // `--entrypoint ""` is how one is taken away.
            let words = words.iter().filter(|word| !word.is_empty()).cloned().collect();
            (words, spec.command.clone())
        }
        None if !spec.command.is_empty() => (list(Config::entrypoint), spec.command.clone()),
        None => (list(Config::entrypoint), list(Config::cmd)),
    };
    Merged {
        entrypoint,
        command,
        env: environment(&list(Config::env), &spec.env),
        working_dir: spec.working_dir.clone().unwrap_or_else(|| text(Config::working_dir)),
        user: spec.user.clone().unwrap_or_else(|| text(Config::user)),
        labels: labels(spec, image),
        exposed: exposed(spec, &list(Config::exposed_ports)),
        volumes: list(Config::volumes),
        stop_signal: spec.stop_signal.clone().unwrap_or_else(|| text(Config::stop_signal)),
        health: spec.health.clone(),
    }
}

/// What is no variable in the image's list (no name, NUL bytes) is left out: an image may say anything.
fn environment(image: &[String], spec: &[(String, String)]) -> Vec<(String, String)> {
    let image = image.iter().filter(|entry| !entry.contains('\0'));
    let image = image.filter_map(|entry| entry.split_once('='));
    let asked = spec.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let mut env: Vec<(String, String)> = Vec::new();
    for (name, value) in image.chain(asked).filter(|(name, _)| !name.is_empty()) {
        match env.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => value.clone_into(old),
            None => env.push((name.to_owned(), value.to_owned())),
        }
    }
    env
}

fn labels(spec: &ContainerSpec, image: Option<&Config>) -> BTreeMap<String, String> {
    let image = image.and_then(|image| image.labels().clone()).unwrap_or_default();
    let own = spec.labels.iter().map(|(name, value)| (name.clone(), value.clone()));
    image.into_iter().chain(own).collect()
}

fn exposed(spec: &ContainerSpec, image: &[String]) -> BTreeSet<(u16, Protocol)> {
    let published = spec.ports.iter().map(|port| (port.container_port, port.protocol));
    let image = image.iter().flat_map(|text| ports(text));
    image.chain(spec.expose.iter().copied()).chain(published).collect()
}

/// `80`, `80/udp`, `8000-8010/tcp`; anything else is none.
fn ports(text: &str) -> Vec<(u16, Protocol)> {
    let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => return Vec::new(),
    };
    let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
    match (first.parse::<u16>(), last.parse::<u16>()) {
        (Ok(first), Ok(last)) if first != 0 => {
            (first..=last).map(|port| (port, protocol)).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn image(entrypoint: &str, cmd: &str) -> Config {
        let form = |text: &str| match text.strip_prefix("shell:") {
            Some(line) => Some(vec!["/bin/sh".to_owned(), "-c".to_owned(), line.to_owned()]),
            None if text.is_empty() => None,
            None => Some(words(text)),
        };
        let mut config = Config::default();
        config.set_entrypoint(form(entrypoint)).set_cmd(form(cmd));
        config
    }

    #[test]
    fn the_override_table() {
        let shell = ["/bin/sh", "-c", "e 1"];
        for (entrypoint, cmd, line, flag, expected) in [
            ("", "c 1", "", None, vec!["c", "1"]),
            ("", "c 1", "x y", None, vec!["x", "y"]),
            ("", "shell:c 1", "", None, vec!["/bin/sh", "-c", "c 1"]),
            ("e 1", "", "", None, vec!["e", "1"]),
            ("e 1", "c 1", "", None, vec!["e", "1", "c", "1"]),
            ("e 1", "c 1", "x y", None, vec!["e", "1", "x", "y"]),
            ("e 1", "c 1", "", Some("f"), vec!["f"]),
            ("e 1", "c 1", "x", Some("f"), vec!["f", "x"]),
            ("e 1", "c 1", "x", Some(""), vec!["x"]),
            ("e 1", "c 1", "", Some(""), vec![]),
            ("shell:e 1", "", "", None, shell.to_vec()),
            // The shell has them as $0 and so on, and its line does not look at them.
            ("shell:e 1", "c", "", None, [&shell[..], &["c"]].concat()),
            ("shell:e 1", "c", "x", None, [&shell[..], &["x"]].concat()),
            ("", "", "", None, vec![]),
        ] {
            let spec = ContainerSpec {
                command: words(line),
                entrypoint: flag.map(|flag| vec![flag.to_owned()]),
                ..ContainerSpec::default()
            };
            let merged = merge(&spec, Some(&image(entrypoint, cmd)));
            assert_eq!(merged.args(), expected, "{entrypoint:?} {cmd:?} {line:?} {flag:?}");
        }
    }

    #[test]
    fn later_values_win() {
        let mut config = Config::default();
        config
            .set_env(Some(vec!["A=1".into(), "B=2".into(), "=x".into(), "C".into()]))
            .set_exposed_ports(Some(vec!["80".into(), "53/udp".into(), "0".into(), "x".into()]))
            .set_user(Some("u:g".into()))
            .set_working_dir(Some("/w".into()));
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let spec = ContainerSpec {
            env: vec![pair("B", "3"), pair("D", "4"), pair("D", "5")],
            expose: vec![(90, Protocol::Sctp)],
            user: Some("me".into()),
            ..ContainerSpec::default()
        };
        let merged = merge(&spec, Some(&config));
        assert_eq!(merged.env, [pair("A", "1"), pair("B", "3"), pair("D", "5")]);
        assert_eq!((merged.user.as_str(), merged.working_dir.as_str()), ("me", "/w"));
        let ports: Vec<_> = merged.exposed.into_iter().collect();
        assert_eq!(ports, [(53, Protocol::Udp), (80, Protocol::Tcp), (90, Protocol::Sctp)]);
    }
}
