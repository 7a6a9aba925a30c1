//! From text to nodes.

use super::{Base, Command, Node, Operand, Pipe, TemplateError, error, functions};
use serde_json::Value;

/// Groups and blocks within each other.
const DEPTH: usize = 100;

pub(super) fn parse(text: &str) -> Result<Vec<Node>, TemplateError> {
    let pieces = pieces(text)?;
    let mut parser = Parser { pieces: pieces.into_iter().peekable(), loops: 0, depth: 0 };
    let (nodes, end) = parser.block()?;
    match end {
        Ended::Text => Ok(nodes),
        Ended::Else(_) => error("else belongs to no if"),
        Ended::End => error("end closes nothing"),
    }
}

/// Text, or what stands between braces.
enum Piece {
    Text(String),
    Action(String),
}

fn pieces(text: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut trim = false;
    loop {
        let (before, after) = match rest.split_once("{{") {
            Some((before, after)) => (before, Some(after)),
            None => (rest, None),
        };
        let mut before = if trim { before.trim_start() } else { before };
        let Some(after) = after else {
            pieces.push(Piece::Text(unescape(before)));
            return Ok(pieces);
        };
        let inner = after.strip_prefix('-').filter(|rest| rest.starts_with(char::is_whitespace));
        if inner.is_some() {
            before = before.trim_end();
        }
        pieces.push(Piece::Text(unescape(before)));
        let inner = inner.unwrap_or(after);
        let end = end_of_action(inner)?;
        let (action, left) = (&inner[..end], &inner[end + 2..]);
        let trimmed =
            action.strip_suffix('-').filter(|action| action.ends_with(char::is_whitespace));
        trim = trimmed.is_some();
        let action = trimmed.unwrap_or(action).trim();
        let comment = action.starts_with("/*") && action.ends_with("*/");
        if !comment {
            pieces.push(Piece::Action(action.to_owned()));
        }
        rest = left;
    }
}

/// Outside actions, what a shell has left of `\t` and `\n`.
fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

/// Where `}}` is, outside strings.
fn end_of_action(text: &str) -> Result<usize, TemplateError> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'}' if bytes.get(at + 1) == Some(&b'}') => return Ok(at),
            quote @ (b'"' | b'`') => {
                at += 1;
                while at < bytes.len() && bytes[at] != quote {
                    at += if bytes[at] == b'\\' && quote == b'"' { 2 } else { 1 };
                }
                if at >= bytes.len() {
                    return error("a string is not closed");
                }
                at += 1;
            }
            _ => at += 1,
        }
    }
    error("{{ is not closed by }}")
}

/// What ended a block.
enum Ended {
    Text,
    End,
    /// With what stands after `else`.
    Else(String),
}

struct Parser {
    pieces: std::iter::Peekable<std::vec::IntoIter<Piece>>,
    loops: usize,
    depth: usize,
}

impl Parser {
    fn block(&mut self) -> Result<(Vec<Node>, Ended), TemplateError> {
        self.depth += 1;
        if self.depth > DEPTH {
            return error("too many blocks are within each other");
        }
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let action = match piece {
                Piece::Text(text) if text.is_empty() => continue,
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(action) => action,
            };
            let (word, rest) = first_word(&action);
            match word {
                "end" => {
                    self.depth -= 1;
                    return Ok((nodes, Ended::End));
                }
                "else" => {
                    self.depth -= 1;
                    return Ok((nodes, Ended::Else(rest.to_owned())));
                }
                _ => nodes.push(self.action(word, rest, &action)?),
            }
        }
        self.depth -= 1;
        Ok((nodes, Ended::Text))
    }

    fn action(&mut self, word: &str, rest: &str, action: &str) -> Result<Node, TemplateError> {
        match word {
            "if" => self.condition(rest),
            "with" => {
                let (names, pipe) = declared(rest)?;
                let (inner, other) = self.two_blocks("with")?;
                Ok(Node::With(names.into_iter().next(), pipe, inner, other))
            }
            "range" => {
                let (names, pipe) = declared(rest)?;
                self.loops += 1;
                let blocks = self.two_blocks("range");
                self.loops -= 1;
                let (inner, other) = blocks?;
                Ok(Node::Range(names, pipe, inner, other))
            }
            "break" | "continue" if self.loops == 0 => error(format!("{word} is outside of range")),
            "break" => Ok(Node::Break),
            "continue" => Ok(Node::Continue),
            "template" | "define" | "block" => error(format!("{word} is not possible here")),
            _ => statement(action),
        }
    }

    fn condition(&mut self, first: &str) -> Result<Node, TemplateError> {
        let mut arms = Vec::new();
        let mut condition = first.to_owned();
        loop {
            let pipe = pipe(&condition)?;
            let (nodes, end) = self.block()?;
            arms.push((pipe, nodes));
            match end {
                Ended::Text => return error("if is not closed by {{end}}"),
                Ended::End => return Ok(Node::If(arms, Vec::new())),
                Ended::Else(rest) => match first_word(&rest) {
                    ("if", next) => next.clone_into(&mut condition),
                    ("", _) => {
                        let (nodes, end) = self.block()?;
                        return match end {
                            Ended::End => Ok(Node::If(arms, nodes)),
                            _ => error("if is not closed by {{end}}"),
                        };
                    }
                    (other, _) => return error(format!("{other} cannot follow else")),
                },
            }
        }
    }

    fn two_blocks(&mut self, what: &str) -> Result<(Vec<Node>, Vec<Node>), TemplateError> {
        let (inner, end) = self.block()?;
        let open = || error(format!("{what} is not closed by {{{{end}}}}"));
        match end {
            Ended::End => Ok((inner, Vec::new())),
            Ended::Text => open(),
            Ended::Else(_) => match self.block()? {
                (other, Ended::End) => Ok((inner, other)),
                _ => open(),
            },
        }
    }
}

fn first_word(text: &str) -> (&str, &str) {
    let text = text.trim();
    match text.split_once(char::is_whitespace) {
        Some((word, rest)) => (word, rest.trim()),
        None => (text, ""),
    }
}

/// `$x := pipe`, `$i, $x := pipe`, or only a pipe.
fn declared(text: &str) -> Result<(Vec<String>, Pipe), TemplateError> {
    if text.starts_with('$')
        && let Some((names, rest)) = text.split_once(":=")
        && names.chars().all(|c| c.is_alphanumeric() || "$_, ".contains(c))
    {
        let names = names.split(',').map(|name| name.trim().trim_start_matches('$').to_owned());
        return Ok((names.collect(), pipe(rest)?));
    }
    Ok((Vec::new(), pipe(text)?))
}

fn statement(text: &str) -> Result<Node, TemplateError> {
    if let Some(rest) = text.strip_prefix('$') {
        let name =
            rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        let after = rest[name.len()..].trim_start();
        for (mark, new) in [(":=", true), ("=", false)] {
            if let Some(value) = after.strip_prefix(mark)
                && !name.is_empty()
            {
                return Ok(Node::Assign(name, new, pipe(value)?));
            }
        }
    }
    Ok(Node::Output(pipe(text)?))
}

fn pipe(text: &str) -> Result<Pipe, TemplateError> {
    let mut reader = Reader { text, at: 0, depth: 0 };
    let pipe = reader.pipe()?;
    match reader.peek() {
        None => Ok(pipe),
        Some(')') => error(") closes nothing"),
        Some(c) => error(format!("{c} is not understood in {{{{{text}}}}}")),
    }
}

/// Reads one action.
struct Reader<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn blank(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.next();
        }
    }

    fn word(&mut self) -> String {
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        self.at += end;
        rest[..end].to_owned()
    }

    fn pipe(&mut self) -> Result<Pipe, TemplateError> {
        let mut commands = Vec::new();
        loop {
            let mut operands = Vec::new();
            self.blank();
            while let Some(c) = self.peek()
                && c != '|'
                && c != ')'
            {
                operands.push(self.operand()?);
                self.blank();
            }
            if operands.is_empty() {
                return error(if commands.is_empty() {
                    "an action or group is empty"
                } else {
                    "nothing follows |"
                });
            }
            commands.push(Command(operands));
            if self.peek() != Some('|') {
                return Ok(Pipe(commands));
            }
            self.next();
        }
    }

    fn operand(&mut self) -> Result<Operand, TemplateError> {
        let base = match self.peek() {
            Some('.') => {
                let next = self.text[self.at + 1..].chars().next();
                if !next.is_some_and(|c| c.is_alphabetic() || c == '_') {
                    self.next();
                }
                Base::Dot
            }
            Some('$') => {
                self.next();
                Base::Variable(self.word())
            }
            Some('(') => self.group()?,
            Some('"') => Base::Literal(Value::String(self.quoted()?)),
            Some('`') => {
                self.next();
                let rest = &self.text[self.at..];
                let end = rest.find('`').unwrap_or(rest.len());
                self.at += (end + 1).min(rest.len());
                Base::Literal(Value::String(rest[..end].to_owned()))
            }
            Some(c) if c.is_ascii_digit() || c == '-' || c == '+' => Base::Literal(self.number()?),
            _ => self.named()?,
        };
        let mut fields = Vec::new();
        while self.peek() == Some('.') {
            self.next();
            let field = self.word();
            if field.is_empty() {
                return error("a name is missing after a dot");
            }
            fields.push(field);
        }
        Ok(Operand { base, fields })
    }

    fn group(&mut self) -> Result<Base, TemplateError> {
        self.depth += 1;
        if self.depth > DEPTH {
            return error("too many groups are within each other");
        }
        self.next();
        let pipe = self.pipe()?;
        self.depth -= 1;
        match self.next() {
            Some(')') => Ok(Base::Group(pipe)),
            _ => error("( is not closed by )"),
        }
    }

    fn named(&mut self) -> Result<Base, TemplateError> {
        let word = self.word();
        Ok(match word.as_str() {
            "true" => Base::Literal(Value::Bool(true)),
            "false" => Base::Literal(Value::Bool(false)),
            "nil" => Base::Literal(Value::Null),
            "" => {
                let c = self.peek().unwrap_or(' ');
                return error(format!("{c} is not understood in {{{{{}}}}}", self.text.trim()));
            }
            name if functions::NAMES.contains(&name) => Base::Function(word),
            name => {
                let near = crate::suggest::nearest(name, functions::NAMES);
                let hint = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
                return error(format!("there is no function {name}{hint}"));
            }
        })
    }

    fn quoted(&mut self) -> Result<String, TemplateError> {
        self.next();
        let mut text = String::new();
        loop {
            match self.next() {
                Some('"') => return Ok(text),
                Some('\\') => match self.next() {
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some('r') => text.push('\r'),
                    Some(c @ ('"' | '\\' | '\'')) => text.push(c),
                    _ => return error("an escape in a string is not known"),
                },
                Some(c) => text.push(c),
                None => return error("a string is not closed"),
            }
        }
    }

    fn number(&mut self) -> Result<Value, TemplateError> {
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && !"+-._".contains(c));
        let word = &rest[..end.unwrap_or(rest.len())];
        self.at += word.len();
        if let Ok(whole) = word.parse::<i64>() {
            return Ok(whole.into());
        }
        let float = word.parse::<f64>().ok().and_then(serde_json::Number::from_f64);
        float.map_or_else(|| error(format!("{word} is no number")), |number| Ok(number.into()))
    }
}
