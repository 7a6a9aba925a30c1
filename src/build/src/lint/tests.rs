//! The cases of BuildKit's `--check`, and every rule at least once.

use super::*;
use crate::instruction::read;
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    warnings: Vec<Expected>,
}

#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Expected {
    line: usize,
    rule: String,
    message: String,
}

fn findings(source: &str, input: &Input<'_>) -> Vec<Expected> {
    let file = read(source).unwrap_or_else(|e| panic!("{}", e.render("Dockerfile", source)));
    let found = check(&file, input).unwrap().warnings.into_iter();
    found
        .map(|warning| Expected {
            line: warning.lines.first,
            rule: warning.rule.name().to_owned(),
            message: warning.message,
        })
        .collect()
}

#[test]
fn warnings_of_the_cases() {
    let Some(dir) = crate::test_cases("build-lint") else { return };
    let mut count = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|end| end != "json") {
            continue;
        }
        let case: Case = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let source = std::fs::read_to_string(path.with_extension("Dockerfile")).unwrap();
        let mut expected = case.warnings;
        expected.sort();
        let mut found = findings(&source, &Input::default());
        found.sort();
        assert_eq!(found, expected, "{}\n{source}", path.display());
        count += 1;
    }
    assert_eq!(count, 53);
}

/// Rule and line of each finding.
fn rules(source: &str) -> Vec<(String, usize)> {
    findings(source, &Input::default()).into_iter().map(|e| (e.rule, e.line)).collect()
}

#[test]
fn every_rule_finds_something() {
    let ignore = IgnoreRules::parse("secret\n").unwrap();
    let platform = |_: &str| Some(("linux/arm64".to_owned(), "linux/amd64".to_owned()));
    let mut seen = Vec::new();
    for (rule, source) in [
        (Rule::StageNameCasing, "FROM scratch AS A"),
        (Rule::FromAsCasing, "FROM scratch as a"),
        (Rule::NoEmptyContinuation, "FROM scratch\nRUN a \\\n\n b"),
        (Rule::ConsistentInstructionCasing, "FROM scratch\nrun a\nRUN b"),
        (Rule::DuplicateStageName, "FROM scratch AS a\nFROM scratch AS a"),
        (Rule::ReservedStageName, "FROM scratch AS context"),
        (Rule::JSONArgsRecommended, "FROM scratch\nCMD a b"),
        (Rule::MaintainerDeprecated, "FROM scratch\nMAINTAINER me"),
        (Rule::UndefinedArgInFrom, "FROM scratch:$x"),
        (Rule::WorkdirRelativePath, "FROM scratch\nWORKDIR a"),
        (Rule::UndefinedVar, "FROM scratch\nENV a=$b"),
        (Rule::MultipleInstructionsDisallowed, "FROM scratch\nCMD [\"a\"]\nCMD [\"b\"]"),
        (Rule::LegacyKeyValueFormat, "FROM scratch\nENV a b"),
        (Rule::InvalidBaseImagePlatform, "FROM a"),
        (Rule::RedundantTargetPlatform, "FROM --platform=$TARGETPLATFORM a"),
        (Rule::SecretsUsedInArgOrEnv, "FROM scratch\nENV api_key=1"),
        (Rule::InvalidDefaultArgInFrom, "ARG v\nFROM a:$v"),
        (Rule::FromPlatformFlagConstDisallowed, "FROM --platform=linux/arm64 a"),
        (Rule::CopyIgnoredFile, "FROM scratch\nCOPY secret /"),
        (
            Rule::InvalidDefinitionDescription,
            "# check=experimental=all\n\n# other words\nFROM scratch AS a",
        ),
        (Rule::ExposeProtoCasing, "FROM scratch\nEXPOSE 80/TCP"),
        (Rule::ExposeInvalidFormat, "FROM scratch\nEXPOSE 80:80"),
    ] {
        let input = Input {
            ignore: Some(&ignore),
            base_platform: (rule == Rule::InvalidBaseImagePlatform).then_some(&platform),
            ..Input::default()
        };
        let found = findings(source, &input);
        assert!(found.iter().any(|e| e.rule == rule.name()), "{source}: {found:?}");
        seen.push(rule);
    }
    seen.sort();
    assert_eq!(seen, Rule::ALL);
    assert_eq!(Rule::ALL.len(), 22);
}

#[test]
fn variables_of_a_base_stage_are_known() {
    assert_eq!(rules("FROM scratch AS a\nENV x=1\nFROM a\nENV y=$x"), []);
    let found = rules("FROM scratch\nENV PATH=/x:$PATH\nCOPY $PAHT /");
    assert_eq!(found, [("UndefinedVar".to_owned(), 3)]);
    let found = findings("FROM scratch\nCOPY $PAHT /", &Input::default());
    assert!(found[0].message.contains("did you mean $PATH?"), "{found:?}");
}

#[test]
fn options() {
    let file = read("# check=skip=JSONArgsRecommended\nFROM scratch\nCMD a").unwrap();
    assert!(check(&file, &Input::default()).unwrap().warnings.is_empty());
    let mut input = Input::default();
    input.build_args.insert("BUILDKIT_DOCKERFILE_CHECK".into(), "error=true".into());
    let found = check(&file, &input).unwrap();
    assert!(found.fatal && found.warnings.len() == 1);
    for bad in ["skip", "other=1", "error=perhaps"] {
        assert!(CheckOptions::parse(bad).is_err(), "{bad}");
    }
}
