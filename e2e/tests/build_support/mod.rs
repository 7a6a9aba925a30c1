//! A store, a base image and a way to build.
#![allow(dead_code, reason = "each test file uses its part")]

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Directories of one test.
pub struct Bench {
    pub dir: tempfile::TempDir,
}

/// What a build said.
pub struct Built {
    pub id: String,
    pub log: String,
    pub reused: u64,
    pub made: u64,
}

/// An entry of a root.
#[derive(Debug)]
pub struct Entry {
    pub kind: tar::EntryType,
    pub mode: u32,
    pub owner: (u64, u64),
    pub size: u64,
    pub mtime: i64,
    pub link: String,
    pub content: Vec<u8>,
}

impl Bench {
    /// With no image.
    pub fn empty() -> Self {
        let dir = tempfile::Builder::new().prefix("orlop-e2e-build-").tempdir().unwrap();
        Self { dir }
    }

    /// With an image `base` of Debian's busybox.
    pub fn new() -> Self {
        let bench = Self::empty();
        let root = bench.dir.path().join("base/root");
        orlop_e2e::images::busybox_root(&root);
        for file in ["hosts", "hostname", "resolv.conf"] {
            std::fs::write(root.join("etc").join(file), "").unwrap();
        }
        let dockerfile = "FROM scratch\nCOPY root/ /\nCMD [\"sh\"]\n";
        std::fs::write(bench.dir.path().join("base/Dockerfile"), dockerfile).unwrap();
        settle(&root, 1_000_000_000);
        bench.build(&bench.dir.path().join("base"), &["-t", "base"]);
        bench
    }

    /// A directory with these files.
    pub fn context(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let dir = self.dir.path().join(name);
        for (path, text) in files {
            let path = dir.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        std::fs::create_dir_all(&dir).unwrap();
        settle(&dir, 1_000_000_000);
        dir
    }

    fn command(&self, context: &Path, flags: &[&str]) -> Command {
        let mut command = Command::new(orlop_e2e::program("orlop"));
        let dir = self.dir.path();
        command.arg("build").args(["--network", "none"]);
        command.arg("--root").arg(dir.join("root")).arg("--run").arg(dir.join("run"));
        command.arg("--metadata-file").arg(dir.join("metadata.json"));
        command.args(flags).arg(context).stdin(Stdio::null());
        command
    }

    /// Builds; panics with what it said when it fails.
    pub fn build(&self, context: &Path, flags: &[&str]) -> Built {
        let (log, ok) = self.try_build(context, flags);
        assert!(ok, "{log}");
        let text = std::fs::read(self.dir.path().join("metadata.json")).unwrap();
        let metadata: Value = serde_json::from_slice(&text).unwrap();
        Built {
            id: metadata["containerimage.config.digest"].as_str().unwrap().to_owned(),
            reused: metadata["orlop.steps.reused"].as_u64().unwrap(),
            made: metadata["orlop.steps.made"].as_u64().unwrap(),
            log,
        }
    }

    /// What it said, and whether it ended well.
    pub fn try_build(&self, context: &Path, flags: &[&str]) -> (String, bool) {
        let output = self.command(context, flags).output().unwrap();
        let log = [output.stdout, output.stderr].concat();
        (String::from_utf8_lossy(&log).into_owned(), output.status.success())
    }

    /// What a build writes to its standard output.
    pub fn stdout(&self, context: &Path, flags: &[&str]) -> Vec<u8> {
        let output = self.command(context, flags).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// Another command on this store, or on the one called `root`; what it says.
    pub fn orlop(&self, root: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(orlop_e2e::program("orlop"));
        let dir = self.dir.path();
        command.args(arguments).arg("--root").arg(dir.join(root)).arg("--run");
        orlop_e2e::process::run(command.arg(dir.join("run"))).trim().to_owned()
    }

    /// Builds what must fail.
    pub fn fails(&self, context: &Path, flags: &[&str]) -> String {
        let (log, ok) = self.try_build(context, flags);
        assert!(!ok, "{log}");
        assert!(!log.contains("panicked"), "{log}");
        log
    }

    /// The root of what is built.
    pub fn tree(&self, context: &Path, flags: &[&str]) -> BTreeMap<String, Entry> {
        let out = self.dir.path().join("root.tar");
        let output = format!("type=tar,dest={}", out.display());
        self.build(context, &[&["-o", output.as_str()], flags].concat());
        self.read_tree(&out)
    }

    /// The entries of an archive.
    pub fn read_tree(&self, out: &Path) -> BTreeMap<String, Entry> {
        let mut archive = tar::Archive::new(std::fs::File::open(out).unwrap());
        let mut tree = BTreeMap::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let header = entry.header().clone();
            let link = entry.link_name().unwrap();
            let link = link.map(|link| link.display().to_string()).unwrap_or_default();
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
            tree.insert(
                path.trim_matches('/').to_owned(),
                Entry {
                    kind: header.entry_type(),
                    mode: header.mode().unwrap(),
                    owner: (header.uid().unwrap(), header.gid().unwrap()),
                    size: header.size().unwrap(),
                    mtime: header.mtime().unwrap() as i64,
                    link,
                    content,
                },
            );
        }
        tree
    }

    /// Nothing is left but the store.
    pub fn finish(self) {
        let path = self.dir.path().to_str().unwrap();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let left: Vec<&str> = mounts.lines().filter(|line| line.contains(path)).collect();
        assert!(left.is_empty(), "{left:?}");
        let steps = std::fs::read_dir(self.dir.path().join("run/build"));
        let left: Vec<_> = steps.into_iter().flatten().flatten().map(|e| e.path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// Files below a directory that hold these bytes.
pub fn holds(dir: &Path, bytes: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(holds(&entry.path(), bytes));
        } else if kind.is_file() {
            let text = std::fs::read(entry.path()).unwrap();
            if text.windows(bytes.len()).any(|window| window == bytes) {
                found.push(entry.path());
            }
        }
    }
    found
}

/// Gives everything below a directory one time, so that two stores are given the same.
pub fn settle(dir: &Path, seconds: i64) {
    let time = format!("@{seconds}");
    let touch = ["-exec", "touch", "-h", "-d", &time, "{}", "+"];
    let status = Command::new("find").arg(dir).args(touch).status().unwrap();
    assert!(status.success());
}
