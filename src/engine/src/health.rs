//! How health is looked at: what the image says, with what was asked for over it.

use crate::spec::Health;
use serde::Deserialize;

/// Words of a check and of a shell that are taken from an image, at most.
const MAX_WORDS: usize = 1024;

#[derive(Deserialize)]
struct Document {
    config: Option<Config>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    healthcheck: Option<Check>,
    #[serde(default)]
    shell: Option<Vec<String>>,
}

/// As Docker's image configuration has it: times in nanoseconds, 0 for "not said".
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Check {
    #[serde(default)]
    test: Option<Vec<String>>,
    #[serde(default)]
    interval: i64,
    #[serde(default)]
    timeout: i64,
    #[serde(default)]
    start_period: i64,
    #[serde(default)]
    start_interval: i64,
    #[serde(default)]
    retries: i64,
}

/// What an image's configuration says; what cannot be read is nothing.
pub(crate) fn of_image(configuration: &[u8]) -> Option<Health> {
    let document: Document = serde_json::from_slice(configuration).ok()?;
    let config = document.config?;
    let check = config.healthcheck?;
    let mut test = check.test.unwrap_or_default();
    let shell = config.shell.unwrap_or_default();
    if test.len() > MAX_WORDS || shell.len() > MAX_WORDS {
        return None;
    }
    if let [kind, line] = test.as_slice()
        && kind == "CMD-SHELL"
        && !shell.is_empty()
    {
        test = [&["CMD".to_owned()], shell.as_slice(), std::slice::from_ref(line)].concat();
    }
    let time = |nanos: i64| u64::try_from(nanos).unwrap_or(0);
    Some(Health {
        test,
        interval: time(check.interval),
        timeout: time(check.timeout),
        start_period: time(check.start_period),
        start_interval: time(check.start_interval),
        retries: u32::try_from(check.retries).unwrap_or(0),
    })
}

/// Both together; `None`: nobody looks.
pub(crate) fn merge(asked: Option<&Health>, image: Option<Health>) -> Option<Health> {
    let image = image.unwrap_or_default();
    let asked = asked.cloned().unwrap_or_default();
    let or = |own: u64, image: u64| if own == 0 { image } else { own };
    let merged = Health {
        test: if asked.test.is_empty() { image.test } else { asked.test },
        interval: or(asked.interval, image.interval),
        timeout: or(asked.timeout, image.timeout),
        start_period: or(asked.start_period, image.start_period),
        start_interval: or(asked.start_interval, image.start_interval),
        retries: if asked.retries == 0 { image.retries } else { asked.retries },
    };
    let looks = merged.test.first().is_some_and(|kind| kind != "NONE");
    looks.then_some(merged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn what_is_asked_for_is_over_the_image() {
        let image =
            br#"{"config": {"Healthcheck": {"Test": ["CMD", "a"], "Interval": 5, "Retries": 2}}}"#;
        let image = of_image(image).unwrap();
        assert_eq!((image.test.clone(), image.interval), (words("CMD a"), 5));
        let asked = Health { retries: 7, ..Health::default() };
        let merged = merge(Some(&asked), Some(image.clone())).unwrap();
        assert_eq!((merged.test, merged.interval, merged.retries), (words("CMD a"), 5, 7));
        let none = Health { test: words("NONE"), ..Health::default() };
        assert_eq!(merge(Some(&none), Some(image)), None);
        assert_eq!(merge(None, None), None);
        let asked = Health { test: words("CMD-SHELL x"), ..Health::default() };
        assert_eq!(merge(Some(&asked), None), Some(asked));
    }

    #[test]
    fn images_say_anything() {
        for text in ["", "{}", r#"{"config":null}"#, r#"{"config":{"Healthcheck":5}}"#] {
            assert_eq!(of_image(text.as_bytes()), None, "{text}");
        }
        let text = br#"{"config": {"Shell": ["/b", "-c"], "Healthcheck": {"Test": ["CMD-SHELL", "l i"], "Interval": -1}}}"#;
        let health = of_image(text).unwrap();
        assert_eq!(
            (health.test, health.interval),
            (vec!["CMD".into(), "/b".into(), "-c".into(), "l i".into()], 0)
        );
    }
}
