//! What a stage begins with: nothing, an earlier stage, or an image.

use super::graph::Outcome;
use super::scope::Scope;
use super::{Build, BuildError, Event, NamedContext};
use crate::config::{DEFAULT_PATH, ImageConfig};
use crate::files::select::Tree;
use crate::ignore::IgnoreRules;
use crate::key;
use crate::{Lines, nearest};
use orlop_image::Image;
use orlop_model::{Digest, Reference};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

impl Build<'_> {
    pub(crate) fn base(&self, index: usize) -> Result<Outcome, BuildError> {
        let stage = &self.file.stages[index];
        if let Some(base) = self.graph.base_stage(self.file, self.request, index) {
            return self.stage(base).map(|outcome| Outcome::clone(&outcome));
        }
        let name = self.globals.word(&stage.base, stage.lines)?;
        if name.trim().is_empty() {
            let message = format!("base name ({}) should not be blank", stage.base);
            let diagnostic = crate::Diagnostic::new(stage.lines, message).at(stage.base.as_str());
            let hint = "give the argument a default, or a value with --build-arg";
            return Err(diagnostic.hint(Some(hint)).into());
        }
        let platform = match &stage.platform {
            Some(word) => Some(self.globals.word(word, stage.lines)?),
            None => None,
        };
        if let Some(platform) = platform.filter(|platform| !platform.is_empty()) {
            self.check_platform(&platform, stage.lines)?;
        }
        match self.request.contexts.get(&name) {
            Some(NamedContext::Image(reference)) => self.image(reference, stage.lines),
            Some(NamedContext::Directory(..)) => {
                let message = format!("the build context {name:?} is a directory, and no image");
                Err(BuildError::at(stage.lines, message))
            }
            None if name == "scratch" => Ok(self.scratch()),
            // An id is no name that a registry could be asked for.
            None if Digest::parse(&name).is_ok() => match self.engine.store.get(&name) {
                Some(image) => {
                    self.outcome(&image).map_err(|error| BuildError::at(stage.lines, error))
                }
                None => Err(BuildError::at(stage.lines, format!("there is no image {name}"))),
            },
            None => self.image(&self.reference(&name, stage.lines)?, stage.lines),
        }
    }

    fn check_platform(&self, text: &str, lines: Lines) -> Result<(), BuildError> {
        let mut parts = text.split('/');
        let (os, architecture) = (parts.next().unwrap_or_default(), parts.next());
        let wanted = &self.request.platform;
        let same = os == wanted.os && architecture.is_none_or(|a| a == wanted.architecture);
        if same {
            return Ok(());
        }
        Err(BuildError::at(
            lines,
            format!("this build is for {wanted}, but the stage wants {text}"),
        ))
    }

    fn scratch(&self) -> Outcome {
        let config = ImageConfig::scratch(&self.request.platform);
        let scope = Scope::from_env(config.config.env.as_deref().unwrap_or_default());
        Outcome { layers: Vec::new(), chain: None, config, scope }
    }

    pub(crate) fn reference(&self, name: &str, lines: Lines) -> Result<Reference, BuildError> {
        Reference::parse(name).map_err(|error| {
            let message = format!("failed to parse stage name {name:?}: {error}");
            let names = self.file.stages.iter().filter_map(|stage| stage.name.as_deref());
            let meant =
                nearest(name, names).map(|meant| format!("did you mean the stage {meant:?}?"));
            crate::Diagnostic::new(lines, message).at(name).hint(meant).into()
        })
    }

    /// An image of the store, pulled where it is not there or where the caller wants to know of a
    /// newer one.
    pub(crate) fn image(&self, reference: &Reference, lines: Lines) -> Result<Outcome, BuildError> {
        let store = &self.engine.store;
        let known = store.get(&reference.to_string()).filter(|_| !self.request.pull);
        let image = match known {
            Some(image) => image,
            None => self.pull(reference, lines)?,
        };
        self.outcome(&image).map_err(|error| BuildError::at(lines, error))
    }

    fn pull(&self, reference: &Reference, lines: Lines) -> Result<Arc<Image>, BuildError> {
        let started = Instant::now();
        let id = self.begin(&format!("[{reference}] pull"));
        let pulled = self.engine.runtime.block_on(async {
            tokio::select! {
                pulled = self.engine.store.pull(reference, None, None) => pulled.map_err(|e| e.to_string()),
                () = self.cancel.cancelled() => Err("cancelled".to_owned()),
            }
        });
        let found = pulled.and_then(|digest| {
            let found = self.engine.store.get(digest.as_str());
            found.ok_or_else(|| format!("image {reference} vanished after it was pulled"))
        });
        match found {
            Ok(image) => {
                let took = started.elapsed();
                self.progress.event(Event::Done { id, cached: false, took });
                Ok(image)
            }
            Err(error) => {
                self.progress.event(Event::Failed { id, error: error.clone() });
                let names = self.file.stages.iter().filter_map(|stage| stage.name.as_deref());
                let meant = nearest(reference.repository(), names);
                let hint = meant.map(|meant| format!("did you mean the stage {meant:?}?"));
                Err(crate::Diagnostic::new(lines, error).hint(hint).into())
            }
        }
    }

    fn outcome(&self, image: &Image) -> Result<Outcome, String> {
        let mut bytes = Vec::new();
        let mut blob = self.engine.store.open_blob(&image.id).map_err(|e| e.to_string())?;
        blob.read_to_end(&mut bytes).map_err(|e| e.to_string())?;
        let mut config: ImageConfig = serde_json::from_slice(&bytes)
            .map_err(|error| format!("configuration of {}: {error}", image.id))?;
        let env = config.config.env.get_or_insert_default();
        if !env.iter().any(|pair| pair.starts_with("PATH=")) {
            env.insert(0, format!("PATH={DEFAULT_PATH}"));
        }
        let scope = Scope::from_env(env);
        let mut chain = None;
        for layer in &image.layers {
            chain = Some(key::chain(chain.as_ref(), &layer.diff_id));
        }
        Ok(Outcome { layers: image.layers.clone(), chain, config, scope })
    }

    /// The build context, opened once.
    pub(crate) fn context(&self, lines: Lines) -> Result<Arc<Tree>, BuildError> {
        let opened = self.context.get_or_init(|| {
            let Some(path) = &self.request.context else {
                return Err(
                    "there is no build context to copy from: only a Dockerfile was given".into()
                );
            };
            let rules = (self.request.ignore.clone(), self.request.ignore_name.clone());
            open_tree(path, rules, "the build context").map(Arc::new)
        });
        opened.clone().map_err(|error| BuildError::at(lines, error))
    }

    /// A stage's or image's files as a tree.
    pub(crate) fn tree_of(
        &self,
        outcome: &Outcome,
        name: &str,
        lines: Lines,
    ) -> Result<Tree, BuildError> {
        let root = self.engine.store.view(&outcome.snapshots());
        Ok(Tree {
            root: root.map_err(|error| BuildError::at(lines, error))?,
            hidden: IgnoreRules::default(),
            rules_file: String::new(),
            name: name.to_owned(),
            owned: true,
        })
    }

    /// A named context's files, where the name is one of a directory.
    pub(crate) fn named_directory(
        &self,
        name: &str,
        lines: Lines,
    ) -> Option<Result<Tree, BuildError>> {
        let NamedContext::Directory(path, rules) = self.request.contexts.get(name)? else {
            return None;
        };
        let rules = (rules.clone(), format!("{}/.dockerignore", path.display()));
        let opened = open_tree(path, rules, &format!("the build context {name:?}"));
        Some(opened.map_err(|error| BuildError::at(lines, error)))
    }
}

fn open_tree(path: &Path, rules: (IgnoreRules, String), name: &str) -> Result<Tree, String> {
    let root = orlop_sys::fs::open_dir(path)
        .map_err(|error| format!("{name} {} cannot be opened: {error}", path.display()))?;
    let (hidden, rules_file) = rules;
    Ok(Tree { root, hidden, rules_file, name: name.to_owned(), owned: false })
}
