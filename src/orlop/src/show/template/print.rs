//! How a value looks in text, as Go prints it.

use serde_json::Value;

/// A value as text: maps as `map[k:v …]`, lists as `[a b]`.
pub(crate) fn print(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".into(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => number(value),
        Value::Array(all) => format!("[{}]", all.iter().map(inner).collect::<Vec<_>>().join(" ")),
        Value::Object(all) => {
            let pairs = all.iter().map(|(key, value)| format!("{key}:{}", inner(value)));
            format!("map[{}]", pairs.collect::<Vec<_>>().join(" "))
        }
    }
}

/// Within others nothing is `<nil>`.
fn inner(value: &Value) -> String {
    if value.is_null() { "<nil>".into() } else { print(value) }
}

/// Go writes a float that is whole without its point.
fn number(value: &Value) -> String {
    let text = value.to_string();
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}
