//! Cache keys: one digest over everything that a step's result depends on, made of named parts, so
//! that a miss can be explained.

use orlop_model::Digest;
use sha2::{Digest as _, Sha256};

/// A digest over fields, each with its length in front: no two lists of fields give the same bytes.
#[derive(Default, Clone)]
pub struct Hasher(Sha256);

impl Hasher {
    /// Adds a field.
    pub fn field(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let bytes = bytes.as_ref();
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// Adds several fields and how many they are.
    pub fn list<T: AsRef<[u8]>>(&mut self, fields: impl IntoIterator<Item = T>) -> &mut Self {
        let fields: Vec<T> = fields.into_iter().collect();
        self.0.update((fields.len() as u64).to_le_bytes());
        for field in fields {
            self.field(field);
        }
        self
    }

    /// Adds a number.
    pub fn number(&mut self, number: u64) -> &mut Self {
        self.field(number.to_le_bytes())
    }

    /// The digest.
    pub fn finish(self) -> Digest {
        Digest::from_sha256(&self.0.finalize().into())
    }
}

/// A digest of one text.
pub fn digest(bytes: impl AsRef<[u8]>) -> Digest {
    Digest::from_sha256(&Sha256::digest(bytes.as_ref()).into())
}

/// A digest of all that a reader has.
pub fn digest_of(reader: &mut dyn std::io::Read) -> std::io::Result<Digest> {
    let mut sha = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(Digest::from_sha256(&sha.finalize().into())),
            n => sha.update(&buffer[..n]),
        }
    }
}

/// The name of a chain of layers, as OCI defines it; `None` for no layers.
pub fn chain(below: Option<&Digest>, diff_id: &Digest) -> Digest {
    match below {
        None => diff_id.clone(),
        Some(below) => digest(format!("{below} {diff_id}")),
    }
}

/// A key that is being made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Key {
    /// The parts, by name.
    pub parts: Vec<(String, Digest)>,
}

impl Key {
    /// Adds a part.
    pub fn part(&mut self, name: impl Into<String>, fill: impl FnOnce(&mut Hasher)) {
        let mut hasher = Hasher::default();
        fill(&mut hasher);
        self.parts.push((name.into(), hasher.finish()));
    }

    /// The key. The version changes whenever equal inputs may give another result.
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::default();
        hasher.field("orlop build 1");
        for (name, part) in &self.parts {
            hasher.field(name).field(part.as_str());
        }
        hasher.finish()
    }

    /// Names of the parts that differ from those of an earlier step.
    pub fn differences(&self, earlier: &[(String, Digest)]) -> Vec<String> {
        let names = self.parts.iter().chain(earlier).map(|(name, _)| name);
        let of = |parts: &[(String, Digest)], name: &str| {
            parts.iter().find(|(other, _)| other == name).map(|(_, digest)| digest.clone())
        };
        let mut differ: Vec<String> = Vec::new();
        for name in names {
            if of(&self.parts, name) != of(earlier, name) && !differ.contains(name) {
                differ.push(name.clone());
            }
        }
        differ
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_cannot_run_into_each_other() {
        let of = |fields: &[&str]| {
            let mut hasher = Hasher::default();
            hasher.list(fields);
            hasher.finish()
        };
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&["a"]), of(&["a", ""]));
    }

    #[test]
    fn what_differs_is_named() {
        let key = |env: &str| {
            let mut key = Key::default();
            key.part("command", |h| {
                h.field("x");
            });
            key.part("environment", |h| {
                h.field(env);
            });
            key
        };
        assert_ne!(key("a").digest(), key("b").digest());
        assert_eq!(key("a").differences(&key("b").parts), ["environment"]);
        assert!(key("a").differences(&key("a").parts).is_empty());
    }
}
