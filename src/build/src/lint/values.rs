//! Rules about what instructions say: variables, paths, ports, files.

use super::{Found, Input, Rule, images::PLATFORM_ARGS};
use crate::expand::{Quotes, expand};
use crate::instruction::{Command, Dockerfile, Instruction, Source, Stage, Transfer};
use crate::pattern::{Pattern, clean};
use crate::suggest::nearest;
use std::collections::BTreeMap;

/// Variables that may be used without `ARG`.
pub(crate) const PROXY_ARGS: [&str; 10] = [
    "ALL_PROXY",
    "FTP_PROXY",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "all_proxy",
    "ftp_proxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// What is known within a stage. An argument without a value is declared all the same.
#[derive(Clone, Default)]
struct Scope {
    variables: BTreeMap<String, Option<String>>,
    /// The working directory is absolute by the stage's own or its base's word.
    workdir: bool,
    /// Everything about the environment is known.
    complete: bool,
}

pub(super) fn check(file: &Dockerfile, input: &Input<'_>, found: &mut Found<'_>) {
    let mut scopes: BTreeMap<String, Scope> = BTreeMap::new();
    for (index, stage) in file.stages.iter().enumerate() {
        let mut scope = base_scope(stage, input, &scopes);
        for command in &stage.commands {
            let mut checker = Checker { file, input, command, scope: &mut scope, found };
            checker.command();
        }
        scopes.insert(index.to_string(), scope.clone());
        if let Some(name) = &stage.name {
            scopes.insert(name.clone(), scope);
        }
    }
}

fn base_scope(stage: &Stage, input: &Input<'_>, scopes: &BTreeMap<String, Scope>) -> Scope {
    if let Some(scope) = scopes.get(&stage.base.to_lowercase()) {
        return scope.clone();
    }
    let known = input.base_env.and_then(|env| env(&stage.base));
    let complete = stage.base == "scratch" || known.is_some() || input.base_env.is_none();
    let mut scope = Scope { complete, ..Scope::default() };
    scope.variables.insert("PATH".into(), Some(String::new()));
    for (name, value) in known.into_iter().flatten() {
        scope.variables.insert(name, Some(value));
    }
    scope
}

struct Checker<'a, 'f, 'o> {
    file: &'a Dockerfile,
    input: &'a Input<'a>,
    command: &'a Command,
    scope: &'a mut Scope,
    found: &'f mut Found<'o>,
}

impl Checker<'_, '_, '_> {
    fn command(&mut self) {
        let command = self.command;
        match &command.instruction {
            Instruction::Add(transfer) | Instruction::Copy(transfer) => self.transfer(transfer),
            Instruction::Arg(items) => {
                for (name, default) in items {
                    let default = default.as_ref().map(|word| self.word(word));
                    let global = || {
                        let all = self.file.arguments.iter();
                        all.filter_map(|command| match &command.instruction {
                            Instruction::Arg(items) => Some(items),
                            _ => None,
                        })
                        .flatten()
                        .find(|(other, _)| other == name)
                        .and_then(|(_, value)| value.clone())
                    };
                    let given = self.input.build_args.get(name).cloned();
                    let value = given.or(default).or_else(global);
                    let old = self.scope.variables.entry(name.clone()).or_default();
                    *old = value.or(old.take());
                }
            }
            Instruction::Env(pairs) => {
                let values: Vec<_> =
                    pairs.iter().map(|pair| (pair.key.clone(), self.word(&pair.value))).collect();
                for (name, value) in values {
                    self.scope.variables.insert(name, Some(value));
                }
            }
            Instruction::Label(pairs) => {
                for pair in pairs {
                    self.word(&pair.key);
                    self.word(&pair.value);
                }
            }
            Instruction::Expose(ports) => self.expose(ports),
            Instruction::User(word) | Instruction::StopSignal(word) => {
                self.word(word);
            }
            Instruction::Volume(words) => {
                for word in words {
                    self.word(word);
                }
            }
            Instruction::Workdir(word) => {
                let path = self.word(word);
                if !path.starts_with('/') && !self.scope.workdir {
                    let message = format!(
                        "Relative workdir {path:?} can have unexpected results if the base image changes"
                    );
                    self.found.on(Rule::WorkdirRelativePath, command, message);
                }
                self.scope.workdir = true;
            }
            _ => {}
        }
    }

    /// The word with its variables; notes those that nothing defines.
    fn word(&mut self, word: &str) -> String {
        self.words(word).0
    }

    fn words(&mut self, word: &str) -> (String, Vec<String>) {
        let escape = self.file.directives.escape;
        let get = |name: &str| self.scope.variables.get(name).cloned().flatten();
        let Ok(expanded) = expand(word, escape, Quotes::Remove, &get) else {
            return (word.to_owned(), vec![word.to_owned()]);
        };
        let known = || self.scope.variables.keys().map(String::as_str);
        let mut messages = Vec::new();
        for name in &expanded.unset {
            let predefined = PLATFORM_ARGS.iter().chain(&PROXY_ARGS).any(|other| other == name);
            let special = !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
            if special || predefined || known().any(|other| other == name) || !self.scope.complete {
                continue;
            }
            let meant = nearest(name, known());
            let hint = meant.map_or_else(String::new, |meant| format!(" (did you mean ${meant}?)"));
            messages.push(format!("Usage of undefined variable '${name}'{hint}"));
        }
        for message in messages {
            self.found.on(Rule::UndefinedVar, self.command, message);
        }
        (expanded.text, expanded.words)
    }

    fn transfer(&mut self, transfer: &Transfer) {
        for flag in [&transfer.chown, &transfer.chmod].into_iter().flatten() {
            self.word(flag);
        }
        self.word(&transfer.destination);
        for source in &transfer.sources {
            let Source::Path(word) = source else { continue };
            let path = self.word(word);
            if transfer.from.is_none() {
                self.ignored(&path);
            }
        }
    }

    fn ignored(&mut self, path: &str) {
        let Some(rules) = self.input.ignore else { return };
        let path = clean(&format!("/{path}"));
        let path = path.trim_start_matches('/');
        let address = path.contains("://") || path.starts_with("git@");
        if path.is_empty() || address || Pattern::is_pattern(path) {
            return;
        }
        if rules.hides(path) && !rules.may_show_below(path) {
            let keyword = self.command.instruction.keyword();
            let message =
                format!("Attempting to {keyword} file {path:?} that is excluded by .dockerignore");
            self.found.on(Rule::CopyIgnoredFile, self.command, message);
        }
    }

    fn expose(&mut self, ports: &[String]) {
        let words: Vec<String> = ports.iter().flat_map(|port| self.words(port).1).collect();
        for port in words {
            if port.contains(':') {
                let message = format!(
                    "EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
                );
                self.found.on(Rule::ExposeInvalidFormat, self.command, message);
            }
            if let Some((_, protocol)) = port.split_once('/')
                && protocol != protocol.to_lowercase()
            {
                let message =
                    format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase");
                self.found.on(Rule::ExposeProtoCasing, self.command, message);
            }
        }
    }
}
