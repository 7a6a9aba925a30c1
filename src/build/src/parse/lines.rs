//! Physical lines to logical ones: comments, continuation, and the bodies of heredocs.

use super::{Directives, Node, directives, heredoc};
use crate::{Diagnostic, Lines};

/// One instruction's text, continuation lines joined.
#[derive(Debug)]
pub(super) struct Logical {
    pub(super) text: String,
    pub(super) lines: Lines,
    pub(super) comments: Vec<String>,
}

/// Walks through the lines.
pub(super) struct Reader<'a> {
    /// Without their line ends.
    lines: Vec<&'a str>,
    next: usize,
    directives: Directives,
    empty_continuations: Vec<(Lines, String)>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: &'a str) -> Result<Self, Diagnostic> {
        let lines: Vec<&str> = source.lines().collect();
        let (directives, next) = directives::read(&lines)?;
        Ok(Self { lines, next, directives, empty_continuations: Vec::new() })
    }

    pub(super) fn escape(&self) -> char {
        self.directives.escape
    }

    pub(super) fn finish(self) -> (Directives, Vec<(Lines, String)>) {
        (self.directives, self.empty_continuations)
    }

    /// The next instruction's text, or nothing at the end.
    pub(super) fn next_logical(&mut self) -> Option<Logical> {
        let mut comments = Vec::new();
        let first = loop {
            let line = self.take()?;
            match comment(line) {
                Some(text) => comments.push(text.trim().to_owned()),
                None if line.trim().is_empty() => comments.clear(),
                None => break line,
            }
        };
        let start = self.next;
        let (mut text, mut more) = continued(first.trim_start(), self.escape());
        let mut had_empty = false;
        while more {
            let Some(line) = self.take() else { break };
            if comment(line).is_some() {
                continue;
            }
            if line.trim().is_empty() {
                had_empty = true;
                continue;
            }
            let (part, again) = continued(line, self.escape());
            text.push_str(&part);
            more = again;
        }
        let lines = Lines { first: start, last: self.next };
        if had_empty {
            self.empty_continuations.push((lines, text.trim().to_owned()));
        }
        Some(Logical { text, lines, comments })
    }

    /// Reads the bodies that the instruction announces.
    pub(super) fn read_heredocs(&mut self, node: &mut Node) -> Result<(), Diagnostic> {
        for mut here in heredoc::announced(node, self.escape()) {
            loop {
                let Some(line) = self.take() else {
                    let message = format!("unterminated heredoc: {:?} never ends", here.name);
                    return Err(Diagnostic::new(node.lines, message)
                        .at(format!("<<{}", here.name))
                        .expected(format!("a line with nothing but {}", here.name)));
                };
                let end = if here.chomp { line.trim_start_matches('\t') } else { line };
                if end == here.name {
                    break;
                }
                here.content.push_str(line);
                here.content.push('\n');
            }
            node.lines.last = self.next;
            node.heredocs.push(here);
        }
        Ok(())
    }

    fn take(&mut self) -> Option<&'a str> {
        let line = self.lines.get(self.next)?;
        self.next += 1;
        Some(line)
    }
}

/// What follows the `#` of a comment line.
fn comment(line: &str) -> Option<&str> {
    line.trim_start().strip_prefix('#')
}

/// The line without its escape at the end, and whether the next line belongs to it. An escape
/// that is itself escaped is none.
fn continued(line: &str, escape: char) -> (String, bool) {
    let trimmed = line.trim_end_matches([' ', '\t']);
    match trimmed.strip_suffix(escape) {
        Some(before) if !before.ends_with(escape) => (before.to_owned(), true),
        _ => (line.to_owned(), false),
    }
}
