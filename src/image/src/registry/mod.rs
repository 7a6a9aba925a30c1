//! A client of the OCI distribution API, for pulling. Whatever a registry says is hostile: every
//! reply is bounded, and credentials stay with the host they are for.

mod blob;
mod challenge;
mod document;
pub(crate) mod endpoint;
mod fetch;
mod host;
mod http;
mod parallel;
mod session;
mod token;
mod transport;
mod upload;

pub(crate) use blob::BlobSource;
pub(crate) use challenge::parse as parse_challenge;
pub(crate) use document::{
    CONFIG_LIMIT, Config, Descriptor, Document, MANIFEST_LIMIT, Manifest, check_depth,
};
pub use fetch::Validators;
pub(crate) use host::sha256;
pub(crate) use http::Http;
pub(crate) use parallel::BlobFetch;
pub(crate) use session::Session;

/// Text from a registry, made fit for one line of a log: printable and short.
pub(crate) fn printable(text: &str) -> String {
    const LONGEST: usize = 300;
    let mut clean: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST + 1).collect();
    if clean.chars().count() > LONGEST {
        clean = clean.chars().take(LONGEST).collect();
        clean.push('…');
    }
    clean.trim().to_owned()
}

/// An address without what may be secret in it: query, fragment and user.
pub(crate) fn redacted(url: &reqwest::Url) -> String {
    let mut url = url.clone();
    let had_query = url.query().is_some();
    url.set_query(None);
    url.set_fragment(None);
    // Fails only for addresses that cannot have a user.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    if had_query { format!("{url}?…") } else { url.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_stay_out_of_messages() {
        let url = reqwest::Url::parse("https://u:p@h:1/a?X-Signature=s#f").unwrap();
        assert_eq!(redacted(&url), "https://h:1/a?…");
        assert_eq!(printable("a\n\x1b[31mb"), "a  [31mb");
        assert_eq!(printable(&"x".repeat(1000)).chars().count(), 301);
    }
}
