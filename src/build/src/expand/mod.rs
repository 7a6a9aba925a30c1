//! Variables in words: `$v`, `${v:-w}`, `${v#p}`, `${v//p/r}` and the rest, with quotes and
//! escapes. Pure: the same word with the same variables gives the same text.

mod pattern;

use pattern::Pattern;
use std::collections::BTreeSet;

/// Gives names their values.
pub trait Variables {
    /// The value, or nothing where the name is not set.
    fn get(&self, name: &str) -> Option<String>;
}

impl<F: Fn(&str) -> Option<String>> Variables for F {
    fn get(&self, name: &str) -> Option<String> {
        self(name)
    }
}

/// Why a word cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// A quote or brace that does not end.
    #[error("unexpected end of statement while looking for matching {0}")]
    Unfinished(&'static str),
    /// `${}`.
    #[error("syntax error: bad substitution in {0:?}")]
    BadSubstitution(String),
    /// `${v=x}`.
    #[error("unsupported modifier ({modifier}) in the substitution of {name:?}")]
    Modifier {
        /// The variable.
        name: String,
        /// What follows it.
        modifier: String,
    },
    /// `${v:?message}`.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// The message of the Dockerfile.
        message: String,
    },
    /// Substitutions within substitutions, more than anyone writes.
    #[error("substitutions are nested more than {0} deep")]
    Depth(usize),
}

/// What a word became.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expanded {
    /// The text.
    pub text: String,
    /// The text split at blanks that are neither quoted nor escaped.
    pub words: Vec<String>,
    /// Names that were asked for and have no value.
    pub unset: BTreeSet<String>,
    /// Names that were asked for.
    pub used: BTreeSet<String>,
}

/// How quotes are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quotes {
    /// They group and go away.
    Remove,
    /// They are text, as in the body of a heredoc.
    Keep,
}

const DEPTH: usize = 64;

/// Expands a word. `escape` is the Dockerfile's escape character.
pub fn expand(
    word: &str,
    escape: char,
    quotes: Quotes,
    variables: &dyn Variables,
) -> Result<Expanded, ExpandError> {
    let mut lexer = Lexer {
        chars: word.chars().collect(),
        at: 0,
        escape,
        quotes,
        variables,
        depth: 0,
        out: Expanded::default(),
    };
    let mut words = Words::default();
    let text = lexer.until(None, false, &mut words)?;
    Ok(Expanded { text, words: words.finish(), ..lexer.out })
}

/// Collects words at blanks.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    word: String,
    inside: bool,
}

impl Words {
    fn raw(&mut self, text: &str) {
        self.word.push_str(text);
        self.inside = true;
    }

    fn split(&mut self, text: &str) {
        for c in text.chars() {
            if !c.is_whitespace() {
                self.word.push(c);
                self.inside = true;
            } else if std::mem::take(&mut self.inside) {
                self.done.push(std::mem::take(&mut self.word));
            }
        }
    }

    fn finish(mut self) -> Vec<String> {
        if self.inside {
            self.done.push(self.word);
        }
        self.done
    }
}

struct Lexer<'a> {
    chars: Vec<char>,
    at: usize,
    escape: char,
    quotes: Quotes,
    variables: &'a dyn Variables,
    depth: usize,
    out: Expanded,
}

impl Lexer<'_> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        Some(c)
    }

    /// Text up to `stop`, which is taken. With `keep_escapes` an escape stays in front of what it
    /// escapes: the text is a pattern.
    fn until(
        &mut self,
        stop: Option<char>,
        keep_escapes: bool,
        words: &mut Words,
    ) -> Result<String, ExpandError> {
        let mut text = String::new();
        while let Some(c) = self.next() {
            if Some(c) == stop {
                return Ok(text);
            }
            let quoting = self.quotes == Quotes::Remove;
            match c {
                '\'' if quoting => {
                    let part = self.single_quoted()?;
                    words.raw(&part);
                    text.push_str(&part);
                }
                '"' if quoting => {
                    let part = self.double_quoted(keep_escapes)?;
                    words.raw(&part);
                    text.push_str(&part);
                }
                '$' => {
                    let part = self.dollar()?;
                    words.split(&part);
                    text.push_str(&part);
                }
                c if c == self.escape || keep_escapes && c == '\\' => {
                    // At the end it stands for nothing.
                    let Some(escaped) = self.next() else { break };
                    if keep_escapes {
                        text.push('\\');
                    }
                    words.raw(escaped.encode_utf8(&mut [0; 4]));
                    text.push(escaped);
                }
                c => {
                    words.split(c.encode_utf8(&mut [0; 4]));
                    text.push(c);
                }
            }
        }
        match stop {
            Some('/') => Err(ExpandError::Unfinished("/")),
            Some(_) => Err(ExpandError::Unfinished("}")),
            None => Ok(text),
        }
    }

    fn single_quoted(&mut self) -> Result<String, ExpandError> {
        let mut text = String::new();
        loop {
            match self.next() {
                None => return Err(ExpandError::Unfinished("single-quote")),
                Some('\'') => return Ok(text),
                Some(c) => text.push(c),
            }
        }
    }

    fn double_quoted(&mut self, keep_escapes: bool) -> Result<String, ExpandError> {
        let mut text = String::new();
        loop {
            match self.next() {
                None => return Err(ExpandError::Unfinished("double-quote")),
                Some('"') => return Ok(text),
                Some('$') => text.push_str(&self.dollar()?),
                Some(c) if c == self.escape => match self.peek() {
                    // Only these are escaped here; in front of all else the escape is text.
                    Some(next) if next == '"' || next == '$' || next == self.escape => {
                        if keep_escapes {
                            text.push('\\');
                        }
                        self.at += 1;
                        text.push(next);
                    }
                    Some(_) => text.push(c),
                    None => {}
                },
                Some(c) => text.push(c),
            }
        }
    }

    /// After a dollar sign.
    fn dollar(&mut self) -> Result<String, ExpandError> {
        if self.peek() != Some('{') {
            let name = self.name();
            return Ok(if name.is_empty() {
                "$".to_owned()
            } else {
                self.value(&name).unwrap_or_default()
            });
        }
        self.at += 1;
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(ExpandError::Depth(DEPTH));
        }
        let text = self.braces();
        self.depth -= 1;
        text
    }

    /// After `${`.
    fn braces(&mut self) -> Result<String, ExpandError> {
        let start = self.at;
        match self.peek() {
            None => return Err(ExpandError::Unfinished("}")),
            Some('{' | '}' | ':') => {
                let rest: String = self.chars[start..].iter().collect();
                return Err(ExpandError::BadSubstitution(format!("${{{rest}")));
            }
            Some(_) => {}
        }
        let name = self.name();
        let first = self.next().ok_or(ExpandError::Unfinished("}"))?;
        let wrong = |name: &str, modifier: String| ExpandError::Modifier {
            name: name.to_owned(),
            modifier,
        };
        if name.is_empty() {
            return Err(wrong(&name, first.to_string()));
        }
        match first {
            '}' => Ok(self.value(&name).unwrap_or_default()),
            ':' => match self.next().ok_or(ExpandError::Unfinished("}"))? {
                modifier @ ('-' | '+' | '?') => self.conditional(&name, modifier, true),
                other => Err(wrong(&name, format!(":{other}"))),
            },
            '-' | '+' | '?' => self.conditional(&name, first, false),
            '#' | '%' => self.trimmed(&name, first),
            '/' => self.replaced(&name),
            other => Err(wrong(&name, other.to_string())),
        }
    }

    /// `${v:-w}`, `${v+w}`, `${v?w}`.
    fn conditional(
        &mut self,
        name: &str,
        modifier: char,
        empty_is_unset: bool,
    ) -> Result<String, ExpandError> {
        let word = self.until(Some('}'), false, &mut Words::default())?;
        self.out.used.insert(name.to_owned());
        let value = self.variables.get(name).filter(|value| !(empty_is_unset && value.is_empty()));
        match (modifier, value) {
            ('+', Some(_)) | ('-', None) => Ok(word),
            ('+', None) => Ok(String::new()),
            (_, Some(value)) => Ok(value),
            (_, None) => {
                let message =
                    if word.is_empty() { "is not allowed to be unset".to_owned() } else { word };
                Err(ExpandError::Required { name: name.to_owned(), message })
            }
        }
    }

    /// `${v#p}`, `${v##p}`, `${v%p}`, `${v%%p}`.
    fn trimmed(&mut self, name: &str, side: char) -> Result<String, ExpandError> {
        let longest = self.peek() == Some(side);
        if longest {
            self.at += 1;
        }
        let word = self.until(Some('}'), true, &mut Words::default())?;
        let value = self.value(name).unwrap_or_default();
        let pattern = Pattern::new(&word);
        Ok(match side {
            '#' => pattern.trim_prefix(&value, longest),
            _ => pattern.trim_suffix(&value, longest),
        })
    }

    /// `${v/p/r}`, `${v//p/r}`.
    fn replaced(&mut self, name: &str) -> Result<String, ExpandError> {
        let all = self.peek() == Some('/');
        if all {
            self.at += 1;
        }
        let pattern = self.until(Some('/'), true, &mut Words::default())?;
        let replacement = self.until(Some('}'), false, &mut Words::default())?;
        let value = self.value(name).unwrap_or_default();
        Ok(Pattern::new(&pattern).replace(&value, &replacement, all))
    }

    /// A name, a positional parameter or one special character; empty where none follows.
    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.peek() {
            Some(c) if c.is_ascii_digit() => {
                while let Some(c) = self.peek().filter(char::is_ascii_digit) {
                    name.push(c);
                    self.at += 1;
                }
            }
            Some(c @ ('@' | '*' | '#' | '?' | '-' | '$' | '!')) => {
                name.push(c);
                self.at += 1;
            }
            _ => {
                while let Some(c) = self.peek().filter(|c| c.is_ascii_alphanumeric() || *c == '_') {
                    name.push(c);
                    self.at += 1;
                }
            }
        }
        name
    }

    fn value(&mut self, name: &str) -> Option<String> {
        self.out.used.insert(name.to_owned());
        let value = self.variables.get(name);
        if value.is_none() {
            self.out.unset.insert(name.to_owned());
        }
        value
    }
}

#[cfg(test)]
mod tests;
