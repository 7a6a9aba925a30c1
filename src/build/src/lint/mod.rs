//! Checks of a Dockerfile that builds but probably does not do what was meant: the 22 rules that
//! people know from `--check`, with their names and messages.

mod images;
mod options;
mod rules;
mod style;
mod values;

pub(crate) use images::PLATFORM_ARGS;
pub use options::{CheckOptions, CheckOptionsError};
pub use rules::Rule;
pub(crate) use values::PROXY_ARGS;

use crate::ignore::IgnoreRules;
use crate::instruction::Dockerfile;
use crate::{Lines, instruction::Command};
use std::collections::BTreeMap;

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warning {
    /// Where.
    pub lines: Lines,
    /// Which rule.
    pub rule: Rule,
    /// What was found.
    pub message: String,
}

/// The environment of an image, by the name in `FROM`.
pub type BaseEnv = dyn Fn(&str) -> Option<Vec<(String, String)>>;

/// The platform that an image was found for and the one that is built, by the name in `FROM`.
pub type BasePlatform = dyn Fn(&str) -> Option<(String, String)>;

/// What the rules need beside the file.
#[derive(Default)]
pub struct Input<'a> {
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// Rules that hide files of the context, where there are any.
    pub ignore: Option<&'a IgnoreRules>,
    /// Environment of a base image, where it is known.
    pub base_env: Option<&'a BaseEnv>,
    /// Platform of a base image as it was found, and the one that is built for.
    pub base_platform: Option<&'a BasePlatform>,
}

/// What the checks found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    /// By line, rule and message.
    pub warnings: Vec<Warning>,
    /// `error=true`: the build must not go on with any warning.
    pub fatal: bool,
}

/// Runs all rules that the file or the build argument `BUILDKIT_DOCKERFILE_CHECK` leaves on.
pub fn check(file: &Dockerfile, input: &Input<'_>) -> Result<Findings, CheckOptionsError> {
    let given = input.build_args.get("BUILDKIT_DOCKERFILE_CHECK");
    let text = given.or(file.directives.check.as_ref());
    let options = text.map_or(Ok(CheckOptions::default()), |text| CheckOptions::parse(text))?;
    let mut found = Found { options: &options, warnings: Vec::new() };
    style::check(file, &mut found);
    images::check(file, input, &mut found);
    values::check(file, input, &mut found);
    let mut warnings = found.warnings;
    warnings.sort();
    warnings.dedup();
    let fatal = options.error && !warnings.is_empty();
    Ok(Findings { warnings, fatal })
}

/// Warnings so far.
struct Found<'a> {
    options: &'a CheckOptions,
    warnings: Vec<Warning>,
}

impl Found<'_> {
    /// Notes a finding unless the file or a comment above the instruction says not to.
    fn add(&mut self, rule: Rule, lines: Lines, comments: &[String], message: String) {
        if self.options.allows(rule) && !options::skipped_by(comments, rule) {
            self.warnings.push(Warning { lines, rule, message });
        }
    }

    fn on(&mut self, rule: Rule, command: &Command, message: String) {
        self.add(rule, command.lines, &command.comments, message);
    }
}

#[cfg(test)]
mod tests;
