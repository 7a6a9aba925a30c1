//! `login` and `logout`: credentials in Docker's `config.json`, or with the helper that it names.

use crate::args::images::{LoginArgs, LogoutArgs};
use crate::ask;
use crate::cli::Place;
use crate::door::Door;
use anyhow::{Context, bail};
use base64::Engine as _;
use orlop_api::images_v1 as v1;
use orlop_sys::process::{Command, Exit, Program, output};
use serde_json::{Map, Value, json};
use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{IsTerminal, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Duration;

/// What Docker Hub is called in these files.
const HUB: &str = "https://index.docker.io/v1/";
/// A helper that asks somebody who is not there must not hang for ever.
const PATIENCE: Duration = Duration::from_secs(60);

/// Docker's directory, where `--config` named one.
static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();

/// Takes a directory of Docker's from the command line.
pub(crate) fn take_directory(place: &Place) {
    if let Some(dir) = place.config.as_ref().filter(|path| path.is_dir()) {
        // Said once, at the start.
        let _ = DIRECTORY.set(dir.clone());
    }
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn docker_dir() -> Option<PathBuf> {
    let named = DIRECTORY.get().cloned().or_else(|| variable("DOCKER_CONFIG"));
    named.or_else(|| variable("HOME").map(|home| home.join(".docker")))
}

/// Files where the user's credentials may be, the first to be asked first.
pub(crate) fn files() -> Vec<PathBuf> {
    let containers = variable("REGISTRY_AUTH_FILE")
        .or_else(|| variable("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json")));
    let docker = docker_dir().map(|dir| dir.join("config.json"));
    if DIRECTORY.get().is_some() {
        return docker.into_iter().collect();
    }
    containers.into_iter().chain(docker).collect()
}

/// The registry's host, and its key in the file.
fn registry(text: Option<&str>) -> anyhow::Result<(String, String)> {
    let text = text.unwrap_or("docker.io");
    let host = text.split_once("://").map_or(text, |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or_default();
    if host.is_empty() || host.contains(char::is_whitespace) {
        bail!("{text}: expected a registry as HOST[:PORT]");
    }
    if matches!(host, "docker.io" | "index.docker.io" | "registry-1.docker.io") {
        return Ok(("docker.io".into(), HUB.into()));
    }
    Ok((host.to_owned(), host.to_owned()))
}

/// `login`: asks the registry, then keeps the credentials.
pub(crate) fn login(place: &Place, arguments: &LoginArgs) -> anyhow::Result<ExitCode> {
    let (host, key) = registry(arguments.registry.as_deref())?;
    let (username, password) = given(arguments, &host)?;
    let file = ConfigFile::open()?;
    crate::container::with_config(place, async |config| {
        let door = Door::to_images(&config).await?;
        let credentials = v1::Credentials {
            username: username.clone(),
            password: password.clone(),
            ..Default::default()
        };
        let request = v1::LoginRequest { registry: host.clone(), credentials: Some(credentials) };
        let done = door.images().login(request).await.map_err(crate::container::said);
        door.close().await;
        done.map(drop).with_context(|| format!("{host} does not take these credentials"))
    })?;
    let kept = file.keep(&key, &username, &password)?;
    let mut out = std::io::stdout().lock();
    if let Some(path) = kept {
        let _ = writeln!(
            std::io::stderr(),
            "orlop: the password is in {} as it is: a credential helper (credsStore there) would guard it",
            path.display()
        );
    }
    writeln!(out, "Login Succeeded")?;
    Ok(ExitCode::SUCCESS)
}

fn given(arguments: &LoginArgs, host: &str) -> anyhow::Result<(String, String)> {
    let terminal = std::io::stdin().is_terminal();
    if arguments.password_stdin && arguments.username.is_none() {
        bail!("--password-stdin needs --username beside it");
    }
    let username = match &arguments.username {
        Some(name) => name.clone(),
        None if terminal => ask::line(&format!("Username for {host}"))?,
        None => bail!("no terminal to ask on: give --username and --password-stdin"),
    };
    let password = match &arguments.password {
        Some(password) => {
            let _ = writeln!(
                std::io::stderr(),
                "orlop: others can see --password in the list of processes: use --password-stdin"
            );
            password.clone()
        }
        None if arguments.password_stdin => {
            let mut text = String::new();
            std::io::stdin().take(64 << 10).read_to_string(&mut text)?;
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
        None if terminal => ask::secret("Password")?,
        None => bail!("no terminal to ask on: give the password with --password-stdin"),
    };
    if username.is_empty() || password.is_empty() {
        bail!("user name and password must not be empty");
    }
    Ok((username, password))
}

/// `logout`.
pub(crate) fn logout(arguments: &LogoutArgs) -> anyhow::Result<ExitCode> {
    let (host, key) = registry(arguments.registry.as_deref())?;
    let removed = ConfigFile::open()?.forget(&key)?;
    let mut out = std::io::stdout().lock();
    if removed {
        writeln!(out, "Removing login credentials for {host}")?;
    } else {
        writeln!(out, "Not logged in to {host}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Docker's `config.json`, of which everything else is kept as it is.
struct ConfigFile {
    path: PathBuf,
    all: Map<String, Value>,
}

impl ConfigFile {
    fn open() -> anyhow::Result<Self> {
        let dir = docker_dir().context("HOME is not set: set it, or DOCKER_CONFIG")?;
        Self::at(dir.join("config.json"))
    }

    fn at(path: PathBuf) -> anyhow::Result<Self> {
        let all = match std::fs::read(&path) {
            Ok(text) if text.iter().all(u8::is_ascii_whitespace) => Map::new(),
            // The parser's message could quote a secret.
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|_| anyhow::anyhow!("{} is not JSON: mend it first", path.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Map::new(),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        Ok(Self { path, all })
    }

    /// The helper for a registry.
    fn helper(&self, key: &str) -> Option<String> {
        let own = self.all.get("credHelpers").and_then(|all| all.get(key));
        let name = own.or_else(|| self.all.get("credsStore")).and_then(Value::as_str);
        name.filter(|name| !name.is_empty()).map(str::to_owned)
    }

    /// Gives the file where the password is readable, if it is.
    fn keep(mut self, key: &str, user: &str, secret: &str) -> anyhow::Result<Option<PathBuf>> {
        let helper = self.helper(key);
        let entry = match &helper {
            Some(helper) => {
                let said = json!({"ServerURL": key, "Username": user, "Secret": secret});
                call(helper, "store", &said.to_string())?;
                json!({})
            }
            None => {
                let text = format!("{user}:{secret}");
                json!({"auth": base64::engine::general_purpose::STANDARD.encode(text)})
            }
        };
        self.auths()?.insert(key.to_owned(), entry);
        self.write()?;
        Ok(helper.is_none().then_some(self.path))
    }

    fn forget(mut self, key: &str) -> anyhow::Result<bool> {
        let helper = self.helper(key);
        if let Some(helper) = &helper {
            call(helper, "erase", key)?;
        }
        let removed = self.auths()?.remove(key).is_some();
        if removed {
            self.write()?;
        }
        Ok(removed)
    }

    fn auths(&mut self) -> anyhow::Result<&mut Map<String, Value>> {
        let auths = self.all.entry("auths").or_insert_with(|| json!({}));
        let path = &self.path;
        auths
            .as_object_mut()
            .with_context(|| format!("{}: auths is no object: mend it first", path.display()))
    }

    /// By rename, for its owner alone.
    fn write(&self) -> anyhow::Result<()> {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        let done = || {
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
            // A link stays one: what it leads to is replaced.
            let path = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
            let temp = path.with_extension(format!("json.{}", std::process::id()));
            let write = || {
                let open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temp);
                let mut file: File = open?;
                file.write_all(&serde_json::to_vec_pretty(&self.all)?)?;
                file.write_all(b"\n")?;
                file.sync_all()?;
                std::fs::rename(&temp, &path)
            };
            let written = write();
            if written.is_err() {
                let _ = std::fs::remove_file(&temp);
            }
            written
        };
        done().with_context(|| format!("{} cannot be written", self.path.display()))
    }
}

/// Runs `docker-credential-NAME`.
fn call(name: &str, verb: &str, input: &str) -> anyhow::Result<()> {
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
        bail!("credential helper {name:?}: its name is not valid");
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    let program = format!("docker-credential-{name}");
    let found = std::env::split_paths(&path).map(|dir| dir.join(&program)).find(|p| p.is_file());
    let found = found.with_context(|| format!("{program} is not in PATH: install it, or take credsStore and credHelpers out of config.json"))?;
    let mut command = Command::new(Program::Path(&found));
    command.arg(&program).arg(verb).env("PATH", &path);
    for variable in
        ["HOME", "USER", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "GPG_TTY"]
    {
        if let Some(value) = std::env::var_os(variable) {
            let value: OsString = value;
            command.env(variable, value);
        }
    }
    let done = output(&command, input.as_bytes(), 64 << 10, PATIENCE)
        .with_context(|| format!("credential helper {program}"))?;
    if done.exit == Exit::Code(0) {
        return Ok(());
    }
    // Helpers complain on their standard output.
    let said = [&done.stdout[..], &done.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said).replace(|c: char| c.is_control(), " ");
    if verb == "erase" && said.contains("credentials not found") {
        return Ok(());
    }
    bail!("credential helper {program} failed to {verb}: {}", said.trim());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn registries() {
        for (text, host, key) in [
            (None, "docker.io", HUB),
            (Some("https://index.docker.io/v1/"), "docker.io", HUB),
            (Some("r.example:5000"), "r.example:5000", "r.example:5000"),
            (Some("https://r.example/v2/"), "r.example", "r.example"),
        ] {
            assert_eq!(registry(text).unwrap(), (host.to_owned(), key.to_owned()), "{text:?}");
        }
        assert!(registry(Some("")).is_err() && registry(Some("https://")).is_err());
    }

    #[test]
    fn the_file_keeps_what_else_it_has() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/config.json");
        let kept =
            ConfigFile::at(path.clone()).unwrap().keep("r.example", "ann", "s3:cret").unwrap();
        assert_eq!(kept.as_deref(), Some(path.as_path()));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read = || serde_json::from_slice::<Value>(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(read()["auths"]["r.example"]["auth"], "YW5uOnMzOmNyZXQ=");
        std::fs::write(&path, r#"{"psFormat": "x", "auths": {"r.example": {"auth": "eA=="}}}"#)
            .unwrap();
        ConfigFile::at(path.clone()).unwrap().keep("other.example", "b", "c").unwrap();
        assert_eq!(
            (&read()["psFormat"], &read()["auths"]["r.example"]["auth"]),
            (&json!("x"), &json!("eA=="))
        );
        assert!(ConfigFile::at(path.clone()).unwrap().forget("r.example").unwrap());
        assert!(!ConfigFile::at(path.clone()).unwrap().forget("r.example").unwrap());
        assert!(
            read()["auths"]["r.example"].is_null() && !read()["auths"]["other.example"].is_null()
        );
        std::fs::write(&path, "{secret").unwrap();
        let error = ConfigFile::at(path.clone()).err().unwrap().to_string();
        assert!(error.contains("not JSON") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn a_helper_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, r#"{"credsStore": "absent-helper"}"#).unwrap();
        let error = ConfigFile::at(path).unwrap().keep("r.example", "a", "b").unwrap_err();
        assert!(error.to_string().contains("docker-credential-absent-helper"), "{error}");
    }
}
