//! `# check=skip=A,B;error=true;experimental=C`.

use super::Rule;

/// Which rules run, and whether a warning is an error.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckOptions {
    skip_all: bool,
    skip: Vec<String>,
    experimental_all: bool,
    experimental: Vec<String>,
    /// A warning ends the build.
    pub error: bool,
}

/// Options that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid check option {option:?}: expected skip=RULE,…, experimental=RULE,… or error=true")]
pub struct CheckOptionsError {
    /// The part that was not understood.
    pub option: String,
}

impl CheckOptions {
    /// Reads the directive's value.
    pub fn parse(text: &str) -> Result<Self, CheckOptionsError> {
        let mut options = Self::default();
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let wrong = || CheckOptionsError { option: part.to_owned() };
            let (key, value) = part.split_once('=').ok_or_else(wrong)?;
            let names = || value.split(',').map(|name| name.trim().to_owned());
            let all = value.trim().eq_ignore_ascii_case("all");
            match key.trim().to_ascii_lowercase().as_str() {
                "skip" if all => options.skip_all = true,
                "skip" => options.skip.extend(names()),
                "experimental" if all => options.experimental_all = true,
                "experimental" => options.experimental.extend(names()),
                "error" => options.error = value.trim().parse().map_err(|_| wrong())?,
                _ => return Err(wrong()),
            }
        }
        Ok(options)
    }

    pub(super) fn allows(&self, rule: Rule) -> bool {
        let named =
            |list: &[String]| list.iter().any(|name| name.eq_ignore_ascii_case(rule.name()));
        let wanted = !rule.experimental() || self.experimental_all || named(&self.experimental);
        wanted && !self.skip_all && !named(&self.skip)
    }
}

/// Whether a comment above an instruction switches the rule off for it.
pub(super) fn skipped_by(comments: &[String], rule: Rule) -> bool {
    comments.iter().any(|comment| {
        let Some(value) = comment.strip_prefix("check").map(str::trim_start) else { return false };
        let Some(value) = value.strip_prefix('=') else { return false };
        // What follows a blank is for people.
        let value = value.split_whitespace().next().unwrap_or_default();
        CheckOptions::parse(value).is_ok_and(|options| {
            options.skip_all || options.skip.iter().any(|n| n.eq_ignore_ascii_case(rule.name()))
        })
    })
}
