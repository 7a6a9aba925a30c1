//! `--call outline`: what a target takes, without building it.

use super::BuildError;
use super::graph;
use super::scope::Globals;
use crate::instruction::{Command, Dockerfile, Instruction, Mount, MountKind};
use orlop_model::Platform;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What a target takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct Outline {
    /// Name or number of the stage.
    pub name: String,
    /// The comment above its `FROM`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Arguments, in the order in which they are declared.
    pub args: Vec<Argument>,
    /// Secrets of `RUN --mount`.
    pub secrets: Vec<Needed>,
    /// Agents of `RUN --mount`.
    pub ssh: Vec<Needed>,
    /// Names of cache mounts.
    pub caches: Vec<String>,
}

/// An `ARG`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// What it is in this build.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The comment above it, where it begins with the name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// A secret or an agent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Needed {
    /// Its name.
    pub name: String,
    /// The build fails without it.
    pub required: bool,
}

impl Outline {
    /// Of a target; the last stage without one.
    pub fn new(
        file: &Dockerfile,
        build_args: &BTreeMap<String, String>,
        target: Option<&str>,
    ) -> Result<Self, BuildError> {
        let target = graph::target(file, target)?;
        let stage = &file.stages[target];
        let name = stage.name.clone().unwrap_or_else(|| target.to_string());
        let globals = Globals::new(file, build_args, &Platform::host(), &name)?;
        let mut outline = Self { name: name.clone(), ..Self::default() };
        outline.description = described(&stage.comments, &name);
        for command in &file.arguments {
            outline.command(command, &globals, build_args)?;
        }
        for stage in needed(file, &globals, target) {
            for command in &file.stages[stage].commands {
                outline.command(command, &globals, build_args)?;
            }
        }
        for list in [&mut outline.secrets, &mut outline.ssh] {
            list.sort();
            list.dedup();
        }
        Ok(outline)
    }

    fn command(
        &mut self,
        command: &Command,
        globals: &Globals,
        build_args: &BTreeMap<String, String>,
    ) -> Result<(), BuildError> {
        match &command.instruction {
            Instruction::Arg(items) => {
                for (name, default) in items {
                    if self.args.iter().any(|known| known.name == *name) {
                        continue;
                    }
                    let given = build_args.get(name).cloned();
                    // A default that needs what only the build knows is shown as it is written.
                    let default = || {
                        let word = default.as_ref()?;
                        Some(globals.word(word, command.lines).unwrap_or_else(|_| word.clone()))
                    };
                    let value =
                        given.or_else(default).or_else(|| globals.values.get(name).cloned());
                    let description = described(&command.comments, name);
                    self.args.push(Argument { name: name.clone(), value, description });
                }
            }
            Instruction::Run(run) => {
                for text in &run.mounts {
                    let mount = Mount::parse(text, command.lines, &mut |v| Ok(v.to_owned()))?;
                    self.mount(mount);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn mount(&mut self, mount: Mount) {
        let target = mount.target.unwrap_or_default();
        match mount.kind {
            MountKind::Secret { id, env, required, .. } => {
                let base = target.rsplit('/').next().map(str::to_owned).filter(|b| !b.is_empty());
                let name = id.or(base).or(env).unwrap_or_default();
                self.secrets.push(Needed { name, required });
            }
            MountKind::Ssh { id, required, .. } => self.ssh.push(Needed { name: id, required }),
            MountKind::Cache { id, .. } => {
                let name = id.unwrap_or(target);
                if !self.caches.contains(&name) {
                    self.caches.push(name);
                }
            }
            _ => {}
        }
    }
}

/// The stages that a target is made of, in the order of the file.
fn needed(file: &Dockerfile, globals: &Globals, target: usize) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut open = vec![target];
    while let Some(at) = open.pop() {
        if !found.insert(at) {
            continue;
        }
        let stage = &file.stages[at];
        let base = globals.word(&stage.base, stage.lines).unwrap_or_default().to_lowercase();
        let named = |name: &str| {
            let lower = name.to_lowercase();
            let by_name = file.stages[..at].iter().rposition(|s| s.name.as_ref() == Some(&lower));
            by_name.or_else(|| name.parse().ok().filter(|number| *number < at))
        };
        open.extend(file.stages[..at].iter().rposition(|s| s.name.as_ref() == Some(&base)));
        let sources = stage.commands.iter().flat_map(graph::sources);
        open.extend(sources.filter_map(|name| named(&name)));
    }
    found
}

/// The comment above something, where it begins with its name.
fn described(comments: &[String], name: &str) -> Option<String> {
    let text = comments.join(" ");
    let rest = text.trim().strip_prefix(name)?;
    let rest = rest.strip_prefix(' ')?.trim();
    (!rest.is_empty()).then(|| rest.to_owned())
}

impl fmt::Display for Outline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "TARGET: {}", self.name)?;
        if let Some(description) = &self.description {
            writeln!(f, "{description}")?;
        }
        if !self.args.is_empty() {
            writeln!(f, "\nBUILD ARG\tVALUE\tDESCRIPTION")?;
        }
        for arg in &self.args {
            let (value, about) = (arg.value.as_deref(), arg.description.as_deref());
            writeln!(f, "{}\t{}\t{}", arg.name, value.unwrap_or(""), about.unwrap_or(""))?;
        }
        for (title, list) in [("SECRET", &self.secrets), ("SSH", &self.ssh)] {
            if !list.is_empty() {
                writeln!(f, "\n{title}\tREQUIRED")?;
            }
            for needed in list {
                writeln!(f, "{}\t{}", needed.name, needed.required)?;
            }
        }
        if !self.caches.is_empty() {
            writeln!(f, "\nCACHE MOUNT")?;
        }
        self.caches.iter().try_for_each(|name| writeln!(f, "{name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_target_takes() {
        let text = "ARG VERSION=1\nFROM scratch AS other\nARG UNUSED=x\nFROM scratch AS base\n# MODE how it runs\nARG MODE=fast$VERSION\nRUN --mount=type=secret,id=key,required=true --mount=type=cache,target=/c x\nFROM base AS app\nRUN --mount=type=ssh y\n";
        let file = crate::instruction::read(text).unwrap();
        let given = BTreeMap::from([("VERSION".to_owned(), "2".to_owned())]);
        let outline = Outline::new(&file, &given, Some("app")).unwrap();
        let args: Vec<_> =
            outline.args.iter().map(|a| (a.name.as_str(), a.value.as_deref())).collect();
        assert_eq!(args, [("VERSION", Some("2")), ("MODE", Some("fast2"))]);
        assert_eq!(outline.args[1].description.as_deref(), Some("how it runs"));
        assert_eq!(outline.secrets, [Needed { name: "key".into(), required: true }]);
        assert_eq!(outline.ssh, [Needed { name: "default".into(), required: false }]);
        assert_eq!(outline.caches, ["/c"]);
    }
}
