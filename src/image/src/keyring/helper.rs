//! Docker's credential helpers: programs that know a password.

use crate::registry::printable;
use crate::{Auth, PullErrorKind as Kind};
use orlop_sys::process::{Command, Exit, Program, output};
use serde::Deserialize;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

/// A helper that asks somebody who is not there must not hold a pull for ever.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of an answer.
const LIMIT: usize = 64 << 10;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// What the helper `docker-credential-<name>` has for a server. Blocking.
pub(super) fn ask(name: &str, server: &str) -> Result<Option<Auth>, Kind> {
    let path = std::env::var_os("PATH")
        .unwrap_or_else(|| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into());
    ask_in(name, server, &path, TIMEOUT)
}

pub(super) fn ask_in(
    name: &str,
    server: &str,
    path: &OsStr,
    timeout: Duration,
) -> Result<Option<Auth>, Kind> {
    let wrong =
        |why: String| Kind::Credentials { message: format!("credential helper {name:?}: {why}") };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if name.is_empty() || !name.bytes().all(plain) {
        return Err(wrong("its name is not valid".into()));
    }
    let program = format!("docker-credential-{name}");
    let found = std::env::split_paths(path).map(|dir| dir.join(&program)).find(|p| p.is_file());
    let found: PathBuf = found.ok_or_else(|| wrong(format!("{program} is not in PATH")))?;
    let mut command = Command::new(Program::Path(&found));
    command.arg(&program).arg("get").env("PATH", path);
    for variable in ["HOME", "USER", "XDG_RUNTIME_DIR", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"] {
        if let Some(value) = std::env::var_os(variable) {
            let value: OsString = value;
            command.env(variable, value);
        }
    }
    let done = output(&command, server.as_bytes(), LIMIT, timeout)
        .map_err(|error| wrong(error.to_string()))?;
    if done.exit != Exit::Code(0) {
        // Helpers say so on their standard output, and only with these words.
        let said = String::from_utf8_lossy(&done.stdout).to_ascii_lowercase();
        if said.contains("credentials not found") {
            return Ok(None);
        }
        let said = printable(&String::from_utf8_lossy(&done.stderr));
        return Err(wrong(format!("it failed for {server}: {said}")));
    }
    // The parser's message could quote the secret.
    let answer: Answer = serde_json::from_slice(&done.stdout)
        .map_err(|_| wrong("its answer is not the expected JSON".into()))?;
    Ok(match answer.username.as_str() {
        "" if answer.secret.is_empty() => None,
        "<token>" => Some(Auth::IdentityToken(answer.secret)),
        _ => Some(Auth::Basic { username: answer.username, password: answer.secret }),
    })
}
