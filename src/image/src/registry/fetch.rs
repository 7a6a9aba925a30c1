//! A file by HTTP, as a build asks for it: with what is known of it from an earlier time.

use super::http::Http;
use super::{printable, redacted};
use crate::PullErrorKind as Kind;
use crate::hosts::Transport;
use reqwest::header::{
    ETAG, HeaderMap, HeaderName, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
};
use reqwest::{Method, StatusCode, Url};
use std::io::Write;

/// What a server says of a file, in its own words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Validators {
    /// `ETag`.
    pub etag: Option<String>,
    /// `Last-Modified`.
    pub last_modified: Option<String>,
}

/// Bytes that a file may have.
const LIMIT: u64 = 1 << 36;
const REDIRECTS: usize = 10;

impl Http {
    /// Writes the file at `address` to `out`. `None`: it is still what `known` says, and nothing was
    /// written.
    pub(crate) async fn fetch(
        &self,
        address: &str,
        known: &Validators,
        out: &mut (dyn Write + Send),
    ) -> Result<Option<Validators>, Kind> {
        let wrong = |message: String| Kind::RegistryUnavailable { message };
        let mut url = Url::parse(address).map_err(|error| wrong(format!("address: {error}")))?;
        let shown = redacted(&url);
        for _ in 0..=REDIRECTS {
            if !["http", "https"].contains(&url.scheme()) {
                return Err(wrong(format!(
                    "{shown} leads to {}:, which is not followed",
                    url.scheme()
                )));
            }
            let client = self.client(&url, &Transport::default())?;
            let mut request = client.request(Method::GET, url.clone());
            let pairs = [(IF_NONE_MATCH, &known.etag), (IF_MODIFIED_SINCE, &known.last_modified)];
            for (name, value) in pairs {
                if let Some(value) = value {
                    request = request.header(name, value);
                }
            }
            let stall = self.options.stall_timeout;
            let sent = tokio::time::timeout(stall, request.send()).await;
            let mut reply = sent
                .map_err(|_| wrong(format!("{shown}: no answer within {stall:?}")))?
                .map_err(|error| {
                    wrong(format!("{shown}: {}", printable(&error.without_url().to_string())))
                })?;
            let status = reply.status();
            if matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
                let location = reply.headers().get("location").and_then(|l| l.to_str().ok());
                let next = location.and_then(|location| url.join(location).ok());
                url = next.ok_or_else(|| wrong(format!("{shown}: redirected to nowhere")))?;
                continue;
            }
            if status == StatusCode::NOT_MODIFIED && *known != Validators::default() {
                return Ok(None);
            }
            if !status.is_success() {
                return Err(wrong(format!("{shown}: {status}")));
            }
            let found = Validators {
                etag: header(reply.headers(), &ETAG),
                last_modified: header(reply.headers(), &LAST_MODIFIED),
            };
            let mut left = LIMIT;
            loop {
                let part = tokio::time::timeout(stall, reply.chunk()).await;
                let part = part
                    .map_err(|_| wrong(format!("{shown}: nothing came for {stall:?}")))?
                    .map_err(|error| {
                        wrong(format!("{shown}: {}", printable(&error.without_url().to_string())))
                    })?;
                let Some(part) = part else { return Ok(Some(found)) };
                left = left
                    .checked_sub(part.len() as u64)
                    .ok_or_else(|| wrong(format!("{shown}: more than {LIMIT} bytes")))?;
                let written = out.write_all(&part);
                written.map_err(|error| Kind::Store { message: error.to_string() })?;
            }
        }
        Err(wrong(format!("{shown}: more than {REDIRECTS} redirects")))
    }
}

fn header(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}
