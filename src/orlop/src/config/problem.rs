//! Mistakes in a configuration, each with its place, and how they are shown: all at once.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// Where each key that is not at its default was set.
pub(crate) type Origins = BTreeMap<String, Place>;

/// Something that sets keys, as TOML.
#[derive(Debug, PartialEq)]
pub(crate) struct Source {
    pub(crate) name: Name,
    pub(crate) text: String,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Name {
    File(PathBuf),
    /// A flag of the command line or a variable of the environment.
    Outside(String),
}

/// A place in a source.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Place {
    pub(crate) source: Arc<Source>,
    pub(crate) span: Range<usize>,
}

impl Place {
    /// Line and column, both from 1, columns in characters; the line's text; the mark's width.
    fn line(&self) -> (usize, usize, &str, usize) {
        let text = &self.source.text;
        let at = |index: usize| {
            let mut index = index.min(text.len());
            while !text.is_char_boundary(index) {
                index -= 1;
            }
            index
        };
        let (start, end) = (at(self.span.start), at(self.span.end));
        let begins = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let ends = text[begins..].find('\n').map_or(text.len(), |length| begins + length);
        let line = text[begins..ends].trim_end_matches('\r');
        let width = text[start..end.clamp(start, ends.max(start))].chars().count().max(1);
        let number = text[..begins].matches('\n').count() + 1;
        (number, text[begins..start].chars().count() + 1, line, width)
    }

    /// Number of the line, from 1.
    pub(crate) fn line_number(&self) -> usize {
        self.line().0
    }
}

/// `FILE:LINE`, or what else set the key.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source.name {
            Name::File(file) => write!(f, "{}:{}", file.display(), self.line_number()),
            Name::Outside(name) => f.write_str(name),
        }
    }
}

/// One mistake.
#[derive(Debug, PartialEq)]
pub(crate) struct Problem {
    /// `None`: not in any source.
    pub(crate) place: Option<Place>,
    pub(crate) message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(place) = &self.place else { return f.write_str(&self.message) };
        let (number, column, line, width) = place.line();
        match &place.source.name {
            Name::Outside(name) => write!(f, "{name}: {}", self.message),
            Name::File(file) => {
                let gutter = number.to_string().len();
                // A tab is as wide in the mark as in the line.
                let before = line.chars().take(column - 1);
                let indent: String = before.map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
                let line: String = line
                    .chars()
                    .map(|c| if c.is_control() && c != '\t' { '?' } else { c })
                    .collect();
                writeln!(f, "{}:{number}:{column}: {}", file.display(), self.message)?;
                writeln!(f, " {number} | {line}")?;
                write!(f, " {:gutter$} | {indent}{}", "", "^".repeat(width))
            }
        }
    }
}

/// Every mistake that was found, in the order of the sources.
#[derive(Debug)]
pub(crate) struct Problems(pub(crate) Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        let mistakes = if count == 1 { "mistake" } else { "mistakes" };
        write!(f, "the configuration has {count} {mistakes}")?;
        for problem in &self.0 {
            write!(f, "\n{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_under_the_word() {
        let text = "a = 1\r\n\tgrün = 'ü' # x\r\n";
        let source = Arc::new(Source { name: Name::File("/f".into()), text: text.into() });
        for (word, expected) in [
            ("grün", "/f:2:2: m\n 2 | \tgrün = 'ü' # x\n   | \t^^^^"),
            ("'ü'", "/f:2:9: m\n 2 | \tgrün = 'ü' # x\n   | \t       ^^^"),
            ("# x\r\n", "/f:2:13: m\n 2 | \tgrün = 'ü' # x\n   | \t           ^^^^"),
        ] {
            let start = text.find(word).unwrap();
            let place = Place { source: source.clone(), span: start..start + word.len() };
            let problem = Problem { place: Some(place), message: "m".into() };
            assert_eq!(problem.to_string(), expected, "{word:?}");
        }
    }

    #[test]
    fn any_span_has_a_place() {
        for text in ["", "\n", "ü", "a\nb"] {
            let source = Arc::new(Source { name: Name::File("/f".into()), text: text.into() });
            for start in 0..=text.len() + 2 {
                for end in start..=text.len() + 2 {
                    let place = Place { source: source.clone(), span: start..end };
                    let _ = Problem { place: Some(place), message: String::new() }.to_string();
                }
            }
        }
    }
}
