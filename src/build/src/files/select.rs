//! What the sources of a `COPY` are: paths and patterns, resolved beneath a tree, with the rules
//! that hide files.

use super::root::is;
use super::{FileError, at};
use crate::ignore::IgnoreRules;
use crate::nearest;
use crate::pattern::{Pattern, clean};
use rustix::fs::{Dir, FileType, Mode, OFlags, Stat};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A tree to copy from, read-only for us.
pub(crate) struct Tree {
    pub(crate) root: OwnedFd,
    /// Files that the build does not see.
    pub(crate) hidden: IgnoreRules,
    /// Where those rules come from, for messages.
    pub(crate) rules_file: String,
    /// What the tree is, for messages: `the build context`.
    pub(crate) name: String,
    /// Files keep their owners: the tree is a stage or an image.
    pub(crate) owned: bool,
}

/// One source.
pub(crate) struct Selected {
    /// Relative to the tree, clean; empty for the tree itself.
    pub(crate) path: String,
    /// With `--parents`: the part that is kept below the destination.
    pub(crate) kept: Option<String>,
    /// An `O_PATH` descriptor of it, links followed.
    pub(crate) fd: OwnedFd,
    pub(crate) stat: Stat,
}

impl Selected {
    pub(crate) fn is_dir(&self) -> bool {
        is(&self.stat, FileType::Directory)
    }

    pub(crate) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

impl Tree {
    /// The entries that a source names, in order. A pattern may name none.
    pub(crate) fn select(&self, source: &str, parents: bool) -> Result<Vec<Selected>, FileError> {
        let (pivot, source) = match source.split_once("/./").filter(|_| parents) {
            // A slash in front belongs to the tree, not to the path.
            Some((before, after)) => {
                (Some(clean(&format!("/{before}"))), format!("{before}/{after}"))
            }
            None => (None, source.to_owned()),
        };
        let path = clean(&format!("/{source}"));
        let path = path.trim_start_matches('/');
        let found = if Pattern::is_pattern(path) {
            self.matching(path, parents)?
        } else {
            vec![self.literal(path)?]
        };
        let keep = |mut selected: Selected| {
            if parents {
                let from = pivot.as_deref().map_or("", |pivot| pivot.trim_start_matches('/'));
                // The pivot is a pattern as well: as many components as it has are left out.
                let skip = from.split('/').filter(|part| !part.is_empty()).count();
                let kept: Vec<&str> = selected.path.split('/').skip(skip).collect();
                selected.kept = Some(kept.join("/"));
            }
            selected
        };
        Ok(found.into_iter().map(keep).collect())
    }

    fn open(&self, path: &str) -> std::io::Result<(OwnedFd, Stat)> {
        let path = if path.is_empty() { "." } else { path };
        let fd = orlop_sys::fs::open_in_root(self.root.as_fd(), path, OFlags::PATH, Mode::empty())?;
        let stat = rustix::fs::fstat(&fd)?;
        Ok((fd, stat))
    }

    fn literal(&self, path: &str) -> Result<Selected, FileError> {
        if !path.is_empty() && self.hidden.hides(path) && !self.hidden.may_show_below(path) {
            return Err(self.missing(path));
        }
        match self.open(path) {
            Ok((fd, stat)) => {
                let hidden = !path.is_empty() && self.hidden.hides(path);
                if hidden && !is(&stat, FileType::Directory) {
                    return Err(self.missing(path));
                }
                Ok(Selected { path: path.to_owned(), kept: None, fd, stat })
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(self.missing(path)),
            Err(error) => Err(at("open", Path::new(path))(error)),
        }
    }

    /// Says why a source is not there: a rule hides it, or nothing has that name.
    fn missing(&self, path: &str) -> FileError {
        let message = format!("\"/{path}\": not found in {}", self.name);
        let exists = self.open(path).is_ok();
        let rule = self.hidden.decides(path).filter(|rule| !rule.exception && exists);
        if let Some(rule) = rule {
            let (text, line) = (&rule.text, rule.line);
            let hint = format!(
                "the file is there, but {}:{line} hides it: {text}\n  to copy it, add !{path} below that line",
                self.rules_file
            );
            return FileError::Refused { message, hint: Some(hint) };
        }
        // The deepest directory that is there has the nearest name.
        let parts: Vec<&str> = path.split('/').collect();
        for depth in (0..parts.len()).rev() {
            let dir = parts[..depth].join("/");
            let Ok(names) = self.names(&dir) else { continue };
            let visible = |name: &&str| !self.hidden.hides(join(&dir, name).trim_matches('/'));
            let same = |near: &&str| *near != parts[depth];
            let near = nearest(parts[depth], names.iter().map(String::as_str).filter(visible))
                .filter(same);
            let hint = near.map(|near| format!("did you mean {:?}?", join(&dir, near)));
            return FileError::Refused { message, hint };
        }
        FileError::Refused { message, hint: None }
    }

    /// Names in a directory, sorted.
    fn names(&self, dir: &str) -> std::io::Result<Vec<String>> {
        let path = if dir.is_empty() { "." } else { dir };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let fd = orlop_sys::fs::open_in_root(self.root.as_fd(), path, flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in Dir::new(fd)? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().to_str()
                && name != "."
                && name != ".."
            {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// Paths that match, a component at a time. Only with `--parents` does `**` mean any depth.
    fn matching(&self, path: &str, deep: bool) -> Result<Vec<Selected>, FileError> {
        let mut found = vec![String::new()];
        for part in path.split('/') {
            let mut next = Vec::new();
            for dir in &found {
                self.step(dir, part, deep, &mut next)?;
            }
            next.dedup();
            found = next;
        }
        found.sort();
        found.dedup();
        let mut selected = Vec::new();
        for path in found {
            // A link without a target matches nothing.
            if let Ok((fd, stat)) = self.open(&path) {
                selected.push(Selected { path, kept: None, fd, stat });
            }
        }
        Ok(selected)
    }

    fn step(
        &self,
        dir: &str,
        part: &str,
        deep: bool,
        next: &mut Vec<String>,
    ) -> Result<(), FileError> {
        let wrong = |error: crate::pattern::PatternError| FileError::refused(error.to_string());
        if deep && part == "**" {
            next.push(dir.to_owned());
            for name in self.names(dir).unwrap_or_default() {
                let path = join(dir, &name);
                let link = self.is_link(&path);
                if !link && self.visible(&path) {
                    self.step(&path, part, deep, next)?;
                }
            }
            return Ok(());
        }
        if !Pattern::is_pattern(part) {
            let path = join(dir, part);
            if self.visible(&path) && self.open(&path).is_ok() {
                next.push(path);
            }
            return Ok(());
        }
        let flat = part.replace("**", "*");
        let pattern = Pattern::new(&flat).map_err(wrong)?;
        // What is no directory has no entries.
        for name in self.names(dir).unwrap_or_default() {
            let path = join(dir, &name);
            if pattern.matches(&name) && self.visible(&path) {
                next.push(path);
            }
        }
        Ok(())
    }

    fn visible(&self, path: &str) -> bool {
        !self.hidden.hides(path) || self.hidden.may_show_below(path) && self.is_dir(path)
    }

    fn is_dir(&self, path: &str) -> bool {
        self.open(path).is_ok_and(|(_, stat)| is(&stat, FileType::Directory))
    }

    fn is_link(&self, path: &str) -> bool {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let fd = orlop_sys::fs::open_in_root(self.root.as_fd(), path, flags, Mode::empty());
        fd.ok()
            .and_then(|fd| rustix::fs::fstat(fd).ok())
            .is_some_and(|stat| is(&stat, FileType::Symlink))
    }
}

pub(crate) fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") }
}

/// A path of a tree for messages.
pub(crate) fn shown(path: &str) -> PathBuf {
    PathBuf::from(format!("/{path}"))
}
