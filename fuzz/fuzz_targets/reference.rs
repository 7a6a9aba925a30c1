//! Names of images: what is accepted is printed so that it is read as the same again.
#![no_main]

use orlop_model::{Digest, Reference};

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(reference) = Reference::parse(text) {
        let printed = reference.to_string();
        assert_eq!(Reference::parse(&printed).as_ref(), Ok(&reference), "{printed}");
        assert!(!reference.repository().contains("..") && !reference.repository().starts_with('/'));
    }
    if let Ok(digest) = Digest::parse(text) {
        assert!(digest.hex().bytes().all(|b| b.is_ascii_hexdigit()));
    }
});
