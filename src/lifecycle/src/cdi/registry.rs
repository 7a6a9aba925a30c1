//! Finding devices in the files of a node. They are read anew for each container that names any: a
//! driver writes them when it likes.

use super::format::{Edits, File};
use super::unresolvable;
use crate::Result;
use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Files larger than this are no descriptions of devices.
const LIMIT: u64 = 8 << 20;

/// What one device, or all devices of a file, ask for.
#[derive(Debug)]
pub(crate) struct Found {
    /// The device's full name.
    pub(super) name: String,
    pub(super) edits: Edits,
}

/// A file and the precedence of its directory.
struct Loaded {
    path: PathBuf,
    rank: usize,
    file: File,
}

/// The edits for `names`, in their order; those of a file itself once, before its first device. Of two
/// directories the later one wins.
pub(crate) fn devices(dirs: &[PathBuf], names: &[String]) -> Result<Vec<Found>> {
    let (loaded, broken) = load(dirs);
    let mut used = BTreeSet::new();
    let mut found = Vec::new();
    for name in names {
        let (kind, device) = split(name)?;
        let (index, edits) = find(&loaded, &broken, name, kind, device)?;
        let file = &loaded[index];
        if used.insert(index) {
            let edits = file.file.container_edits.clone();
            found.push(Found { name: name.clone(), edits });
        }
        found.push(Found { name: name.clone(), edits });
    }
    Ok(found)
}

fn find(
    loaded: &[Loaded],
    broken: &[String],
    name: &str,
    kind: &str,
    device: &str,
) -> Result<(usize, Edits)> {
    let of_kind = loaded.iter().enumerate().filter(|(_, loaded)| loaded.file.kind == kind);
    let mut matches: Vec<(usize, &Loaded, Edits)> = of_kind
        .flat_map(|(index, loaded)| {
            let same = loaded.file.devices.iter().filter(|found| found.name == device);
            same.map(move |found| (index, loaded, found.container_edits.clone()))
        })
        .collect();
    let best = matches.iter().map(|(_, loaded, _)| loaded.rank).max().unwrap_or(0);
    matches.retain(|(_, loaded, _)| loaded.rank == best);
    match matches.as_slice() {
        [(index, _, edits)] => Ok((*index, edits.clone())),
        [] if broken.is_empty() => Err(unresolvable(
            name,
            "no CDI file of this node describes it: is its driver installed?",
        )),
        [] => Err(unresolvable(
            name,
            format!("no CDI file describes it, and some cannot be read: {}", broken.join("; ")),
        )),
        [(_, first, _), (_, second, _), ..] => Err(unresolvable(
            name,
            format!(
                "both {} and {} describe it: remove one",
                first.path.display(),
                second.path.display()
            ),
        )),
    }
}

/// `vendor/class=device`, by the grammar of the specification.
fn split(name: &str) -> Result<(&str, &str)> {
    let wrong = || unresolvable(name, "it is no CDI name: write it like vendor.com/class=device");
    let (kind, device) = name.split_once('=').ok_or_else(wrong)?;
    let (vendor, class) = kind.split_once('/').ok_or_else(wrong)?;
    let word = |text: &str, extra: &[u8], digit_first: bool| {
        let inside = |byte: u8| byte.is_ascii_alphanumeric() || extra.contains(&byte);
        let starts = |byte: u8| {
            if digit_first { byte.is_ascii_alphanumeric() } else { byte.is_ascii_alphabetic() }
        };
        text.bytes().next().is_some_and(starts)
            && text.bytes().last().is_some_and(|byte| byte.is_ascii_alphanumeric())
            && text.bytes().all(inside)
    };
    if word(vendor, b"-_.", false) && word(class, b"-_.", false) && word(device, b"-_.:", true) {
        Ok((kind, device))
    } else {
        Err(wrong())
    }
}

/// All files that can be read, and a word on each that cannot.
fn load(dirs: &[PathBuf]) -> (Vec<Loaded>, Vec<String>) {
    let (mut loaded, mut broken) = (Vec::new(), Vec::new());
    for (rank, dir) in dirs.iter().enumerate() {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let read = match path.extension().and_then(|extension| extension.to_str()) {
                Some("json") => read(&path).and_then(|text| json(&text)),
                Some("yaml" | "yml") => read(&path).and_then(|text| yaml(&text)),
                _ => continue,
            };
            match read.and_then(check) {
                Ok(file) => loaded.push(Loaded { path, rank, file }),
                Err(why) => broken.push(format!("{}: {why}", path.display())),
            }
        }
    }
    (loaded, broken)
}

fn read(path: &Path) -> std::result::Result<String, String> {
    use rustix::fs::{Mode, OFlags, open};
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = open(path, flags, Mode::empty()).map_err(|errno| errno.to_string())?;
    let file = std::fs::File::from(file);
    let meta = file.metadata().map_err(|error| error.to_string())?;
    if !meta.is_file() || meta.len() > LIMIT {
        return Err("it is not a regular file of at most 8 MiB".to_owned());
    }
    let mut text = String::new();
    file.take(LIMIT).read_to_string(&mut text).map_err(|error| error.to_string())?;
    Ok(text)
}

fn json(text: &str) -> std::result::Result<File, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn yaml(text: &str) -> std::result::Result<File, String> {
    serde_saphyr::from_str(text).map_err(|error| error.to_string())
}

/// Versions 0.3 to 1: what they add to each other are fields.
fn check(file: File) -> std::result::Result<File, String> {
    let version = file.cdi_version.trim_start_matches('v');
    let known = ["0.3.", "0.4.", "0.5.", "0.6.", "0.7.", "0.8.", "1."];
    if !known.iter().any(|known| version.starts_with(known)) {
        return Err(format!("cdiVersion {:?} is not known: use 0.3.0 to 1", file.cdi_version));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dirs() -> (tempfile::TempDir, Vec<PathBuf>) {
        let temp = tempfile::tempdir().unwrap();
        let dirs = vec![temp.path().join("etc"), temp.path().join("run")];
        for dir in &dirs {
            std::fs::create_dir(dir).unwrap();
        }
        (temp, dirs)
    }

    const JSON: &str = r#"{"cdiVersion": "0.6.0", "kind": "v.com/gpu", "containerEdits": {"env": ["ALL=1"]},
        "devices": [{"name": "0", "containerEdits": {"env": ["GPU=0"]}}, {"name": "1", "containerEdits": {}}], "later": true}"#;
    const YAML: &str = "cdiVersion: 1.0.0\nkind: v.com/gpu\ndevices:\n- name: \"0\"\n  containerEdits:\n    env: [GPU=other]\n    additionalGids: [5]\n";

    fn env(found: &[Found]) -> Vec<&str> {
        found.iter().flat_map(|found| &found.edits.env).map(String::as_str).collect()
    }

    #[test]
    fn both_formats_and_the_later_directory_wins() {
        let (_temp, dirs) = dirs();
        std::fs::write(dirs[0].join("a.json"), JSON).unwrap();
        std::fs::write(dirs[0].join("notes.txt"), "not a device").unwrap();
        let names = ["v.com/gpu=0".to_owned(), "v.com/gpu=1".to_owned()];
        // The file's own edits come once.
        assert_eq!(env(&devices(&dirs, &names).unwrap()), ["ALL=1", "GPU=0"]);
        std::fs::write(dirs[1].join("b.yaml"), YAML).unwrap();
        let found = devices(&dirs, &names[..1]).unwrap();
        assert_eq!(env(&found), ["GPU=other"]);
        assert_eq!(found[1].edits.additional_gids, [5]);
    }

    #[test]
    fn what_cannot_be_resolved_says_why() {
        let (_temp, dirs) = dirs();
        let why = |name: &str| devices(&dirs, &[name.to_owned()]).unwrap_err().to_string();
        assert!(why("v.com/gpu=0").contains("is its driver installed"));
        std::fs::write(dirs[0].join("a.json"), JSON).unwrap();
        std::fs::write(dirs[0].join("b.json"), JSON).unwrap();
        let both = why("v.com/gpu=0");
        assert!(both.contains("a.json") && both.contains("b.json"), "{both}");
        std::fs::write(dirs[1].join("c.yaml"), "cdiVersion: 9.0.0\nkind: v.com/x\n").unwrap();
        let broken = why("v.com/nic=0");
        assert!(broken.contains("c.yaml") && broken.contains("9.0.0"), "{broken}");
        for name in [
            "gpu",
            "v.com/gpu",
            "v.com=0",
            "/gpu=0",
            "v.com/gpu=",
            "0v/gpu=0",
            "v.com/gpu=a/b",
            "v.com/gpu=-",
        ] {
            assert!(why(name).contains("no CDI name"), "{name}");
        }
    }
}
