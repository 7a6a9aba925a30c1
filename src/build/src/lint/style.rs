//! Rules about how a file is written.

use super::{Found, Rule};
use crate::instruction::{Command, CommandLine, Dockerfile, Instruction, Stage};
use std::collections::HashMap;

pub(super) fn check(file: &Dockerfile, found: &mut Found<'_>) {
    for (lines, text) in &file.empty_continuations {
        let last = crate::Lines { first: lines.last, last: lines.last };
        let message = format!("Empty continuation line found in: {text}");
        found.add(Rule::NoEmptyContinuation, last, &[], message);
    }
    casing(file, found);
    let mut names = Vec::new();
    for stage in &file.stages {
        stage_names(stage, &mut names, found);
        let mut shell = false;
        let mut last: HashMap<&str, &Command> = HashMap::new();
        for command in &stage.commands {
            shell |= matches!(command.instruction, Instruction::Shell(_));
            one(command, shell, found);
            let keyword = command.instruction.keyword();
            if matches!(keyword, "CMD" | "ENTRYPOINT" | "HEALTHCHECK")
                && let Some(earlier) = last.insert(keyword, command)
            {
                let message = format!(
                    "Multiple {keyword} instructions should not be used in the same stage because only the last one will be used"
                );
                found.on(Rule::MultipleInstructionsDisallowed, earlier, message);
            }
        }
    }
    descriptions(file, found);
}

fn is_lower(word: &str) -> bool {
    word == word.to_lowercase()
}

fn is_upper(word: &str) -> bool {
    word == word.to_uppercase()
}

fn casing(file: &Dockerfile, found: &mut Found<'_>) {
    let words = || {
        file.stages.iter().flat_map(|stage| {
            let own = (&stage.written, stage.lines, &stage.comments);
            let commands = stage.commands.iter().map(|c| (&c.written, c.lines, &c.comments));
            std::iter::once(own).chain(commands)
        })
    };
    let lower = words().filter(|(word, ..)| is_lower(word)).count();
    let upper = words().filter(|(word, ..)| is_upper(word)).count();
    let (name, follows): (_, fn(&str) -> bool) =
        if lower > upper { ("lowercase", is_lower) } else { ("uppercase", is_upper) };
    for (word, lines, comments) in words().filter(|(word, ..)| !follows(word)) {
        let message =
            format!("Command '{word}' should match the case of the command majority ({name})");
        found.add(Rule::ConsistentInstructionCasing, lines, comments, message);
    }
}

fn stage_names<'a>(stage: &'a Stage, names: &mut Vec<&'a str>, found: &mut Found<'_>) {
    let mut add = |rule, message| found.add(rule, stage.lines, &stage.comments, message);
    if let Some(word) = &stage.written_as {
        let from = &stage.written;
        if is_lower(word) != is_lower(from) || is_upper(word) != is_upper(from) {
            let fits = |is: fn(&str) -> bool| is(word) && is(from);
            // A FROM of mixed case has its own rule.
            if (is_lower(from) || is_upper(from)) && !fits(is_lower) && !fits(is_upper) {
                let message = format!("'{word}' and '{from}' keywords' casing do not match");
                add(Rule::FromAsCasing, message);
            }
        }
    }
    let (Some(name), Some(written)) = (&stage.name, &stage.written_name) else { return };
    if !is_lower(written) {
        add(Rule::StageNameCasing, format!("Stage name '{written}' should be lowercase"));
    }
    if matches!(name.as_str(), "scratch" | "context") {
        let message = format!("Stage name should not use the same name as reserved stage {name:?}");
        add(Rule::ReservedStageName, message);
    }
    if names.contains(&name.as_str()) {
        let message = format!("Duplicate stage name {name:?}, stage names should be unique");
        add(Rule::DuplicateStageName, message);
    }
    names.push(name);
}

fn one(command: &Command, own_shell: bool, found: &mut Found<'_>) {
    let keyword = command.instruction.keyword();
    match &command.instruction {
        Instruction::Cmd(CommandLine::Shell { .. })
        | Instruction::Entrypoint(CommandLine::Shell { .. })
            if !own_shell =>
        {
            let message = format!(
                "JSON arguments recommended for {keyword} to prevent unintended behavior related to OS signals"
            );
            found.on(Rule::JSONArgsRecommended, command, message);
        }
        Instruction::Maintainer(_) => {
            let message = "Maintainer instruction is deprecated in favor of using label";
            found.on(Rule::MaintainerDeprecated, command, message.into());
        }
        Instruction::Env(pairs) | Instruction::Label(pairs)
            if pairs.iter().any(|pair| !pair.equals) =>
        {
            let message = format!(
                "\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" format"
            );
            found.on(Rule::LegacyKeyValueFormat, command, message);
        }
        _ => {}
    }
    let names: Vec<&str> = match &command.instruction {
        Instruction::Env(pairs) => pairs.iter().map(|pair| pair.key.as_str()).collect(),
        Instruction::Arg(items) => items.iter().map(|(name, _)| name.as_str()).collect(),
        _ => Vec::new(),
    };
    for name in names.into_iter().filter(|name| is_secret(name)) {
        let message =
            format!("Do not use ARG or ENV instructions for sensitive data ({keyword} {name:?})");
        found.on(Rule::SecretsUsedInArgOrEnv, command, message);
    }
}

/// Whether a name reads like a secret: one of its words does, and none says that it is public or
/// that the value only tells where or which.
fn is_secret(name: &str) -> bool {
    const SECRET: [&str; 10] = [
        "apikey",
        "auth",
        "credential",
        "credentials",
        "key",
        "password",
        "pword",
        "passwd",
        "secret",
        "token",
    ];
    let lower = name.to_lowercase();
    let words: Vec<&str> = lower.split('_').collect();
    let harmless = words.contains(&"public")
        || words.last().is_some_and(|last| matches!(*last, "file" | "version"));
    !harmless && words.iter().any(|word| SECRET.contains(word))
}

fn descriptions(file: &Dockerfile, found: &mut Found<'_>) {
    let format = "follow the format: `# <arg/stage name> <description>`. If this is not intended to be a description comment, add an empty line or comment between the instruction and the comment.";
    let mut check = |kind: &str, names: &[&str], lines, comments: &[String]| {
        let Some(comment) = comments.last() else { return };
        let first = comment.split_whitespace().next().unwrap_or_default();
        if !comment.starts_with("check=") && !names.contains(&first) {
            let message = format!("Comment for {kind} should {format}");
            found.add(Rule::InvalidDefinitionDescription, lines, comments, message);
        }
    };
    for stage in &file.stages {
        if let Some(name) = &stage.written_name {
            check("build stage", &[name.as_str()], stage.lines, &stage.comments);
        }
    }
    let commands = file.stages.iter().flat_map(|stage| &stage.commands).chain(&file.arguments);
    for command in commands {
        if let Instruction::Arg(items) = &command.instruction {
            let names: Vec<&str> = items.iter().map(|(name, _)| name.as_str()).collect();
            check("argument", &names, command.lines, &command.comments);
        }
    }
}
