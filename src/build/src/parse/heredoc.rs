//! Bodies that follow an instruction: `<<EOF`.

use super::{Arguments, Node, words};

/// One body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The delimiter, and the name of the file that `COPY` makes.
    pub name: String,
    /// The delimiter is not quoted: words in the body are expanded.
    pub expand: bool,
    /// `<<-`: leading tabs are taken away.
    pub chomp: bool,
    /// The descriptor in front, as written; mostly empty.
    pub descriptor: String,
    /// The body as written, each line with its newline.
    pub content: String,
}

impl Heredoc {
    /// The body as the instruction sees it: without leading tabs where `<<-` says so.
    pub fn text(&self) -> String {
        if !self.chomp {
            return self.content.clone();
        }
        let lines = self.content.split_inclusive('\n');
        lines.map(|line| line.trim_start_matches('\t')).collect()
    }
}

/// What the instruction announces, in order, still without bodies.
pub(super) fn announced(node: &Node, escape: char) -> Vec<Heredoc> {
    let node = match &node.arguments {
        Arguments::Trigger(inner) => inner,
        _ => node,
    };
    let can = matches!(node.keyword, "ADD" | "COPY" | "RUN");
    if !can || matches!(node.arguments, Arguments::Json(_)) || !node.rest.contains("<<") {
        return Vec::new();
    }
    words::words(&node.rest, escape).iter().filter_map(|word| heredoc(word)).collect()
}

/// A heredoc from a word as written; anything else is none.
pub(crate) fn heredoc(word: &str) -> Option<Heredoc> {
    let digits = word.len() - word.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (descriptor, rest) = word.split_at(digits);
    let rest = rest.strip_prefix("<<")?;
    let (chomp, raw) = match rest.strip_prefix('-') {
        Some(raw) => (true, raw),
        None => (false, rest),
    };
    if raw.is_empty() || raw.contains('<') {
        return None;
    }
    let name = unquoted(raw)?;
    let expand = name == raw;
    let descriptor = descriptor.to_owned();
    Some(Heredoc { name, expand, chomp, descriptor, content: String::new() })
}

/// The delimiter without its quotes; `None` where they do not match.
fn unquoted(raw: &str) -> Option<String> {
    let mut name = String::new();
    let mut quote = None;
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        match quote {
            None if c == '"' || c == '\'' => quote = Some(c),
            Some(open) if c == open => quote = None,
            None if c == '\\' => name.extend(chars.next()),
            _ => name.push(c),
        }
    }
    (quote.is_none() && !name.is_empty()).then_some(name)
}
