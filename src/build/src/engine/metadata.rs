//! Instructions that change only the configuration, and the history's words for all of them.

use super::BuildError;
use super::stage::Evaluation;
use super::time::rfc3339;
use crate::Lines;
use crate::config::{HealthConfig, History, Nothing};
use crate::instruction::{CommandLine, Health, Healthcheck};
use std::collections::BTreeMap;

/// What the history says of the builder. Tools look for it.
const COMMENT: &str = "buildkit.dockerfile.v0";

impl Evaluation<'_, '_> {
    pub(crate) fn history(&mut self, created_by: String, empty_layer: bool) {
        let created = rfc3339(self.build.epoch);
        self.stage.config.history.push(History {
            created: Some(created.clone()),
            created_by: Some(created_by),
            comment: Some(COMMENT.into()),
            empty_layer,
            ..History::default()
        });
        self.stage.config.created = Some(created);
    }

    /// The command as the image has it.
    pub(crate) fn wrapped(&self, command: &CommandLine) -> Vec<String> {
        match command {
            CommandLine::Exec(words) => words.clone(),
            CommandLine::Shell { text, .. } => {
                let mut words = self.shell();
                words.push(text.clone());
                words
            }
        }
    }

    pub(crate) fn shell(&self) -> Vec<String> {
        let own = self.stage.config.config.shell.clone().filter(|shell| !shell.is_empty());
        own.unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into()])
    }

    pub(crate) fn cmd(&mut self, command: &CommandLine) {
        let words = self.wrapped(command);
        self.history(format!("CMD {}", quoted(&words)), true);
        let config = &mut self.stage.config.config;
        config.cmd = Some(words);
        config.args_escaped = true;
        self.cmd_set = true;
    }

    pub(crate) fn entrypoint(&mut self, command: &CommandLine) {
        let words = self.wrapped(command);
        self.history(format!("ENTRYPOINT {}", quoted(&words)), true);
        let config = &mut self.stage.config.config;
        config.entrypoint = Some(words);
        if !self.cmd_set {
            config.cmd = None;
        }
    }

    pub(crate) fn env(&mut self, pairs: Vec<(String, String)>) {
        let shown: Vec<String> =
            pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        self.history(format!("ENV {}", shown.join(" ")), true);
        for (name, value) in pairs {
            let env = self.stage.config.config.env.get_or_insert_default();
            let pair = format!("{name}={value}");
            let same = |known: &&mut String| {
                known.split_once('=').map_or(known.as_str(), |(known, _)| known) == name
            };
            match env.iter_mut().find(same) {
                Some(known) => *known = pair,
                None => env.push(pair),
            }
            self.stage.scope.set(&name, value);
        }
    }

    pub(crate) fn label(&mut self, pairs: Vec<(String, String)>) {
        let shown: Vec<String> =
            pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        self.history(format!("LABEL {}", shown.join(" ")), true);
        self.stage.config.config.labels.get_or_insert_default().extend(pairs);
    }

    pub(crate) fn expose(&mut self, words: &[String], lines: Lines) -> Result<(), BuildError> {
        let mut ports = Vec::new();
        for word in words {
            ports.extend(expanded_ports(word).ok_or_else(|| {
                BuildError::Dockerfile(Box::new(
                    crate::Diagnostic::new(lines, format!("invalid port {word:?}"))
                        .at(word.as_str())
                        .expected("a port, port/protocol or first-last"),
                ))
            })?);
        }
        ports.sort();
        ports.dedup();
        self.history(format!("EXPOSE [{}]", ports.join(" ")), true);
        let exposed = self.stage.config.config.exposed_ports.get_or_insert_default();
        exposed.extend(ports.into_iter().map(|port| (port, Nothing {})));
        Ok(())
    }

    pub(crate) fn volume(&mut self, volumes: Vec<String>) {
        self.history(format!("VOLUME [{}]", volumes.join(" ")), true);
        let known = self.stage.config.config.volumes.get_or_insert_default();
        known.extend(volumes.into_iter().map(|volume| (volume, Nothing {})));
    }

    pub(crate) fn user(&mut self, user: String) {
        self.history(format!("USER {user}"), true);
        self.stage.config.config.user = user;
    }

    pub(crate) fn stop_signal(&mut self, signal: String, lines: Lines) -> Result<(), BuildError> {
        orlop_model::Signal::parse(&signal).map_err(|error| BuildError::at(lines, error))?;
        self.history(format!("STOPSIGNAL {signal}"), true);
        self.stage.config.config.stop_signal = signal;
        Ok(())
    }

    pub(crate) fn set_shell(&mut self, words: &[String]) {
        self.history(format!("SHELL [{}]", words.join(" ")), true);
        self.stage.config.config.shell = Some(words.to_vec());
    }

    pub(crate) fn maintainer(&mut self, name: &str) {
        self.history(format!("MAINTAINER {name}"), true);
        self.stage.config.author = Some(name.to_owned());
    }

    pub(crate) fn onbuild(&mut self, text: &str) {
        self.stage.config.config.on_build.get_or_insert_default().push(text.to_owned());
    }

    pub(crate) fn healthcheck(&mut self, check: &Healthcheck) {
        let config = match check {
            Healthcheck::None => {
                HealthConfig { test: Some(vec!["NONE".into()]), ..HealthConfig::default() }
            }
            Healthcheck::Check(health) => self.health(health),
        };
        let created_by = format!(
            "HEALTHCHECK {{Test:[{}] Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
            config.test.as_deref().unwrap_or_default().join(" "),
            go_duration(config.interval),
            go_duration(config.timeout),
            go_duration(config.start_period),
            go_duration(config.start_interval),
            config.retries
        );
        self.history(created_by, true);
        self.stage.config.config.healthcheck = Some(config);
    }

    fn health(&self, health: &Health) -> HealthConfig {
        let test = match &health.command {
            CommandLine::Exec(words) => {
                let mut test = vec!["CMD".to_owned()];
                test.extend(words.iter().cloned());
                test
            }
            CommandLine::Shell { text, .. } => vec!["CMD-SHELL".into(), text.clone()],
        };
        HealthConfig {
            test: Some(test),
            interval: health.interval,
            timeout: health.timeout,
            start_period: health.start_period,
            start_interval: health.start_interval,
            retries: health.retries.into(),
        }
    }
}

/// `["a" "b"]`.
fn quoted(words: &[String]) -> String {
    format!("[{}]", quoted_list(words))
}

fn quoted_list(words: &[String]) -> String {
    words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(" ")
}

/// A duration as Go prints it: `1m30s`, `500ms`, `0s`.
fn go_duration(nanoseconds: i64) -> String {
    let (hours, rest) = (nanoseconds / 3_600_000_000_000, nanoseconds % 3_600_000_000_000);
    let (minutes, rest) = (rest / 60_000_000_000, rest % 60_000_000_000);
    let decimal = |value: i64, unit: i64, width: usize| {
        let fraction = format!("{:0width$}", value % unit);
        let fraction = fraction.trim_end_matches('0');
        let dot = if fraction.is_empty() { "" } else { "." };
        format!("{}{dot}{fraction}", value / unit)
    };
    match nanoseconds {
        0 => "0s".into(),
        1..1_000 => format!("{nanoseconds}ns"),
        1_000..1_000_000 => format!("{}µs", decimal(nanoseconds, 1_000, 3)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(nanoseconds, 1_000_000, 6)),
        _ => {
            let seconds = decimal(rest, 1_000_000_000, 9);
            match (hours, minutes) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

/// Ports of `80`, `80/udp`, `80-82/tcp`; of a mapping only the container's part.
fn expanded_ports(word: &str) -> Option<Vec<String>> {
    let inner = word.rsplit(':').next()?;
    let (range, protocol) = inner.split_once('/').unwrap_or((inner, "tcp"));
    let protocol = protocol.to_lowercase();
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return None;
    }
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then(|| (first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

/// Names and values of `ENV` and `LABEL` after expansion.
pub(crate) type Pairs = Vec<(String, String)>;

/// Labels of the caller, which win over the Dockerfile's.
pub(crate) fn add_labels(config: &mut crate::config::RunConfig, labels: &BTreeMap<String, String>) {
    if !labels.is_empty() {
        let own = config.labels.get_or_insert_default();
        own.extend(labels.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (nanoseconds, expected) in [
            (0, "0s"),
            (5_000_000_000, "5s"),
            (90_000_000_000, "1m30s"),
            (5_400_000_000_000, "1h30m0s"),
            (1_500_000, "1.5ms"),
            (1_500_000_000, "1.5s"),
        ] {
            assert_eq!(go_duration(nanoseconds), expected);
        }
    }

    #[test]
    fn ports() {
        for (word, expected) in [
            ("80", Some(vec!["80/tcp"])),
            ("53/UDP", Some(vec!["53/udp"])),
            ("80-82", Some(vec!["80/tcp", "81/tcp", "82/tcp"])),
            ("127.0.0.1:80:8080", Some(vec!["8080/tcp"])),
            ("x", None),
            ("9-8", None),
            ("80/xyz", None),
            ("70000", None),
        ] {
            let expected = expected.map(|e| e.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(expanded_ports(word), expected, "{word}");
        }
    }
}
