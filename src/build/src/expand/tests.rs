//! The cases of other expanders, and what goes beyond them.

use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

fn with(pairs: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> {
    let map: HashMap<String, String> =
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    move |name: &str| map.get(name).cloned()
}

#[test]
fn words_of_the_cases() {
    let Some(dir) = crate::test_cases("dockerfile-parser") else { return };
    let text = std::fs::read_to_string(dir.join("expansion.txt")).unwrap();
    let variables =
        with(&[("PWD", "/home"), ("SHELL", "bash"), ("KOREAN", "한국어"), ("NULL", "")]);
    let mut count = 0;
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        let fields: Vec<_> = line.split('|').map(str::trim).collect();
        let [systems, word, expected] = fields[..] else { panic!("{line}") };
        if systems == "W" {
            continue;
        }
        count += 1;
        let found = expand(word, '\\', Quotes::Remove, &variables);
        match (&found, expected) {
            (Err(_), "error") => {}
            (Ok(found), expected) if found.text == expected => {}
            _ => panic!("{line}: {found:?}"),
        }
    }
    assert!(count > 100, "{count}");
}

#[test]
fn lists_of_the_cases() {
    let Some(dir) = crate::test_cases("dockerfile-parser") else { return };
    let text = std::fs::read_to_string(dir.join("words.txt")).unwrap();
    let mut variables: HashMap<String, String> = HashMap::new();
    variables.insert("space".into(), "abc  def".into());
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        if let Some((key, value)) = line.strip_prefix("ENV ").and_then(|pair| pair.split_once('='))
        {
            variables.insert(key.into(), value.into());
            continue;
        }
        let (word, expected) = line.split_once('|').unwrap();
        let get = |name: &str| variables.get(name).cloned();
        let found = expand(word.trim(), '\\', Quotes::Remove, &get).unwrap();
        let expected = expected.strip_prefix(' ').unwrap_or(expected);
        assert_eq!(found.words.join(","), expected, "{line}");
    }
}

#[test]
fn patterns() {
    let variables = with(&[("p", "/usr/local/lib/x.tar.gz"), ("s", "a*b?c"), ("e", "ééx")]);
    for (word, expected) in [
        ("${p#*/}", "usr/local/lib/x.tar.gz"),
        ("${p##*/}", "x.tar.gz"),
        ("${p%.*}", "/usr/local/lib/x.tar"),
        ("${p%%.*}", "/usr/local/lib/x"),
        ("${p%/*}", "/usr/local/lib"),
        ("${p#nope}", "/usr/local/lib/x.tar.gz"),
        ("${p/l/L}", "/usr/Local/lib/x.tar.gz"),
        ("${p//l/L}", "/usr/LocaL/Lib/x.tar.gz"),
        ("${p//\\//-}", "-usr-local-lib-x.tar.gz"),
        ("${p/l*b/q}", "/usr/q/x.tar.gz"),
        ("${p//l/$s}", "/usr/a*b?cocaa*b?c/a*b?cib/x.tar.gz"),
        ("${s#a\\*}", "b?c"),
        ("${s%\\?c}", "a*b"),
        ("${s//[*]/x}", "a*b?c"),
        ("${e#?}", "éx"),
        ("${e//é/}", "x"),
        ("${none#x}", ""),
        ("${none//x/y}", ""),
    ] {
        let found = expand(word, '\\', Quotes::Remove, &variables).unwrap();
        assert_eq!(found.text, expected, "{word}");
    }
    for bad in ["${p:#x}", "${p=x}", "${p^}", "${p/x}", "${p#x"] {
        assert!(expand(bad, '\\', Quotes::Remove, &variables).is_err(), "{bad}");
    }
}

#[test]
fn bodies_keep_their_quotes() {
    let variables = with(&[("x", "1")]);
    let found = expand("'$x' \"$x\" \\$x it's", '\\', Quotes::Keep, &variables).unwrap();
    assert_eq!(found.text, "'1' \"1\" $x it's");
}

#[test]
fn what_was_asked_for_is_told() {
    let found = expand("$a${b:-$c}${d}", '\\', Quotes::Remove, &with(&[("a", "1")])).unwrap();
    assert_eq!(found.unset.into_iter().collect::<Vec<_>>(), ["c", "d"]);
    assert_eq!(found.used.into_iter().collect::<Vec<_>>(), ["a", "b", "c", "d"]);
}

#[test]
fn nesting_has_an_end() {
    let deep = "${a:-".repeat(100_000);
    assert!(expand(&deep, '\\', Quotes::Remove, &with(&[])).is_err());
}

proptest! {
    #[test]
    fn any_word_is_expanded_or_refused(word in "[a$\\{\\}:+?#%/*'\"\\\\ é-]{0,40}") {
        let _ = expand(&word, '\\', Quotes::Remove, &with(&[("a", "b c")]));
        let _ = expand(&word, '`', Quotes::Keep, &with(&[]));
    }

    #[test]
    fn text_without_marks_stays(word in "[a-z0-9 /.:_-]{0,40}") {
        let found = expand(&word, '\\', Quotes::Remove, &with(&[])).unwrap();
        prop_assert_eq!(&found.text, &word);
        prop_assert_eq!(found.words, word.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    }
}
