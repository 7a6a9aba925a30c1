//! Which stages a target needs, and their results as they come.

use super::scope::Globals;
use super::{BuildError, Request};
use crate::instruction::{Command, Dockerfile, Instruction, Mount, MountKind};
use crate::{Diagnostic, nearest};
use orlop_image::Layer;
use orlop_model::Digest;
use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::scope::Scope;
use crate::config::ImageConfig;

/// The stage that `--target` names, by name or number; the last one without.
pub(crate) fn target(file: &Dockerfile, name: Option<&str>) -> Result<usize, BuildError> {
    let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(file.stages.len() - 1) };
    let lower = name.to_lowercase();
    if let Some(at) = file.stages.iter().rposition(|stage| stage.name.as_ref() == Some(&lower)) {
        return Ok(at);
    }
    if let Some(at) = name.parse().ok().filter(|at| *at < file.stages.len()) {
        return Ok(at);
    }
    let names = file.stages.iter().filter_map(|stage| stage.name.as_deref());
    let meant = nearest(&lower, names.clone());
    let list: Vec<&str> = names.collect();
    let hint = match meant {
        Some(meant) => format!("; did you mean {meant:?}?"),
        None if list.is_empty() => "; no stage has a name".into(),
        None => format!("; the stages are {}", list.join(", ")),
    };
    Err(BuildError::Other(format!("target stage {name:?} could not be found{hint}")))
}

/// Bases and dependencies of stages.
pub(crate) struct Graph {
    /// The base of each stage with its variables expanded; `None` where it cannot be.
    bases: Vec<Option<String>>,
    /// Stages that the target needs, by what the Dockerfile says.
    pub(crate) needed: BTreeSet<usize>,
}

impl Graph {
    pub(crate) fn new(
        file: &Dockerfile,
        globals: &Globals,
        target: usize,
        request: &Request,
    ) -> Result<Self, BuildError> {
        let bases = file.stages.iter().map(|stage| globals.word(&stage.base, stage.lines).ok());
        let graph = Self { bases: bases.collect(), needed: BTreeSet::new() };
        let mut needed = BTreeSet::new();
        graph.visit(file, request, target, &mut Vec::new(), &mut needed)?;
        Ok(Self { needed, ..graph })
    }

    pub(crate) fn base(&self, stage: usize) -> Option<&str> {
        self.bases[stage].as_deref()
    }

    /// The earlier stage that a `FROM` names.
    pub(crate) fn base_stage(
        &self,
        file: &Dockerfile,
        request: &Request,
        stage: usize,
    ) -> Option<usize> {
        let name = self.base(stage)?;
        let lower = name.to_lowercase();
        if request.contexts.contains_key(&lower) || request.contexts.contains_key(name) {
            return None;
        }
        file.stages[..stage].iter().rposition(|other| other.name.as_ref() == Some(&lower))
    }

    fn visit(
        &self,
        file: &Dockerfile,
        request: &Request,
        stage: usize,
        path: &mut Vec<usize>,
        needed: &mut BTreeSet<usize>,
    ) -> Result<(), BuildError> {
        if path.contains(&stage) {
            return Err(circular(file, stage));
        }
        if !needed.insert(stage) {
            return Ok(());
        }
        path.push(stage);
        if let Some(base) = self.base_stage(file, request, stage) {
            self.visit(file, request, base, path, needed)?;
        }
        for command in &file.stages[stage].commands {
            for name in sources(command) {
                if let Some(other) = stage_of(file, request, &name, stage) {
                    self.visit(file, request, other, path, needed)?;
                }
            }
        }
        path.pop();
        Ok(())
    }
}

fn circular(file: &Dockerfile, stage: usize) -> BuildError {
    let name = file.stages[stage].name.clone().unwrap_or_else(|| stage.to_string());
    let message = format!("circular dependency detected on stage: {name}");
    Diagnostic::new(file.stages[stage].lines, message)
        .hint(Some("a stage cannot use files of itself, nor of one that is built on it"))
        .into()
}

/// Names in `COPY --from` and mounts.
pub(crate) fn sources(command: &Command) -> Vec<String> {
    match &command.instruction {
        Instruction::Copy(copy) | Instruction::Add(copy) => copy.from.iter().cloned().collect(),
        Instruction::Run(run) => {
            let from = |text: &String| {
                let mount = Mount::parse(text, command.lines, &mut |v| Ok(v.to_owned())).ok()?;
                match mount.kind {
                    MountKind::Bind { from, .. } | MountKind::Cache { from, .. } => from,
                    _ => None,
                }
            };
            run.mounts.iter().filter_map(from).collect()
        }
        _ => Vec::new(),
    }
}

/// The stage that `--from` names: by name, or by the number of an earlier one.
pub(crate) fn stage_of(
    file: &Dockerfile,
    request: &Request,
    name: &str,
    current: usize,
) -> Option<usize> {
    let lower = name.to_lowercase();
    if request.contexts.contains_key(&lower) || request.contexts.contains_key(name) {
        return None;
    }
    let named = |stage: &crate::instruction::Stage| stage.name.as_ref() == Some(&lower);
    // The nearest one above, or else one below.
    let above = file.stages[..current].iter().rposition(named);
    let found = above.or_else(|| file.stages.iter().position(named));
    found.or_else(|| name.parse().ok().filter(|number| *number < current))
}

/// What a stage became.
#[derive(Clone)]
pub(crate) struct Outcome {
    pub(crate) layers: Vec<Layer>,
    /// Name of the chain of layers; `None` without layers.
    pub(crate) chain: Option<Digest>,
    pub(crate) config: ImageConfig,
    pub(crate) scope: Scope,
}

impl Outcome {
    pub(crate) fn snapshots(&self) -> Vec<Digest> {
        self.layers.iter().map(|layer| layer.snapshot.clone()).collect()
    }
}

type Slot = (Mutex<State>, Condvar);

enum State {
    Untouched,
    Running,
    Ready(Result<Arc<Outcome>, BuildError>),
}

/// Results of stages, each made once.
pub(crate) struct Results(Vec<Slot>);

impl Results {
    pub(crate) fn new(stages: usize) -> Self {
        Self((0..stages).map(|_| (Mutex::new(State::Untouched), Condvar::new())).collect())
    }

    /// The result of a stage: made by `make` where nobody has begun it, waited for otherwise.
    pub(crate) fn get(
        &self,
        stage: usize,
        make: impl FnOnce() -> Result<Arc<Outcome>, BuildError>,
    ) -> Result<Arc<Outcome>, BuildError> {
        let (state, changed) = &self.0[stage];
        let mut held = state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match &*held {
                State::Ready(result) => return result.clone(),
                State::Running => {
                    held = changed.wait(held).unwrap_or_else(PoisonError::into_inner);
                }
                State::Untouched => break,
            }
        }
        *held = State::Running;
        drop(held);
        let unfinished = Unfinished { slot: &self.0[stage] };
        let result = make();
        *state.lock().unwrap_or_else(PoisonError::into_inner) = State::Ready(result.clone());
        drop(unfinished);
        result
    }
}

/// Wakes those who wait, also when the stage ends in a panic.
struct Unfinished<'a> {
    slot: &'a Slot,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        let (state, changed) = self.slot;
        let mut held = state.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*held, State::Running) {
            *held = State::Ready(Err(BuildError::Other("a stage ended in a bug".into())));
        }
        changed.notify_all();
    }
}
