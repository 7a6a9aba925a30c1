//! The functions: those of Go's templates and those that Docker adds.

use super::{TemplateError, error, print};
use serde_json::Value;
use std::cmp::Ordering;

pub(super) const NAMES: [&str; 23] = [
    "and", "or", "not", "eq", "ne", "lt", "le", "gt", "ge", "len", "index", "slice", "print",
    "printf", "println", "json", "join", "split", "lower", "upper", "title", "pad", "truncate",
];

/// Go's truth: what is not empty.
pub(super) fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(set) => *set,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(all) => !all.is_empty(),
        Value::Object(all) => !all.is_empty(),
    }
}

/// What a value is, for people.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Calls a function by its name.
pub(super) fn call(name: &str, arguments: &[Value]) -> Result<Value, TemplateError> {
    let few = || error(format!("{name} needs more arguments"));
    let text = |at: usize| arguments.get(at).map(print).unwrap_or_default();
    let count = |at: usize| arguments.get(at).and_then(Value::as_u64).unwrap_or(0) as usize;
    let [first, rest @ ..] = arguments else {
        return match name {
            "print" => Ok("".into()),
            "println" => Ok("\n".into()),
            _ => few(),
        };
    };
    Ok(match name {
        "and" | "or" => arguments.last().cloned().unwrap_or_default(),
        "not" => Value::Bool(!truth(first)),
        "eq" if rest.is_empty() => return few(),
        "eq" => rest.iter().any(|other| order(first, other) == Some(Ordering::Equal)).into(),
        "ne" | "lt" | "le" | "gt" | "ge" => {
            let [second] = rest else { return error(format!("{name} takes two arguments")) };
            compare(name, first, second)?
        }
        "len" => length(first)?,
        "index" => index(first, rest)?,
        "slice" => slice(first, rest)?,
        "print" => go_print(arguments).into(),
        "println" => {
            let words: Vec<_> = arguments.iter().map(print).collect();
            format!("{}\n", words.join(" ")).into()
        }
        "printf" => printf(&text(0), rest)?.into(),
        "json" => first.to_string().into(),
        "join" => {
            let Value::Array(all) = first else {
                return error(format!("join takes a list, and this is {}", kind(first)));
            };
            all.iter().map(print).collect::<Vec<_>>().join(&text(1)).into()
        }
        "split" => {
            let (text, mark) = (text(0), text(1));
            text.split(mark.as_str()).map(Value::from).collect()
        }
        "lower" => text(0).to_lowercase().into(),
        "upper" => text(0).to_uppercase().into(),
        "title" => title(&text(0)).into(),
        "pad" => {
            format!("{}{}{}", " ".repeat(count(1).min(999)), text(0), " ".repeat(count(2).min(999)))
                .into()
        }
        "truncate" => text(0).chars().take(count(1)).collect::<String>().into(),
        _ => return error(format!("{name} is not possible here")),
    })
}

fn title(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// Go's Print: a blank only between two that are no texts.
fn go_print(arguments: &[Value]) -> String {
    let mut out = String::new();
    for (at, value) in arguments.iter().enumerate() {
        if at > 0 && !value.is_string() && !arguments[at - 1].is_string() {
            out.push(' ');
        }
        out += &print(value);
    }
    out
}

fn order(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
        },
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => (a == b).then_some(Ordering::Equal),
    }
}

fn compare(name: &str, a: &Value, b: &Value) -> Result<Value, TemplateError> {
    let order = order(a, b);
    if name == "ne" {
        return Ok((order != Some(Ordering::Equal)).into());
    }
    let Some(order) = order else {
        return error(format!("{name} cannot compare {} with {}", kind(a), kind(b)));
    };
    Ok(match name {
        "lt" => order.is_lt(),
        "le" => order.is_le(),
        "gt" => order.is_gt(),
        _ => order.is_ge(),
    }
    .into())
}

fn length(value: &Value) -> Result<Value, TemplateError> {
    Ok(match value {
        Value::String(text) => text.len(),
        Value::Array(all) => all.len(),
        Value::Object(all) => all.len(),
        Value::Null => 0,
        _ => return error(format!("{} has no length", kind(value))),
    }
    .into())
}

fn index(value: &Value, keys: &[Value]) -> Result<Value, TemplateError> {
    let mut value = value.clone();
    for key in keys {
        value = match (&value, key) {
            (Value::Object(all), Value::String(key)) => {
                all.get(key).cloned().unwrap_or_else(|| "".into())
            }
            (Value::Array(all), Value::Number(number)) => {
                let at = number.as_u64().and_then(|at| usize::try_from(at).ok());
                match at.and_then(|at| all.get(at)) {
                    Some(element) => element.clone(),
                    None => {
                        return error(format!(
                            "the list has {} elements, and none has number {number}",
                            all.len()
                        ));
                    }
                }
            }
            (Value::Null, _) => return error("index looks into something that is not there"),
            (value, _) => {
                return error(format!("index cannot look into {} with {key}", kind(value)));
            }
        };
    }
    Ok(value)
}

fn slice(value: &Value, bounds: &[Value]) -> Result<Value, TemplateError> {
    let bound = |at: usize, default: usize| match bounds.get(at) {
        Some(value) => value.as_u64().and_then(|at| usize::try_from(at).ok()),
        None => Some(default),
    };
    let beyond = || error("slice goes beyond the end");
    let length = match value {
        Value::String(text) => text.len(),
        Value::Array(all) => all.len(),
        _ => return error(format!("slice cannot cut {}", kind(value))),
    };
    let (Some(from), Some(to)) = (bound(0, 0), bound(1, length)) else { return beyond() };
    match value {
        Value::String(text) => text.get(from..to).map_or_else(beyond, |part| Ok(part.into())),
        Value::Array(all) => {
            all.get(from..to).map_or_else(beyond, |part| Ok(part.iter().cloned().collect()))
        }
        _ => beyond(),
    }
}

/// The verbs that texts and numbers have: `%s %v %d %q %t %x %f` with `-`, width and precision.
fn printf(format: &str, arguments: &[Value]) -> Result<String, TemplateError> {
    let mut out = String::new();
    let mut chars = format.chars().peekable();
    let mut arguments = arguments.iter();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        if chars.peek() == Some(&'%') {
            chars.next();
            out.push('%');
            continue;
        }
        let number = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| {
            let mut digits = String::new();
            while let Some(c) = chars.peek().filter(|c| c.is_ascii_digit()) {
                digits.push(*c);
                chars.next();
            }
            digits.parse::<usize>().ok().map(|width| width.min(999))
        };
        let left = chars.next_if_eq(&'-').is_some();
        let zeros = chars.next_if_eq(&'0').is_some();
        let width = number(&mut chars).unwrap_or(0);
        let precision = chars.next_if_eq(&'.').map(|_| number(&mut chars).unwrap_or(0));
        let Some(verb) = chars.next() else { return error("printf ends with %") };
        let Some(value) = arguments.next() else {
            return error(format!("printf has no argument for %{verb}"));
        };
        let text = match (verb, precision) {
            ('s' | 'v' | 'd' | 't', None) => print(value),
            ('s' | 'v', Some(most)) => print(value).chars().take(most).collect(),
            ('q', _) => Value::String(print(value)).to_string(),
            ('x', _) => match value.as_i64() {
                Some(number) => format!("{number:x}"),
                None => print(value).bytes().map(|byte| format!("{byte:02x}")).collect(),
            },
            ('f', places) => format!("{:.*}", places.unwrap_or(6), value.as_f64().unwrap_or(0.0)),
            _ => return error(format!("printf does not know %{verb}")),
        };
        out += &match (left, zeros && value.is_number()) {
            (true, _) => format!("{text:<width$}"),
            (_, true) => format!("{text:0>width$}"),
            _ => format!("{text:>width$}"),
        };
    }
    Ok(out)
}
