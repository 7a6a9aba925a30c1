//! `.dockerignore`: which files of a context a build does not see.

use crate::pattern::{Pattern, clean};

/// Rules of one ignore file, or of `COPY --exclude`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IgnoreRules {
    rules: Vec<IgnoreRule>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IgnoreRule {
    /// As written.
    pub text: String,
    /// Its line, from 1.
    pub line: usize,
    /// `!`: what matches is seen again.
    pub exception: bool,
    pattern: Pattern,
    /// The pattern's directories, for asking whether an exception can lie below a directory.
    parts: Vec<String>,
}

/// A rule that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}: {text:?}")]
pub struct IgnoreError {
    /// Its line, from 1.
    pub line: usize,
    /// What is wrong.
    pub message: &'static str,
    /// The rule.
    pub text: String,
}

impl IgnoreRules {
    /// Reads an ignore file.
    pub fn parse(text: &str) -> Result<Self, IgnoreError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#'));
        Self::from_lines(lines.map(|(index, line)| (index + 1, line)))
    }

    /// Rules given one by one, as `--exclude` has them.
    pub fn from_patterns<'a>(
        patterns: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, IgnoreError> {
        Self::from_lines(patterns.into_iter().enumerate().map(|(index, text)| (index + 1, text)))
    }

    fn from_lines<'a>(lines: impl Iterator<Item = (usize, &'a str)>) -> Result<Self, IgnoreError> {
        let mut rules = Vec::new();
        for (line, text) in lines {
            let text = text.trim();
            if text.is_empty() {
                continue;
            }
            let (exception, rest) = match text.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, text),
            };
            let wrong = |message| IgnoreError { line, message, text: text.to_owned() };
            if rest.is_empty() {
                return Err(wrong("illegal exclusion pattern"));
            }
            let cleaned = clean(rest);
            let cleaned = match cleaned.strip_prefix('/') {
                Some(relative) if !relative.is_empty() => relative.to_owned(),
                _ => cleaned,
            };
            let pattern = Pattern::new(&cleaned).map_err(|_| wrong("syntax error in pattern"))?;
            let parts = cleaned.split('/').map(str::to_owned).collect();
            rules.push(IgnoreRule { text: text.to_owned(), line, exception, pattern, parts });
        }
        Ok(Self { rules })
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether the path, relative and clean, is hidden.
    pub fn hides(&self, path: &str) -> bool {
        self.decides(path).is_some_and(|rule| !rule.exception)
    }

    /// The rule that decides about the path: the last one that matches it or a directory above.
    pub fn decides(&self, path: &str) -> Option<&IgnoreRule> {
        self.rules.iter().rev().find(|rule| rule.covers(path))
    }

    /// Whether something below a hidden directory can be seen by an exception.
    pub fn may_show_below(&self, dir: &str) -> bool {
        self.rules.iter().any(|rule| rule.exception && rule.may_lie_below(dir))
    }
}

impl IgnoreRule {
    /// The path or one of its directories matches.
    fn covers(&self, path: &str) -> bool {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        ends.into_iter().any(|end| self.pattern.matches(&path[..end]))
    }

    fn may_lie_below(&self, dir: &str) -> bool {
        for (index, part) in dir.split('/').enumerate() {
            let Some(own) = self.parts.get(index) else { return true };
            if own.contains("**") {
                return true;
            }
            if !Pattern::new(own).is_ok_and(|pattern| pattern.matches(part)) {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_rule_that_matches_decides() {
        let rules = IgnoreRules::parse(
            "\u{feff}# a comment\n  /vendor/  \n*.log\n!keep.log\nsrc/**/*.tmp\n\na/b\n!a/b/c\n",
        )
        .unwrap();
        for (path, hidden) in [
            ("vendor", true),
            ("vendor/x/y", true),
            ("src/vendor", false),
            ("x.log", true),
            ("keep.log", false),
            ("d/x.log", false),
            ("src/q.tmp", true),
            ("src/deep/er/q.tmp", true),
            ("a", false),
            ("a/b", true),
            ("a/b/d", true),
            ("a/b/c", false),
            ("a/b/c/d", false),
        ] {
            assert_eq!(rules.hides(path), hidden, "{path}");
        }
        assert_eq!(rules.decides("vendor/x").unwrap().line, 2);
        assert!(rules.may_show_below("a/b"));
        assert!(!rules.may_show_below("vendor"));
    }

    #[test]
    fn a_comment_is_one_at_the_first_column_only() {
        let rules = IgnoreRules::parse(" #x\n").unwrap();
        assert!(rules.hides("#x"));
    }

    #[test]
    fn a_rule_that_cannot_be_read_is_an_error() {
        for (text, message) in
            [("a\n!\n", "illegal exclusion pattern"), ("[a", "syntax error in pattern")]
        {
            let error = IgnoreRules::parse(text).unwrap_err();
            assert_eq!(error.message, message);
        }
    }

    proptest! {
        #[test]
        fn everything_below_a_hidden_directory_is_hidden(dir in "[a-c]{1,3}", below in "[a-c/]{1,6}") {
            let rules = IgnoreRules::parse(&dir).unwrap();
            let path = format!("{dir}/{}", below.trim_matches('/'));
            prop_assert!(rules.hides(&path));
        }

        #[test]
        fn nothing_panics(text in "[a-c!*#/ \n\\[\\]?.]{0,24}", path in "[a-c/.]{0,10}") {
            if let Ok(rules) = IgnoreRules::parse(&text) {
                rules.hides(&path);
                rules.may_show_below(&path);
            }
        }
    }
}
