//! `--volume`, `--mount` and `--tmpfs`.

use std::path::PathBuf;

/// What one flag says; the path of a bind may still be relative.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mounted {
    pub(crate) target: PathBuf,
    pub(crate) source: orlop_engine::spec::MountSource,
    pub(crate) read_only: bool,
}

/// As `MountSource` of the engine, before relative paths are made absolute.
type Source = orlop_engine::spec::MountSource;

const VOLUME: &str = "expected [SOURCE:]TARGET[:OPTIONS], such as data:/var/lib/data, ./conf:/etc/app:ro \
                      or /cache";

/// `--volume`: `/target` is an unnamed volume, `name:/target` a named one, `/path:/target` and
/// `./path:/target` binds.
pub(crate) fn volume(text: &str) -> Result<Mounted, String> {
    let parts: Vec<_> = text.split(':').collect();
    let (source, target, options) = match parts[..] {
        [target] => (None, target, ""),
        [source, target] => (Some(source), target, ""),
        [source, target, options] => (Some(source), target, options),
        _ => return Err(VOLUME.into()),
    };
    if target.is_empty() || source == Some("") {
        return Err(VOLUME.into());
    }
    let target = super::target(target)?;
    let mut read_only = false;
    let is_path = source.is_some_and(|s| s.starts_with(['/', '.', '~']) || s.contains('/'));
    let mut source = match source {
        Some(path) if is_path => Source::Bind {
            path: path.into(),
            create: true,
            propagation: String::new(),
            non_recursive: false,
            relabel: false,
        },
        name => Source::Volume {
            name: name.map(super::name).transpose()?,
            no_copy: false,
            sub_path: String::new(),
        },
    };
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match (option, &mut source) {
            ("rw", _) => read_only = false,
            ("ro", _) => read_only = true,
            // They speak of the file sharing of other systems.
            ("consistent" | "cached" | "delegated", _) => {}
            ("z" | "Z", Source::Bind { relabel, .. }) => *relabel = true,
            // A volume has the label that all containers share.
            ("z" | "Z", _) => {}
            ("nocopy", Source::Volume { no_copy, .. }) => *no_copy = true,
            (how, Source::Bind { propagation: to, .. }) if is_propagation(how) => {
                how.clone_into(to);
            }
            (how, _) if is_propagation(how) => {
                return Err(format!("{how} is for paths of the host, not for volumes"));
            }
            ("nocopy", _) => return Err("nocopy is for volumes, not for paths of the host".into()),
            _ => {
                return Err(format!(
                    "option {option} is not known: expected ro, rw, z, Z, nocopy, or shared, slave or \
                     private"
                ));
            }
        }
    }
    Ok(Mounted { target, source, read_only })
}

fn is_propagation(text: &str) -> bool {
    ["private", "rprivate", "shared", "rshared", "slave", "rslave"].contains(&text)
}

/// Keys of `--mount` with their values, until all are known.
#[derive(Default)]
struct Keys {
    kind: Option<String>,
    source: Option<String>,
    target: Option<PathBuf>,
    read_only: bool,
    propagation: String,
    non_recursive: bool,
    create: bool,
    relabel: bool,
    no_copy: bool,
    sub_path: String,
    size: Option<u64>,
    mode: Option<u32>,
    /// Keys that belong to one kind, with that kind.
    special: Vec<(String, &'static str)>,
}

/// `--mount`: `type=bind|volume|tmpfs|image,source=…,target=…` and more.
pub(crate) fn mount(text: &str) -> Result<Mounted, String> {
    let mut keys = Keys::default();
    for field in super::fields(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.trim().to_ascii_lowercase(), Some(value.trim().to_owned())),
            None => (field.trim().to_ascii_lowercase(), None),
        };
        keys.take(&key, value)?;
    }
    let kind = keys.kind.clone().unwrap_or_else(|| "volume".into());
    if !["bind", "volume", "tmpfs", "image"].contains(&kind.as_str()) {
        return Err(format!("type {kind} is not known: expected bind, volume, tmpfs or image"));
    }
    if let Some((key, of)) = keys.special.iter().find(|(_, of)| *of != kind) {
        return Err(format!("{key} is for type={of}, not for type={kind}"));
    }
    let target = keys.target.ok_or("target= is missing: the path in the container")?;
    let from = |what: &str| keys.source.clone().ok_or(format!("source= is missing: {what}"));
    let source = match kind.as_str() {
        "bind" => Source::Bind {
            path: from("the path on the host")?.into(),
            create: keys.create,
            propagation: keys.propagation,
            non_recursive: keys.non_recursive,
            relabel: keys.relabel,
        },
        "volume" => Source::Volume {
            name: keys.source.as_deref().filter(|s| !s.is_empty()).map(super::name).transpose()?,
            no_copy: keys.no_copy,
            sub_path: keys.sub_path,
        },
        "tmpfs" if keys.source.is_some() => return Err("a tmpfs has no source".into()),
        "tmpfs" => Source::Tmpfs { size: keys.size, mode: keys.mode, options: Vec::new() },
        _ => Source::Image { image: from("the image")?, sub_path: keys.sub_path },
    };
    let read_only = keys.read_only || kind == "image";
    Ok(Mounted { target, source, read_only })
}

impl Keys {
    fn take(&mut self, key: &str, value: Option<String>) -> Result<(), String> {
        let given = || {
            let some = value.clone().filter(|value| !value.is_empty());
            some.ok_or_else(|| format!("{key} needs a value"))
        };
        let truth = || value.as_deref().map_or(Ok(true), super::truth);
        let kind = match key {
            "type" => {
                self.kind = Some(given()?);
                return Ok(());
            }
            "source" | "src" => {
                self.source = Some(value.unwrap_or_default());
                return Ok(());
            }
            "target" | "destination" | "dst" => {
                self.target = Some(super::target(&given()?)?);
                return Ok(());
            }
            "readonly" | "ro" => {
                self.read_only = truth()?;
                return Ok(());
            }
            "consistency" => return Ok(()),
            "bind-propagation" => {
                self.propagation = given()?;
                if !is_propagation(&self.propagation) {
                    return Err(format!("{} is no propagation", self.propagation));
                }
                "bind"
            }
            "bind-nonrecursive" => {
                self.non_recursive = truth()?;
                "bind"
            }
            "bind-recursive" => {
                self.non_recursive = match given()?.as_str() {
                    "disabled" => true,
                    "enabled" | "readonly" => false,
                    other => {
                        return Err(format!(
                            "bind-recursive={other}: expected enabled, disabled or readonly"
                        ));
                    }
                };
                "bind"
            }
            "bind-create-src" | "bind-create-host-path" => {
                self.create = truth()?;
                "bind"
            }
            "z" => {
                self.relabel = truth()?;
                "bind"
            }
            "volume-nocopy" => {
                self.no_copy = truth()?;
                "volume"
            }
            "volume-subpath" | "image-subpath" => {
                self.sub_path = given()?;
                if key == "volume-subpath" { "volume" } else { "image" }
            }
            "tmpfs-size" => {
                self.size = Some(super::size(&given()?)?);
                "tmpfs"
            }
            "tmpfs-mode" => {
                self.mode = Some(octal(&given()?)?);
                "tmpfs"
            }
            "volume-driver" if value.as_deref() == Some("local") => "volume",
            "volume-driver" | "volume-opt" | "volume-label" => {
                return Err(format!(
                    "{key} is not for a mount: make the volume first, with orlop volume create"
                ));
            }
            _ => return Err(unknown(key)),
        };
        self.special.push((key.to_owned(), kind));
        Ok(())
    }
}

fn unknown(key: &str) -> String {
    let known = [
        "type",
        "source",
        "src",
        "target",
        "destination",
        "dst",
        "readonly",
        "ro",
        "bind-propagation",
        "bind-recursive",
        "bind-nonrecursive",
        "volume-nocopy",
        "volume-subpath",
        "image-subpath",
        "tmpfs-size",
        "tmpfs-mode",
    ];
    let near = crate::suggest::nearest(key, known);
    let hint = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
    format!("{key} is not known: expected type=, source=, target=, readonly and such{hint}")
}

fn octal(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o7777 => Ok(mode),
        _ => Err(format!("mode {text} is not octal, such as 1777")),
    }
}

/// `--tmpfs`: `/path[:options]`.
pub(crate) fn tmpfs(text: &str) -> Result<Mounted, String> {
    let (path, rest) = text.split_once(':').unwrap_or((text, ""));
    let target = super::target(path)?;
    let (mut size, mut mode, mut options, mut read_only) = (None, None, Vec::new(), false);
    for option in rest.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("size", text)) if !text.ends_with('%') => size = Some(super::size(text)?),
            Some(("mode", text)) => mode = Some(octal(text)?),
            _ if option == "ro" => read_only = true,
            _ if option == "rw" => read_only = false,
            _ => options.push(option.to_owned()),
        }
    }
    Ok(Mounted { target, source: Source::Tmpfs { size, mode, options }, read_only })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(path: &str) -> Source {
        Source::Bind {
            path: path.into(),
            create: true,
            propagation: String::new(),
            non_recursive: false,
            relabel: false,
        }
    }

    fn named(name: Option<&str>) -> Source {
        let name = name.map(str::to_owned);
        Source::Volume { name, no_copy: false, sub_path: String::new() }
    }

    #[test]
    fn forms_of_volume() {
        for (text, target, source, read_only) in [
            ("/data", "/data", named(None), false),
            ("data:/data", "/data", named(Some("data")), false),
            ("data:/data:ro,z", "/data", named(Some("data")), true),
            ("/srv:/data:ro", "/data", bind("/srv"), true),
            ("./srv:/data/../x", "/x", bind("./srv"), false),
            ("sub/dir:/data:cached", "/data", bind("sub/dir"), false),
        ] {
            let want = Mounted { target: target.into(), source, read_only };
            assert_eq!(volume(text), Ok(want), "{text}");
        }
        let got = volume("/a:/b:Z,rslave").unwrap().source;
        assert!(
            matches!(&got, Source::Bind { relabel: true, propagation, .. } if propagation == "rslave")
        );
        assert!(matches!(
            volume("v:/b:nocopy").unwrap().source,
            Source::Volume { no_copy: true, .. }
        ));
        for (wrong, why) in [
            ("", "expected [SOURCE:]"),
            ("data", "must begin with /"),
            ("a:b", "must begin with /"),
            (":/b", "expected [SOURCE:]"),
            ("/a:/", "root cannot be mounted over"),
            ("/a:/b:rx", "option rx is not known"),
            ("/a:/b:nocopy", "nocopy is for volumes"),
            ("vol:/b:shared", "not for volumes"),
            ("a:b:c:d", "expected [SOURCE:]"),
            ("a!:/b", "expected 1 to 128"),
        ] {
            let error = volume(wrong).unwrap_err();
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }

    #[test]
    fn forms_of_mount() {
        let got = mount(
            "type=bind,src=/a,dst=/b,readonly,bind-propagation=shared,bind-recursive=disabled",
        );
        let want = Mounted {
            target: "/b".into(),
            source: Source::Bind {
                path: "/a".into(),
                create: false,
                propagation: "shared".into(),
                non_recursive: true,
                relabel: false,
            },
            read_only: true,
        };
        assert_eq!(got, Ok(want));
        assert_eq!(mount("target=/b").unwrap().source, named(None));
        let sub = mount("source=vol,target=/b,volume-subpath=c,volume-nocopy").unwrap().source;
        let want = Source::Volume { name: Some("vol".into()), no_copy: true, sub_path: "c".into() };
        assert_eq!(sub, want);
        let memory = mount("type=tmpfs,target=/b,tmpfs-size=1m,tmpfs-mode=700").unwrap().source;
        let want = Source::Tmpfs { size: Some(1 << 20), mode: Some(0o700), options: vec![] };
        assert_eq!(memory, want);
        let image = mount("type=image,source=r/x:1,target=/b,image-subpath=usr").unwrap();
        let source = Source::Image { image: "r/x:1".into(), sub_path: "usr".into() };
        assert_eq!(image, Mounted { target: "/b".into(), source, read_only: true });
        let comma = mount(r#"type=bind,"source=/a,b",target=/b"#).unwrap().source;
        assert!(matches!(comma, Source::Bind { path, .. } if path == std::path::Path::new("/a,b")));
        for (wrong, why) in [
            ("type=bind,src=/a", "target= is missing"),
            ("type=bind,target=/b", "source= is missing"),
            ("type=nfs,target=/b", "type nfs is not known"),
            ("type=tmpfs,target=/b,volume-nocopy", "is for type=volume"),
            ("type=tmpfs,src=/a,target=/b", "a tmpfs has no source"),
            ("traget=/b", "did you mean target?"),
            ("target=/b,volume-opt=type=nfs", "volume create"),
            ("target=/b,readonly=maybe", "neither true nor false"),
            ("type=tmpfs,target=/b,tmpfs-mode=9", "not octal"),
        ] {
            let error = mount(wrong).unwrap_err();
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }

    #[test]
    fn forms_of_tmpfs() {
        let plain = tmpfs("/run").unwrap();
        let want = Source::Tmpfs { size: None, mode: None, options: vec![] };
        assert_eq!(plain.source, want);
        let full = tmpfs("/run:rw,noexec,size=64m,mode=755").unwrap();
        let options = vec!["noexec".to_owned()];
        let want = Source::Tmpfs { size: Some(64 << 20), mode: Some(0o755), options };
        assert_eq!(full.source, want);
        assert!(tmpfs("run").is_err() && tmpfs("/run:size=big").is_err());
    }
}
