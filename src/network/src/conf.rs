//! Network configurations: files of `/etc/cni/net.d` become a checked [`List`].

use crate::version::Version;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Larger files are no network configuration.
const MAX_FILE: u64 = 1 << 20;

/// One plugin of a list.
#[derive(Debug, Clone)]
pub(crate) struct PluginConf {
    /// Its `type`: a plain name, never a path.
    pub kind: String,
    /// The capabilities that it asks for.
    pub capabilities: BTreeMap<String, bool>,
    /// The whole object.
    pub object: Map<String, Value>,
}

/// A network: a chain of plugins under one name.
#[derive(Debug, Clone)]
pub(crate) struct List {
    /// Name of the network; part of file names.
    pub name: String,
    /// Version of the specification that all its plugins speak.
    pub version: Version,
    /// The chain, in the order of ADD.
    pub plugins: Vec<PluginConf>,
    /// The list as JSON text, as it goes into the cache.
    pub bytes: Vec<u8>,
}

/// Names that go into paths: of networks, of plugins, of containers.
pub(crate) fn plain_name(text: &str) -> bool {
    text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && text.len() <= 255
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// A plugin's type is looked up in the plugin directories, so nothing in it may lead out of them.
fn plugin_name(text: &str) -> bool {
    !text.is_empty()
        && text != "."
        && text != ".."
        && text.len() <= 255
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

impl List {
    /// Reads a list from JSON text. The error has no file name but line and column where known.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(bytes).map_err(|error| json_error(&error))?;
        let Value::Object(object) = value else { return Err("not a JSON object".into()) };
        Self::from_object(&object, bytes.to_vec())
    }

    /// Reads a single plugin's configuration as a list of one.
    pub(crate) fn parse_single(bytes: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(bytes).map_err(|error| json_error(&error))?;
        let Value::Object(object) = value else { return Err("not a JSON object".into()) };
        if object.contains_key("plugins") {
            return Err("a list of plugins belongs into a file that ends in .conflist".into());
        }
        let mut list = Map::new();
        for key in ["name", "cniVersion"] {
            list.insert(key.into(), object.get(key).cloned().unwrap_or_default());
        }
        list.insert("plugins".into(), Value::Array(vec![Value::Object(object)]));
        let bytes = serde_json::to_vec(&list).map_err(|error| error.to_string())?;
        Self::from_object(&list, bytes)
    }

    fn from_object(object: &Map<String, Value>, bytes: Vec<u8>) -> Result<Self, String> {
        let name = object.get("name").and_then(Value::as_str).unwrap_or_default();
        if !plain_name(name) {
            return Err(format!(
                "name {name:?} is not valid: use letters, digits, '.', '_' and '-', starting with a letter or digit"
            ));
        }
        let version =
            Version::parse(object.get("cniVersion").and_then(Value::as_str).unwrap_or_default())?;
        let plugins = object
            .get("plugins")
            .and_then(Value::as_array)
            .ok_or("\"plugins\" is missing or not a list")?;
        if plugins.is_empty() {
            return Err("\"plugins\" is empty".into());
        }
        let plugins = plugins
            .iter()
            .enumerate()
            .map(|(index, value)| plugin(index, value))
            .collect::<Result<_, _>>()?;
        Ok(Self { name: name.to_owned(), version, plugins, bytes })
    }
}

fn plugin(index: usize, value: &Value) -> Result<PluginConf, String> {
    let Value::Object(object) = value else {
        return Err(format!("plugins[{index}] is not an object"));
    };
    let kind = object.get("type").and_then(Value::as_str).unwrap_or_default();
    if !plugin_name(kind) {
        return Err(format!(
            "plugins[{index}].type {kind:?} is not valid: use the plain name of a plugin (letters, digits, '.', '_', '-')"
        ));
    }
    if let Some(ipam) = object.get("ipam").and_then(|ipam| ipam.get("type")).and_then(Value::as_str)
        && !ipam.is_empty()
        && !plugin_name(ipam)
    {
        return Err(format!(
            "plugins[{index}].ipam.type {ipam:?} is not valid: use the plain name of a plugin (letters, digits, '.', '_', '-')"
        ));
    }
    let capabilities = match object.get("capabilities") {
        None | Some(Value::Null) => BTreeMap::new(),
        Some(value) => serde_json::from_value(value.clone())
            .map_err(|error| format!("plugins[{index}].capabilities is not valid: {error}"))?,
    };
    Ok(PluginConf { kind: kind.to_owned(), capabilities, object: object.clone() })
}

/// `line:column: what`, so that behind a file name it reads as compilers write it.
fn json_error(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or(&text);
    format!("{}:{}: {what}", error.line(), error.column())
}

/// What was found in the configuration directory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Found {
    /// The first valid configuration, by file name.
    pub list: Option<(PathBuf, List)>,
    /// Files that cannot be used, with the reason (`file:line:column: what` where it is the JSON).
    pub bad: Vec<String>,
}

/// Looks through the directory. An absent directory has no configuration.
pub(crate) fn load(dir: &Path) -> Found {
    let mut found = Found::default();
    let files = match files(dir) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return found,
        Err(error) => {
            found.bad.push(format!("{}: {error}", dir.display()));
            return found;
        }
    };
    for file in files {
        match load_file(&file) {
            Ok(list) => {
                found.list = Some((file, list));
                return found;
            }
            Err(why) => found.bad.push(why),
        }
    }
    found
}

fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let known = path.extension().is_some_and(|e| e == "conflist" || e == "conf" || e == "json");
        if known && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn load_file(file: &Path) -> Result<List, String> {
    let shown = file.display();
    let length = fs::metadata(file).map_err(|error| format!("{shown}: {error}"))?.len();
    if length > MAX_FILE {
        return Err(format!("{shown}: {length} bytes, more than the {MAX_FILE} that are read"));
    }
    let bytes = fs::read(file).map_err(|error| format!("{shown}: {error}"))?;
    let list = if file.extension().is_some_and(|e| e == "conflist") {
        List::parse(&bytes)
    } else {
        List::parse_single(&bytes)
    };
    list.map_err(|why| {
        let positioned = why.starts_with(|c: char| c.is_ascii_digit());
        format!("{shown}:{}{why}", if positioned { "" } else { " " })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_valid_file_wins_and_bad_ones_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("00-bad.conflist", "{\n  \"name\": oops\n}");
        write("05-note.txt", "no configuration");
        write("10-single.conf", r#"{"cniVersion":"0.4.0","name":"one","type":"bridge"}"#);
        write(
            "20-list.conflist",
            r#"{"cniVersion":"1.0.0","name":"two","plugins":[{"type":"ptp"}]}"#,
        );
        let found = load(dir.path());
        let (file, list) = found.list.unwrap();
        assert!(file.ends_with("10-single.conf"));
        assert_eq!((list.name.as_str(), list.plugins[0].kind.as_str()), ("one", "bridge"));
        let expected = format!("{}:2:11: expected", dir.path().join("00-bad.conflist").display());
        assert!(found.bad[0].starts_with(&expected), "{:?}", found.bad);
        assert!(load(&dir.path().join("absent")).list.is_none());
    }

    #[test]
    fn names_cannot_leave_the_plugin_directories() {
        for kind in ["../../bin/sh", "/bin/sh", "", ".", "..", "a b", "a\0b", "bridge\n"] {
            let text = serde_json::json!({"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": kind}]}).to_string();
            let error = List::parse(text.as_bytes()).unwrap_err();
            assert!(error.contains("plugins[0].type"), "{error}");
            let text = serde_json::json!({"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "x", "ipam": {"type": kind}}]});
            assert_eq!(
                List::parse(text.to_string().as_bytes()).is_err(),
                !kind.is_empty(),
                "{kind:?}"
            );
        }
        for name in ["../x", "", "a/b", "-a"] {
            let text = serde_json::json!({"cniVersion": "1.0.0", "name": name, "plugins": [{"type": "x"}]}).to_string();
            assert!(List::parse(text.as_bytes()).unwrap_err().contains("name"), "{name}");
        }
    }
}
