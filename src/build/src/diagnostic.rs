//! What is wrong with a Dockerfile, where, what was expected instead, and what was probably meant.

use std::fmt;

/// Physical lines of a Dockerfile, from 1, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lines {
    /// The line with the instruction's name.
    pub first: usize,
    /// The last line of its continuation or of its last heredoc.
    pub last: usize,
}

/// An error in a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong: a lower-case fragment.
    pub message: String,
    /// Where.
    pub lines: Lines,
    /// The text within these lines that the caret goes under; without one it is the whole line.
    pub word: Option<String>,
    /// What could stand there.
    pub expected: Option<String>,
    /// What was probably meant, or what to do.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// An error at these lines.
    pub fn new(lines: Lines, message: impl Into<String>) -> Self {
        Self { message: message.into(), lines, word: None, expected: None, hint: None }
    }

    /// With the caret under the first occurrence of this text.
    #[must_use]
    pub fn at(mut self, word: impl Into<String>) -> Self {
        self.word = Some(word.into());
        self
    }

    /// With what could stand there.
    #[must_use]
    pub fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    /// With what was probably meant, where that is known.
    #[must_use]
    pub fn hint(mut self, hint: Option<impl Into<String>>) -> Self {
        self.hint = hint.map(Into::into).or(self.hint);
        self
    }

    /// The message with the line it is about and a caret under the word, over several lines.
    /// `name` is the Dockerfile's name and `source` its text.
    pub fn render(&self, name: &str, source: &str) -> String {
        let (number, column, width) = self.position(source);
        let mut out = format!("{name}:{number}: {}\n", self.message);
        if let Some(text) = source.lines().nth(number.saturating_sub(1)) {
            let gutter = number.to_string().len();
            // Tabs stay tabs in front of the caret, so that it stands below its word.
            let blank: String =
                text.chars().take(column).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            out += &format!("{:gutter$} |\n{number} | {text}\n", "");
            out += &format!("{:gutter$} | {blank}{}\n", "", "^".repeat(width.max(1)));
        }
        for (label, text) in [("expected", &self.expected), ("hint", &self.hint)] {
            if let Some(text) = text {
                out += &format!("  {label}: {text}\n");
            }
        }
        out
    }

    /// Line from 1, column in characters from 0, and width of what the caret marks.
    fn position(&self, source: &str) -> (usize, usize, usize) {
        let own = || {
            source
                .lines()
                .enumerate()
                .skip(self.lines.first.saturating_sub(1))
                .take(self.lines.last + 1 - self.lines.first)
        };
        if let Some(word) = self.word.as_deref().filter(|word| !word.is_empty()) {
            for (index, text) in own() {
                if let Some(at) = text.find(word) {
                    return (index + 1, text[..at].chars().count(), word.chars().count());
                }
            }
        }
        let text = own().next().map_or("", |(_, text)| text);
        let indent = text.chars().take_while(|c| c.is_whitespace()).count();
        (self.lines.first, indent, text.trim().chars().count())
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.lines.first, self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Diagnostic {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_below_its_word() {
        let source = "FROM a\nCOPY x \\\n\t--form=b y /z\n";
        let shown = Diagnostic::new(Lines { first: 2, last: 3 }, "unknown flag --form")
            .at("--form")
            .expected("--from")
            .hint(Some("did you mean --from?"))
            .render("Dockerfile", source);
        assert_eq!(
            shown,
            "Dockerfile:3: unknown flag --form\n  |\n3 | \t--form=b y /z\n  | \t^^^^^^\n  \
             expected: --from\n  hint: did you mean --from?\n"
        );
    }

    #[test]
    fn without_a_word_the_whole_line_is_marked() {
        let shown = Diagnostic::new(Lines { first: 1, last: 1 }, "no").render("D", "  RUN é");
        assert_eq!(shown, "D:1: no\n  |\n1 |   RUN é\n  |   ^^^^^\n");
    }
}
