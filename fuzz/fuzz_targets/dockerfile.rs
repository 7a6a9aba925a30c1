//! The Dockerfile front end: whatever the text, it is read or refused, checked and explained, without
//! a panic; the same text as an ignore file and as a word.
#![no_main]

use orlop_build::expand::{Quotes, expand};
use orlop_build::ignore::IgnoreRules;
use orlop_build::instruction::read;
use orlop_build::lint::{Input, check};

libfuzzer_sys::fuzz_target!(|text: &str| {
    match read(text) {
        Ok(file) => drop(check(&file, &Input::default())),
        Err(error) => drop(error.render("Dockerfile", text)),
    }
    if let Ok(rules) = IgnoreRules::parse(text) {
        rules.hides("a/b");
        rules.may_show_below("a");
    }
    let _ = expand(text, '\\', Quotes::Remove, &|_: &str| None);
});
