//! The 371 builds with known images: outcome, configuration, history, number of layers, and every
//! entry of the final root that the case names. Where we differ on purpose, `build_differences.txt`
//! says why, for a whole case or for one property of one entry.

mod build_support;

use build_support::{Bench, Entry};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

type Tree = BTreeMap<String, Entry>;

/// Time of every file of the base images.
const BASE_TIME: i64 = 1_485_449_953;

/// Accounts of the base image: as many bytes as those of the cases, whose text nobody knows.
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
sys:x:3:3:sys:/dev:/bin/false
mail:x:8:12:mail:/var/spool/mail:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
nobody:x:65534:65534:nobody:/:/bin/false
";
const GROUP: &str = "root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
mail:x:8:
wheel:x:10:root
www-data:x:33:
operator:x:100:
nobody:x:65534:
";

/// What busybox of Debian lacks: `adduser [-D] [-h HOME] NAME` and `addgroup [-g ID] NAME`.
const ADDUSER: &str = r#"#!/bin/sh
set -e
home= id=1000
while getopts 'DHSh:u:s:G:g:' flag; do
  case $flag in h) home=$OPTARG ;; u) id=$OPTARG ;; esac
done
shift $((OPTIND - 1))
name=$1 home=${home:-/home/$1}
while grep -q "^[^:]*:[^:]*:$id:" /etc/passwd; do id=$((id + 1)); done
echo "$name:x:$id:$id::$home:/bin/sh" >>/etc/passwd
grep -q "^$name:" /etc/group || echo "$name:x:$id:" >>/etc/group
mkdir -p "$home"
chown "$id:$id" "$home"
"#;
const ADDGROUP: &str = r#"#!/bin/sh
set -e
id=1000
while getopts 'Sg:' flag; do case $flag in g) id=$OPTARG ;; esac done
shift $((OPTIND - 1))
while grep -q "^[^:]*:[^:]*:$id:" /etc/group; do id=$((id + 1)); done
echo "$1:x:$id:" >>/etc/group
"#;

/// Instructions of our base image, which stand in front of every history.
const BASE_HISTORY: usize = 2;
/// What the cases' wall clock showed: nothing earlier is a time of their build.
const WALL_CLOCK: i64 = 1_790_000_000;

#[test]
fn the_cases_of_other_builders() {
    let cases = orlop_e2e::root().join("../shared/cases/build");
    if !cases.is_dir() {
        println!("SKIPPED: {} is not there", cases.display());
        return;
    }
    let differences = differences();
    let cases = (cases.as_path(), list(&cases));
    let next = AtomicUsize::new(0);
    let result = Mutex::new((0, 0, Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let bench = Bench::empty();
                let base = bases(&bench);
                while let Some(case) = cases.1.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let name = case.strip_prefix(cases.0).unwrap().display().to_string();
                    let wrong = check(&bench, &base, cases.0, case, &differences);
                    let mut result = result.lock().unwrap();
                    match (wrong, differences.contains_key(&name)) {
                        (wrong, false) if wrong.is_empty() => result.0 += 1,
                        (wrong, true) if !wrong.is_empty() => result.1 += 1,
                        (_, true) => {
                            result.2.push(format!("{name}: is listed as different, but is not"));
                        }
                        (wrong, false) => {
                            result.2.push(format!("{name}:\n    {}", wrong.join("\n    ")));
                        }
                    }
                }
                bench.finish();
            });
        }
    });
    let (passed, known, failed) = result.into_inner().unwrap();
    println!("{passed} cases pass, {known} differ on purpose, {} fail", failed.len());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Makes the two images that the cases start from, `busybox` and `bashbox`, each in one layer;
/// the root of the first.
fn bases(bench: &Bench) -> Tree {
    let root = bench.dir.path().join("base/root");
    let write = |path: &str, text: &str, mode: u32| {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    };
    for dir in ["bin", "dev", "home", "proc", "run", "sys", "usr/bin", "usr/sbin", "var/lib"] {
        std::fs::create_dir_all(root.join(dir)).unwrap();
    }
    for (dir, mode) in [("root", 0o700), ("tmp", 0o1777)] {
        std::fs::create_dir_all(root.join(dir)).unwrap();
        std::fs::set_permissions(root.join(dir), PermissionsExt::from_mode(mode)).unwrap();
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed");
    let applets = Command::new("/bin/busybox").arg("--list").output().unwrap();
    let applets = String::from_utf8(applets.stdout).unwrap();
    for applet in applets.lines().filter(|name| *name != "busybox") {
        std::fs::hard_link(root.join("bin/busybox"), root.join("bin").join(applet)).unwrap();
    }
    let bash = std::fs::copy("/bin/bash-static", root.join("bin/bash"));
    bash.expect("bash-static is installed");
    write("etc/passwd", PASSWD, 0o644);
    write("etc/group", GROUP, 0o644);
    write("etc/nsswitch.conf", "hosts: files dns\n", 0o644);
    write("etc/os-release", "ID=busybox\nNAME=\"BusyBox\"\nVERSION_ID=1\n", 0o644);
    for empty in ["hosts", "hostname", "resolv.conf"] {
        write(&format!("etc/{empty}"), "", 0o644);
    }
    write("usr/sbin/adduser", ADDUSER, 0o755);
    write("usr/sbin/addgroup", ADDGROUP, 0o755);
    write("../Dockerfile", "FROM scratch\nCOPY root/ /\nCMD [\"sh\"]\n", 0o644);
    let context = bench.dir.path().join("base");
    build_support::settle(&context, BASE_TIME);
    let out = bench.dir.path().join("base.tar");
    let output = format!("type=tar,dest={}", out.display());
    bench.build(&context, &["-t", "busybox", "-o", &output]);
    std::fs::remove_file(root.join("bin/sh")).unwrap();
    std::fs::copy("/bin/bash-static", root.join("bin/sh")).unwrap();
    write("usr/bin/script", "#!/bin/sh\n", 0o755);
    build_support::settle(&context, BASE_TIME);
    bench.build(&context, &["-t", "bashbox"]);
    bench.read_tree(&out)
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

fn check(
    bench: &Bench,
    base: &Tree,
    cases: &Path,
    case: &Path,
    differences: &BTreeMap<String, String>,
) -> Vec<String> {
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
    let name = case.strip_prefix(cases).unwrap().display().to_string();
    let known = |path: &str, what: &str| differences.contains_key(&format!("{name} {path}:{what}"));
    compare_tree(&bench.read_tree(&out), base, &expected, &known, &mut wrong);
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

fn compare_tree(
    tree: &Tree,
    base: &Tree,
    expected: &Value,
    known: &dyn Fn(&str, &str) -> bool,
    wrong: &mut Vec<String>,
) {
    let image = &expected["image"];
    let listed = |key: &str, name: &str| {
        let lists = [&expected[key], &image[key]];
        lists.iter().any(|list| list.as_array().is_some_and(|l| l.iter().any(|n| n == name)))
    };
    let theirs = image["tree"].as_object().unwrap();
    for path in tree.keys().filter(|path| !path.is_empty() && !theirs.contains_key(*path)) {
        if !base.contains_key(path) {
            wrong.push(format!("{path} should not be there"));
        }
    }
    for (path, entry) in theirs {
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
        let mut differ =
            |what: &str, ours: String, theirs: String| match (ours == theirs, known(path, what)) {
                (true, true) => wrong.push(format!("{path}: {what} is listed as different")),
                (false, false) if !listed("nondeterministic", &format!("{path}:{what}")) => {
                    wrong.push(format!("{path}: {what} is {ours}, not {theirs}"));
                }
                _ => {}
            };
        differ("type", kind.into(), entry["type"].as_str().unwrap_or_default().into());
        differ("mode", format!("0o{mode:o}"), entry["mode"].as_str().unwrap_or_default().into());
        differ("uid", ours.owner.0.to_string(), entry["uid"].to_string());
        differ("gid", ours.owner.1.to_string(), entry["gid"].to_string());
        if let Some(size) = entry["size"].as_u64().filter(|_| kind == "file") {
            differ("size", ours.size.to_string(), size.to_string());
        }
        if let Some(sha256) = entry["sha256"].as_str().filter(|_| kind == "file") {
            let digest: String =
                Sha256::digest(&ours.content).iter().map(|byte| format!("{byte:02x}")).collect();
            // The text of the base image's files is ours.
            if !["etc/passwd", "etc/group"].contains(&path.as_str()) {
                differ("sha256", digest, sha256.to_owned());
            }
        }
        if let Some(link) = entry["link"].as_str() {
            differ("link", ours.link.clone(), link.to_owned());
        }
        let theirs = entry["mtime"].as_i64().unwrap_or_default();
        if theirs <= WALL_CLOCK && !listed("ignore_mtime", path) {
            differ("mtime", ours.mtime.to_string(), theirs.to_string());
        }
    }
}
