//! Filters by label, of networks and volumes.

use crate::error::ApiError;
use std::collections::BTreeMap;

/// What labels must be, and must not.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Labels(Vec<(bool, String, Option<String>)>);

/// Reads `label=NAME[=VALUE]` and `label!=NAME[=VALUE]`.
pub(super) fn labels(filters: &[String]) -> Result<Labels, ApiError> {
    let parsed = filters.iter().map(|filter| {
        let (wanted, rest) = match (filter.strip_prefix("label!="), filter.strip_prefix("label=")) {
            (Some(rest), _) => (false, rest),
            (None, Some(rest)) => (true, rest),
            (None, None) => {
                return Err(ApiError::from(orlop_engine::Error::Invalid {
                    field: "filter",
                    value: filter.clone(),
                    why: "use label=NAME, label=NAME=VALUE or the same with label!=".into(),
                }));
            }
        };
        let (name, value) = match rest.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (rest, None),
        };
        Ok((wanted, name.to_owned(), value))
    });
    parsed.collect::<Result<_, _>>().map(Labels)
}

impl Labels {
    /// Whether an object with these labels is meant.
    pub(super) fn fit(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|(wanted, name, value)| {
            let has = labels.get(name).is_some_and(|own| value.as_ref().is_none_or(|v| v == own));
            has == *wanted
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters() {
        let has = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        for (filters, fits) in [
            (vec![], true),
            (vec!["label=a"], true),
            (vec!["label=a=1"], true),
            (vec!["label=a=2"], false),
            (vec!["label!=a"], false),
            (vec!["label!=b", "label=a"], true),
            (vec!["label=b"], false),
        ] {
            let filters: Vec<String> = filters.into_iter().map(str::to_owned).collect();
            assert_eq!(labels(&filters).unwrap().fit(&has), fits, "{filters:?}");
        }
        assert!(labels(&["until=1h".to_owned()]).is_err());
    }
}
