//! The rooms and their allowed edges: ARCHITECTURE.md's table against `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

type Edges = BTreeMap<String, BTreeSet<String>>;

fn root() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn allowed() -> Edges {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| orlop"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let uses = cells[2].split(',').map(str::trim).filter(|name| *name != "–");
        (cells[0].to_owned(), uses.map(str::to_owned).collect())
    })
    .collect()
}

fn actual() -> Edges {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let names: BTreeSet<&str> =
        packages.iter().map(|package| package["name"].as_str().unwrap()).collect();
    packages
        .iter()
        .map(|package| {
            // Tests may reach further than the product: only ordinary dependencies are edges.
            let uses = package["dependencies"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|dependency| dependency["kind"].is_null());
            let ours = uses
                .map(|dependency| dependency["name"].as_str().unwrap())
                .filter(|name| names.contains(name));
            (package["name"].as_str().unwrap().to_owned(), ours.map(str::to_owned).collect())
        })
        .collect()
}

#[test]
fn edges_are_those_of_the_table() {
    let (allowed, actual) = (allowed(), actual());
    assert_eq!(
        allowed.keys().collect::<Vec<_>>(),
        actual.keys().collect::<Vec<_>>(),
        "every crate has a row in ARCHITECTURE.md, and every row a crate"
    );
    for (name, uses) in &actual {
        let forbidden: Vec<_> = uses.difference(&allowed[name]).collect();
        assert!(
            forbidden.is_empty(),
            "{name} uses {forbidden:?}, which ARCHITECTURE.md does not allow"
        );
    }
}

#[test]
fn unsafe_code_is_in_sys_only() {
    let output =
        Command::new("git").args(["ls-files", "*.rs"]).current_dir(root()).output().unwrap();
    for file in String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter(|file| !file.starts_with("src/sys/"))
    {
        let Ok(text) = std::fs::read_to_string(root().join(file)) else { continue };
        let opens_the_fence =
            ["allow(unsafe_code", "expect(unsafe_code"].iter().any(|word| text.contains(word));
        assert!(
            !opens_the_fence || file == "e2e/tests/architecture.rs",
            "{file} opts out of the unsafe fence"
        );
    }
}
