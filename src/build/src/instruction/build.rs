//! Nodes to instructions.

use super::flags::{Flags, Kind};
use super::{
    Command, CommandLine, Dockerfile, Instruction, Mount, NetworkMode, Run, SecurityMode, Stage,
    health, transfer,
};
use crate::parse::{Arguments, Node, Pair, Parsed};
use crate::{Diagnostic, Lines};

pub(super) fn dockerfile(parsed: Parsed) -> Result<Dockerfile, Diagnostic> {
    let mut arguments = Vec::new();
    let mut stages: Vec<Stage> = Vec::new();
    let mut last = Lines { first: 1, last: 1 };
    for node in parsed.nodes {
        last = node.lines;
        if node.keyword == "FROM" {
            stages.push(stage(node)?);
            continue;
        }
        let keyword = node.keyword;
        let command = command(node)?;
        match stages.last_mut() {
            Some(stage) => stage.commands.push(command),
            None if keyword == "ARG" => arguments.push(command),
            None => {
                let message = format!("no build stage in current context: {keyword} before FROM");
                return Err(Diagnostic::new(command.lines, message)
                    .at(command.written)
                    .expected("FROM, or ARG"));
            }
        }
    }
    if stages.is_empty() {
        let message = "dockerfile contains no stages to build";
        return Err(Diagnostic::new(last, message).expected("FROM image"));
    }
    Ok(Dockerfile {
        directives: parsed.directives,
        arguments,
        stages,
        empty_continuations: parsed.empty_continuations,
    })
}

fn stage(node: Node) -> Result<Stage, Diagnostic> {
    let flags = Flags::new(&node, &[("platform", Kind::Text)])?;
    let platform = flags.text("platform").filter(|platform| !platform.is_empty());
    let words = words(&node);
    let (base, written_as, written_name) = match words.as_slice() {
        [base] => (base.clone(), None, None),
        [base, word, name] if word.eq_ignore_ascii_case("as") => {
            (base.clone(), Some(word.clone()), Some(name.clone()))
        }
        _ => {
            let message = "FROM requires either one or three arguments";
            return Err(Diagnostic::new(node.lines, message).expected("FROM image [AS name]"));
        }
    };
    let name = written_name.as_ref().map(|name| stage_name(name, node.lines)).transpose()?;
    Ok(Stage {
        name,
        written_name,
        written_as,
        base,
        platform,
        written: node.written,
        lines: node.lines,
        comments: node.comments,
        commands: Vec::new(),
    })
}

fn stage_name(name: &str, lines: Lines) -> Result<String, Diagnostic> {
    let lower = name.to_lowercase();
    let first = lower.chars().next().is_some_and(|c| c.is_ascii_lowercase());
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    if first && lower.chars().all(plain) {
        return Ok(lower);
    }
    let message = format!(
        "invalid name for build stage: {name:?}, name can't start with a number or contain symbols"
    );
    Err(Diagnostic::new(lines, message)
        .at(name)
        .expected("a letter, then letters, digits, '-', '_' and '.'"))
}

/// Words of an instruction whose form does not matter.
fn words(node: &Node) -> Vec<String> {
    match &node.arguments {
        Arguments::Json(words) | Arguments::Words { words, .. } => words.clone(),
        _ => Vec::new(),
    }
}

pub(super) fn command_line(arguments: &Arguments) -> CommandLine {
    match arguments {
        Arguments::Json(words) => CommandLine::Exec(words.clone()),
        Arguments::Words { words, broken_json } => {
            CommandLine::Shell { text: words.join(" "), broken_json: *broken_json }
        }
        _ => CommandLine::Shell { text: String::new(), broken_json: false },
    }
}

pub(super) fn command(node: Node) -> Result<Command, Diagnostic> {
    let instruction = instruction(&node)?;
    Ok(Command { instruction, written: node.written, lines: node.lines, comments: node.comments })
}

fn instruction(node: &Node) -> Result<Instruction, Diagnostic> {
    if !matches!(node.keyword, "ADD" | "COPY" | "RUN" | "HEALTHCHECK" | "FROM") {
        Flags::new(node, &[])?;
    }
    Ok(match node.keyword {
        "ADD" => Instruction::Add(transfer::transfer(node)?),
        "COPY" => Instruction::Copy(transfer::transfer(node)?),
        "ARG" => Instruction::Arg(arg(node)?),
        "CMD" => Instruction::Cmd(command_line(&node.arguments)),
        "ENTRYPOINT" => Instruction::Entrypoint(command_line(&node.arguments)),
        "ENV" => Instruction::Env(pairs(node)?),
        "LABEL" => Instruction::Label(pairs(node)?),
        "EXPOSE" => Instruction::Expose(some(node)?),
        "HEALTHCHECK" => Instruction::Healthcheck(health::healthcheck(node)?),
        "MAINTAINER" => Instruction::Maintainer(one(node)?),
        "ONBUILD" => Instruction::Onbuild(trigger(node)?),
        "RUN" => Instruction::Run(run(node)?),
        "SHELL" => Instruction::Shell(shell(node)?),
        "STOPSIGNAL" => Instruction::StopSignal(one(node)?),
        "USER" => Instruction::User(one(node)?),
        "VOLUME" => Instruction::Volume(some(node)?),
        "WORKDIR" => Instruction::Workdir(one(node)?),
        other => return Err(Diagnostic::new(node.lines, format!("{other} cannot stand here"))),
    })
}

fn one(node: &Node) -> Result<String, Diagnostic> {
    let mut found = words(node);
    match (found.pop(), found.is_empty()) {
        (Some(word), true) => Ok(word),
        _ => {
            let message = format!("{} requires exactly one argument", node.keyword);
            Err(Diagnostic::new(node.lines, message))
        }
    }
}

fn some(node: &Node) -> Result<Vec<String>, Diagnostic> {
    let found = words(node);
    if found.is_empty() || found.iter().any(|word| word.trim().is_empty()) {
        let message = format!("{} requires at least one argument", node.keyword);
        return Err(Diagnostic::new(node.lines, message));
    }
    Ok(found)
}

fn arg(node: &Node) -> Result<Vec<(String, Option<String>)>, Diagnostic> {
    let item = |word: String| {
        let (key, value) = match word.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (word.clone(), None),
        };
        if key.is_empty() {
            return Err(Diagnostic::new(node.lines, "ARG names can not be blank")
                .at(word)
                .expected("ARG name[=default]"));
        }
        Ok((key, value))
    };
    some(node)?.into_iter().map(item).collect()
}

fn pairs(node: &Node) -> Result<Vec<Pair>, Diagnostic> {
    let Arguments::Pairs(pairs) = &node.arguments else { return Ok(Vec::new()) };
    if pairs.iter().any(|pair| pair.key.is_empty()) {
        let message = format!("{} names can not be blank", node.keyword);
        return Err(Diagnostic::new(node.lines, message));
    }
    Ok(pairs.clone())
}

fn shell(node: &Node) -> Result<Vec<String>, Diagnostic> {
    match &node.arguments {
        Arguments::Json(words) if !words.is_empty() => Ok(words.clone()),
        _ => Err(Diagnostic::new(node.lines, "SHELL requires the arguments to be in JSON form")
            .expected("SHELL [\"/bin/sh\", \"-c\"]")),
    }
}

/// The trigger's text with its heredocs, as it will be parsed again in the child.
fn trigger(node: &Node) -> Result<String, Diagnostic> {
    let Arguments::Trigger(inner) = &node.arguments else {
        return Err(Diagnostic::new(node.lines, "ONBUILD requires an instruction"));
    };
    match inner.keyword {
        "ONBUILD" => {
            return Err(Diagnostic::new(
                node.lines,
                "chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
            ));
        }
        "FROM" | "MAINTAINER" => {
            let message = format!("{} isn't allowed as an ONBUILD trigger", inner.keyword);
            return Err(Diagnostic::new(node.lines, message).at(inner.written.as_str()));
        }
        _ => {}
    }
    let mut complete = Node::clone(inner);
    complete.heredocs.clone_from(&node.heredocs);
    instruction(&complete)?;
    let mut text = node.rest.clone();
    for here in &node.heredocs {
        text += &format!("\n{}{}", here.content, here.name);
    }
    Ok(text)
}

fn run(node: &Node) -> Result<Run, Diagnostic> {
    let known = [("mount", Kind::List), ("network", Kind::Text), ("security", Kind::Text)];
    let flags = Flags::new(node, &known)?;
    let command = command_line(&node.arguments);
    let empty = match &command {
        CommandLine::Shell { text, .. } => text.is_empty(),
        CommandLine::Exec(words) => words.is_empty(),
    };
    if empty {
        return Err(Diagnostic::new(node.lines, "RUN requires a command"));
    }
    let mounts = flags.list("mount");
    for mount in &mounts {
        check_mount(mount, node.lines)?;
    }
    let wrong = |name: &str, value: &str, expected: &str| {
        Diagnostic::new(node.lines, format!("invalid --{name} {value:?}"))
            .at(format!("--{name}={value}"))
            .expected(expected)
    };
    let network = match flags.text("network").as_deref() {
        None => None,
        Some("default") => Some(NetworkMode::Default),
        Some("none") => Some(NetworkMode::None),
        Some("host") => Some(NetworkMode::Host),
        Some(other) => return Err(wrong("network", other, "default, none or host")),
    };
    let security = match flags.text("security").as_deref() {
        None | Some("sandbox") => SecurityMode::Sandbox,
        Some("insecure") => SecurityMode::Insecure,
        Some(other) => return Err(wrong("security", other, "sandbox or insecure")),
    };
    Ok(Run { command, heredocs: node.heredocs.clone(), mounts, network, security })
}

/// What can be checked of a mount before its variables have values.
fn check_mount(text: &str, lines: Lines) -> Result<(), Diagnostic> {
    let mut variables = false;
    let checked = Mount::parse(text, lines, &mut |value| {
        variables |= value.contains('$');
        Ok(value.to_owned())
    });
    match checked {
        // A value that is still a variable may become anything, but a key does not.
        Err(error) if !variables || error.message.contains("'from'") => Err(error),
        Err(error) if error.message.starts_with("unexpected key") => Err(error),
        _ => Ok(()),
    }
}
