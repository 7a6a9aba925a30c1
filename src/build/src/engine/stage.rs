//! One stage: its base, then its instructions in order.

use super::graph::{self, Outcome};
use super::metadata::Pairs;
use super::scope::expanded;
use super::{Build, BuildError, Event};
use crate::Lines;
use crate::expand::{Expanded, Quotes};
use crate::instruction::{Command, CommandLine, Instruction, Stage};
use crate::parse::Pair;
use std::sync::Arc;

/// A stage under way.
pub(crate) struct Evaluation<'b, 'a> {
    pub(crate) build: &'b Build<'a>,
    pub(crate) index: usize,
    pub(crate) stage: Outcome,
    /// This stage has a `CMD` of its own.
    pub(crate) cmd_set: bool,
    pub(crate) lines: Lines,
}

impl Build<'_> {
    /// Builds all that the target needs, then finishes the image.
    pub(crate) fn run(&self, target: usize) -> Result<super::Built, BuildError> {
        // Nothing that was taken over from a dependency may hide what went wrong in it.
        std::thread::scope(|scope| {
            for &stage in self.graph.needed.iter().filter(|stage| **stage != target) {
                scope.spawn(move || drop(self.stage(stage)));
            }
            let outcome = self.stage(target);
            if outcome.is_err() {
                self.cancel.cancel();
            }
            outcome
        })
        .and_then(|outcome| self.finish(&outcome))
    }

    /// The result of a stage, made where it is not there yet.
    pub(crate) fn stage(&self, index: usize) -> Result<Arc<Outcome>, BuildError> {
        self.results.get(index, || self.evaluate(index).map(Arc::new))
    }

    fn evaluate(&self, index: usize) -> Result<Outcome, BuildError> {
        let stage = &self.file.stages[index];
        let base = self.base(index)?;
        let mut evaluation =
            Evaluation { build: self, index, stage: base, cmd_set: false, lines: stage.lines };
        let triggers = evaluation.stage.config.config.on_build.take().unwrap_or_default();
        for trigger in triggers {
            let mut command = crate::instruction::read_trigger(&trigger).map_err(|error| {
                BuildError::at(stage.lines, format!("ONBUILD {trigger}: {}", error.message))
            })?;
            command.lines = stage.lines;
            evaluation.command(&command)?;
        }
        for command in &stage.commands {
            evaluation.command(command)?;
        }
        Ok(evaluation.stage)
    }

    /// `[name 2/5]`.
    pub(crate) fn label(&self, index: usize) -> String {
        let stage: &Stage = &self.file.stages[index];
        match &stage.name {
            Some(name) => name.clone(),
            None => format!("stage-{index}"),
        }
    }
}

impl Evaluation<'_, '_> {
    fn command(&mut self, command: &Command) -> Result<(), BuildError> {
        let lines = command.lines;
        self.lines = lines;
        if self.build.cancel.is_cancelled() {
            return Err(BuildError::Cancelled);
        }
        match &command.instruction {
            Instruction::Add(transfer) => self.add(transfer),
            Instruction::Copy(transfer) => self.copy(transfer, "COPY"),
            Instruction::Run(run) => self.run(run),
            Instruction::Workdir(path) => self.workdir(path),
            Instruction::Arg(items) => self.arg(items),
            Instruction::Env(pairs) => {
                let pairs = self.pairs(pairs)?;
                self.env(pairs);
                Ok(())
            }
            Instruction::Label(pairs) => {
                let pairs = self.pairs(pairs)?;
                self.label(pairs);
                Ok(())
            }
            Instruction::Cmd(line) => {
                self.warn_broken(line, "CMD");
                self.cmd(line);
                Ok(())
            }
            Instruction::Entrypoint(line) => {
                self.warn_broken(line, "ENTRYPOINT");
                self.entrypoint(line);
                Ok(())
            }
            Instruction::Expose(ports) => {
                let mut words = Vec::new();
                for port in ports {
                    words.extend(self.expand(port)?.words);
                }
                self.expose(&words, lines)
            }
            Instruction::Healthcheck(check) => {
                self.healthcheck(check);
                Ok(())
            }
            Instruction::Maintainer(name) => {
                self.maintainer(name);
                Ok(())
            }
            Instruction::Onbuild(text) => {
                self.onbuild(text);
                Ok(())
            }
            Instruction::Shell(words) => {
                self.set_shell(words);
                Ok(())
            }
            Instruction::StopSignal(word) => {
                let signal = self.word(word)?;
                self.stop_signal(signal, lines)
            }
            Instruction::User(word) => {
                let user = self.word(word)?;
                self.user(user);
                Ok(())
            }
            Instruction::Volume(words) => {
                let volumes: Result<Vec<_>, _> = words.iter().map(|word| self.word(word)).collect();
                self.volume(volumes?);
                Ok(())
            }
        }
    }

    fn warn_broken(&self, line: &CommandLine, keyword: &str) {
        if let CommandLine::Shell { broken_json: true, text } = line {
            let message = format!(
                "line {}: {keyword} {text} looks like the JSON form but is none, so that a shell gets it as it is: strings need double quotes",
                self.lines.first
            );
            self.build.progress.event(Event::Warning { message });
        }
    }

    fn expand(&self, word: &str) -> Result<Expanded, BuildError> {
        self.expand_with(word, Quotes::Remove)
    }

    pub(crate) fn expand_with(&self, word: &str, quotes: Quotes) -> Result<Expanded, BuildError> {
        let get = |name: &str| self.stage.scope.get(name);
        expanded(word, self.build.globals.escape, quotes, &get, self.lines)
    }

    pub(crate) fn word(&self, word: &str) -> Result<String, BuildError> {
        self.expand(word).map(|expanded| expanded.text)
    }

    fn pairs(&self, pairs: &[Pair]) -> Result<Pairs, BuildError> {
        pairs.iter().map(|pair| Ok((self.word(&pair.key)?, self.word(&pair.value)?))).collect()
    }

    fn arg(&mut self, items: &[(String, Option<String>)]) -> Result<(), BuildError> {
        let mut shown = Vec::new();
        for (name, default) in items {
            let globals = self.build.globals;
            let default = default.as_ref().map(|word| self.word(word)).transpose()?;
            let given = globals.given(name);
            let value = given.or(default).or_else(|| globals.values.get(name).cloned());
            shown.push(match &value {
                Some(value) => format!("{name}={value}"),
                None => name.clone(),
            });
            self.stage.scope.argument(name, value);
        }
        self.history(format!("ARG {}", shown.join(" ")), true);
        Ok(())
    }

    /// A path of the image, relative ones below the working directory. A slash at the end stays.
    pub(crate) fn absolute(&self, path: &str) -> String {
        let joined = if path.starts_with('/') {
            path.to_owned()
        } else {
            let workdir = &self.stage.config.config.working_dir;
            let workdir = if workdir.is_empty() { "/" } else { workdir };
            format!("{workdir}/{path}")
        };
        let into = path.is_empty() || path.ends_with('/') || path.ends_with("/.") || path == ".";
        let clean = crate::pattern::clean(&joined);
        if into && clean != "/" { format!("{clean}/") } else { clean }
    }

    /// The stage, by name or number, that a source names; `None` for images and contexts.
    pub(crate) fn stage_named(&self, name: &str) -> Result<Option<Arc<Outcome>>, BuildError> {
        let build = self.build;
        match graph::stage_of(build.file, build.request, name, self.index) {
            Some(index) if index == self.index => Err(BuildError::at(
                self.lines,
                format!("circular dependency detected on stage: {name}"),
            )),
            Some(index) => build.stage(index).map(Some),
            None => Ok(None),
        }
    }

    /// What people call a step.
    pub(crate) fn step_name(&self, text: &str) -> String {
        let first = text.lines().next().unwrap_or_default();
        format!("[{}] {first}", self.build.label(self.index))
    }

    /// Reuse is switched off for this stage.
    pub(crate) fn fresh(&self) -> bool {
        let request = self.build.request;
        let stage = &self.build.file.stages[self.index];
        let named = |filter: &String| Some(filter.to_lowercase()) == stage.name;
        request.no_cache || request.no_cache_filter.iter().any(named)
    }
}
