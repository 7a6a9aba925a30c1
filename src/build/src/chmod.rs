//! `--chmod`: octal or symbolic.

/// A mode to set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chmod {
    /// All twelve bits.
    Octal(u32),
    /// `u+x,go-r`.
    Symbolic(Vec<Clause>),
}

/// One part between commas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// Bits of `u`, `g`, `o`.
    who: u32,
    operator: char,
    permissions: Permissions,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Permissions {
    /// Letters of `rwxXst`.
    Letters(String),
    /// As another class has it.
    Copy(char),
}

const USER: u32 = 0o4700;
const GROUP: u32 = 0o2070;
const OTHER: u32 = 0o1007;

impl Chmod {
    /// Reads the flag's value.
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return None;
        }
        if text.chars().all(|c| c.is_ascii_digit()) {
            return u32::from_str_radix(text, 8).ok().filter(|m| *m <= 0o7777).map(Self::Octal);
        }
        let mut clauses = Vec::new();
        for part in text.split(',') {
            clause(part, &mut clauses)?;
        }
        Some(Self::Symbolic(clauses))
    }

    /// The mode of an entry that had `mode`.
    pub fn apply(&self, mode: u32, directory: bool) -> u32 {
        match self {
            Self::Octal(mode) => *mode,
            Self::Symbolic(clauses) => {
                clauses.iter().fold(mode & 0o7777, |mode, clause| clause.apply(mode, directory))
            }
        }
    }
}

fn clause(text: &str, clauses: &mut Vec<Clause>) -> Option<()> {
    let start = text.find(['+', '-', '='])?;
    let mut who = 0;
    for c in text[..start].chars() {
        who |= match c {
            'u' => USER,
            'g' => GROUP,
            'o' => OTHER,
            'a' => USER | GROUP | OTHER,
            _ => return None,
        };
    }
    if who == 0 {
        who = USER | GROUP | OTHER;
    }
    let mut rest = &text[start..];
    while let Some(operator) = rest.chars().next() {
        let after = &rest[1..];
        let end = after.find(['+', '-', '=']).unwrap_or(after.len());
        let (letters, next) = after.split_at(end);
        let permissions = match letters {
            "u" | "g" | "o" => Permissions::Copy(letters.chars().next()?),
            letters if letters.chars().all(|c| "rwxXst".contains(c)) => {
                Permissions::Letters(letters.to_owned())
            }
            _ => return None,
        };
        clauses.push(Clause { who, operator, permissions });
        rest = next;
    }
    Some(())
}

impl Clause {
    fn apply(&self, mode: u32, directory: bool) -> u32 {
        let bits = self.bits(mode, directory) & self.who;
        match self.operator {
            '+' => mode | bits,
            '-' => mode & !bits,
            _ => {
                // A directory keeps its set-id bits unless they are named.
                let kept = if directory { self.who & 0o6000 & mode } else { 0 };
                mode & !self.who | bits | kept
            }
        }
    }

    fn bits(&self, mode: u32, directory: bool) -> u32 {
        match &self.permissions {
            Permissions::Copy(class) => {
                let shift = match class {
                    'u' => 6,
                    'g' => 3,
                    _ => 0,
                };
                (mode >> shift & 7) * 0o111
            }
            Permissions::Letters(letters) => letters.chars().fold(0, |bits, letter| {
                bits | match letter {
                    'r' => 0o444,
                    'w' => 0o222,
                    'x' => 0o111,
                    'X' if directory || mode & 0o111 != 0 => 0o111,
                    's' => 0o6000,
                    't' => 0o1000,
                    _ => 0,
                }
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        for (text, mode, directory, expected) in [
            ("755", 0o644, false, 0o755),
            ("0", 0o644, false, 0),
            ("7777", 0, false, 0o7777),
            ("u+x", 0o644, false, 0o744),
            ("+x", 0o644, false, 0o755),
            ("go-r", 0o644, false, 0o600),
            ("a=r", 0o755, false, 0o444),
            ("go=u", 0o640, false, 0o666),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, true, 0o755),
            ("a-w", 0o664, false, 0o444),
            ("u+s,+t", 0o755, false, 0o5755),
            ("u=rw+x", 0o000, false, 0o700),
            ("g=rx", 0o2755, true, 0o2755),
        ] {
            let found = Chmod::parse(text).unwrap().apply(mode, directory);
            assert_eq!(found, expected, "{text} of {mode:o}: {found:o}");
        }
        for bad in ["", "64a", "10000", "8", "x", "u", "u+q", "z+x", "u+x,"] {
            assert!(Chmod::parse(bad).is_none(), "{bad}");
        }
    }
}
