//! The cases of other parsers, and what goes beyond them.

use super::*;
use proptest::prelude::*;
use std::fmt::Write;

/// The form in which the cases write a parse tree.
fn tree(node: &Node) -> String {
    let mut out = format!("({}", node.keyword.to_lowercase());
    if !node.flags.is_empty() {
        let flags: Vec<_> = node.flags.iter().map(|flag| quote(flag)).collect();
        write!(out, " [{}]", flags.join(" ")).unwrap();
    }
    words(&node.arguments, &mut out);
    out + ")"
}

fn words(arguments: &Arguments, out: &mut String) {
    let mut push = |word: &str| write!(out, " {}", quote(word)).unwrap();
    match arguments {
        Arguments::Json(words) | Arguments::Words { words, .. } => {
            words.iter().for_each(|word| push(word));
        }
        Arguments::Pairs(pairs) => {
            for pair in pairs {
                push(&pair.key);
                push(&pair.value);
                push(if pair.equals { "=" } else { "" });
            }
        }
        Arguments::Health(kind, command) => {
            if !kind.is_empty() {
                push(kind);
            }
            words_of_health(command, out);
        }
        Arguments::Trigger(inner) => write!(out, " {}", tree(inner)).unwrap(),
    }
}

fn words_of_health(command: &Arguments, out: &mut String) {
    words(command, out);
}

fn quote(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\t', "\\t");
    format!("\"{escaped}\"")
}

fn cases(dir: &str) -> Option<Vec<std::path::PathBuf>> {
    let mut found: Vec<_> = std::fs::read_dir(crate::test_cases("dockerfile-parser")?.join(dir))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    found.sort();
    Some(found)
}

#[test]
fn trees_of_the_cases() {
    let Some(cases) = cases("accept") else { return };
    assert!(!cases.is_empty());
    for case in cases {
        let source = std::fs::read_to_string(case.join("Dockerfile")).unwrap();
        let expected = std::fs::read_to_string(case.join("tree")).unwrap();
        let parsed = parse(&source).unwrap_or_else(|e| panic!("{}: {e}", case.display()));
        let found: Vec<_> = parsed.nodes.iter().map(tree).collect();
        assert_eq!(found.join("\n"), expected.trim_end(), "{}", case.display());
    }
}

#[test]
fn the_cases_that_must_fail_do() {
    let Some(cases) = cases("reject") else { return };
    for case in cases {
        let source = std::fs::read_to_string(case.join("Dockerfile")).unwrap();
        assert!(crate::instruction::read(&source).is_err(), "{}", case.display());
    }
}

#[test]
fn directives() {
    for (source, syntax, escape, check) in [
        ("# syntax=x\n# escape=`\n# CHECK = skip=all\nFROM a", Some("x"), '`', Some("skip=all")),
        ("#!/usr/bin/env build\n#syntax=x\nFROM a", Some("x"), '\\', None),
        ("\u{feff}# syntax=x\nFROM a", Some("x"), '\\', None),
        ("# a comment\n# syntax=x\nFROM a", None, '\\', None),
        ("\n# syntax=x\nFROM a", None, '\\', None),
        ("# other=1\n# escape=`\nFROM a", None, '\\', None),
    ] {
        let directives = parse(source).unwrap().directives;
        assert_eq!(directives.syntax.as_deref(), syntax, "{source}");
        assert_eq!(directives.escape, escape, "{source}");
        assert_eq!(directives.check.as_deref(), check, "{source}");
    }
    for bad in ["# escape=`\n# escape=`\nFROM a", "# escape=x\nFROM a"] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn the_front_end_in_all_its_forms() {
    for (source, expected) in [
        ("# syntax=docker/dockerfile:1\nFROM a", Some("docker/dockerfile:1")),
        ("// syntax=a/b\n{}", Some("a/b")),
        ("#!/bin/x\n// syntax=a/b\n", Some("a/b")),
        ("{\"syntax\": \"c\"}", Some("c")),
        ("{\"syntax\": 1}", None),
        ("FROM a", None),
        ("", None),
        ("#!", None),
    ] {
        assert_eq!(detect_syntax(source).as_deref(), expected, "{source}");
    }
}

#[test]
fn heredocs() {
    let parsed = parse(
        "FROM a\nRUN <<A cat 3<<-\"B\"\none $x\nA\n\ttwo\n\tB\nCOPY <<'a b' /\nq\na b\nRUN echo \"<<no\"\nONBUILD RUN <<E\nx\nE\nCMD [\"<<F\"]\n",
    )
    .unwrap();
    let of = |at: usize| &parsed.nodes[at].heredocs;
    assert_eq!(of(1).len(), 2);
    assert_eq!((of(1)[0].content.as_str(), of(1)[0].expand), ("one $x\n", true));
    let second = &of(1)[1];
    assert_eq!((second.text().as_str(), second.expand, second.chomp), ("two\n", false, true));
    assert_eq!(second.descriptor, "3");
    assert_eq!(parsed.nodes[1].lines, Lines { first: 2, last: 6 });
    // Words are split before quotes are looked at, as everyone does it.
    assert_eq!(of(2)[0].name, "a b");
    assert!(of(3).is_empty());
    assert_eq!(of(4)[0].content, "x\n");
    assert!(of(5).is_empty());
    let error = parse("FROM a\nRUN <<EOF\nnever\n").unwrap_err();
    assert!(error.message.contains("unterminated heredoc"), "{error}");
}

#[test]
fn flags_lose_their_quotes_and_end_at_two_dashes() {
    let parsed = parse("FROM a\nRUN --mount=\"type=cache,target=/a b\" -- --x y\n").unwrap();
    assert_eq!(parsed.nodes[1].flags, ["--mount=type=cache,target=/a b"]);
    let Arguments::Words { words, .. } = &parsed.nodes[1].arguments else { panic!() };
    assert_eq!(words, &["--x y"]);
}

#[test]
fn a_line_may_be_longer_than_64_kib() {
    let long = "x".repeat(1 << 20);
    let parsed = parse(&format!("FROM a\nRUN {long}\n")).unwrap();
    assert_eq!(parsed.nodes[1].rest.len(), 1 << 20);
}

#[test]
fn comments_above_an_instruction_are_kept() {
    let parsed = parse("# syntax=x\n\n# far\n\n# check=skip=all\n  # near\nFROM a\n").unwrap();
    assert_eq!(parsed.nodes[0].comments, ["check=skip=all", "near"]);
}

#[test]
fn an_unknown_instruction_names_the_nearest() {
    let error = parse("FROM a\nCOPPY x y\n").unwrap_err();
    let shown = error.render("Dockerfile", "FROM a\nCOPPY x y\n");
    assert!(shown.contains("did you mean COPY?"), "{shown}");
    assert!(shown.contains("2 | COPPY x y\n  | ^^^^^\n"), "{shown}");
}

#[test]
fn nothing_to_build() {
    for (source, expected) in [
        ("", "the Dockerfile cannot be empty"),
        (" \n\n", "the Dockerfile cannot be empty"),
        ("# only a comment\n", "file with no instructions"),
    ] {
        assert_eq!(parse(source).unwrap_err().message, expected, "{source:?}");
    }
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused(source in "(FROM a\n)?([A-Z]{3,5} |RUN |COPY |ENV )?[ -~\\t\n\\\\é<\"']{0,80}") {
        match crate::instruction::read(&source) {
            Ok(_) => {}
            Err(error) => { error.render("Dockerfile", &source); }
        }
    }

    #[test]
    fn joined_lines_say_the_same_as_one(words in prop::collection::vec("[a-z]{1,6}", 1..6)) {
        let one = format!("FROM a\nRUN {}", words.join(" "));
        let many = format!("FROM a\nRUN {}", words.join(" \\\n# c\n"));
        let arguments = |source: &str| parse(source).unwrap().nodes[1].arguments.clone();
        prop_assert_eq!(arguments(&one), arguments(&many));
    }
}
