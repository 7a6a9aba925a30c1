//! Values of flags: text to typed value. An error is what was expected; clap puts flag and value before it.

mod devices;
mod limits;
mod mounts;
mod networks;
mod ports;
mod security;

pub(crate) use devices::device;
pub(crate) use limits::{cpus, duration, memory_swap, restart, size, stop_timeout, ulimit};
pub(crate) use mounts::{Mounted, mount, tmpfs, volume};
pub(crate) use networks::{Join, extra_host, join, mac};
pub(crate) use ports::{Exposed, Published, expose, publish};
pub(crate) use security::{SecurityOption, refuse_gpus, refuse_link, security_option};

/// `key=value`, the value may be empty.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".into()),
    }
}

/// `key` or `key=value`.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() {
        return Err("expected NAME=VALUE".into());
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// A name of a container, pod, network or volume.
pub(crate) fn name(text: &str) -> Result<String, String> {
    // Docker prints names with a slash before them, and scripts hand them back.
    let text = text.strip_prefix('/').unwrap_or(text);
    let mut chars = text.chars();
    let first = chars.next().is_some_and(|c| c.is_ascii_alphanumeric());
    let rest = chars.clone().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if !first || !rest || text.len() > 128 {
        return Err(
            "expected 1 to 128 of a-z, A-Z, 0-9, _ . and -, of which the first is a letter or digit"
                .into(),
        );
    }
    Ok(text.to_owned())
}

/// One of some words.
fn one_of(text: &str, known: &[&str]) -> Result<String, String> {
    if known.contains(&text) {
        return Ok(text.to_owned());
    }
    let near = crate::suggest::nearest(text, known.iter().copied());
    let hint = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
    Err(format!("expected {}{hint}", known.join(", ")))
}

/// `--userns`.
pub(crate) fn userns(text: &str) -> Result<String, String> {
    one_of(text, &["host", "auto"])
}

/// `--uts`.
pub(crate) fn uts(text: &str) -> Result<String, String> {
    one_of(text, &["host"])
}

/// `--cgroupns`.
pub(crate) fn cgroupns(text: &str) -> Result<String, String> {
    one_of(text, &["host", "private"])
}

/// `--pid`.
pub(crate) fn pid(text: &str) -> Result<String, String> {
    of_container(text, &["host"])
}

/// `--ipc`.
pub(crate) fn ipc(text: &str) -> Result<String, String> {
    of_container(text, &["host", "private", "shareable", "none"])
}

fn of_container(text: &str, known: &[&str]) -> Result<String, String> {
    match text.strip_prefix("container:") {
        Some("") => Err("expected container:NAME".into()),
        Some(_) => Ok(text.to_owned()),
        None => one_of(text, known).map_err(|why| format!("{why} or container:NAME")),
    }
}

/// `yes`, `no` and what Go takes for them.
fn truth(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "t" | "true" => Ok(true),
        "0" | "f" | "false" => Ok(false),
        _ => Err(format!("{text} is neither true nor false")),
    }
}

/// Fields of a line of comma separated values, as `--mount` takes them: a field in double quotes may hold
/// commas, and a doubled quote in it is one.
fn fields(text: &str) -> Result<Vec<String>, String> {
    let mut fields = vec![String::new()];
    let mut chars = text.chars().peekable();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        let Some(field) = fields.last_mut() else { break };
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            ',' if !quoted => fields.push(String::new()),
            c => field.push(c),
        }
    }
    if quoted { Err("a quote is not closed".into()) } else { Ok(fields) }
}

/// An absolute path in the container without `.`, `..` and doubled slashes.
fn target(text: &str) -> Result<std::path::PathBuf, String> {
    let path = std::path::Path::new(text);
    if !path.is_absolute() {
        return Err(format!("the path in the container, {text}, must begin with /"));
    }
    let mut clean = std::path::PathBuf::from("/");
    for part in path.components() {
        match part {
            std::path::Component::Normal(name) => clean.push(name),
            std::path::Component::ParentDir => drop(clean.pop()),
            _ => {}
        }
    }
    if clean == std::path::Path::new("/") {
        return Err("the container's root cannot be mounted over: name a path below it".into());
    }
    Ok(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        for good in ["web", "a1", "0.b-c_d", "/web"] {
            assert_eq!(name(good).unwrap(), good.trim_start_matches('/'), "{good}");
        }
        for wrong in ["", "-a", "a/b", "a b", "//a", "ä1"] {
            assert!(name(wrong).is_err(), "{wrong}");
        }
        assert_eq!(label("a").unwrap(), ("a".into(), String::new()));
        assert_eq!(label("a=b=c").unwrap(), ("a".into(), "b=c".into()));
        assert!(label("=b").is_err() && pair("a").is_err() && pair("=").is_err());
        assert_eq!(ipc("container:x").unwrap(), "container:x");
        assert!(ipc("container:").is_err());
        assert!(ipc("sharable").unwrap_err().contains("did you mean shareable?"));
        assert!(pid("private").is_err());
    }

    #[test]
    fn comma_separated() {
        assert_eq!(fields("a,b").unwrap(), ["a", "b"]);
        assert_eq!(fields("\"a,b\",c").unwrap(), ["a,b", "c"]);
        assert_eq!(fields("\"a\"\"b\"").unwrap(), ["a\"b"]);
        assert_eq!(fields("a=\"b").unwrap(), ["a=\"b"]);
        assert!(fields("\"a").is_err());
    }

    #[test]
    fn targets() {
        assert_eq!(target("/a//b/../c/.").unwrap(), std::path::Path::new("/a/c"));
        for wrong in ["a", "/", "/a/..", ""] {
            assert!(target(wrong).is_err(), "{wrong}");
        }
    }
}
