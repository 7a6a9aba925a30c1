//! Arguments and variables while a stage is evaluated.

use super::BuildError;
use crate::expand::{Expanded, Quotes, expand};
use crate::instruction::{Dockerfile, Instruction};
use crate::{Lines, lint};
use orlop_model::Platform;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// Arguments from before the first `FROM`, the caller's, and which of the latter were asked for.
pub(crate) struct Globals {
    pub(crate) escape: char,
    pub(crate) values: BTreeMap<String, String>,
    pub(crate) build_args: BTreeMap<String, String>,
    used: Mutex<BTreeSet<String>>,
}

impl Globals {
    pub(crate) fn new(
        file: &Dockerfile,
        build_args: &BTreeMap<String, String>,
        platform: &Platform,
        target: &str,
    ) -> Result<Self, BuildError> {
        let mut globals = Self {
            escape: file.directives.escape,
            values: platform_args(platform, target),
            build_args: build_args.clone(),
            used: Mutex::default(),
        };
        for (name, value) in &mut globals.values {
            if let Some(given) = build_args.get(name) {
                value.clone_from(given);
            }
        }
        for command in &file.arguments {
            let Instruction::Arg(items) = &command.instruction else { continue };
            for (name, default) in items {
                let given = globals.given(name);
                let value = match (given, default) {
                    (Some(given), _) => Some(given),
                    (None, Some(word)) => Some(globals.word(word, command.lines)?),
                    (None, None) => None,
                };
                match value {
                    Some(value) => drop(globals.values.insert(name.clone(), value)),
                    None if lint_known(name) => {}
                    None => drop(globals.values.remove(name)),
                }
            }
        }
        Ok(globals)
    }

    /// The caller's value of an argument that was declared.
    pub(crate) fn given(&self, name: &str) -> Option<String> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        self.build_args.get(name).cloned()
    }

    /// A word of a `FROM` line.
    pub(crate) fn word(&self, word: &str, lines: Lines) -> Result<String, BuildError> {
        let get = |name: &str| self.values.get(name).cloned();
        expanded(word, self.escape, Quotes::Remove, &get, lines).map(|expanded| expanded.text)
    }

    /// Arguments of the caller that nothing declares.
    pub(crate) fn unused(&self) -> Vec<String> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |name: &str| {
            used.contains(name)
                || lint::PROXY_ARGS.contains(&name)
                || lint::PLATFORM_ARGS.contains(&name)
                || name.starts_with("BUILDKIT_")
                || name == "SOURCE_DATE_EPOCH"
        };
        self.build_args.keys().filter(|name| !known(name)).cloned().collect()
    }

    /// Proxy settings of the caller, which steps have without `ARG`.
    pub(crate) fn proxies(&self) -> Vec<(String, String)> {
        let proxy = |(name, value): (&String, &String)| (name.clone(), value.clone());
        let given = self.build_args.iter();
        given.filter(|(name, _)| lint::PROXY_ARGS.contains(&name.as_str())).map(proxy).collect()
    }
}

fn lint_known(name: &str) -> bool {
    lint::PLATFORM_ARGS.contains(&name)
}

fn platform_args(platform: &Platform, target: &str) -> BTreeMap<String, String> {
    let host = Platform::host();
    let mut values = BTreeMap::new();
    for (prefix, platform) in [("BUILD", &host), ("TARGET", platform)] {
        let mut put = |name: &str, value: String| values.insert(format!("{prefix}{name}"), value);
        put("PLATFORM", platform.to_string());
        put("OS", platform.os.clone());
        put("ARCH", platform.architecture.clone());
        put("VARIANT", platform.variant.clone().unwrap_or_default());
        put("OSVERSION", String::new());
    }
    values.insert("TARGETSTAGE".into(), if target.is_empty() { "default" } else { target }.into());
    values
}

pub(crate) fn expanded(
    word: &str,
    escape: char,
    quotes: Quotes,
    get: &dyn Fn(&str) -> Option<String>,
    lines: Lines,
) -> Result<Expanded, BuildError> {
    expand(word, escape, quotes, &get).map_err(|error| {
        let diagnostic =
            crate::Diagnostic::new(lines, format!("failed to process {word:?}: {error}"));
        diagnostic.at(word).into()
    })
}

/// What is set within a stage.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scope {
    /// `ENV` and `ARG`, in the order in which they were first set.
    variables: Vec<(String, String)>,
    /// Names of arguments that have values, in order.
    arguments: Vec<String>,
}

impl Scope {
    pub(crate) fn from_env(env: &[String]) -> Self {
        let mut scope = Self::default();
        for pair in env {
            if let Some((name, value)) = pair.split_once('=') {
                scope.set(name, value.to_owned());
            }
        }
        scope
    }

    pub(crate) fn set(&mut self, name: &str, value: String) {
        match self.variables.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.variables.push((name.to_owned(), value)),
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<String> {
        self.variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }

    /// Declares an argument, with its value where it has one.
    pub(crate) fn argument(&mut self, name: &str, value: Option<String>) {
        if let Some(value) = value {
            self.set(name, value);
        }
        if !self.arguments.iter().any(|known| known == name) {
            self.arguments.push(name.to_owned());
        }
    }

    /// `NAME=value` of all that a process gets.
    pub(crate) fn env(&self) -> Vec<String> {
        self.variables.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    /// `NAME=value` of the arguments, as the history shows them.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let value = |name: &String| self.get(name).unwrap_or_default();
        self.arguments.iter().map(|name| format!("{name}={}", value(name))).collect()
    }
}
