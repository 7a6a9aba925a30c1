//! Splitting an instruction's text into flags and words; quotes and escapes stay as written.

use std::iter::Peekable;
use std::str::Chars;

/// Blanks between words.
pub(super) fn is_space(c: char) -> bool {
    matches!(c, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

/// Flags in front, without their quotes, and what follows them.
pub(super) fn flags(text: &str, escape: char) -> (Vec<String>, &str) {
    let mut found = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        if !rest.starts_with("--") {
            return (found, rest);
        }
        let (flag, after) = flag(rest, escape);
        rest = after;
        if flag == "--" {
            return (found, rest.trim_start());
        }
        found.push(flag);
    }
}

fn flag(text: &str, escape: char) -> (String, &str) {
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match quote {
            None if c.is_whitespace() => return (word, &text[at..]),
            None if c == '"' || c == '\'' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ if c == escape => match chars.next() {
                Some((_, next)) => word.push(next),
                // An escape at the end of the text stands for nothing.
                None => break,
            },
            _ => word.push(c),
        }
    }
    (word, "")
}

/// Words as written. Blanks inside quotes and after an escape belong to the word.
pub(super) fn words(text: &str, escape: char) -> Vec<String> {
    let mut chars = text.chars().peekable();
    let mut found = Vec::new();
    while chars.peek().is_some() {
        if chars.next_if(|c| c.is_whitespace()).is_none() {
            found.extend(word(&mut chars, escape));
        }
    }
    found
}

fn word(chars: &mut Peekable<Chars<'_>>, escape: char) -> Option<String> {
    let mut word = String::new();
    let mut quote = None;
    while let Some(&c) = chars.peek() {
        if quote.is_none() && c.is_whitespace() {
            break;
        }
        chars.next();
        if c == escape && quote != Some('\'') {
            // An escape at the very end stands for nothing.
            if let Some(next) = chars.next() {
                word.push(c);
                word.push(next);
            }
            continue;
        }
        match quote {
            None if c == '"' || c == '\'' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => {}
        }
        word.push(c);
    }
    (!word.is_empty()).then_some(word)
}

/// Words at blanks, whatever is quoted.
pub(super) fn fields(text: &str) -> Vec<String> {
    text.split(is_space).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The comma-separated `key=value` list of `--mount`: one field in double quotes may hold commas.
/// `None` where a quote does not end.
pub(crate) fn key_values(text: &str) -> Option<Vec<(String, Option<String>)>> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let field = fields.last_mut()?;
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => field.extend(chars.next()),
            '"' if quoted || field.is_empty() => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => field.push(c),
        }
    }
    let split = |field: String| match field.split_once('=') {
        Some((key, value)) => (key.trim().to_ascii_lowercase(), Some(value.to_owned())),
        None => (field.trim().to_ascii_lowercase(), None),
    };
    (!quoted).then(|| fields.into_iter().map(split).collect())
}
