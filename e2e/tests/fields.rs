//! The table of request fields (`docs/cri-fields.tsv`) against the contract, and against the tests
//! that it names.

use orlop_e2e::root;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// (message, field) of everything that a request can carry.
fn fields_of_requests() -> BTreeSet<(String, String)> {
    let text = std::fs::read_to_string(root().join("proto/cri/v1/contract.tsv")).expect("contract");
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split('\t').collect())
        .collect();
    let of = |message: &str| -> Vec<(&str, &str)> {
        let fields = rows.iter().filter(|row| row[0] == "field" && row[1] == message);
        fields.map(|row| (row[2], row[5])).collect()
    };
    let name =
        |kind: &str| kind.rsplit('.').next().unwrap_or_default().trim_end_matches('>').to_owned();
    let mut messages: Vec<String> = rows
        .iter()
        .filter(|row| row[0] == "rpc")
        .map(|row| name(row[5].split(" -> ").next().expect("a request")))
        .collect();
    let (mut seen, mut fields) = (BTreeSet::new(), BTreeSet::new());
    while let Some(message) = messages.pop() {
        if !seen.insert(message.clone()) {
            continue;
        }
        for (field, kind) in of(&message) {
            fields.insert((message.clone(), field.to_owned()));
            if kind.contains("runtime.v1.") {
                messages.push(name(kind));
            }
        }
    }
    fields
}

/// Whether a file has a test function of that name; of critest, whether such a case is expected to
/// pass.
fn exists(test: &str) -> bool {
    if let Some(case) = test.strip_prefix("critest: ") {
        let expected = std::fs::read_to_string(root().join("e2e/critest/expected.txt"));
        return !expected.expect("expected.txt").lines().any(|line| line.contains(case));
    }
    let Some((file, function)) = test.split_once("::") else { return false };
    let text = std::fs::read_to_string(root().join(Path::new(file))).unwrap_or_default();
    text.contains(&format!("fn {function}("))
}

#[test]
fn every_request_field_is_honoured_or_refused() {
    let table = root().join("docs/cri-fields.tsv");
    let text = std::fs::read_to_string(&table).expect("docs/cri-fields.tsv");
    let mut listed: BTreeMap<(String, String), &str> = BTreeMap::new();
    let mut wrong = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [message, field, verdict, test, _remark] = fields[..] else {
            wrong.push(format!("five columns are needed: {line}"));
            continue;
        };
        if !["honoured", "refused", "accepted", "open"].contains(&verdict) {
            wrong.push(format!("no such verdict: {line}"));
        }
        if verdict != "open" && !exists(test) {
            wrong.push(format!("no such test: {line}"));
        }
        if listed.insert((message.to_owned(), field.to_owned()), verdict).is_some() {
            wrong.push(format!("listed twice: {line}"));
        }
    }
    let contract = fields_of_requests();
    assert!(contract.len() > 200, "the contract was not read: {} fields", contract.len());
    for field in &contract {
        if !listed.contains_key(field) {
            wrong.push(format!("not in the table: {}.{}", field.0, field.1));
        }
    }
    for field in listed.keys().filter(|field| !contract.contains(field)) {
        wrong.push(format!("not in the contract: {}.{}", field.0, field.1));
    }
    assert!(wrong.is_empty(), "{}:\n{}", table.display(), wrong.join("\n"));
}
