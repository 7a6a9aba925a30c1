//! Flags of an instruction against those that it knows.

use crate::Diagnostic;
use crate::parse::Node;
use crate::suggest::nearest;

/// What a flag takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Bool,
    /// May be given again.
    List,
}

/// Flags that were given, each one known.
pub(super) struct Flags<'a> {
    node: &'a Node,
    found: Vec<(&'a str, &'a str)>,
}

impl<'a> Flags<'a> {
    pub(super) fn new(node: &'a Node, known: &[(&'static str, Kind)]) -> Result<Self, Diagnostic> {
        let mut found: Vec<(&str, &str)> = Vec::new();
        for flag in &node.flags {
            let (name, value) = match flag[2..].split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (&flag[2..], None),
            };
            let Some((_, kind)) = known.iter().find(|(known, _)| *known == name) else {
                return Err(unknown(node, name, known));
            };
            if *kind != Kind::List && found.iter().any(|(other, _)| *other == name) {
                return Err(Diagnostic::new(node.lines, format!("duplicate flag: --{name}"))
                    .at(format!("--{name}")));
            }
            let value = match (value, kind) {
                (Some(value), _) => value,
                (None, Kind::Bool) => "true",
                (None, _) => {
                    let message = format!("missing a value on flag: --{name}");
                    return Err(Diagnostic::new(node.lines, message)
                        .at(format!("--{name}"))
                        .expected(format!("--{name}=value")));
                }
            };
            found.push((name, value));
        }
        Ok(Self { node, found })
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.list(name).pop()
    }

    pub(super) fn list(&self, name: &str) -> Vec<String> {
        let named = self.found.iter().filter(|(other, _)| *other == name);
        named.map(|(_, value)| (*value).to_owned()).collect()
    }

    pub(super) fn bool(&self, name: &str) -> Result<Option<bool>, Diagnostic> {
        match self.text(name).as_deref() {
            None => Ok(None),
            Some("true" | "1" | "t" | "T" | "TRUE" | "True") => Ok(Some(true)),
            Some("false" | "0" | "f" | "F" | "FALSE" | "False") => Ok(Some(false)),
            Some(other) => Err(Diagnostic::new(
                self.node.lines,
                format!("expecting boolean value for flag --{name}, not: {other}"),
            )
            .at(format!("--{name}={other}"))
            .expected("true or false")),
        }
    }
}

fn unknown(node: &Node, name: &str, known: &[(&'static str, Kind)]) -> Diagnostic {
    let names = || known.iter().map(|(name, _)| *name);
    let message = format!("unknown flag: --{name} of {}", node.keyword);
    let listed: Vec<String> = names().map(|name| format!("--{name}")).collect();
    let expected = match listed.as_slice() {
        [] => format!("{} has no flags", node.keyword),
        _ => format!("one of {}", listed.join(", ")),
    };
    Diagnostic::new(node.lines, message)
        .at(format!("--{name}"))
        .expected(expected)
        .hint(nearest(name, names()).map(|meant| format!("did you mean --{meant}?")))
}
