//! The 371 builds with known images: outcome, configuration, history, number of layers, and every
//! entry of the final root that the case names. Where we differ on purpose, `build_differences.txt`
//! says why.

mod build_support;

use build_support::{Bench, Entry};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Instructions of our base image, which stand in front of every history.
const BASE_HISTORY: usize = 2;
/// What the cases' wall clock showed: nothing earlier is a time of their build.
const WALL_CLOCK: i64 = 1_790_000_000;

#[test]
#[ignore = "the base image that the cases were made with also has adduser, nsswitch.conf and a printf that knows %q; until ours has them, some 20 cases differ by that"]
fn the_cases_of_other_builders() {
    let cases = orlop_e2e::root().join("../shared/cases/build");
    if !cases.is_dir() {
        println!("SKIPPED: {} is not there", cases.display());
        return;
    }
    let differences = differences();
    let bench = Bench::new();
    let (mut passed, mut failed, mut known) = (0, Vec::new(), 0);
    for case in list(&cases) {
        let name = case.strip_prefix(&cases).unwrap().display().to_string();
        let wrong = check(&bench, &cases, &case);
        match (wrong, differences.contains_key(&name)) {
            (wrong, false) if wrong.is_empty() => passed += 1,
            (wrong, true) if !wrong.is_empty() => known += 1,
            (_, true) => failed.push(format!("{name}: is listed as different, but is not")),
            (wrong, false) => failed.push(format!("{name}:\n    {}", wrong.join("\n    "))),
        }
    }
    println!("{passed} cases pass, {known} differ on purpose, {} fail", failed.len());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    bench.finish();
}

fn differences() -> BTreeMap<String, String> {
    let text = include_str!("build_differences.txt");
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines
        .map(|line| line.split_once(": ").unwrap_or_else(|| panic!("{line}")))
        .map(|(case, why)| (case.to_owned(), why.to_owned()))
        .collect()
}

fn list(cases: &Path) -> Vec<PathBuf> {
    let dirs = |dir: &Path| {
        let mut found: Vec<PathBuf> =
            std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        found.sort();
        found
    };
    let all = dirs(cases).into_iter().flat_map(|suite| dirs(&suite));
    all.filter(|case| case.join("expected.json").is_file()).collect()
}

fn check(bench: &Bench, cases: &Path, case: &Path) -> Vec<String> {
    let text = std::fs::read(case.join("expected.json")).unwrap();
    let expected: Value = serde_json::from_slice(&text).unwrap();
    let context = bench.dir.path().join("case");
    let _ = std::fs::remove_dir_all(&context);
    lay_out(cases, case, &expected, &context);
    let mut flags: Vec<String> = vec![
        "-f".into(),
        context.join(expected["dockerfile"].as_str().unwrap()).display().to_string(),
    ];
    for (name, value) in expected["build_args"].as_object().unwrap() {
        flags.extend(["--build-arg".into(), format!("{name}={}", value.as_str().unwrap())]);
    }
    if let Some(target) = expected["target"].as_str() {
        flags.extend(["--target".into(), target.into()]);
    }
    let out = bench.dir.path().join("case.tar");
    flags.extend(["-o".into(), format!("type=tar,dest={}", out.display())]);
    flags.extend([
        "-o".into(),
        format!("type=oci,compression=uncompressed,dest={}.oci", out.display()),
    ]);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    if expected["expect"] == "fail" {
        let (log, ok) = bench.try_build(&context, &flags);
        let clear = !log.contains("panicked");
        return if ok || !clear {
            vec![format!("must fail clearly: {}", expected["error"])]
        } else {
            vec![]
        };
    }
    let (log, ok) = bench.try_build(&context, &flags);
    if !ok {
        return vec![format!("failed: {log}")];
    }
    let image = &expected["image"];
    let based = image["history"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|step| step["comment"] != "buildkit.dockerfile.v0")
        .count();
    let config = configuration(Path::new(&format!("{}.oci", out.display())));
    let mut wrong = Vec::new();
    compare_config(&config["config"], &image["config"], based > 0, &mut wrong);
    compare_history(&config, image, based, &mut wrong);
    let layers = config["rootfs"]["diff_ids"].as_array().map_or(0, Vec::len);
    if Some(layers as u64) != image["layers"].as_u64() {
        wrong.push(format!("{layers} layers, not {}", image["layers"]));
    }
    compare_tree(&bench.read_tree(&out), &expected, &mut wrong);
    wrong
}

fn lay_out(cases: &Path, case: &Path, expected: &Value, context: &Path) {
    std::fs::create_dir_all(context).unwrap();
    let copy = |from: &Path| {
        let status =
            Command::new("cp").arg("-a").arg(from.join(".")).arg(context).status().unwrap();
        assert!(status.success());
    };
    if let Some(base) = expected["context_base"].as_str() {
        copy(&cases.join(base));
    }
    copy(&case.join("context"));
    let entries = expected["context_entries"].as_object().unwrap();
    for (path, what) in entries {
        let (path, what) = (context.join(path), what.as_str().unwrap());
        match what.split_at(1) {
            ("d", _) => std::fs::create_dir_all(&path).unwrap(),
            ("l", target) if !path.is_symlink() => {
                let _ = std::fs::remove_file(&path);
                std::os::unix::fs::symlink(target, &path).unwrap();
            }
            _ => {}
        }
    }
    for (path, what) in entries.iter().rev() {
        let (path, what) = (context.join(path), what.as_str().unwrap());
        if !what.starts_with('l') && path.exists() && !path.is_symlink() {
            let status = Command::new("chmod").arg(&what[1..]).arg(&path).status().unwrap();
            assert!(status.success());
        }
    }
    if let Some(time) = expected["context_mtime"].as_i64() {
        let status = Command::new("find")
            .arg(context)
            .args(["-depth", "-exec", "touch", "-h", "-d", &format!("@{time}"), "{}", "+"])
            .status()
            .unwrap();
        assert!(status.success());
    }
}

/// The configuration in an OCI archive.
fn configuration(path: &Path) -> Value {
    let read = |wanted: &str| {
        let mut archive = tar::Archive::new(std::fs::File::open(path).unwrap());
        let mut found = archive.entries().unwrap().map(Result::unwrap);
        let entry = found.find(|entry| entry.path().unwrap().as_os_str() == wanted);
        serde_json::from_reader::<_, Value>(entry.unwrap_or_else(|| panic!("{wanted}"))).unwrap()
    };
    let blob =
        |value: &Value| format!("blobs/{}", value["digest"].as_str().unwrap().replace(':', "/"));
    let manifest = read(&blob(&read("index.json")["manifests"][0]));
    read(&blob(&manifest["config"]))
}

fn filled(value: &Value) -> Map<String, Value> {
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    let members = value.as_object().cloned().unwrap_or_default();
    members.into_iter().filter(|(_, value)| !empty(value)).collect()
}

fn compare_config(ours: &Value, expected: &Value, based: bool, wrong: &mut Vec<String>) {
    let (mut ours, expected) = (filled(ours), filled(expected));
    if based {
        // Our base image was made by a Dockerfile; theirs was not.
        for key in ["ArgsEscaped", "WorkingDir"] {
            if !expected.contains_key(key)
                && (key == "ArgsEscaped" || ours.get(key) == Some(&"/".into()))
            {
                ours.remove(key);
            }
        }
    }
    if ours != expected {
        wrong.push(format!("config {ours:?} is not {expected:?}"));
    }
}

fn compare_history(config: &Value, image: &Value, based: usize, wrong: &mut Vec<String>) {
    let steps = |value: &Value, skip: usize| -> Vec<(String, bool)> {
        let list = value["history"].as_array().cloned().unwrap_or_default();
        let step = |step: &Value| {
            let by = step["created_by"].as_str().unwrap_or_default().to_owned();
            (by, step["empty_layer"].as_bool().unwrap_or(false))
        };
        list.iter().skip(skip).map(step).collect()
    };
    let ours = steps(config, if based > 0 { BASE_HISTORY } else { 0 });
    let expected = steps(image, based);
    if ours != expected {
        wrong.push(format!("history {ours:?} is not {expected:?}"));
    }
}

fn compare_tree(tree: &BTreeMap<String, Entry>, expected: &Value, wrong: &mut Vec<String>) {
    let image = &expected["image"];
    let listed = |key: &str, name: &str| {
        let lists = [&expected[key], &image[key]];
        lists.iter().any(|list| list.as_array().is_some_and(|l| l.iter().any(|n| n == name)))
    };
    for (path, entry) in image["tree"].as_object().unwrap() {
        // The bash image of the cases had these two; ours has busybox's own.
        if ["bin/sh", "usr/bin/script"].contains(&path.as_str()) {
            continue;
        }
        let Some(ours) = tree.get(path) else {
            wrong.push(format!("{path} is missing"));
            continue;
        };
        let kind = match ours.kind {
            tar::EntryType::Directory => "dir",
            tar::EntryType::Symlink => "symlink",
            tar::EntryType::Link => "hardlink",
            tar::EntryType::Regular => "file",
            _ => "other",
        };
        let mode = if kind == "symlink" { 0o777 } else { ours.mode };
        let mut differ = |what: &str, ours: String, theirs: String| {
            if ours != theirs && !listed("nondeterministic", &format!("{path}:{what}")) {
                wrong.push(format!("{path}: {what} is {ours}, not {theirs}"));
            }
        };
        differ("type", kind.into(), entry["type"].as_str().unwrap_or_default().into());
        differ("mode", format!("0o{mode:o}"), entry["mode"].as_str().unwrap_or_default().into());
        differ("uid", ours.owner.0.to_string(), entry["uid"].to_string());
        differ("gid", ours.owner.1.to_string(), entry["gid"].to_string());
        if let Some(size) = entry["size"].as_u64().filter(|_| kind == "file") {
            differ("size", ours.size.to_string(), size.to_string());
        }
        if let Some(link) = entry["link"].as_str() {
            differ("link", ours.link.clone(), link.to_owned());
        }
        let theirs = entry["mtime"].as_i64().unwrap_or_default();
        let timeless = ours.mtime == 315_532_800 || theirs > WALL_CLOCK;
        if !timeless && !listed("ignore_mtime", path) {
            differ("mtime", ours.mtime.to_string(), theirs.to_string());
        }
    }
}
