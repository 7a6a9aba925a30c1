//! `--filter`: values of one key are alternatives, keys go together; labels all must fit.

use anyhow::bail;
use std::collections::BTreeMap;

/// What was asked, by key.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// Refuses keys that the list does not know.
    pub(crate) fn new(given: &[(String, String)], known: &[&str]) -> anyhow::Result<Self> {
        let mut filters = BTreeMap::<String, Vec<String>>::new();
        for (key, value) in given {
            if !known.contains(&key.as_str()) {
                let near = crate::suggest::nearest(key, known.iter().copied());
                let hint = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
                bail!("--filter {key}={value}: expected {}{hint}", known.join(", "));
            }
            filters.entry(key.clone()).or_default().push(value.clone());
        }
        Ok(Self(filters))
    }

    /// What was asked of a key.
    pub(crate) fn get(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// Whether one of the values of a key fits, or none was asked.
    pub(crate) fn any(&self, key: &str, fits: impl Fn(&str) -> bool) -> bool {
        let asked = self.get(key);
        asked.is_empty() || asked.iter().any(|value| fits(value))
    }

    /// Whether labels have all that was asked: `NAME` or `NAME=VALUE`.
    pub(crate) fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        self.get("label").iter().all(|asked| match asked.split_once('=') {
            Some((name, value)) => labels.get(name).is_some_and(|has| has == value),
            None => labels.contains_key(asked),
        })
    }

    /// The truth of a key: `dangling=true`. `None`: not asked.
    pub(crate) fn truth(&self, key: &str) -> anyhow::Result<Option<bool>> {
        match self.get(key).last().map(String::as_str) {
            None => Ok(None),
            Some("true" | "1") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(other) => bail!("--filter {key}={other}: expected true or false"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let known = ["name", "label", "dangling"];
        let given =
            [pair("name", "a"), pair("name", "b"), pair("label", "x=1"), pair("label", "y")];
        let filters = Filters::new(&given, &known).unwrap();
        assert!(
            filters.any("name", |name| name == "b") && !filters.any("name", |name| name == "c")
        );
        assert!(filters.any("id", |_| false), "nothing was asked");
        let labels = |all: &[(&str, &str)]| all.iter().map(|(k, v)| pair(k, v)).collect();
        assert!(filters.labels(&labels(&[("x", "1"), ("y", "")])));
        assert!(!filters.labels(&labels(&[("x", "2"), ("y", "")])));
        assert!(!filters.labels(&labels(&[("x", "1")])));
        let error = Filters::new(&[pair("nmae", "x")], &known).unwrap_err().to_string();
        assert!(error.contains("did you mean name?"), "{error}");
        let filters = Filters::new(&[pair("dangling", "maybe")], &known).unwrap();
        assert!(filters.truth("dangling").is_err());
        assert_eq!(filters.truth("name").unwrap(), None);
    }
}
