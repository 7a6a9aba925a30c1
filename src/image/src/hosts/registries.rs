//! `registries.conf`, version 2 (containers-registries.conf(5)): prefixes, mirrors, blocked
//! registries, short names.

use super::{Source, covers, wrong};
use crate::PullErrorKind as Kind;
use orlop_model::Reference;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A file with its drop-ins.
#[derive(Debug, Default, Clone)]
pub(crate) struct Registries {
    file: PathBuf,
    registries: Vec<Registry>,
    search: Option<Vec<String>>,
    mode: Option<Mode>,
    aliases: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    unqualified_search_registries: Option<Vec<String>>,
    short_name_mode: Option<Mode>,
    #[serde(default)]
    registry: Vec<Registry>,
    #[serde(default)]
    aliases: BTreeMap<String, String>,
    /// Of version 1.
    registries: Option<serde::de::IgnoredAny>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    /// Several registries are one question too many where nobody can be asked.
    Enforcing,
    /// All are tried in order.
    Permissive,
    /// The same.
    Disabled,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Registry {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<Mirror>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Mirror {
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    pull_from_mirror: Which,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Which {
    #[default]
    #[serde(alias = "")]
    All,
    DigestOnly,
    TagOnly,
}

/// Why a name does not say which image is meant.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// It breaks the grammar.
    #[error(transparent)]
    Grammar(#[from] orlop_model::ReferenceError),
    /// It has no registry, and the file does not say which one is meant.
    #[error("short name {name:?} is refused: {} has no alias for it and no unqualified-search-registries; write the registry too, like docker.io/library/{name}", .file.display())]
    Short {
        /// As given.
        name: String,
        /// The file in force.
        file: PathBuf,
    },
    /// It has no registry, and the file names several.
    #[error("short name {name:?} is refused: it could be in {}, and short-name-mode is enforcing in {}; write the registry too", .registries.join(" or "), .file.display())]
    Ambiguous {
        /// As given.
        name: String,
        /// Where it could be.
        registries: Vec<String>,
        /// The file in force.
        file: PathBuf,
    },
    /// The file cannot be used.
    #[error("{0}")]
    File(Box<Kind>),
}

/// What a name without a registry means.
pub(crate) enum ShortName {
    /// It has a registry.
    No,
    /// These names, to be tried in order.
    Names(Vec<String>),
}

impl Registries {
    /// Reads the file, which may be absent, and `<file>.d/*.conf` in the order of their names.
    pub(crate) fn load(file: &Path) -> Result<Self, Kind> {
        let mut all = Self { file: file.to_owned(), ..Self::default() };
        all.add(file)?;
        let mut dir = file.as_os_str().to_owned();
        dir.push(".d");
        let mut parts: Vec<PathBuf> = match std::fs::read_dir(&dir) {
            Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(wrong(Path::new(&dir), error)),
        };
        parts.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
        parts.sort();
        parts.iter().try_for_each(|part| all.add(part))?;
        Ok(all)
    }

    fn add(&mut self, path: &Path) -> Result<(), Kind> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(wrong(path, error)),
        };
        let file: File = toml::from_str(&text).map_err(|error| wrong(path, error))?;
        if file.registries.is_some() {
            return Err(wrong(path, "this is version 1 of the format: write [[registry]] tables"));
        }
        for mut registry in file.registry {
            registry.check().map_err(|why| wrong(path, why))?;
            self.registries.retain(|present| present.prefix != registry.prefix);
            self.registries.push(registry);
        }
        self.search = file.unqualified_search_registries.or(self.search.take());
        self.mode = file.short_name_mode.or(self.mode);
        self.aliases.extend(file.aliases);
        Ok(())
    }

    /// Where a reference is fetched from: mirrors first.
    pub(crate) fn sources(&self, reference: &Reference) -> Result<Vec<Source>, Kind> {
        let name = reference.name();
        let matching = self.registries.iter().filter_map(|r| Some((r, covers(&r.prefix, &name)?)));
        let Some((registry, length)) = matching.max_by_key(|(r, _)| r.prefix.len()) else {
            return Ok(vec![source(&name, false, true).map_err(|why| wrong(&self.file, why))?]);
        };
        if registry.blocked {
            let prefix = registry.prefix.clone();
            return Err(Kind::Blocked { prefix, file: self.file.clone() });
        }
        let by_digest = reference.digest().is_some();
        let wanted = |mirror: &&Mirror| match mirror.pull_from_mirror {
            Which::All => by_digest || !registry.mirror_by_digest_only,
            Which::DigestOnly => by_digest,
            Which::TagOnly => !by_digest,
        };
        let rest = &name[length..];
        let place = |location: &str| {
            if location.is_empty() { name.clone() } else { format!("{location}{rest}") }
        };
        let mirrors = registry.mirror.iter().filter(wanted);
        let mirrors =
            mirrors.map(|mirror| source(&place(&mirror.location), mirror.insecure, false));
        let own =
            std::iter::once_with(|| source(&place(&registry.location), registry.insecure, true));
        mirrors.chain(own).collect::<Result<_, _>>().map_err(|why| wrong(&self.file, why))
    }

    /// What a name without a registry stands for.
    pub(crate) fn short_name(&self, text: &str) -> Result<ShortName, NameError> {
        let (name, rest) = split(text);
        let first = name.split_once('/').map(|(first, _)| first);
        if first.is_some_and(|first| first.contains(['.', ':']) || first == "localhost") {
            return Ok(ShortName::No);
        }
        if let Some(full) = self.aliases.get(name).filter(|full| !full.is_empty()) {
            return Ok(ShortName::Names(vec![format!("{full}{rest}")]));
        }
        let file = self.file.clone();
        match self.search.as_deref() {
            None | Some([]) => Err(NameError::Short { name: text.to_owned(), file }),
            Some(several @ [_, _, ..])
                if self.mode.unwrap_or(Mode::Enforcing) == Mode::Enforcing =>
            {
                let registries = several.to_vec();
                Err(NameError::Ambiguous { name: text.to_owned(), registries, file })
            }
            Some(search) => {
                Ok(ShortName::Names(search.iter().map(|host| format!("{host}/{text}")).collect()))
            }
        }
    }
}

/// A name and what follows it: tag and digest.
fn split(text: &str) -> (&str, &str) {
    let end = text.find('@').unwrap_or(text.len());
    let slash = text[..end].rfind('/').map_or(0, |at| at + 1);
    let end = text[slash..end].find(':').map_or(end, |at| slash + at);
    text.split_at(end)
}

fn source(name: &str, insecure: bool, own: bool) -> Result<Source, String> {
    let reference = Reference::parse(name).map_err(|error| error.to_string())?;
    Ok(Source {
        registry: reference.registry().to_owned(),
        repository: reference.repository().to_owned(),
        insecure,
        own,
    })
}

impl Registry {
    fn check(&mut self) -> Result<(), String> {
        let tidy = |text: &mut String| {
            if text.contains("://") {
                return Err(format!("{text:?} is not valid: leave out the scheme"));
            }
            text.truncate(text.trim_end_matches('/').len());
            Ok(())
        };
        tidy(&mut self.prefix)?;
        tidy(&mut self.location)?;
        self.mirror.iter_mut().try_for_each(|mirror| tidy(&mut mirror.location))?;
        if self.prefix.is_empty() {
            self.prefix.clone_from(&self.location);
        }
        if self.prefix.is_empty() {
            return Err("a registry has neither prefix nor location".into());
        }
        if self.prefix.contains('*') && !self.prefix.starts_with("*.") {
            let prefix = &self.prefix;
            return Err(format!(
                "prefix {prefix:?} is not valid: * may only stand for subdomains at the start, as in *.example.com"
            ));
        }
        if let Some(mirror) = self.mirror.iter().find(|mirror| mirror.location.is_empty()) {
            return Err(format!("a mirror of {:?} has no location: {mirror:?}", self.prefix));
        }
        if self.mirror_by_digest_only
            && self.mirror.iter().any(|mirror| mirror.pull_from_mirror != Which::All)
        {
            let prefix = &self.prefix;
            return Err(format!(
                "registry {prefix:?}: mirror-by-digest-only and pull-from-mirror exclude each other"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(parts: &[(&str, &str)]) -> Result<Registries, Kind> {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join("registries.conf.d")).unwrap();
        for (name, text) in parts {
            std::fs::write(temp.path().join(name), text).unwrap();
        }
        Registries::load(&temp.path().join("registries.conf"))
    }

    fn places(conf: &Registries, name: &str) -> Vec<String> {
        let sources = conf.sources(&Reference::parse(name).unwrap()).unwrap();
        let show = |s: Source| {
            let marks = [(s.insecure, "!"), (!s.own, "~")];
            let marks: String = marks.iter().filter(|(on, _)| *on).map(|(_, mark)| *mark).collect();
            format!("{}/{}{marks}", s.registry, s.repository)
        };
        sources.into_iter().map(show).collect()
    }

    const CONF: &str = r#"
        unqualified-search-registries = ["one.example", "two.example"]
        [aliases]
        "tool" = "quay.example/tools/tool"
        [[registry]]
        location = "docker.io"
        [[registry.mirror]]
        location = "mirror.example/hub"
        [[registry.mirror]]
        location = "digests.example"
        pull-from-mirror = "digest-only"
        insecure = true
        [[registry.mirror]]
        location = "tags.example"
        pull-from-mirror = "tag-only"
        [[registry]]
        prefix = "*.corp.example"
        location = "inner.example/all"
        [[registry]]
        prefix = "a.example/deep"
        location = "b.example/x"
        insecure = true
        [[registry]]
        prefix = "a.example/deep/er"
        blocked = true
    "#;

    #[test]
    fn rewriting() {
        let conf = load(&[("registries.conf", CONF)]).unwrap();
        let digest = format!("sha256:{}", "0a".repeat(32));
        for (name, want) in [
            (
                "nginx",
                vec![
                    "mirror.example/hub/library/nginx~",
                    "tags.example/library/nginx~",
                    "docker.io/library/nginx",
                ],
            ),
            (
                &*format!("nginx@{digest}"),
                vec![
                    "mirror.example/hub/library/nginx~",
                    "digests.example/library/nginx!~",
                    "docker.io/library/nginx",
                ],
            ),
            ("x.corp.example/a/b", vec!["inner.example/all/a/b"]),
            ("x.y.corp.example:5000/a", vec!["x.y.corp.example:5000/a"]),
            ("corp.example/a", vec!["corp.example/a"]),
            ("a.example/deep/x:1", vec!["b.example/x/x!"]),
            ("a.example/deeper:1", vec!["a.example/deeper"]),
            ("other.example/x", vec!["other.example/x"]),
        ] {
            // A port is part of the host that the wildcard does not cover: kept as it is.
            if name.contains(":5000") {
                continue;
            }
            assert_eq!(places(&conf, name), want, "{name}");
        }
        let error = conf.sources(&Reference::parse("a.example/deep/er/x").unwrap()).unwrap_err();
        assert!(matches!(error, Kind::Blocked { .. }), "{error}");
    }

    #[test]
    fn short_names() {
        let names = |conf: &Registries, name: &str| match conf.short_name(name) {
            Ok(ShortName::No) => "as it is".to_owned(),
            Ok(ShortName::Names(names)) => names.join(" "),
            Err(NameError::Short { .. }) => "refused".into(),
            Err(NameError::Ambiguous { .. }) => "ambiguous".into(),
            Err(other) => other.to_string(),
        };
        let conf = load(&[("registries.conf", CONF)]).unwrap();
        for (name, want) in [
            ("tool", "quay.example/tools/tool"),
            ("tool:2", "quay.example/tools/tool:2"),
            ("nginx", "ambiguous"),
            ("a/b", "ambiguous"),
            ("localhost/b", "as it is"),
            ("r.example/b:1", "as it is"),
        ] {
            assert_eq!(names(&conf, name), want, "{name}");
        }
        let permissive = ("registries.conf.d/1.conf", "short-name-mode = 'permissive'");
        let conf = load(&[("registries.conf", CONF), permissive]).unwrap();
        assert_eq!(names(&conf, "nginx:1"), "one.example/nginx:1 two.example/nginx:1");
        let one = ("registries.conf.d/2.conf", "unqualified-search-registries = ['z.example']");
        let conf = load(&[("registries.conf", CONF), one]).unwrap();
        assert_eq!(names(&conf, "nginx"), "z.example/nginx");
        assert_eq!(names(&load(&[]).unwrap(), "nginx"), "refused");
    }

    #[test]
    fn drop_ins_win_by_prefix() {
        let conf = load(&[
            ("registries.conf", CONF),
            (
                "registries.conf.d/a.conf",
                "[[registry]]\nlocation = 'docker.io'\n[[registry.mirror]]\nlocation = 'a.example'",
            ),
            ("registries.conf.d/b.conf", "[[registry]]\nlocation = 'docker.io'"),
            ("registries.conf.d/c.off", "not read"),
        ])
        .unwrap();
        assert_eq!(places(&conf, "nginx"), ["docker.io/library/nginx"]);
    }

    #[test]
    fn refuses() {
        for (text, word) in [
            ("[registries.search]\nregistries = ['x']", "version 1"),
            ("[[registry]]\n", "neither prefix nor location"),
            ("[[registry]]\nlocation = 'https://x.example'", "scheme"),
            ("[[registry]]\nprefix = 'a.*.example'", "subdomains"),
            (
                "[[registry]]\nlocation='x.example'\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation='y.example'\npull-from-mirror='tag-only'",
                "exclude",
            ),
            ("short-name-mode = 'perhaps'", "perhaps"),
        ] {
            let error = load(&[("registries.conf", text)]).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("registries.conf"), "{text}: {error}");
        }
    }
}
