//! The exec form: a JSON array of strings.

use serde_json::Value;

/// What a text is that starts with a bracket.
pub(super) enum Array {
    /// An array of strings.
    Strings(Vec<String>),
    /// JSON, but with something else inside.
    Mixed,
    /// No JSON: a shell form that looks like one.
    Broken,
    /// Does not start with a bracket.
    No,
}

pub(super) fn array(text: &str) -> Array {
    if !text.trim_start().starts_with('[') {
        return Array::No;
    }
    let Ok(Value::Array(values)) = serde_json::from_str(text) else { return Array::Broken };
    let strings = values.into_iter().map(|value| match value {
        Value::String(text) => Some(text),
        _ => None,
    });
    strings.collect::<Option<Vec<_>>>().map_or(Array::Mixed, Array::Strings)
}
