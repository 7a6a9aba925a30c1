//! The comments at the very top that steer the parser.

use crate::{Diagnostic, Lines};

/// `# syntax=`, `# escape=`, `# check=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    /// The front end that is asked for.
    pub syntax: Option<String>,
    /// The escape character.
    pub escape: char,
    /// Options of the checks.
    pub check: Option<String>,
}

impl Default for Directives {
    fn default() -> Self {
        Self { syntax: None, escape: '\\', check: None }
    }
}

/// Reads the block of directives and says how many lines it has.
pub(super) fn read(lines: &[&str]) -> Result<(Directives, usize), Diagnostic> {
    let mut found = Directives::default();
    let mut seen: Vec<String> = Vec::new();
    let shebang = usize::from(lines.first().is_some_and(|line| line.starts_with("#!")));
    for (index, line) in lines.iter().enumerate().skip(shebang) {
        let Some((key, value)) = directive(line) else { return Ok((found, index)) };
        let place = Lines { first: index + 1, last: index + 1 };
        if !["syntax", "escape", "check"].contains(&key.as_str()) {
            return Ok((found, index));
        }
        if seen.contains(&key) {
            return Err(Diagnostic::new(place, format!("only one {key} directive can be used")));
        }
        match key.as_str() {
            "syntax" => found.syntax = Some(value.to_owned()),
            "check" => found.check = Some(value.to_owned()),
            _ => found.escape = escape(value, place)?,
        }
        seen.push(key);
    }
    Ok((found, lines.len()))
}

fn escape(value: &str, place: Lines) -> Result<char, Diagnostic> {
    match value {
        "\\" => Ok('\\'),
        "`" => Ok('`'),
        other => Err(Diagnostic::new(place, format!("invalid escape character {other:?}"))
            .at(other)
            .expected("\\ or `")),
    }
}

/// Key in lower case and value of `# key = value`.
fn directive(line: &str) -> Option<(String, &str)> {
    let (key, value) = line.trim_start().strip_prefix('#')?.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    let first = key.chars().next()?.is_ascii_alphabetic();
    let named = first && key.chars().all(|c| c.is_ascii_alphanumeric());
    (named && !value.is_empty()).then(|| (key.to_ascii_lowercase(), value))
}

/// The front end that the file asks for, in any of the forms that are known: a directive after
/// `#` or `//`, or a JSON object; after a shebang line too.
pub fn detect_syntax(source: &str) -> Option<String> {
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    let lines: Vec<&str> = source.lines().collect();
    let after = &lines[usize::from(source.starts_with("#!")).min(lines.len())..];
    if let Ok((Directives { syntax: Some(syntax), .. }, _)) = read(after) {
        return Some(syntax);
    }
    let slashed: Vec<String> = after
        .iter()
        .map_while(|line| line.strip_prefix("//").map(|rest| format!("#{rest}")))
        .collect();
    let slashed: Vec<&str> = slashed.iter().map(String::as_str).collect();
    if let Ok((Directives { syntax: Some(syntax), .. }, _)) = read(&slashed) {
        return Some(syntax);
    }
    let mut values = serde_json::Deserializer::from_str(source).into_iter::<serde_json::Value>();
    let object = values.next()?.ok()?;
    object.get("syntax")?.as_str().map(str::to_owned)
}
