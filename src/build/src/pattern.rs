//! Path patterns: Go's `filepath.Match` with `**` for any depth, as ignore files and `--exclude`
//! have it. Matching walks the text once with the set of places in the pattern, so that no pattern
//! takes long.

/// A pattern that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern {0:?}")]
pub struct PatternError(pub String);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Char(char),
    /// `?`: one character of a name.
    One,
    /// `*`: any characters of a name.
    Star,
    /// `**/`: any number of whole directories, also none.
    Deep,
    /// `**` at the end: everything.
    Rest,
    /// `[a-z]`, `[^a]`.
    Class(bool, Vec<(char, char)>),
}

/// A compiled pattern for a whole path without leading slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    tokens: Vec<Token>,
}

impl Pattern {
    /// Compiles.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        let wrong = || PatternError(text.to_owned());
        let mut tokens = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' if chars.next_if_eq(&'*').is_some() => {
                    chars.next_if_eq(&'/');
                    if chars.peek().is_some() { Token::Deep } else { Token::Rest }
                }
                '*' => Token::Star,
                '?' => Token::One,
                '\\' => Token::Char(chars.next().ok_or_else(wrong)?),
                '[' => class(&mut chars).ok_or_else(wrong)?,
                c => Token::Char(c),
            });
        }
        Ok(Self { tokens })
    }

    /// Whether the text has characters that mean something in a pattern.
    pub fn is_pattern(text: &str) -> bool {
        text.contains(['*', '?', '[', '\\'])
    }

    /// Whether the whole path matches.
    pub fn matches(&self, path: &str) -> bool {
        let end = self.tokens.len();
        let mut places = Places::new(end);
        places.enter(&self.tokens, 0);
        for c in path.chars() {
            let mut next = Places::new(end);
            for (at, token) in self.tokens.iter().enumerate() {
                let fresh = places.fresh[at];
                match token {
                    Token::Deep if fresh || places.inside[at] => {
                        next.inside[at] = true;
                        if c == '/' {
                            next.enter(&self.tokens, at + 1);
                        }
                    }
                    Token::Rest if fresh => next.fresh[at] = true,
                    Token::Star if fresh && c != '/' => next.enter(&self.tokens, at),
                    _ if fresh && token.is(c) => next.enter(&self.tokens, at + 1),
                    _ => {}
                }
            }
            places = next;
        }
        places.fresh[end]
            || places.fresh.iter().zip(&self.tokens).any(|(on, t)| *on && *t == Token::Rest)
    }
}

impl Token {
    fn is(&self, c: char) -> bool {
        match self {
            Self::Char(own) => *own == c,
            Self::One => c != '/',
            Self::Class(negated, ranges) => {
                c != '/' && *negated != ranges.iter().any(|(low, high)| (*low..=*high).contains(&c))
            }
            _ => false,
        }
    }
}

/// Places in the pattern where the text so far can have led.
struct Places {
    fresh: Vec<bool>,
    /// Within the directories that a `**/` takes.
    inside: Vec<bool>,
}

impl Places {
    fn new(end: usize) -> Self {
        Self { fresh: vec![false; end + 1], inside: vec![false; end + 1] }
    }

    /// Marks a place and those that follow without a character.
    fn enter(&mut self, tokens: &[Token], mut at: usize) {
        while !std::mem::replace(&mut self.fresh[at], true) {
            match tokens.get(at) {
                Some(Token::Star | Token::Deep) => at += 1,
                _ => return,
            }
        }
    }
}

fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Token> {
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        let low = match chars.next()? {
            ']' if !ranges.is_empty() => return Some(Token::Class(negated, ranges)),
            ']' | '-' => return None,
            '\\' => chars.next()?,
            c => c,
        };
        let mut high = low;
        if chars.next_if_eq(&'-').is_some() {
            high = match chars.next()? {
                ']' => return None,
                '\\' => chars.next()?,
                c => c,
            };
        }
        ranges.push((low, high));
    }
}

/// The path without `.`, empty parts and what `..` takes back; `.` where nothing is left. A leading
/// slash stays, and `..` cannot lead above it.
pub fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn matches_as_documented() {
        for (pattern, path, expected) in [
            ("a", "a", true),
            ("a", "b", false),
            ("*", "a", true),
            ("*", "a/b", false),
            ("a/*", "a/b", true),
            ("*.md", "x.md", true),
            ("?.md", "xy.md", false),
            ("**", "a/b/c", true),
            ("**/b", "b", true),
            ("**/b", "a/c/b", true),
            ("**/b", "ab", false),
            ("a/**/b", "a/b", true),
            ("a/**/b", "a/x/y/b", true),
            ("a/**", "a/b/c", true),
            ("a/**", "a", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("a\\[0]", "a[0]", true),
            ("**foo", "a/foo", true),
            ("", "", true),
        ] {
            assert_eq!(Pattern::new(pattern).unwrap().matches(path), expected, "{pattern} {path}");
        }
        for bad in ["[", "[a", "a[-", "x\\", "[]a]"] {
            assert!(Pattern::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn cleans_as_go_does() {
        for (path, expected) in [
            ("", "."),
            ("a/", "a"),
            ("./a//b", "a/b"),
            ("a/../..", ".."),
            ("/..", "/"),
            ("/a/../b", "/b"),
            ("../a", "../a"),
        ] {
            assert_eq!(clean(path), expected, "{path}");
        }
    }

    proptest! {
        #[test]
        fn a_name_matches_itself_and_the_star(name in "[a-z.]{1,8}(/[a-z.]{1,8}){0,3}") {
            prop_assert!(Pattern::new(&name).unwrap().matches(&name));
            prop_assert!(Pattern::new("**").unwrap().matches(&name));
            prop_assert_eq!(Pattern::new("*").unwrap().matches(&name), !name.contains('/'));
        }

        #[test]
        fn nothing_panics(pattern in "[a/*?\\[\\]^\\\\-]{0,12}", path in "[a/b]{0,12}") {
            if let Ok(pattern) = Pattern::new(&pattern) {
                pattern.matches(&path);
            }
        }

        #[test]
        fn clean_is_stable(path in "[a./]{0,16}") {
            let once = clean(&path);
            prop_assert_eq!(clean(&once), once.clone());
        }
    }
}
