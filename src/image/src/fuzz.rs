//! Doors for the fuzz targets: parsers of what registries and archives send. Each must end, without
//! a panic, whatever the bytes.

use crate::registry::{Config, Document};

/// A manifest or index with any content type, and what follows from an index.
pub fn manifest(bytes: &[u8], content_type: &str) {
    match Document::parse(bytes, content_type) {
        Ok(Document::Index(index)) => {
            let _ = index.choose(&orlop_model::Platform::host());
        }
        Ok(Document::Manifest(manifest)) => {
            // What was accepted is within its limits.
            assert!(manifest.layers.len() <= 500);
        }
        Err(_) => {}
    }
}

/// An image configuration.
pub fn config(bytes: &[u8]) {
    if let Ok(config) = Config::parse(bytes, 1) {
        assert_eq!(config.diff_ids.len(), 1);
    }
}

/// A manifest of signatures.
pub fn signatures(bytes: &[u8]) {
    let _ = crate::policy::parse_manifest(bytes);
}

/// A `WWW-Authenticate` header.
pub fn challenge(text: &str) {
    let _ = crate::registry::parse_challenge(text);
}
