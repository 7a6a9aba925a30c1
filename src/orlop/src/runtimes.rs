//! `[runtimes.NAME]`: handlers whose containers run in shims of other makers.

use crate::config::schema::settings;
use anyhow::{Context, bail};
use orlop_lifecycle::ForeignHandler;
use orlop_task::{OptionsForm, RuntimeOptions};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

const RUNC: &str = "io.containerd.runc.v2";
const PREFIX: &str = "containerd-shim-";

settings! {
    /// A containerd shim v2, as the operator names it.
    pub(crate) struct ForeignRuntime {
        /// The shim by its type, as `io.containerd.runc.v2`: the program `containerd-shim-runc-v2` in
        /// PATH. Says also what form its options have.
        r#type: Option<String> = None;
        /// The shim's program, where it is not in PATH.
        path: Option<PathBuf> = None;
        /// Whether a pod has a container of its own that holds it. Shims of virtual machines need one.
        sandbox: bool = false;
        /// Annotations of pods that the shim gets to see; `*` stands for any text.
        pod_annotations: Vec<String> = Vec::new();
        /// Annotations of containers that the shim gets to see.
        container_annotations: Vec<String> = Vec::new();
        /// What the shim is told with every container, in the names of containerd's configuration.
        options: Map<String, Value> = Map::new();
    }
}

impl ForeignRuntime {
    /// Every mistake that can be seen without starting it.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        match (&self.r#type, &self.path) {
            (None, None) => bail!("name the shim: type = {RUNC:?}, or path"),
            (_, Some(path)) if !path.is_absolute() => bail!("path {path:?}: use an absolute path"),
            (Some(kind), _) if program_of(kind).is_none() => {
                bail!("type {kind:?}: use a type like {RUNC:?}, or path")
            }
            _ => {}
        }
        self.options(false)?;
        Ok(())
    }

    /// As the runtime has it.
    pub(crate) fn handler(&self, name: &str, systemd: bool) -> anyhow::Result<ForeignHandler> {
        Ok(ForeignHandler {
            name: name.to_owned(),
            binary: self.binary(),
            options: self.options(systemd)?,
            sandbox: self.sandbox,
            pod_annotations: self.pod_annotations.clone(),
            container_annotations: self.container_annotations.clone(),
        })
    }

    /// Whether it drives runc, or what is called like runc.
    pub(crate) fn is_runc(&self) -> bool {
        match &self.r#type {
            Some(kind) => kind == RUNC,
            None => self
                .path
                .as_deref()
                .and_then(Path::file_name)
                .is_some_and(|name| name == "containerd-shim-runc-v2"),
        }
    }

    /// The OCI runtime that a shim of runc's kind calls.
    pub(crate) fn oci_runtime(&self) -> PathBuf {
        let named = self.options.get("BinaryName").and_then(Value::as_str).unwrap_or_default();
        find(if named.is_empty() { "runc" } else { named })
    }

    fn binary(&self) -> PathBuf {
        match (&self.path, self.r#type.as_deref().and_then(program_of)) {
            (Some(path), _) => path.clone(),
            (None, Some(program)) => find(&program),
            (None, None) => PathBuf::new(),
        }
    }

    fn options(&self, systemd: bool) -> anyhow::Result<Option<RuntimeOptions>> {
        let form = if self.is_runc() { OptionsForm::Runc } else { OptionsForm::Generic };
        let mut options = self.options.clone();
        if form == OptionsForm::Runc && systemd {
            // The driver is the node's, not the handler's.
            options.entry("SystemdCgroup").or_insert(Value::Bool(true));
        }
        if options.is_empty() {
            return Ok(None);
        }
        RuntimeOptions::encode(form, &options).map(Some).context("options")
    }
}

/// `io.containerd.NAME.VERSION` is the program `containerd-shim-NAME-VERSION`.
fn program_of(kind: &str) -> Option<String> {
    let mut parts = kind.rsplit('.');
    let (version, name, rest) = (parts.next()?, parts.next()?, parts.next()?);
    let plain = |part: &str| !part.is_empty() && !part.contains('/');
    (plain(version) && plain(name) && !rest.is_empty()).then(|| format!("{PREFIX}{name}-{version}"))
}

/// The first one in PATH; the bare name where there is none, which then fails by its name.
fn find(program: &str) -> PathBuf {
    if program.contains('/') {
        return program.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(program)).find(|at| at.is_file());
    found.unwrap_or_else(|| program.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    /// The runtime `x` with this text in its section.
    fn load(text: &str) -> anyhow::Result<ForeignRuntime> {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("orlop.toml");
        std::fs::write(
            &file,
            format!("[runtimes.x]\n{}", text.replace("[options]", "[runtimes.x.options]")),
        )?;
        let arguments = crate::cli::SettingArgs { config: Some(file), ..Default::default() };
        Ok(Sources::new(&arguments).load()?.config.runtimes.0.remove("x").unwrap_or_default())
    }

    #[test]
    fn programs_of_types() {
        assert_eq!(program_of(RUNC).as_deref(), Some("containerd-shim-runc-v2"));
        assert_eq!(
            program_of("io.containerd.kata-qemu.v2").as_deref(),
            Some("containerd-shim-kata-qemu-v2")
        );
        for wrong in ["runc", "runc.v2", "io.containerd.runc.", "io.containerd.a/b.v2"] {
            assert_eq!(program_of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_table_becomes_a_handler() {
        let text = "type = 'io.containerd.runc.v2'\npath = '/b/shim'\nsandbox = true\npod_annotations = ['a.*']\n[options]\nBinaryName = '/b/runc'";
        let runtime = load(text).unwrap();
        let handler = runtime.handler("h", true).unwrap();
        assert_eq!((handler.name.as_str(), handler.binary.as_path()), ("h", Path::new("/b/shim")));
        let options = handler.options.unwrap();
        assert_eq!(options.type_url, "containerd.runc.v1.Options");
        // BinaryName, and the node's driver.
        assert_eq!(options.value, b"\x32\x07/b/runc\x48\x01");
        assert_eq!(runtime.handler("h", false).unwrap().options.unwrap().value, b"\x32\x07/b/runc");
    }

    #[test]
    fn mistakes() {
        for (text, word) in [
            ("", "name the shim"),
            ("path = 'x'", "absolute path"),
            ("type = 'x'", "io.containerd.runc.v2"),
            ("path = '/x'\n[options]\nBinaryName = 'y'", "ConfigPath"),
        ] {
            let error = format!("{:#}", load(text).unwrap_err());
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
