//! Rules about `FROM`.

use super::{Found, Input, Rule};
use crate::expand::{ExpandError, Expanded, Quotes, expand};
use crate::instruction::{Dockerfile, Instruction, Stage};
use crate::suggest::nearest;
use std::collections::BTreeMap;

/// Arguments that every build has before the first `FROM`.
pub(crate) const PLATFORM_ARGS: [&str; 11] = [
    "BUILDARCH",
    "BUILDOS",
    "BUILDOSVERSION",
    "BUILDPLATFORM",
    "BUILDVARIANT",
    "TARGETARCH",
    "TARGETOS",
    "TARGETOSVERSION",
    "TARGETPLATFORM",
    "TARGETSTAGE",
    "TARGETVARIANT",
];

pub(super) fn check(file: &Dockerfile, input: &Input<'_>, found: &mut Found<'_>) {
    let escape = file.directives.escape;
    let declared = globals(file, Some(&input.build_args));
    let defaults = globals(file, None);
    let mut stages: Vec<&str> = Vec::new();
    for stage in &file.stages {
        let texts = [Some(&stage.base), stage.platform.as_ref()];
        for text in texts.into_iter().flatten() {
            undefined(stage, text, escape, &declared, found);
        }
        invalid_default(stage, escape, &defaults, &stages, found);
        platform(stage, escape, found);
        if let Some((have, want)) = input.base_platform.and_then(|of| of(&stage.base))
            && have != want
        {
            let message = format!(
                "Base image {} was pulled with platform {have:?}, expected {want:?} for current build",
                stage.base
            );
            found.add(Rule::InvalidBaseImagePlatform, stage.lines, &stage.comments, message);
        }
        stages.extend(stage.name.as_deref());
    }
}

/// Arguments before the first `FROM`, with the caller's values where given.
fn globals(
    file: &Dockerfile,
    build_args: Option<&BTreeMap<String, String>>,
) -> BTreeMap<String, Option<String>> {
    let mut known: BTreeMap<String, Option<String>> = BTreeMap::new();
    for command in &file.arguments {
        let Instruction::Arg(items) = &command.instruction else { continue };
        for (name, default) in items {
            let given = build_args.and_then(|args| args.get(name).cloned());
            let default = default.as_ref().map(|word| {
                let get = |name: &str| known.get(name).cloned().flatten();
                expand(word, file.directives.escape, Quotes::Remove, &get)
                    .map_or_else(|_| word.clone(), |expanded| expanded.text)
            });
            known.insert(name.clone(), given.or(default));
        }
    }
    known
}

fn undefined(
    stage: &Stage,
    text: &str,
    escape: char,
    declared: &BTreeMap<String, Option<String>>,
    found: &mut Found<'_>,
) {
    let Ok(expanded) = expand(text, escape, Quotes::Remove, &|_: &str| None) else { return };
    let known = || declared.keys().map(String::as_str).chain(PLATFORM_ARGS);
    for name in expanded.unset.iter().filter(|name| !known().any(|other| other == *name)) {
        let meant = nearest(name, known());
        let hint = meant.map_or_else(String::new, |meant| format!(" (did you mean {meant}?)"));
        let message = format!("FROM argument '{name}' is not declared{hint}");
        found.add(Rule::UndefinedArgInFrom, stage.lines, &stage.comments, message);
    }
}

fn invalid_default(
    stage: &Stage,
    escape: char,
    defaults: &BTreeMap<String, Option<String>>,
    stages: &[&str],
    found: &mut Found<'_>,
) {
    let get = |name: &str| defaults.get(name).cloned().flatten();
    let Ok(Expanded { text, used, .. }) = expand(&stage.base, escape, Quotes::Remove, &get) else {
        return;
    };
    let predefined = used.iter().any(|name| PLATFORM_ARGS.contains(&name.as_str()));
    let fine = stages.contains(&text.to_lowercase().as_str())
        || orlop_model::Reference::parse(&text).is_ok();
    if !used.is_empty() && !predefined && !fine {
        let message = format!(
            "Default value for ARG {} results in empty or invalid base image name",
            stage.base
        );
        found.add(Rule::InvalidDefaultArgInFrom, stage.lines, &stage.comments, message);
    }
}

fn platform(stage: &Stage, escape: char, found: &mut Found<'_>) {
    let Some(platform) = &stage.platform else { return };
    let mut add = |rule, message| found.add(rule, stage.lines, &stage.comments, message);
    if matches!(platform.as_str(), "$TARGETPLATFORM" | "${TARGETPLATFORM}") {
        let message = format!(
            "Setting platform to predefined {platform} in FROM is redundant as this is the default behavior"
        );
        add(Rule::RedundantTargetPlatform, message);
    }
    let expanded: Result<Expanded, ExpandError> =
        expand(platform, escape, Quotes::Remove, &|_: &str| None);
    let constant = expanded.is_ok_and(|expanded| expanded.used.is_empty());
    // A stage that is named for its platform is meant to be there for that one only.
    let named = stage.name.as_deref().is_some_and(|name| {
        platform.split('/').any(|part| !part.is_empty() && name.contains(&part.to_lowercase()))
    });
    if constant && !named {
        let message = format!("FROM --platform flag should not use constant value {platform:?}");
        add(Rule::FromPlatformFlagConstDisallowed, message);
    }
}
