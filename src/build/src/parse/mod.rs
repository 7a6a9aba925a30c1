//! Text of a Dockerfile to nodes: one for each instruction, with its flags, words and heredocs.
//! Pure, without I/O; every input gives nodes or a [`Diagnostic`].

mod arguments;
mod directives;
mod heredoc;
mod json;
mod lines;
mod words;

pub use directives::{Directives, detect_syntax};
pub use heredoc::Heredoc;
pub(crate) use heredoc::heredoc;
pub(crate) use words::key_values;

use crate::{Diagnostic, Lines};
use lines::Logical;

/// One instruction, before its meaning is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The name in upper case.
    pub keyword: &'static str,
    /// The name as written.
    pub written: String,
    /// Everything after the name, continuation lines joined.
    pub rest: String,
    /// Flags with their dashes, quotes taken away, in order.
    pub flags: Vec<String>,
    /// What follows the flags, by the instruction's own rules.
    pub arguments: Arguments,
    /// Bodies that follow the instruction.
    pub heredocs: Vec<Heredoc>,
    /// Comment lines directly above, without their `#`.
    pub comments: Vec<String>,
    /// Where it stands.
    pub lines: Lines,
}

/// The part of an instruction after its flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arguments {
    /// A JSON array of strings: the exec form.
    Json(Vec<String>),
    /// Words, or the one text of a shell form. `broken_json` says that it looked like JSON.
    Words {
        /// The words as written, quotes included.
        words: Vec<String>,
        /// It starts like a JSON array, but is none.
        broken_json: bool,
    },
    /// `ENV` and `LABEL`.
    Pairs(Vec<Pair>),
    /// `HEALTHCHECK`: type and command.
    Health(String, Box<Arguments>),
    /// `ONBUILD`.
    Trigger(Box<Node>),
}

/// A name and its value as written, quotes included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Left of the equals sign.
    pub key: String,
    /// Right of it.
    pub value: String,
    /// Written with an equals sign; the old form has a blank.
    pub equals: bool,
}

/// A parsed file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// The directives at the top.
    pub directives: Directives,
    /// All instructions.
    pub nodes: Vec<Node>,
    /// Instructions with an empty line inside their continuation, and their joined text.
    pub empty_continuations: Vec<(Lines, String)>,
}

/// Instructions by name.
pub(crate) const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Parses the text of a Dockerfile.
pub fn parse(source: &str) -> Result<Parsed, Diagnostic> {
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    let mut reader = lines::Reader::new(source)?;
    let mut nodes = Vec::new();
    while let Some(logical) = reader.next_logical() {
        let mut node = node(&logical, reader.escape())?;
        reader.read_heredocs(&mut node)?;
        nodes.push(node);
    }
    let (directives, empty_continuations) = reader.finish();
    if nodes.is_empty() {
        let only = Lines { first: 1, last: 1 };
        let message = if source.trim().is_empty() {
            "the Dockerfile cannot be empty"
        } else {
            "file with no instructions"
        };
        return Err(Diagnostic::new(only, message).expected("FROM image"));
    }
    Ok(Parsed { directives, nodes, empty_continuations })
}

/// The instruction in one logical line; its heredocs are still to be read.
fn node(logical: &Logical, escape: char) -> Result<Node, Diagnostic> {
    let mut node = instruction(&logical.text, logical.lines, escape)?;
    node.comments.clone_from(&logical.comments);
    Ok(node)
}

/// An instruction that an image carries for the ones built on it (`ONBUILD`).
pub fn parse_trigger(text: &str) -> Result<Node, Diagnostic> {
    let parsed = parse(text)?;
    let lines = Lines { first: 1, last: 1 };
    let mut nodes = parsed.nodes.into_iter();
    match (nodes.next(), nodes.next()) {
        (Some(node), None) => Ok(node),
        _ => Err(Diagnostic::new(lines, "an ONBUILD trigger must be one instruction")),
    }
}

fn instruction(text: &str, lines: Lines, escape: char) -> Result<Node, Diagnostic> {
    let text = text.trim();
    let (written, rest) = text.split_once(words::is_space).unwrap_or((text, ""));
    let rest = rest.trim();
    let upper = written.to_ascii_uppercase();
    let Some(keyword) = KEYWORDS.into_iter().find(|keyword| *keyword == upper) else {
        let meant = crate::suggest::nearest(&upper, KEYWORDS);
        return Err(Diagnostic::new(lines, format!("unknown instruction: {written}"))
            .at(written)
            .expected("an instruction such as FROM, RUN or COPY")
            .hint(meant.map(|meant| format!("did you mean {meant}?"))));
    };
    let (flags, after) = words::flags(rest, escape);
    let arguments = arguments::arguments(keyword, after, lines, escape)?;
    Ok(Node {
        keyword,
        written: written.to_owned(),
        rest: rest.to_owned(),
        flags,
        arguments,
        heredocs: Vec::new(),
        comments: Vec::new(),
        lines,
    })
}

#[cfg(test)]
mod tests;
