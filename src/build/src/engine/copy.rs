//! `COPY`, and `WORKDIR`, which makes its directory.

use super::layers::LayerStep;
use super::stage::Evaluation;
use super::{BuildError, NamedContext};
use crate::chmod::Chmod;
use crate::expand::Quotes;
use crate::files::content::Content;
use crate::files::copy::{Copier, write_file};
use crate::files::root::{Implicit, Root};
use crate::files::select::{Selected, Tree};
use crate::ignore::IgnoreRules;
use crate::instruction::{Source, Transfer};
use crate::key::Key;
use crate::users;
use orlop_image::Draft;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// A source with its variables expanded.
pub(crate) enum Input {
    Path(String),
    /// Name and body.
    Body(String, String),
}

/// A transfer with everything looked up.
pub(crate) struct Prepared {
    pub(crate) keyword: &'static str,
    pub(crate) inputs: Vec<Input>,
    /// Absolute; with a slash at the end where it must be a directory.
    pub(crate) destination: String,
    pub(crate) owner: Option<(u32, u32)>,
    pub(crate) chmod: Option<Chmod>,
    pub(crate) exclude: IgnoreRules,
    pub(crate) implicit: Implicit,
    /// Put into the layer of an empty root.
    pub(crate) linked: bool,
    /// The destination is made also where nothing goes into it.
    pub(crate) parents: bool,
}

impl Evaluation<'_, '_> {
    pub(crate) fn copy(
        &mut self,
        transfer: &Transfer,
        keyword: &'static str,
    ) -> Result<(), BuildError> {
        let prepared = self.prepare(transfer, keyword)?;
        let tree = self.source_tree(transfer.from.as_deref())?;
        let created_by = self.transfer_history(transfer, &prepared)?;
        self.transfer(transfer, &prepared, &tree, created_by)
    }

    /// Everything but the files.
    pub(crate) fn prepare(
        &self,
        transfer: &Transfer,
        keyword: &'static str,
    ) -> Result<Prepared, BuildError> {
        let lines = self.lines;
        let inputs: Result<Vec<Input>, BuildError> = transfer
            .sources
            .iter()
            .map(|source| match source {
                Source::Path(word) => self.word(word).map(Input::Path),
                Source::Heredoc(body) if body.expand => {
                    let text = self.expand_with(&body.text(), Quotes::Keep)?.text;
                    Ok(Input::Body(body.name.clone(), text))
                }
                Source::Heredoc(body) => Ok(Input::Body(body.name.clone(), body.text())),
            })
            .collect();
        let owner = match &transfer.chown {
            Some(word) => Some(self.owner(&self.word(word)?)?),
            None => None,
        };
        let chmod = match &transfer.chmod {
            Some(word) => Some(self.chmod(&self.word(word)?)?),
            None => None,
        };
        let patterns: Result<Vec<String>, _> =
            transfer.exclude.iter().map(|word| self.word(word)).collect();
        let exclude = IgnoreRules::from_patterns(patterns?.iter().map(String::as_str))
            .map_err(|error| BuildError::at(lines, format!("--exclude: {}", error.message)))?;
        let (uid, gid) = owner.unwrap_or((0, 0));
        let mode = chmod.as_ref().map_or(0o755, |chmod| chmod.apply(0o755, true));
        Ok(Prepared {
            keyword,
            inputs: inputs?,
            destination: self.absolute(&self.word(&transfer.destination)?),
            owner,
            chmod,
            exclude,
            implicit: Implicit { uid, gid, mode, mtime: self.build.epoch },
            linked: transfer.link,
            parents: transfer.parents,
        })
    }

    fn chmod(&self, text: &str) -> Result<Chmod, BuildError> {
        Chmod::parse(text).ok_or_else(|| {
            let message = format!("invalid chmod parameter: '{text}'");
            crate::Diagnostic::new(self.lines, message)
                .at("--chmod")
                .expected("an octal number between 0 and 07777, or a mode such as u+x,go-r")
                .into()
        })
    }

    /// The numbers of `--chown`, names looked up in the root that the files go into.
    fn owner(&self, text: &str) -> Result<(u32, u32), BuildError> {
        let (users, groups) = self.databases()?;
        let found = users::owner(text, &users, &groups).map_err(|error| {
            crate::Diagnostic::new(self.lines, error.to_string())
                .at("--chown")
                .hint(Some("make the user before this line, or give its number"))
        })?;
        Ok((found.uid, found.gid))
    }

    /// Password and group file of the stage as it is now.
    pub(crate) fn databases(&self) -> Result<(String, String), BuildError> {
        let view = self.build.engine.store.view(&self.stage.snapshots());
        let root = Root(view.map_err(|error| BuildError::at(self.lines, error))?);
        let failed = |error| BuildError::file(self.lines, error, None);
        Ok((root.text("/etc/passwd").map_err(failed)?, root.text("/etc/group").map_err(failed)?))
    }

    /// The files that sources are taken from.
    pub(crate) fn source_tree(&self, from: Option<&str>) -> Result<Arc<Tree>, BuildError> {
        let (build, lines) = (self.build, self.lines);
        let Some(name) = from else { return build.context(lines) };
        if let Some(directory) = build.named_directory(name, lines) {
            return directory.map(Arc::new);
        }
        if let Some(NamedContext::Image(reference)) = build.request.contexts.get(name) {
            let image = build.image(reference, lines)?;
            return build.tree_of(&image, &format!("the image {reference}"), lines).map(Arc::new);
        }
        if let Some(stage) = self.stage_named(name)? {
            return build.tree_of(&stage, &format!("the stage {name:?}"), lines).map(Arc::new);
        }
        if name == "scratch" {
            let message = "scratch has no files to copy";
            return Err(BuildError::at(lines, message));
        }
        let image = build.image(&build.reference(name, lines)?, lines)?;
        build.tree_of(&image, &format!("the image {name}"), lines).map(Arc::new)
    }

    /// The history's words.
    pub(crate) fn transfer_history(
        &self,
        transfer: &Transfer,
        prepared: &Prepared,
    ) -> Result<String, BuildError> {
        let mut words = vec![prepared.keyword.to_owned()];
        if transfer.parents {
            words.push("--parents".into());
        }
        for (flag, value) in [("chown", &transfer.chown), ("chmod", &transfer.chmod)] {
            if let Some(value) = value {
                words.push(format!("--{flag}={}", self.word(value)?));
            }
        }
        words.extend(prepared.inputs.iter().map(|input| match input {
            Input::Path(path) => path.clone(),
            Input::Body(name, _) => format!("<<{name}"),
        }));
        words.push(self.word(&transfer.destination)?);
        Ok(format!("{} # buildkit", words.join(" ")))
    }

    pub(crate) fn transfer(
        &mut self,
        transfer: &Transfer,
        prepared: &Prepared,
        tree: &Arc<Tree>,
        created_by: String,
    ) -> Result<(), BuildError> {
        let lines = self.lines;
        let mut selected = Vec::new();
        for input in &prepared.inputs {
            let Input::Path(path) = input else { continue };
            let found = tree
                .select(path, transfer.parents)
                .map_err(|error| BuildError::file(lines, error, Some(path)))?;
            if found.is_empty() {
                let message =
                    format!("line {}: {path:?} matches nothing in {}", lines.first, tree.name);
                self.build.progress.event(super::Event::Warning { message });
            }
            selected.push(found);
        }
        let selected: Vec<Selected> = selected.into_iter().flatten().collect();
        let unpack = prepared.keyword == "ADD" && transfer.unpack.unwrap_or(true);
        let mut key = self.transfer_key(prepared, unpack);
        let content = Content { tree, exclude: &prepared.exclude, index: &self.build.engine.index };
        for source in &selected {
            let mut result = Ok(());
            key.part(format!("content of /{}", source.path), |hasher| {
                result = content.add(source, hasher);
            });
            result.map_err(|error| BuildError::file(lines, error, Some(&source.path)))?;
        }
        let files = selected.iter().filter(|source| !source.is_dir()).count()
            + prepared.inputs.iter().filter(|input| matches!(input, Input::Body(..))).count();
        let mut make = |draft: &Draft, _| {
            let mounted = draft.mount().map_err(|error| BuildError::at(lines, error))?;
            let root = Root(mounted);
            fill(prepared, tree, &selected, &root, files, unpack)
                .map_err(|error| BuildError::file(lines, error, None))
        };
        let step = LayerStep {
            lines,
            name: self.step_name(created_by.trim_end_matches(" # buildkit")),
            key,
            linked: prepared.linked,
            fresh: self.fresh(),
            make: &mut make,
        };
        self.build.layer(&mut self.stage, step)?;
        self.history(created_by, false);
        Ok(())
    }

    /// What the result of a transfer depends on beside the files.
    pub(crate) fn transfer_key(&self, prepared: &Prepared, unpack: bool) -> Key {
        let mut key = Key::default();
        if !prepared.linked {
            self.below(&mut key);
        }
        key.part("instruction", |hasher| {
            hasher.field(prepared.keyword).field(&prepared.destination);
            hasher.field(format!("{:?} {:?} {unpack}", prepared.owner, prepared.chmod));
            hasher.field(format!("{:?}", prepared.implicit));
            for input in &prepared.inputs {
                if let Input::Body(name, text) = input {
                    hasher.field(name).field(text);
                }
            }
        });
        key
    }

    pub(crate) fn below(&self, key: &mut Key) {
        let chain = self.stage.chain.as_ref().map_or("scratch", |chain| chain.as_str());
        key.part("layers below", |hasher| {
            hasher.field(chain);
        });
    }

    pub(crate) fn workdir(&mut self, word: &str) -> Result<(), BuildError> {
        let path = self.word(word)?;
        let path = self.absolute(&path);
        self.stage.config.config.working_dir.clone_from(&path);
        if path == "/" {
            self.history(format!("WORKDIR {path}"), true);
            return Ok(());
        }
        let lines = self.lines;
        let identity = self.identity()?;
        let implicit =
            Implicit { uid: identity.uid, gid: identity.gid, mode: 0o755, mtime: self.build.epoch };
        let mut key = Key::default();
        self.below(&mut key);
        key.part("instruction", |hasher| {
            hasher.field("WORKDIR").field(&path).field(format!("{implicit:?}"));
        });
        let mut make = |draft: &Draft, _| {
            let mounted = draft.mount().map_err(|error| BuildError::at(lines, error))?;
            let made = Root(mounted).make_dirs(Path::new(&path), &implicit);
            made.map(drop).map_err(|error| BuildError::file(lines, error, Some(&path)))
        };
        let step = LayerStep {
            lines,
            name: self.step_name(&format!("WORKDIR {path}")),
            key,
            linked: false,
            fresh: self.fresh(),
            make: &mut make,
        };
        self.build.layer(&mut self.stage, step)?;
        self.history(format!("WORKDIR {path}"), false);
        Ok(())
    }
}

fn fill(
    prepared: &Prepared,
    tree: &Tree,
    selected: &[Selected],
    root: &Root,
    files: usize,
    unpack: bool,
) -> Result<(), crate::files::FileError> {
    let destination = prepared.destination.as_str();
    let target = Path::new(destination);
    let archive = |source: &Selected| match source.is_dir() || !unpack {
        true => Ok(None),
        false => crate::files::archive::open(&source.fd)
            .map_err(crate::files::at("read", &crate::files::archive::named(&source.path))),
    };
    let several = files > 1 && selected.iter().all(|source| source.kept.is_none());
    if several && !destination.ends_with('/') && !root.is_dir(target) {
        return Err(crate::files::FileError::Refused {
            message: format!("several files cannot become the one file {destination}"),
            hint: Some(format!("a directory as destination ends with a slash: {destination}/")),
        });
    }
    let parents = selected.iter().any(|source| source.kept.is_some());
    if destination.ends_with('/') && (files > 0 || parents || prepared.parents) {
        root.make_dirs(target, &prepared.implicit)?;
    }
    let mut copier = Copier {
        tree,
        exclude: &prepared.exclude,
        owner: prepared.owner,
        chmod: prepared.chmod.as_ref(),
        implicit: prepared.implicit,
        root,
        linked: HashMap::new(),
    };
    for source in selected {
        match archive(source)? {
            Some(reader) => {
                let implicit = &prepared.implicit;
                crate::files::archive::unpack(root, target, reader, implicit, prepared.owner)?;
            }
            None => copier.copy(source, destination)?,
        }
    }
    let (uid, gid) = prepared.owner.unwrap_or((0, 0));
    let mode = prepared.chmod.as_ref().map_or(0o644, |chmod| chmod.apply(0o644, false));
    for input in &prepared.inputs {
        let Input::Body(name, text) = input else { continue };
        let into = destination.ends_with('/') || root.is_dir(target);
        let path = if into { target.join(name) } else { target.to_owned() };
        let attributes = (uid, gid, mode, prepared.implicit.mtime);
        write_file(root, &path, &mut text.as_bytes(), &prepared.implicit, attributes)?;
    }
    Ok(())
}
