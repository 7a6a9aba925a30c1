//! Shell patterns of `${v#p}` and `${v/p/r}`: `*`, `?` and escaped characters.

enum Part {
    Char(char),
    Any,
    Many,
}

pub(super) struct Pattern(Vec<Part>);

impl Pattern {
    pub(super) fn new(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            parts.push(match c {
                '\\' => Part::Char(chars.next().unwrap_or('\\')),
                '*' if matches!(parts.last(), Some(Part::Many)) => continue,
                '*' => Part::Many,
                '?' => Part::Any,
                c => Part::Char(c),
            });
        }
        Self(parts)
    }

    /// All lengths of prefixes of `text` that match, shortest first: one pass over the text with
    /// the set of places in the pattern.
    fn prefixes(&self, text: &[char]) -> Vec<usize> {
        let mut places = vec![false; self.0.len() + 1];
        places[0] = true;
        let mut found = Vec::new();
        for length in 0..=text.len() {
            for (at, part) in self.0.iter().enumerate() {
                if places[at] && matches!(part, Part::Many) {
                    places[at + 1] = true;
                }
            }
            if places[self.0.len()] {
                found.push(length);
            }
            let Some(&c) = text.get(length) else { break };
            let mut next = vec![false; self.0.len() + 1];
            for (at, part) in self.0.iter().enumerate().filter(|(at, _)| places[*at]) {
                match part {
                    Part::Many => next[at] = true,
                    Part::Any => next[at + 1] = true,
                    Part::Char(own) => next[at + 1] |= *own == c,
                }
            }
            if !next.contains(&true) {
                break;
            }
            places = next;
        }
        found
    }

    pub(super) fn trim_prefix(&self, value: &str, longest: bool) -> String {
        let chars: Vec<char> = value.chars().collect();
        let found = self.prefixes(&chars);
        let length = if longest { found.last() } else { found.first() };
        chars[length.copied().unwrap_or(0)..].iter().collect()
    }

    pub(super) fn trim_suffix(&self, value: &str, longest: bool) -> String {
        let chars: Vec<char> = value.chars().collect();
        let matches = |at: &usize| self.prefixes(&chars[*at..]).last() == Some(&(chars.len() - at));
        let mut starts = 0..=chars.len();
        let start = if longest { starts.find(matches) } else { starts.rfind(matches) };
        chars[..start.unwrap_or(chars.len())].iter().collect()
    }

    pub(super) fn replace(&self, value: &str, replacement: &str, all: bool) -> String {
        let chars: Vec<char> = value.chars().collect();
        if self.0.is_empty() {
            return value.to_owned();
        }
        let mut out = String::new();
        let mut at = 0;
        let mut replaced = false;
        while at < chars.len() {
            let length = self.prefixes(&chars[at..]).last().copied().unwrap_or(0);
            if length > 0 && (all || !replaced) {
                out.push_str(replacement);
                replaced = true;
                at += length;
            } else {
                out.push(chars[at]);
                at += 1;
            }
        }
        out
    }
}
