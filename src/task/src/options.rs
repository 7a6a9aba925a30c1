//! Options of foreign runtimes: a table of the configuration becomes the message that the shim expects.

use crate::protocol::foreign;
use prost::{Message, Name};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;

/// Options as a shim gets them with every container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeOptions {
    /// Which message it is.
    pub type_url: String,
    /// The message.
    pub value: Vec<u8>,
}

/// Which message a shim expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionsForm {
    /// That of runc's shim.
    Runc,
    /// A configuration file's path or text, for all others.
    Generic,
}

/// An option that a shim does not have, or not like this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("option {key:?}: {why}")]
pub struct OptionsError {
    /// Its name.
    pub key: String,
    /// What is wrong and what would be right.
    pub why: String,
}

/// The names of runc's options, as containerd's configuration has them.
const RUNC: [&str; 11] = [
    "NoPivotRoot",
    "NoNewKeyring",
    "ShimCgroup",
    "IoUid",
    "IoGid",
    "BinaryName",
    "Root",
    "CriuPath",
    "SystemdCgroup",
    "CriuImagePath",
    "CriuWorkPath",
];
const GENERIC: [&str; 3] = ["TypeUrl", "ConfigPath", "ConfigBody"];

impl RuntimeOptions {
    /// Encodes a table of the configuration; names are those of containerd's configuration.
    pub fn encode(form: OptionsForm, table: &Map<String, Value>) -> Result<Self, OptionsError> {
        let known: &[&str] = match form {
            OptionsForm::Runc => &RUNC,
            OptionsForm::Generic => &GENERIC,
        };
        if let Some(key) = table.keys().find(|key| !known.contains(&key.as_str())) {
            let why = format!("it is not known; use {}", known.join(", "));
            return Err(OptionsError { key: key.clone(), why });
        }
        let table = Table(table);
        match form {
            OptionsForm::Runc => runc(&table),
            OptionsForm::Generic => generic(&table),
        }
    }
}

fn runc(table: &Table<'_>) -> Result<RuntimeOptions, OptionsError> {
    let number = |key| {
        u32::try_from(table.number(key)?)
            .map_err(|_| wrong(key, "use a number from 0 to 4294967295"))
    };
    Ok(message(&foreign::runc::Options {
        no_pivot_root: table.switch("NoPivotRoot")?,
        no_new_keyring: table.switch("NoNewKeyring")?,
        shim_cgroup: table.text("ShimCgroup")?,
        io_uid: number("IoUid")?,
        io_gid: number("IoGid")?,
        binary_name: table.text("BinaryName")?,
        root: table.text("Root")?,
        criu_path: table.text("CriuPath")?,
        systemd_cgroup: table.switch("SystemdCgroup")?,
        criu_image_path: table.text("CriuImagePath")?,
        criu_work_path: table.text("CriuWorkPath")?,
    }))
}

fn generic(table: &Table<'_>) -> Result<RuntimeOptions, OptionsError> {
    Ok(message(&foreign::generic::Options {
        type_url: table.text("TypeUrl")?,
        config_path: table.text("ConfigPath")?,
        config_body: table.text("ConfigBody")?.into_bytes(),
    }))
}

fn message<M: Message + Name>(message: &M) -> RuntimeOptions {
    RuntimeOptions { type_url: M::full_name(), value: message.encode_to_vec() }
}

fn wrong(key: &str, why: impl fmt::Display) -> OptionsError {
    OptionsError { key: key.to_owned(), why: why.to_string() }
}

/// A table whose values are absent, or of the right kind, or an error.
struct Table<'a>(&'a Map<String, Value>);

impl Table<'_> {
    fn switch(&self, key: &str) -> Result<bool, OptionsError> {
        let value = self.0.get(key).map_or(Some(false), Value::as_bool);
        value.ok_or_else(|| wrong(key, "use true or false"))
    }

    fn text(&self, key: &str) -> Result<String, OptionsError> {
        let value = self.0.get(key).map_or(Some(""), Value::as_str);
        value.map(str::to_owned).ok_or_else(|| wrong(key, "use a text in quotes"))
    }

    fn number(&self, key: &str) -> Result<u64, OptionsError> {
        let value = self.0.get(key).map_or(Some(0), Value::as_u64);
        value.ok_or_else(|| wrong(key, "use a number"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn encode(form: OptionsForm, table: &Value) -> Result<RuntimeOptions, OptionsError> {
        RuntimeOptions::encode(form, table.as_object().unwrap())
    }

    #[test]
    fn runcs_options() {
        let table = json!({"BinaryName": "/bin/crun", "SystemdCgroup": true, "IoUid": 7});
        let options = encode(OptionsForm::Runc, &table).unwrap();
        assert_eq!(options.type_url, "containerd.runc.v1.Options");
        // Field 4, a number; field 6, a text; field 9, a switch.
        assert_eq!(options.value, b"\x20\x07\x32\x09/bin/crun\x48\x01");
    }

    #[test]
    fn others_get_a_file() {
        let options = encode(OptionsForm::Generic, &json!({"ConfigPath": "/c.toml"})).unwrap();
        assert_eq!(options.type_url, "runtimeoptions.v1.Options");
        assert_eq!(options.value, b"\x12\x07/c.toml");
    }

    #[test]
    fn mistakes_are_named() {
        for (form, table, word) in [
            (OptionsForm::Runc, json!({"Binary": "x"}), "BinaryName"),
            (OptionsForm::Runc, json!({"BinaryName": 1}), "quotes"),
            (OptionsForm::Runc, json!({"SystemdCgroup": "yes"}), "true or false"),
            (OptionsForm::Runc, json!({"IoUid": -1}), "number"),
            (OptionsForm::Generic, json!({"BinaryName": "x"}), "ConfigPath"),
        ] {
            let error = encode(form, &table).unwrap_err().to_string();
            assert!(error.contains(word), "{table}: {error}");
        }
    }
}
