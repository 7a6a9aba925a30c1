//! A file by HTTP, as a build asks for it: with what is known of it from an earlier time.

use super::http::{Ask, Http, chain, failure, no_answer, refusal};
use crate::PullErrorKind as Kind;
use crate::hosts::Transport;
use reqwest::header::{
    AUTHORIZATION, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    LAST_MODIFIED,
};
use reqwest::{Method, Response, StatusCode, Url};
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

impl Http {
    /// Writes the file at `address` to `out`. `None`: it is still what `known` says, and nothing was
    /// written. Redirects are followed as those of registries are.
    pub(crate) async fn fetch(
        &self,
        address: &str,
        known: &Validators,
        out: &mut (dyn Write + Send),
    ) -> Result<Option<Validators>, Kind> {
        self.fetched(address, known, out).await.map_err(of_a_file)
    }

    async fn fetched(
        &self,
        address: &str,
        known: &Validators,
        out: &mut (dyn Write + Send),
    ) -> Result<Option<Validators>, Kind> {
        let wrong = |message: String| Kind::Fetch { message };
        let url = Url::parse(address).map_err(|error| wrong(format!("address: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong(format!("{}: is not fetched by HTTP", url.scheme())));
        }
        // It takes the user out of an address, so that only that origin is shown it.
        let (transport, stall) = (Transport::default(), self.options.stall_timeout);
        let request = self.client(&url, &transport)?.get(url).build();
        let request = request.map_err(|error| wrong(chain(&error)))?;
        let (url, authorization) = (request.url(), request.headers().get(AUTHORIZATION));
        let mut ask = Ask::default();
        let pairs = [(IF_NONE_MATCH, &known.etag), (IF_MODIFIED_SINCE, &known.last_modified)];
        for (name, value) in pairs {
            // What a header cannot say is not asked.
            let value = value.as_deref().and_then(|value| HeaderValue::from_str(value).ok());
            ask.conditions.extend(value.map(|value| (name, value)));
        }
        let reply = self.exchange(Method::GET, url, &ask, authorization, &transport).await?;
        if reply.status() == StatusCode::NOT_MODIFIED && !ask.conditions.is_empty() {
            return Ok(None);
        }
        if !reply.status().is_success() {
            return Err(refusal(reply, stall).await);
        }
        let found = Validators {
            etag: header(reply.headers(), &ETAG),
            last_modified: header(reply.headers(), &LAST_MODIFIED),
        };
        self.pass_on(reply, LIMIT, out).await.map(|()| Some(found))
    }

    /// Writes what comes, at most `limit` bytes.
    async fn pass_on(
        &self,
        mut reply: Response,
        limit: u64,
        out: &mut (dyn Write + Send),
    ) -> Result<(), Kind> {
        let (url, stall) = (reply.url().clone(), self.options.stall_timeout);
        let mut size = 0;
        loop {
            let part = tokio::time::timeout(stall, reply.chunk()).await;
            let part = part.map_err(|_| no_answer(&url, stall))?;
            let Some(part) = part.map_err(|error| failure(&error, &url))? else { return Ok(()) };
            size += part.len() as u64;
            if size > limit {
                return Err(Kind::TooLarge { what: super::redacted(&url), size, limit });
            }
            let written = out.write_all(&part);
            written.map_err(|error| Kind::Store { message: error.to_string() })?;
        }
    }
}

/// The same without the words for registries: it is no registry that was asked.
fn of_a_file(kind: Kind) -> Kind {
    match kind {
        Kind::NotFound { message }
        | Kind::Unauthorized { message }
        | Kind::Forbidden { message }
        | Kind::RateLimited { message, .. }
        | Kind::Refused { message, .. }
        | Kind::RegistryUnavailable { message }
        | Kind::Tls { message } => Kind::Fetch { message },
        other => other,
    }
}

fn header(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}
