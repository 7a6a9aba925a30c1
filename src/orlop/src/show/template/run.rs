//! From nodes and data to text.

use super::{Base, Command, Node, Operand, Pipe, TemplateError, error, functions, print};
use serde_json::Value;

/// What a field is that an object does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// `<no value>`, for data whose fields differ.
    NoValue,
    /// A mistake, for rows, whose fields are known.
    Error,
    /// The head of a table: fields are their titles, and functions leave them as they are.
    Head,
}

/// How a block ended.
#[derive(PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

struct Run<'d> {
    root: &'d Value,
    missing: Missing,
    variables: Vec<(String, Value)>,
    out: String,
}

pub(super) fn run(nodes: &[Node], data: &Value, missing: Missing) -> Result<String, TemplateError> {
    let mut run = Run { root: data, missing, variables: Vec::new(), out: String::new() };
    run.block(nodes, data)?;
    Ok(run.out)
}

impl Run<'_> {
    /// Variables of a block end with it.
    fn block(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, TemplateError> {
        let known = self.variables.len();
        let mut flow = Flow::On;
        for node in nodes {
            flow = self.node(node, dot)?;
            if flow != Flow::On {
                break;
            }
        }
        self.variables.truncate(known);
        Ok(flow)
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<Flow, TemplateError> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Output(pipe) => {
                let value = self.pipe(pipe, dot)?;
                self.out.push_str(&print(&value));
            }
            Node::Assign(name, new, pipe) => {
                let value = self.pipe(pipe, dot)?;
                if *new {
                    self.variables.push((name.clone(), value));
                } else {
                    match self.variables.iter_mut().rev().find(|(known, _)| known == name) {
                        Some((_, old)) => *old = value,
                        None => return error(format!("variable ${name} is not set")),
                    }
                }
            }
            Node::If(arms, other) => {
                for (condition, nodes) in arms {
                    if functions::truth(&self.pipe(condition, dot)?) {
                        return self.block(nodes, dot);
                    }
                }
                return self.block(other, dot);
            }
            Node::With(name, pipe, inner, other) => {
                let value = self.pipe(pipe, dot)?;
                if !functions::truth(&value) {
                    return self.block(other, dot);
                }
                let known = self.variables.len();
                self.variables.extend(name.iter().map(|name| (name.clone(), value.clone())));
                let flow = self.block(inner, &value);
                self.variables.truncate(known);
                return flow;
            }
            Node::Range(names, pipe, inner, other) => {
                return self.range(names, pipe, inner, other, dot);
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    fn range(
        &mut self,
        names: &[String],
        pipe: &Pipe,
        inner: &[Node],
        other: &[Node],
        dot: &Value,
    ) -> Result<Flow, TemplateError> {
        let elements: Vec<(Value, Value)> = match self.pipe(pipe, dot)? {
            Value::Array(all) => {
                all.into_iter().enumerate().map(|(at, value)| (at.into(), value)).collect()
            }
            Value::Object(all) => all.into_iter().map(|(key, value)| (key.into(), value)).collect(),
            Value::Null => Vec::new(),
            Value::Number(count) => {
                (0..count.as_u64().unwrap_or(0)).map(|at| (at.into(), at.into())).collect()
            }
            value => return error(format!("range cannot go over {}", functions::kind(&value))),
        };
        if elements.is_empty() {
            return self.block(other, dot);
        }
        for (key, value) in elements {
            let known = self.variables.len();
            match names {
                [] => {}
                [one] => self.variables.push((one.clone(), value.clone())),
                [first, second, ..] => {
                    self.variables.push((first.clone(), key));
                    self.variables.push((second.clone(), value.clone()));
                }
            }
            let flow = self.block(inner, &value)?;
            self.variables.truncate(known);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Value) -> Result<Value, TemplateError> {
        let mut last = None;
        for command in &pipe.0 {
            last = Some(self.command(command, last, dot)?);
        }
        Ok(last.unwrap_or(Value::Null))
    }

    fn command(
        &mut self,
        command: &Command,
        last: Option<Value>,
        dot: &Value,
    ) -> Result<Value, TemplateError> {
        let Some((first, rest)) = command.0.split_first() else { return Ok(Value::Null) };
        if let Base::Function(name) = &first.base
            && first.fields.is_empty()
        {
            return self.call(name, rest, last, dot);
        }
        let value = self.operand(first, dot)?;
        let mut arguments = Vec::new();
        for operand in rest {
            arguments.push(self.operand(operand, dot)?);
        }
        arguments.extend(last);
        // What is a method in Go (`.Label "x"`) is an object here.
        match arguments.as_slice() {
            [] => Ok(value),
            [Value::String(key)] if self.missing == Missing::Head => Ok(key.clone().into()),
            [Value::String(key)] if value.is_object() => {
                Ok(value.get(key).cloned().unwrap_or_else(|| "".into()))
            }
            _ => error("a value takes no arguments: begin with a function"),
        }
    }

    fn call(
        &mut self,
        name: &str,
        operands: &[Operand],
        last: Option<Value>,
        dot: &Value,
    ) -> Result<Value, TemplateError> {
        let mut arguments = Vec::new();
        for operand in operands {
            let value = self.operand(operand, dot)?;
            // They do not look at what comes after the answer.
            let enough = functions::truth(&value) == (name == "or");
            arguments.push(value);
            if matches!(name, "and" | "or") && enough {
                return Ok(arguments.pop().unwrap_or_default());
            }
        }
        arguments.extend(last);
        if self.missing == Missing::Head {
            return Ok(arguments.into_iter().find(Value::is_string).unwrap_or_else(|| "".into()));
        }
        functions::call(name, &arguments)
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value, TemplateError> {
        let mut value = match &operand.base {
            Base::Dot => dot.clone(),
            Base::Variable(name) if name.is_empty() => self.root.clone(),
            Base::Variable(name) => {
                match self.variables.iter().rev().find(|(known, _)| known == name) {
                    Some((_, value)) => value.clone(),
                    None => return error(format!("variable ${name} is not set")),
                }
            }
            Base::Function(name) => self.call(name, &[], None, dot)?,
            Base::Literal(value) => value.clone(),
            Base::Group(pipe) => self.pipe(pipe, dot)?,
        };
        let mut before = "this";
        for field in &operand.fields {
            value = self.field(&value, field, before)?;
            before = field;
        }
        Ok(value)
    }

    fn field(&self, value: &Value, field: &str, before: &str) -> Result<Value, TemplateError> {
        match value {
            Value::Object(all) => match (all.get(field), self.missing) {
                (Some(value), _) => Ok(value.clone()),
                (None, Missing::NoValue) => Ok(Value::Null),
                (None, _) => {
                    let near = crate::suggest::nearest(field, all.keys().map(String::as_str));
                    let hint = near.map(|near| format!("; did you mean {near}?"));
                    error(format!("there is no field {field}{}", hint.unwrap_or_default()))
                }
            },
            Value::Null => Ok(Value::Null),
            Value::String(_) if self.missing == Missing::Head => Ok(value.clone()),
            _ => error(format!("{before} is no object, so it has no field {field}")),
        }
    }
}
