//! Credentials from files: Docker's `config.json`, containers' `auth.json` and the kubelet's, with
//! credential helpers. Read anew each time, so that a change counts at once.

mod helper;

use crate::{Auth, PullErrorKind as Kind};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    #[serde(default)]
    creds_store: String,
}

#[derive(Deserialize, Default)]
struct Entry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    identitytoken: String,
    #[serde(default)]
    registrytoken: String,
}

/// The first credentials that the files have for a repository. Blocking: helpers are run.
pub(crate) fn find(
    files: &[PathBuf],
    registry: &str,
    repository: &str,
) -> Result<Option<Auth>, Kind> {
    for file in files {
        if let Some(auth) = in_file(file, registry, repository)? {
            return Ok(Some(auth));
        }
    }
    Ok(None)
}

fn in_file(path: &Path, registry: &str, repository: &str) -> Result<Option<Auth>, Kind> {
    let wrong = |why: String| Kind::Configuration { file: path.to_owned(), message: why };
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(error.to_string())),
    };
    // The parser's message may quote the file, which holds secrets.
    let file: File = serde_json::from_slice(&text).map_err(|error| {
        wrong(format!("not the expected JSON (line {}, column {})", error.line(), error.column()))
    })?;
    let best = |keys: &mut dyn Iterator<Item = &String>| {
        let matching = keys.filter_map(|key| Some((matches(key, registry, repository)?, key)));
        matching.max_by_key(|(rank, _)| *rank).map(|(_, key)| key.clone())
    };
    if let Some(key) = best(&mut file.cred_helpers.keys()) {
        return helper::ask(&file.cred_helpers[&key], &server(&key));
    }
    if let Some(key) = best(&mut file.auths.keys()) {
        let entry = &file.auths[&key];
        let found = Auth::from_fields(
            &entry.username,
            &entry.password,
            &entry.auth,
            &entry.identitytoken,
            &entry.registrytoken,
        );
        let found = found.map_err(|error| wrong(format!("entry {key:?}: {error}")))?;
        // With a store, the entry only says that there is something in it.
        if found.is_some() || file.creds_store.is_empty() {
            return Ok(found);
        }
        return helper::ask(&file.creds_store, &key);
    }
    if file.creds_store.is_empty() {
        return Ok(None);
    }
    helper::ask(&file.creds_store, &server(registry))
}

/// What a helper knows Docker Hub by.
fn server(registry: &str) -> String {
    if hub(registry) { "https://index.docker.io/v1/".into() } else { registry.into() }
}

fn hub(host: &str) -> bool {
    matches!(host, "docker.io" | "index.docker.io" | "registry-1.docker.io")
}

/// How well a key fits: bytes of its path, then whether it has no pattern. Keys are a host with an
/// optional port, perhaps with a scheme before and a path behind it; `*` in a label of the host
/// stands for any characters of one label. A path covers whole components.
fn matches(key: &str, registry: &str, repository: &str) -> Option<(usize, bool)> {
    let bare = key.split_once("://").map_or(key, |(_, rest)| rest);
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    let path = path.trim_matches('/');
    // Docker's own keys end with the version of an interface.
    let path = if matches!(path, "v1" | "v2") { "" } else { path };
    let same_host = host == registry || hub(host) && hub(registry);
    let fits = same_host || host.contains('*') && glob_host(host, registry);
    if !fits {
        return None;
    }
    let rest = repository.strip_prefix(path)?;
    let whole = path.is_empty() || rest.is_empty() || rest.starts_with('/');
    whole.then_some((path.len(), same_host))
}

fn glob_host(pattern: &str, registry: &str) -> bool {
    fn split(text: &str) -> (&str, Option<&str>) {
        match text.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (text, None),
        }
    }
    let ((pattern, pattern_port), (host, port)) = (split(pattern), split(registry));
    let (labels, patterns) =
        (host.split('.').collect::<Vec<_>>(), pattern.split('.').collect::<Vec<_>>());
    pattern_port == port
        && labels.len() == patterns.len()
        && labels.iter().zip(patterns).all(|(label, pattern)| glob(pattern, label))
}

fn glob(pattern: &str, text: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == text };
    let Some(rest) = text.strip_prefix(head) else { return false };
    (0..=rest.len()).any(|at| rest.is_char_boundary(at) && glob(tail, &rest[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        for (key, registry, repository, hit) in [
            ("r.example", "r.example", "a", true),
            ("https://r.example/v1/", "r.example", "a", true),
            ("r.example", "r.example:5000", "a", false),
            ("r.example:5000", "r.example:5000", "a", true),
            ("r.example/team", "r.example", "team/x", true),
            ("r.example/team", "r.example", "team", true),
            ("r.example/team", "r.example", "teams/x", false),
            ("*.example", "r.example", "a", true),
            ("*.example", "a.r.example", "a", false),
            ("*.r.example:5", "a.r.example:5", "a", true),
            ("*.r.example", "a.r.example:5", "a", false),
            ("r*.example", "reg.example", "a", true),
            ("*", "example", "a", true),
            ("https://index.docker.io/v1/", "docker.io", "library/a", true),
            ("docker.io/library", "docker.io", "library/a", true),
            ("evilr.example", "r.example", "a", false),
            ("r.example.evil", "r.example", "a", false),
        ] {
            assert_eq!(matches(key, registry, repository).is_some(), hit, "{key} {registry}");
        }
    }

    fn user(auth: Option<Auth>) -> String {
        match auth {
            Some(Auth::Basic { username, password }) => format!("{username}:{password}"),
            Some(Auth::IdentityToken(token)) => format!("token {token}"),
            Some(Auth::RegistryToken(token)) => format!("registry {token}"),
            None => "nobody".into(),
        }
    }

    fn write(dir: &Path, text: &str) -> Vec<PathBuf> {
        let file = dir.join("config.json");
        std::fs::write(&file, text).unwrap();
        vec![dir.join("absent.json"), file]
    }

    #[test]
    fn the_closest_entry_wins() {
        let temp = tempfile::tempdir().unwrap();
        let files = write(
            temp.path(),
            r#"{"auths": {
                "r.example": {"auth": "dTpy"},
                "r.example/team": {"auth": "dTp0"},
                "*.example": {"username": "u", "password": "g"},
                "t.example": {"identitytoken": "i"},
                "b.example": {"registrytoken": "b"},
                "https://index.docker.io/v1/": {"auth": "dTpo"}
            }}"#,
        );
        for (registry, repository, want) in [
            ("r.example", "x", "u:r"),
            ("r.example", "team/x", "u:t"),
            ("o.example", "x", "u:g"),
            ("t.example", "x", "token i"),
            ("b.example", "x", "registry b"),
            ("docker.io", "library/x", "u:h"),
            ("other.test", "x", "nobody"),
        ] {
            assert_eq!(user(find(&files, registry, repository).unwrap()), want, "{registry}");
        }
    }

    #[test]
    fn secrets_of_a_broken_file_are_not_printed() {
        let temp = tempfile::tempdir().unwrap();
        let files =
            write(temp.path(), r#"{"auths": {"r.example": {"auth": 1, "password": "s3cret"}}}"#);
        let error = find(&files, "r.example", "x").unwrap_err().to_string();
        assert!(error.contains("config.json") && !error.contains("s3cret"), "{error}");
        let files = write(temp.path(), r#"{"auths": {"r.example": {"auth": "s3cret"}}}"#);
        let error = find(&files, "r.example", "x").unwrap_err().to_string();
        assert!(error.contains("r.example") && !error.contains("s3cret"), "{error}");
    }

    #[test]
    fn helpers() {
        let temp = tempfile::tempdir().unwrap();
        let script = |name: &str, body: &str| {
            use std::os::unix::fs::PermissionsExt;
            let path = temp.path().join(format!("docker-credential-{name}"));
            std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        };
        script(
            "own",
            r#"[ "$1" = get ] || exit 9; read s; echo "{\"ServerURL\":\"$s\",\"Username\":\"u\",\"Secret\":\"$s\"}""#,
        );
        script("token", r#"echo '{"Username":"<token>","Secret":"t"}'"#);
        script("none", "echo 'credentials not found in native keychain'; exit 1");
        script("bad", "echo 's3cret' ; echo 'is locked' >&2; exit 1");
        script("noise", "echo s3cret");
        script("hangs", "while :; do :; done");
        let ask = |name: &str, server: &str| {
            let path = temp.path().as_os_str().to_owned();
            helper::ask_in(name, server, &path, std::time::Duration::from_millis(500))
        };
        assert_eq!(user(ask("own", "r.example").unwrap()), "u:r.example");
        assert_eq!(user(ask("token", "r.example").unwrap()), "token t");
        assert_eq!(user(ask("none", "r.example").unwrap()), "nobody");
        for (name, word) in [
            ("bad", "is locked"),
            ("noise", "not the expected JSON"),
            ("hangs", "did not end within"),
            ("absent", "not in PATH"),
            ("../own", "not valid"),
        ] {
            let error = ask(name, "r.example").unwrap_err().to_string();
            assert!(error.contains(word) && !error.contains("s3cret"), "{name}: {error}");
        }
    }
}
