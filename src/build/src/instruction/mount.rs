//! `RUN --mount`.

use crate::parse::key_values;
use crate::suggest::nearest;
use crate::{Diagnostic, Lines};

/// One mount with all defaults filled in that need nothing but itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted, with the options of that kind.
    pub kind: MountKind,
    /// Where; relative to the working directory where it does not start with a slash.
    pub target: Option<String>,
    /// Writes are refused.
    pub read_only: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// Files of the context, a stage or an image. Writes are thrown away.
    Bind {
        /// Stage, image or named context; the build context without one.
        from: Option<String>,
        /// Path in it.
        source: Option<String>,
    },
    /// A directory that stays between builds.
    Cache {
        /// Its name; the target without one.
        id: Option<String>,
        /// Who may use it at once.
        sharing: Sharing,
        /// What it holds at first.
        from: Option<String>,
        /// Path in it.
        source: Option<String>,
        /// Mode of a new one.
        mode: u32,
        /// Owner of a new one.
        uid: u32,
        /// Group of a new one.
        gid: u32,
    },
    /// An empty directory in memory.
    Tmpfs {
        /// Bytes at most.
        size: Option<u64>,
    },
    /// A secret of the caller, as a file or a variable.
    Secret {
        /// Its name; the target's last part without one.
        id: Option<String>,
        /// A variable that holds it.
        env: Option<String>,
        /// The build fails without it.
        required: bool,
        /// Mode of the file.
        mode: u32,
        /// Owner of the file.
        uid: u32,
        /// Group of the file.
        gid: u32,
    },
    /// The socket of the caller's SSH agent.
    Ssh {
        /// Its name.
        id: String,
        /// The build fails without it.
        required: bool,
        /// Mode of the socket.
        mode: u32,
        /// Owner of the socket.
        uid: u32,
        /// Group of the socket.
        gid: u32,
    },
}

/// Who may use a cache at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// Everyone.
    Shared,
    /// A step that finds it in use gets another one.
    Private,
    /// One after the other.
    Locked,
}

/// Every option with the kinds that have it.
const OPTIONS: [(&str, &[&str]); 19] = [
    ("type", &["bind", "cache", "tmpfs", "secret", "ssh"]),
    ("target", &["bind", "cache", "tmpfs", "secret", "ssh"]),
    ("dst", &["bind", "cache", "tmpfs", "secret", "ssh"]),
    ("destination", &["bind", "cache", "tmpfs", "secret", "ssh"]),
    ("from", &["bind", "cache"]),
    ("source", &["bind", "cache"]),
    ("src", &["bind", "cache"]),
    ("rw", &["bind", "cache", "tmpfs"]),
    ("readwrite", &["bind", "cache", "tmpfs"]),
    ("ro", &["bind", "cache", "tmpfs"]),
    ("readonly", &["bind", "cache", "tmpfs"]),
    ("id", &["cache", "secret", "ssh"]),
    ("sharing", &["cache"]),
    ("mode", &["cache", "secret", "ssh"]),
    ("uid", &["cache", "secret", "ssh"]),
    ("gid", &["cache", "secret", "ssh"]),
    ("size", &["tmpfs"]),
    ("env", &["secret"]),
    ("required", &["secret", "ssh"]),
];

impl Mount {
    /// Reads `type=cache,target=/x`. `expand` is what a value becomes when its variables are
    /// expanded; `from` has none.
    pub fn parse(
        text: &str,
        lines: Lines,
        expand: &mut dyn FnMut(&str) -> Result<String, Diagnostic>,
    ) -> Result<Self, Diagnostic> {
        let wrong = |message: String| Diagnostic::new(lines, message).at(text);
        let fields =
            key_values(text).ok_or_else(|| wrong(format!("a quote in {text:?} does not end")))?;
        let mut options = Vec::new();
        for (key, value) in fields {
            if !OPTIONS.iter().any(|(known, _)| *known == key) {
                return Err(unknown(text, &key, value.as_deref(), lines));
            }
            let value = match value {
                Some(value) if key == "from" && value.contains('$') => {
                    return Err(wrong("'from' doesn't support variable expansion".into())
                        .at(value)
                        .hint(Some(
                            "name a stage for it: FROM with an ARG from before the first FROM",
                        )));
                }
                Some(value) if key != "from" => Some(expand(&value)?),
                other => other,
            };
            options.push((key, value));
        }
        Options { text, lines, options }.mount()
    }
}

fn unknown(text: &str, key: &str, value: Option<&str>, lines: Lines) -> Diagnostic {
    let field = value.map_or_else(|| key.to_owned(), |value| format!("{key}={value}"));
    let known = OPTIONS.map(|(name, _)| name);
    let message = format!("unexpected key '{key}' in '{field}'");
    Diagnostic::new(lines, message)
        .at(if text.contains(&field) { field.as_str() } else { text })
        .expected(format!("one of {}", known.join(", ")))
        .hint(nearest(key, known).map(|meant| format!("did you mean {meant}?")))
}

/// Options of one mount, keys known.
struct Options<'a> {
    text: &'a str,
    lines: Lines,
    options: Vec<(String, Option<String>)>,
}

impl Options<'_> {
    fn wrong(&self, message: String) -> Diagnostic {
        Diagnostic::new(self.lines, message).at(self.text)
    }

    fn get(&self, names: &[&str]) -> Result<Option<&str>, Diagnostic> {
        let given = self.options.iter().rev().find(|(key, _)| names.contains(&key.as_str()));
        match given {
            None => Ok(None),
            Some((_, Some(value))) => Ok(Some(value.as_str())),
            Some((key, None)) => {
                Err(self.wrong(format!("'{key}' needs a value")).expected(format!("{key}=value")))
            }
        }
    }

    fn owned(&self, names: &[&str]) -> Result<Option<String>, Diagnostic> {
        Ok(self.get(names)?.filter(|value| !value.is_empty()).map(str::to_owned))
    }

    /// `rw`, `required`: true without a value.
    fn flag(&self, names: &[&str]) -> Result<Option<bool>, Diagnostic> {
        let given = self.options.iter().rev().find(|(key, _)| names.contains(&key.as_str()));
        match given {
            None => Ok(None),
            Some((_, None)) => Ok(Some(true)),
            Some((key, Some(value))) => match value.as_str() {
                "true" | "1" => Ok(Some(true)),
                "false" | "0" => Ok(Some(false)),
                other => Err(self
                    .wrong(format!("'{key}' is neither true nor false: {other}"))
                    .expected("true or false")),
            },
        }
    }

    fn number(&self, name: &str, radix: u32, default: u32) -> Result<u32, Diagnostic> {
        let Some(value) = self.get(&[name])? else { return Ok(default) };
        u32::from_str_radix(value, radix)
            .ok()
            .filter(|number| name != "mode" || *number <= 0o7777)
            .ok_or_else(|| self.wrong(format!("invalid value {value:?} for '{name}'")))
    }

    fn mount(&self) -> Result<Mount, Diagnostic> {
        let kinds = OPTIONS[0].1;
        let kind = self.get(&["type"])?.unwrap_or("bind").to_ascii_lowercase();
        if !kinds.contains(&kind.as_str()) {
            return Err(self
                .wrong(format!("unsupported mount type {kind:?}"))
                .expected(format!("one of {}", kinds.join(", ")))
                .hint(
                    nearest(&kind, kinds.iter().copied())
                        .map(|meant| format!("did you mean {meant}?")),
                ));
        }
        for (key, _) in &self.options {
            let known = OPTIONS.iter().find(|(name, _)| name == key);
            if known.is_none_or(|(_, has)| !has.contains(&kind.as_str())) {
                return Err(self.wrong(format!("a {kind} mount has no option '{key}'")));
            }
        }
        let target = self.owned(&["target", "dst", "destination"])?;
        let read_only = match (self.flag(&["ro", "readonly"])?, self.flag(&["rw", "readwrite"])?) {
            (Some(read_only), _) => read_only,
            (None, Some(writable)) => !writable,
            (None, None) => kind == "bind",
        };
        let optional = kind == "secret" || kind == "ssh";
        if target.is_none() && !optional {
            return Err(self
                .wrong(format!("a {kind} mount needs a target"))
                .expected("target=/path"));
        }
        if target.as_deref().is_some_and(|target| target.trim_matches('/').is_empty()) {
            return Err(self.wrong("a mount cannot have / as its target".into()));
        }
        Ok(Mount { kind: self.kind(&kind)?, target, read_only })
    }

    fn kind(&self, kind: &str) -> Result<MountKind, Diagnostic> {
        let (uid, gid) = (self.number("uid", 10, 0)?, self.number("gid", 10, 0)?);
        let required = self.flag(&["required"])?.unwrap_or(false);
        let (from, source) = (self.owned(&["from"])?, self.owned(&["source", "src"])?);
        let id = self.owned(&["id"])?;
        Ok(match kind {
            "cache" => MountKind::Cache {
                id,
                sharing: self.sharing()?,
                from,
                source,
                mode: self.number("mode", 8, 0o755)?,
                uid,
                gid,
            },
            "tmpfs" => MountKind::Tmpfs { size: self.size()? },
            "secret" => {
                let env = self.owned(&["env"])?;
                let target = self.owned(&["target", "dst", "destination"])?;
                if id.is_none() && env.is_none() && target.is_none() {
                    return Err(self.wrong("a secret mount needs an id or a target".into()));
                }
                let mode = self.number("mode", 8, 0o400)?;
                MountKind::Secret { id, env, required, mode, uid, gid }
            }
            "ssh" => MountKind::Ssh {
                id: id.unwrap_or_else(|| "default".into()),
                required,
                mode: self.number("mode", 8, 0o600)?,
                uid,
                gid,
            },
            _ => MountKind::Bind { from, source },
        })
    }

    fn sharing(&self) -> Result<Sharing, Diagnostic> {
        match self.get(&["sharing"])?.unwrap_or("shared").to_ascii_lowercase().as_str() {
            "shared" => Ok(Sharing::Shared),
            "private" => Ok(Sharing::Private),
            "locked" => Ok(Sharing::Locked),
            other => Err(self
                .wrong(format!("unsupported sharing value {other:?}"))
                .expected("shared, private or locked")),
        }
    }

    /// Bytes with a suffix: `64m`, `1GiB`.
    fn size(&self) -> Result<Option<u64>, Diagnostic> {
        let Some(value) = self.get(&["size"])? else { return Ok(None) };
        bytes(value).map(Some).ok_or_else(|| {
            self.wrong(format!("invalid size {value:?}"))
                .expected("bytes, or a number with k, m, g")
        })
    }
}

/// A number of bytes with an optional suffix, in powers of 1024.
pub fn bytes(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let digits =
        text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim();
    let unit = unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(unit);
    let factor: u64 = match unit {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        _ => return None,
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor);
    }
    let size = number.parse::<f64>().ok()? * factor as f64;
    // Above this a float no longer holds every whole number; no tmpfs is that large.
    (0.0..9.0e15).contains(&size).then_some(size as u64)
}
