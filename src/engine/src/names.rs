//! Names of containers.

use crate::{Error, Result};

/// Letters, digits, `_`, `.` and `-`, beginning with a letter or digit; as people know it.
pub(crate) fn check(name: &str) -> Result<()> {
    let bytes = name.as_bytes();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.-".contains(byte);
    let fits = (2..=128).contains(&bytes.len())
        && bytes[0].is_ascii_alphanumeric()
        && bytes.iter().all(plain);
    if fits {
        return Ok(());
    }
    Err(Error::Invalid {
        field: "name",
        value: name.chars().take(128).collect(),
        why: "use 2 to 128 letters, digits, '_', '.' and '-', beginning with a letter or digit"
            .into(),
    })
}

const FIRST: [&str; 40] = [
    "able", "amber", "brave", "bright", "brisk", "calm", "clear", "clever", "cosy", "crisp",
    "daring", "deft", "eager", "early", "fair", "fleet", "fresh", "gentle", "glad", "golden",
    "hardy", "honest", "jolly", "keen", "kind", "lively", "lucky", "mellow", "merry", "nimble",
    "noble", "patient", "proud", "quick", "quiet", "ready", "sturdy", "sunny", "swift", "trusty",
];

const SECOND: [&str; 40] = [
    "anchor", "ballast", "barge", "beacon", "bowline", "brig", "buoy", "capstan", "clipper",
    "compass", "cutter", "dinghy", "dory", "ferry", "frigate", "galley", "gangway", "halyard",
    "harbor", "hatch", "helm", "jetty", "keel", "ketch", "lantern", "mast", "mizzen", "oar",
    "packet", "pilot", "rigging", "rudder", "schooner", "sextant", "skiff", "sloop", "spar",
    "tender", "trawler", "windlass",
];

/// Two words, and a number once few pairs are left.
pub(crate) fn draw(taken: impl Fn(&str) -> bool) -> String {
    let word = |words: &[&'static str]| words[rand::random_range(0..words.len())];
    for _ in 0..20 {
        let name = format!("{}_{}", word(&FIRST), word(&SECOND));
        if !taken(&name) {
            return name;
        }
    }
    format!("{}_{}{}", word(&FIRST), word(&SECOND), rand::random_range(2..1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["web", "a1", "Web_1.2-x", &"x".repeat(128)] {
            check(good).unwrap();
        }
        for bad in ["", "a", "-a", "_a", "a b", "a/b", "ä1", &"x".repeat(129)] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
        for _ in 0..100 {
            check(&draw(|_| false)).unwrap();
        }
        check(&draw(|name| name.bytes().all(|byte| !byte.is_ascii_digit()))).unwrap();
    }
}
