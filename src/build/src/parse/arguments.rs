//! What follows an instruction's flags, by the instruction's own rules.

use super::json::{self, Array};
use super::{Arguments, Pair, words};
use crate::{Diagnostic, Lines};

pub(super) fn arguments(
    keyword: &str,
    text: &str,
    lines: Lines,
    escape: char,
) -> Result<Arguments, Diagnostic> {
    let plain = |words| Arguments::Words { words, broken_json: false };
    Ok(match keyword {
        "ADD" | "COPY" | "VOLUME" => json_or(text, lines, words::fields)?,
        "CMD" | "ENTRYPOINT" | "RUN" | "SHELL" => json_or(text, lines, whole)?,
        "ENV" | "LABEL" => Arguments::Pairs(pairs(keyword, text, lines, escape)?),
        "ARG" => plain(words::words(text, escape)),
        "EXPOSE" | "FROM" => plain(words::fields(text)),
        "HEALTHCHECK" => {
            let (kind, command) = text.split_once(words::is_space).unwrap_or((text, ""));
            let command = json_or(command.trim(), lines, whole)?;
            Arguments::Health(kind.to_owned(), Box::new(command))
        }
        "ONBUILD" => {
            if text.is_empty() {
                return Err(Diagnostic::new(lines, "ONBUILD requires an instruction"));
            }
            Arguments::Trigger(Box::new(super::instruction(text, lines, escape)?))
        }
        _ => plain(whole(text)),
    })
}

fn whole(text: &str) -> Vec<String> {
    if text.is_empty() { Vec::new() } else { vec![text.to_owned()] }
}

fn json_or(
    text: &str,
    lines: Lines,
    split: fn(&str) -> Vec<String>,
) -> Result<Arguments, Diagnostic> {
    let words = |broken_json| Arguments::Words { words: split(text), broken_json };
    match json::array(text) {
        Array::Strings(strings) => Ok(Arguments::Json(strings)),
        Array::No => Ok(words(false)),
        Array::Broken => Ok(words(true)),
        Array::Mixed => Err(Diagnostic::new(
            lines,
            "when using JSON array syntax, arrays must be comprised of strings only",
        )
        .at("[")
        .expected("[\"program\", \"argument\"]")),
    }
}

fn pairs(keyword: &str, text: &str, lines: Lines, escape: char) -> Result<Vec<Pair>, Diagnostic> {
    let found = words::words(text, escape);
    let Some(first) = found.first() else {
        let message = format!("{keyword} requires at least one argument");
        return Err(Diagnostic::new(lines, message).expected(format!("{keyword} name=value")));
    };
    if !first.contains('=') {
        let Some((key, value)) = text.split_once(words::is_space) else {
            let message = format!("{keyword} must have two arguments");
            return Err(Diagnostic::new(lines, message)
                .at(first.as_str())
                .expected(format!("{keyword} {first}=value")));
        };
        let (key, value) = (key.to_owned(), value.trim_start_matches(words::is_space).to_owned());
        return Ok(vec![Pair { key, value, equals: false }]);
    }
    let pair = |word: &String| match word.split_once('=') {
        Some((key, value)) => {
            Ok(Pair { key: key.to_owned(), value: value.to_owned(), equals: true })
        }
        None => Err(Diagnostic::new(lines, format!("cannot find = in {word:?}"))
            .at(word.as_str())
            .expected("name=value")
            .hint(Some("a value with blanks must be quoted"))),
    };
    found.iter().map(pair).collect()
}
