//! `RUN`.

use super::layers::LayerStep;
use super::mounts::Prepared as Mounts;
use super::stage::Evaluation;
use super::{BuildError, Event, StepId};
use crate::exec::{NetworkMode, SecurityMode, Step};
use crate::files::root::{Root, entry, is, set_mtime};
use crate::instruction::{CommandLine, Run};
use crate::key::Key;
use crate::users::{self, Identity};
use orlop_image::Draft;
use rustix::fs::{AtFlags, FileType};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Directory of scripts in a step's root, on its own `/dev`.
const SCRIPTS: &str = "/dev/pipes";

/// What runs, and what the history says of it.
struct Line {
    args: Vec<String>,
    /// Scripts by name.
    scripts: Vec<(String, String)>,
    shown: String,
}

impl Evaluation<'_, '_> {
    pub(crate) fn run(&mut self, run: &Run) -> Result<(), BuildError> {
        let lines = self.lines;
        let request = self.build.request;
        let network = run.network.unwrap_or(request.network);
        if run.network == Some(NetworkMode::Host) && !request.allow_host_network {
            let hint = "allow it with --allow network.host";
            return Err(BuildError::hinted(lines, "the step asks for the host's network", hint));
        }
        if run.security == SecurityMode::Insecure && !request.allow_insecure {
            let hint = "allow it with --allow security.insecure";
            return Err(BuildError::hinted(lines, "the step asks for all rights", hint));
        }
        let line = self.line(run);
        let identity = self.identity()?;
        let mounts = self.mounts(run)?;
        let mut env = self.stage.scope.env();
        let has = |name: &str, env: &[String]| {
            env.iter().any(|pair| pair.split_once('=').is_some_and(|(known, _)| known == name))
        };
        let key = self.run_key(&line, &identity, network, run.security, &mounts);
        for (name, value) in self.build.globals.proxies() {
            if !has(&name, &env) {
                env.push(format!("{name}={value}"));
            }
        }
        env.extend(mounts.env.iter().cloned());
        if !has("HOME", &env) {
            let home = if identity.home.is_empty() { "/" } else { &identity.home };
            env.push(format!("HOME={home}"));
        }
        let created_by = self.run_history(&line);
        let workdir = &self.stage.config.config.working_dir;
        let cwd = if workdir.is_empty() { "/".to_owned() } else { workdir.clone() };
        let hostname = self.build.globals.build_args.get("BUILDKIT_SANDBOX_HOSTNAME");
        let mut step = Step {
            lower: Vec::new(),
            upper: PathBuf::new(),
            work: PathBuf::new(),
            args: line.args.clone(),
            env,
            cwd,
            user: identity,
            hostname: hostname.cloned().unwrap_or_else(|| "buildkitsandbox".into()),
            network,
            security: run.security,
            mounts: Vec::new(),
            extra_hosts: request.add_hosts.clone(),
            shm_size: request.shm_size,
            ulimits: request.ulimits.clone(),
            cancel: self.build.cancel.clone(),
        };
        let this = &*self;
        let mut make = |draft: &Draft, id| {
            let attached = mounts.attach(this, &line.scripts, SCRIPTS)?;
            step.mounts = attached.mounts.clone();
            this.execute(&mut step, draft, id, &line)
        };
        let layer = LayerStep {
            lines,
            name: self.step_name(&format!("RUN {}", line.shown)),
            key,
            linked: false,
            fresh: self.fresh(),
            make: &mut make,
        };
        let mut stage = self.stage.clone();
        self.build.layer(&mut stage, layer)?;
        self.stage = stage;
        self.history(created_by, false);
        Ok(())
    }

    /// Who runs it.
    pub(crate) fn identity(&self) -> Result<Identity, BuildError> {
        let user = &self.stage.config.config.user;
        let (users, groups) = self.databases()?;
        users::process(user, &users, &groups).map_err(|error| {
            BuildError::hinted(
                self.lines,
                format!("USER {user}: {error}"),
                "make the user in a RUN before this line, or give its number",
            )
        })
    }

    fn line(&self, run: &Run) -> Line {
        let mut scripts = Vec::new();
        let (args, shown) = match &run.command {
            CommandLine::Exec(words) => (words.clone(), words.join(" ")),
            CommandLine::Shell { text, .. } => {
                let mut args = self.shell();
                let alone = match run.heredocs.as_slice() {
                    [body] => {
                        let word = crate::parse::heredoc(text.trim());
                        word.filter(|word| word.name == body.name).map(|_| body.clone())
                    }
                    _ => None,
                };
                let shown = match alone {
                    Some(body) if body.text().starts_with("#!") => {
                        scripts.push((body.name.clone(), body.text()));
                        return Line {
                            args: vec![format!("{SCRIPTS}/{}", body.name)],
                            scripts,
                            shown: text.clone(),
                        };
                    }
                    Some(body) => {
                        args.push(body.text());
                        text.clone()
                    }
                    None => {
                        let mut whole = text.clone();
                        for body in &run.heredocs {
                            whole += &format!("\n{}{}", body.content, body.name);
                        }
                        args.push(whole);
                        text.clone()
                    }
                };
                (args, shown)
            }
        };
        Line { args, scripts, shown }
    }

    fn run_history(&self, line: &Line) -> String {
        let arguments = self.stage.scope.arguments();
        let mut words = vec!["RUN".to_owned()];
        if !arguments.is_empty() {
            words.push(format!("|{}", arguments.len()));
            words.extend(arguments);
        }
        match line.scripts.first() {
            Some(_) => {
                words.extend(self.shell());
                words.extend(line.args.iter().cloned());
            }
            None => words.extend(line.args.iter().cloned()),
        }
        format!("{} # buildkit", words.join(" "))
    }

    fn run_key(
        &self,
        line: &Line,
        identity: &Identity,
        network: NetworkMode,
        security: SecurityMode,
        mounts: &Mounts,
    ) -> Key {
        let mut key = Key::default();
        self.below(&mut key);
        key.part("command", |hasher| {
            hasher.list(&line.args);
            for (name, text) in &line.scripts {
                hasher.field(name).field(text);
            }
        });
        let arguments = self.stage.scope.arguments();
        for pair in self.stage.scope.env() {
            let kind = if arguments.contains(&pair) { "argument" } else { "variable" };
            let name = pair.split('=').next().unwrap_or_default().to_owned();
            key.part(format!("{kind} {name}"), |hasher| {
                hasher.field(&pair);
            });
        }
        key.part("user and directory", |hasher| {
            hasher.field(format!("{identity:?}")).field(&self.stage.config.config.working_dir);
        });
        key.part("network, rights and time", |hasher| {
            hasher.field(format!("{network:?} {security:?}")).number(self.build.epoch as u64);
        });
        for (name, what) in &mounts.key {
            key.part(format!("mount at {name}"), |hasher| {
                hasher.field(what);
            });
        }
        key
    }

    fn execute(
        &self,
        step: &mut Step,
        draft: &Draft,
        id: StepId,
        line: &Line,
    ) -> Result<(), BuildError> {
        let lines = self.lines;
        step.lower = draft.lower();
        step.upper = draft.upper();
        step.work = draft.work();
        let points = MountPoints::new(self, step)?;
        let ended = {
            let _slot = self.build.engine.slots.take();
            if self.build.cancel.is_cancelled() {
                return Err(BuildError::Cancelled);
            }
            let mut output = |data: &[u8]| {
                self.build.progress.event(Event::Output { id, data: data.to_vec() });
            };
            self.build.engine.executor.run(step, &mut output)
        };
        let ended = ended.map_err(|error| BuildError::exec(lines, error))?;
        let upper = orlop_sys::fs::open_dir(draft.upper());
        points.remove(&upper.map_err(|error| BuildError::at(lines, error))?);
        if ended.code == 0 {
            return Ok(());
        }
        let note = match (ended.oom, ended.code) {
            (true, _) => Some("the kernel ended it for want of memory".to_owned()),
            (_, 127) => Some(match only_program(&line.shown) {
                Some(name) => format!("{name:?} may not be installed in this image"),
                None => "a program that it calls may not be installed in this image".to_owned(),
            }),
            _ => None,
        };
        Err(BuildError::Step { lines, command: line.args.join(" "), code: ended.code, note })
    }
}

/// The program of a line that calls only one, as far as that can be seen without a shell.
fn only_program(line: &str) -> Option<&str> {
    let more = [';', '&', '|', '\n', '$', '`', '(', '=', '<'];
    if line.contains(more) {
        return None;
    }
    line.split_whitespace().next()
}

/// Directories and files that are only there so that something can be mounted on them; they are not
/// what the step made.
struct MountPoints {
    /// Paths that are not below, the deepest first.
    missing: Vec<PathBuf>,
    /// Times of directories that get an entry by it.
    times: BTreeMap<PathBuf, (i64, i64)>,
}

/// What the runtime mounts in every container.
const ALWAYS: [&str; 6] =
    ["/proc", "/sys", "/dev", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];

impl MountPoints {
    fn new(evaluation: &Evaluation<'_, '_>, step: &Step) -> Result<Self, BuildError> {
        let view = evaluation.build.engine.store.view(&evaluation.stage.snapshots());
        let root = Root(view.map_err(|error| BuildError::at(evaluation.lines, error))?);
        let targets = ALWAYS.iter().copied().chain(step.mounts.iter().map(|m| m.target()));
        let mut points = Self { missing: Vec::new(), times: BTreeMap::new() };
        for target in targets {
            for path in Path::new(target).ancestors() {
                if path.parent().is_none() {
                    break;
                }
                match root.stat(path) {
                    None => points.missing.push(path.to_owned()),
                    Some(stat) => {
                        let time = (stat.st_mtime, stat.st_mtime_nsec as i64);
                        points.times.insert(path.to_owned(), time);
                    }
                }
            }
        }
        points.missing.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
        points.missing.dedup();
        Ok(points)
    }

    /// Takes away what is still as it was made: an empty directory, an empty file. What resists stays.
    fn remove(&self, upper: &OwnedFd) {
        for path in &self.missing {
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { continue };
            let Some(dir) = below(upper, parent) else { continue };
            let Ok(Some(stat)) = entry(&dir, name) else { continue };
            let removed = if is(&stat, FileType::Directory) {
                rustix::fs::unlinkat(&dir, name, AtFlags::REMOVEDIR)
            } else if stat.st_size == 0 && is(&stat, FileType::RegularFile) {
                rustix::fs::unlinkat(&dir, name, AtFlags::empty())
            } else {
                continue;
            };
            if removed.is_ok() && self.missing.iter().all(|other| other != parent) {
                self.restore(upper, parent);
            }
        }
    }

    /// A directory that holds nothing new was only touched by us.
    fn restore(&self, upper: &OwnedFd, path: &Path) {
        let Some((seconds, nanoseconds)) = self.times.get(path) else { return };
        let Some(dir) = below(upper, path) else { return };
        let empty =
            crate::files::content::names(&dir).is_ok_and(|names: Vec<OsString>| names.is_empty());
        if empty {
            let _ = set_mtime(&dir, std::ffi::OsStr::new("."), *seconds, *nanoseconds);
        }
    }
}

fn below(upper: &OwnedFd, path: &Path) -> Option<OwnedFd> {
    use std::os::fd::AsFd;
    let relative = path.strip_prefix("/").unwrap_or(path);
    if relative.as_os_str().is_empty() {
        return upper.try_clone().ok();
    }
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
    orlop_sys::fs::open_beneath(upper.as_fd(), relative, flags, rustix::fs::Mode::empty()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_missing_is_said_only_where_it_is_known() {
        assert_eq!(only_program("install -d /x"), Some("install"));
        for several in ["mkdir /x && install -d /y", "if true; then x; fi", "A=b x", "mkdir $(x)"] {
            assert_eq!(only_program(several), None, "{several}");
        }
    }
}
