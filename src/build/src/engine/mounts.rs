//! `RUN --mount`: what is mounted where, and the taking away of it.

use super::BuildError;
use super::caches::CacheUse;
use super::graph::Outcome;
use super::layers::LayerStep;
use super::stage::Evaluation;
use crate::exec::StepMount;
use crate::files::content::Content;
use crate::files::copy::Copier;
use crate::files::root::{Implicit, Root};
use crate::ignore::IgnoreRules;
use crate::instruction::{Mount, MountKind, Run};
use crate::key::Key;
use crate::pattern::clean;
use orlop_image::Draft;
use orlop_model::Digest;
use rustix::fs::{Mode, OFlags};
use std::collections::HashMap;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// The mounts of a step, with what of them is in its key.
pub(crate) struct Prepared {
    mounts: Vec<(Mount, String)>,
    /// Layers that bind mounts show, by target.
    sources: HashMap<String, Source>,
    /// Target and what decides the result.
    pub(crate) key: Vec<(String, String)>,
    /// Secrets that are variables.
    pub(crate) env: Vec<String>,
}

struct Source {
    snapshots: Vec<Digest>,
    path: String,
}

/// Mounts that are there.
pub(crate) struct Attached<'a> {
    pub(crate) mounts: Vec<StepMount>,
    scratch: Scratch,
    _drafts: Vec<Draft>,
    _locks: Vec<CacheUse<'a>>,
    _agents: Vec<super::add::Agent>,
}

impl Evaluation<'_, '_> {
    pub(crate) fn mounts(&self, run: &Run) -> Result<Prepared, BuildError> {
        let mut prepared = Prepared {
            mounts: Vec::new(),
            sources: HashMap::new(),
            key: Vec::new(),
            env: Vec::new(),
        };
        for text in &run.mounts {
            let mount = Mount::parse(text, self.lines, &mut |value| {
                self.word(value).map_err(|error| match error {
                    BuildError::Dockerfile(diagnostic) => *diagnostic,
                    other => crate::Diagnostic::new(self.lines, other.to_string()),
                })
            })?;
            self.mount(mount, &mut prepared)?;
        }
        Ok(prepared)
    }

    fn mount(&self, mount: Mount, prepared: &mut Prepared) -> Result<(), BuildError> {
        let given = mount.target.as_deref().map(|target| {
            let path = self.absolute(target);
            if path == "/" { path } else { path.trim_end_matches('/').to_owned() }
        });
        let target = given.clone().unwrap_or_default();
        match &mount.kind {
            MountKind::Bind { from, source } => {
                let (source, what) =
                    self.bind_source(from.as_deref(), source.as_deref(), &target)?;
                let what = format!("bind {what} {}", mount.read_only);
                prepared.key.push((target.clone(), what));
                prepared.sources.insert(target.clone(), source);
            }
            MountKind::Cache { id, from, source, .. } => {
                if let Some(from) = from {
                    let (source, _) = self.bind_source(Some(from), source.as_deref(), &target)?;
                    prepared.sources.insert(target.clone(), source);
                }
                let id = id.as_deref().map_or_else(String::new, |id| format!(" {id}"));
                prepared.key.push((target.clone(), format!("cache{id} {}", mount.read_only)));
            }
            MountKind::Tmpfs { size } => {
                prepared.key.push((target.clone(), format!("tmpfs {size:?}")));
            }
            MountKind::Secret { id, env, required, .. } => {
                let base = given.as_deref().and_then(|t| t.rsplit('/').next()).map(str::to_owned);
                let id = id.clone().or(base).or_else(|| env.clone()).unwrap_or_default();
                prepared.key.push((id.clone(), format!("secret {given:?} {env:?}")));
                let value = self.build.request.secrets.get(&id);
                if value.is_none() && *required {
                    let hint = format!("give it with --secret id={id},src=FILE");
                    let message = format!("secret {id}: not found");
                    return Err(BuildError::hinted(self.lines, message, hint));
                }
                let Some(value) = value else { return Ok(()) };
                if let Some(name) = env {
                    prepared.env.push(format!("{name}={}", String::from_utf8_lossy(value)));
                    if given.is_none() {
                        return Ok(());
                    }
                }
                let target = given.unwrap_or_else(|| format!("/run/secrets/{id}"));
                let kind = match mount.kind {
                    MountKind::Secret { mode, uid, gid, .. } => MountKind::Secret {
                        id: Some(id),
                        env: None,
                        required: false,
                        mode,
                        uid,
                        gid,
                    },
                    other => other,
                };
                prepared.mounts.push((Mount { kind, ..mount }, target));
                return Ok(());
            }
            MountKind::Ssh { id, required, .. } => {
                prepared.key.push((id.clone(), format!("ssh {given:?}")));
                if !self.build.request.ssh.contains_key(id) {
                    if *required {
                        let hint = format!("give it with --ssh {id}");
                        let message = format!("ssh agent {id}: not found");
                        return Err(BuildError::hinted(self.lines, message, hint));
                    }
                    return Ok(());
                }
                let count = prepared.mounts.len();
                let target = given.unwrap_or_else(|| format!("/run/buildkit/ssh_agent.{count}"));
                prepared.env.push(format!("SSH_AUTH_SOCK={target}"));
                prepared.mounts.push((mount, target));
                return Ok(());
            }
        }
        prepared.mounts.push((mount, target));
        Ok(())
    }

    /// The layers that hold a bind mount's files, and what of them decides a result.
    fn bind_source(
        &self,
        from: Option<&str>,
        source: Option<&str>,
        target: &str,
    ) -> Result<(Source, String), BuildError> {
        let path = clean(&format!("/{}", source.unwrap_or_default()));
        let build = self.build;
        if let Some(name) = from.filter(|name| build.named_directory(name, self.lines).is_none()) {
            let outcome = match self.stage_named(name)? {
                Some(stage) => Outcome::clone(&stage),
                None => match build.request.contexts.get(name) {
                    Some(super::NamedContext::Image(reference)) => {
                        build.image(reference, self.lines)?
                    }
                    _ => build.image(&build.reference(name, self.lines)?, self.lines)?,
                },
            };
            let chain = outcome.chain.as_ref().map_or("scratch", |chain| chain.as_str());
            let what = format!("{chain} {path}");
            return Ok((Source { snapshots: outcome.snapshots(), path }, what));
        }
        let layer = self.context_layer(from, &path, target)?;
        let what = layer.diff_id.to_string();
        // The layer has a file under its own name, a directory as its root.
        Ok((Source { snapshots: vec![layer.snapshot], path }, what))
    }

    /// A layer with a part of the context: what the ignore rules hide is not in it, and nothing
    /// that the step does reaches the context.
    fn context_layer(
        &self,
        from: Option<&str>,
        path: &str,
        target: &str,
    ) -> Result<orlop_image::Layer, BuildError> {
        let lines = self.lines;
        let tree = self.source_tree(from)?;
        let failed = |error| BuildError::file(lines, error, Some(path.trim_start_matches('/')));
        let mut selected = tree.select(path, false).map_err(failed)?;
        let Some(source) = selected.pop() else {
            return Err(BuildError::at(lines, format!("{path} matches nothing in {}", tree.name)));
        };
        let exclude = IgnoreRules::default();
        let mut key = Key::default();
        key.part("instruction", |hasher| {
            hasher.field("mount").field(path);
        });
        let content = Content { tree: &tree, exclude: &exclude, index: &self.build.engine.index };
        let mut result = Ok(());
        key.part(format!("content of {path}"), |hasher| result = content.add(&source, hasher));
        result.map_err(failed)?;
        let implicit = Implicit { uid: 0, gid: 0, mode: 0o755, mtime: self.build.epoch };
        let mut make = |draft: &Draft, _| {
            let root = Root(draft.mount().map_err(|error| BuildError::at(lines, error))?);
            let mut copier = Copier {
                tree: &tree,
                exclude: &exclude,
                owner: None,
                chmod: None,
                implicit,
                root: &root,
                linked: HashMap::new(),
            };
            copier.copy(&source, path).map_err(failed)
        };
        let mut empty = Outcome {
            layers: Vec::new(),
            chain: None,
            config: self.stage.config.clone(),
            scope: self.stage.scope.clone(),
        };
        let name = self.step_name(&format!("files of {path} for the mount at {target}"));
        let step =
            LayerStep { lines, name, key, linked: true, fresh: self.fresh(), make: &mut make };
        self.build.layer(&mut empty, step)?;
        empty.layers.pop().ok_or_else(|| BuildError::at(lines, "no layer was made"))
    }
}

impl Prepared {
    /// Makes all mounts of a step.
    pub(crate) fn attach<'e>(
        &self,
        evaluation: &Evaluation<'_, 'e>,
        scripts: &[(String, String)],
        scripts_dir: &str,
    ) -> Result<Attached<'e>, BuildError> {
        let lines = evaluation.lines;
        let failed = |error: std::io::Error| BuildError::at(lines, format!("a mount: {error}"));
        let engine = evaluation.build.engine;
        let scratch = Scratch::new(&engine.executor.scratch()).map_err(failed)?;
        let mut attached = Attached {
            mounts: Vec::new(),
            scratch,
            _drafts: Vec::new(),
            _locks: Vec::new(),
            _agents: Vec::new(),
        };
        for (mount, target) in &self.mounts {
            let source = self.sources.get(target);
            attached.add(evaluation, mount, target, source)?;
        }
        if !scripts.is_empty() {
            let dir = attached.scratch.dir().map_err(failed)?;
            std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o755)).map_err(failed)?;
            for (name, text) in scripts {
                let path = dir.join(name.replace('/', "_"));
                std::fs::write(&path, text).map_err(failed)?;
                std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755))
                    .map_err(failed)?;
            }
            let target = scripts_dir.to_owned();
            attached.mounts.push(StepMount::Bind { source: dir, target, read_only: true });
        }
        Ok(attached)
    }
}

impl<'e> Attached<'e> {
    fn add(
        &mut self,
        evaluation: &Evaluation<'_, 'e>,
        mount: &Mount,
        target: &str,
        source: Option<&Source>,
    ) -> Result<(), BuildError> {
        let lines = evaluation.lines;
        let failed = |error: std::io::Error| {
            BuildError::at(lines, format!("the mount at {target}: {error}"))
        };
        let engine = evaluation.build.engine;
        let path = match &mount.kind {
            MountKind::Tmpfs { size } => {
                self.mounts.push(StepMount::Tmpfs {
                    target: target.to_owned(),
                    size: *size,
                    read_only: mount.read_only,
                });
                return Ok(());
            }
            MountKind::Bind { .. } => {
                let Some(source) = source else { return Ok(()) };
                let root = if mount.read_only {
                    let view = engine.store.view(&source.snapshots).map_err(failed)?;
                    self.scratch.clone_of(&view, source.snapshots.len() <= 1).map_err(failed)?
                } else {
                    let draft = engine
                        .store
                        .draft(&source.snapshots)
                        .map_err(|error| BuildError::at(lines, error))?;
                    let mounted = draft.mount().map_err(failed)?;
                    self._drafts.push(draft);
                    self.scratch.attach(&mounted).map_err(failed)?
                };
                within(&root, &source.path).map_err(|error| {
                    BuildError::at(lines, format!("mount source {}: {error}", source.path))
                })?
            }
            MountKind::Cache { id, sharing, source: below, from, mode, uid, gid } => {
                let name = id.clone().unwrap_or_else(|| clean(target));
                let namespace = evaluation.build.globals.build_args.get("BUILDKIT_CACHE_MOUNT_NS");
                let name = format!("{}{name}", namespace.map_or("", String::as_str));
                let (dir, lock) = engine
                    .mounts
                    .take(&engine.caches, &name, *sharing, (*mode, *uid, *gid))
                    .map_err(failed)?;
                self._locks.push(lock);
                if from.is_some()
                    && let Some(source) = source
                {
                    seed(evaluation, source, &dir)?;
                }
                let sub = below.as_deref().filter(|_| from.is_none()).unwrap_or("/");
                self.scratch.sub_of(&dir, sub).map_err(failed)?
            }
            MountKind::Secret { id, mode, uid, gid, .. } => {
                let id = id.as_deref().unwrap_or_default();
                let Some(value) = evaluation.build.request.secrets.get(id) else { return Ok(()) };
                let path = self.scratch.path();
                std::fs::write(&path, value).map_err(failed)?;
                chown(&path, Some(*uid), Some(*gid)).map_err(failed)?;
                std::fs::set_permissions(&path, PermissionsExt::from_mode(*mode))
                    .map_err(failed)?;
                path
            }
            MountKind::Ssh { id, mode, uid, gid, .. } => {
                let Some(agent) = evaluation.build.request.ssh.get(id) else { return Ok(()) };
                let path = self.scratch.path();
                let proxy = super::add::Agent::start(agent.clone(), &path).map_err(failed)?;
                chown(&path, Some(*uid), Some(*gid)).map_err(failed)?;
                std::fs::set_permissions(&path, PermissionsExt::from_mode(*mode))
                    .map_err(failed)?;
                self._agents.push(proxy);
                path
            }
        };
        let read_only = mount.read_only || matches!(mount.kind, MountKind::Secret { .. });
        let target = target.to_owned();
        self.mounts.push(StepMount::Bind { source: path, target, read_only });
        Ok(())
    }
}

/// The path of something in a tree that nobody changes, links followed within the tree.
fn within(root: &Path, path: &str) -> std::io::Result<PathBuf> {
    use std::os::fd::AsRawFd;
    let dir = orlop_sys::fs::open_dir(root)?;
    let relative = path.trim_start_matches('/');
    let relative = if relative.is_empty() { "." } else { relative };
    let fd = orlop_sys::fs::open_in_root(dir.as_fd(), relative, OFlags::PATH, Mode::empty())?;
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Fills a cache that is empty.
fn seed(evaluation: &Evaluation<'_, '_>, source: &Source, dir: &Path) -> Result<(), BuildError> {
    let lines = evaluation.lines;
    let failed = |error: std::io::Error| BuildError::at(lines, error);
    if std::fs::read_dir(dir).map_err(failed)?.next().is_some() {
        return Ok(());
    }
    let tree = crate::files::select::Tree {
        root: evaluation.build.engine.store.view(&source.snapshots).map_err(failed)?,
        hidden: IgnoreRules::default(),
        rules_file: String::new(),
        name: "the mount's source".into(),
        owned: true,
    };
    let file = |error| BuildError::file(lines, error, None);
    let root = Root(orlop_sys::fs::open_dir(dir).map_err(failed)?);
    let exclude = IgnoreRules::default();
    let mut copier = Copier {
        tree: &tree,
        exclude: &exclude,
        owner: None,
        chmod: None,
        implicit: Implicit { uid: 0, gid: 0, mode: 0o755, mtime: evaluation.build.epoch },
        root: &root,
        linked: HashMap::new(),
    };
    for selected in tree.select(&source.path, false).map_err(file)? {
        copier.copy(&selected, "/").map_err(file)?;
    }
    Ok(())
}

/// A directory in memory for one step; its mounts and files go with it.
struct Scratch {
    dir: PathBuf,
    next: usize,
    mounts: Vec<PathBuf>,
}

impl Scratch {
    fn new(parent: &Path) -> std::io::Result<Self> {
        use std::sync::atomic::{AtomicU64, Ordering};
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("step-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = parent.join(name);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        Ok(Self { dir, next: 0, mounts: Vec::new() })
    }

    fn path(&mut self) -> PathBuf {
        self.next += 1;
        self.dir.join(self.next.to_string())
    }

    fn dir(&mut self) -> std::io::Result<PathBuf> {
        let path = self.path();
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(path)
    }

    /// Makes a detached mount visible.
    fn attach(&mut self, mount: &std::os::fd::OwnedFd) -> std::io::Result<PathBuf> {
        let path = self.dir()?;
        orlop_sys::mount::attach_path(mount, &path)
            .map_err(|error| std::io::Error::other(error.to_string()))?;
        self.mounts.push(path.clone());
        Ok(path)
    }

    /// A tree of the store: a directory of the host where it is one, a mount otherwise.
    fn clone_of(&mut self, view: &std::os::fd::OwnedFd, plain: bool) -> std::io::Result<PathBuf> {
        if !plain {
            return self.attach(view);
        }
        use std::os::fd::AsRawFd;
        std::fs::read_link(format!("/proc/self/fd/{}", view.as_raw_fd()))
    }

    /// A directory below one that others may change meanwhile: found by descriptor, and bound by it.
    fn sub_of(&mut self, root: &Path, path: &str) -> std::io::Result<PathBuf> {
        let relative = clean(path);
        let relative = relative.trim_start_matches('/');
        if relative.is_empty() || relative == "." {
            return Ok(root.to_owned());
        }
        let dir = orlop_sys::fs::open_dir(root)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let fd = orlop_sys::fs::open_in_root(dir.as_fd(), relative, flags, Mode::empty())?;
        let cloned = orlop_sys::mount::clone_tree(&fd, false)
            .map_err(|error| std::io::Error::other(error.to_string()))?;
        self.attach(&cloned)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for mount in self.mounts.iter().rev() {
            if let Err(error) = orlop_sys::mount::detach(mount) {
                tracing::warn!(path = %mount.display(), %error, "a mount of a step cannot be taken away");
                // What is mounted there must not be removed with the directory.
                return;
            }
        }
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            tracing::warn!(path = %self.dir.display(), %error, "cannot be removed");
        }
    }
}
