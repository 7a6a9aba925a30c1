//! One HTTP exchange: connections, redirects, and what a failure means.

use super::parallel::Parallel;
use super::transport::Clients;
use super::{endpoint, printable, redacted};
use crate::PullErrorKind as Kind;
use crate::RegistryOptions;
use crate::hosts::Transport;
use bytes::Bytes;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    LOCATION, RANGE, RETRY_AFTER,
};
use reqwest::{Client, Method, Response, StatusCode, Url};
use rustls::CertificateError;
use std::error::Error as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::Semaphore;

/// Longest chain of redirects that is followed.
const REDIRECTS: usize = 5;
/// Parts of blobs that are fetched before their time, over all pulls: at 8 MiB each, what they may
/// hold in memory.
const PARTS_AHEAD: usize = 6;
/// Most bytes of an error reply that are read.
const ERROR_BODY: u64 = 64 * 1024;

/// Connections to registries, shared by all pulls.
pub(crate) struct Http {
    pub(super) options: RegistryOptions,
    clients: Clients,
    /// How big blobs are cut.
    pub(super) parallel: Parallel,
    /// Hosts whose protocol was found out, and which it was.
    pub(super) probed: std::sync::Mutex<std::collections::HashMap<String, &'static str>>,
}

/// What to ask for, beside the address.
#[derive(Default, Clone)]
pub(super) struct Ask {
    pub(super) accept: Option<&'static str>,
    /// Bytes wanted: the first, and the one after the last where there is one.
    pub(super) range: Option<(u64, Option<u64>)>,
    /// Media type and content to send.
    pub(super) body: Option<(String, Bytes)>,
    /// Where that content lies in the whole.
    pub(super) content_range: Option<String>,
    /// What must hold for an answer with content.
    pub(super) conditions: Vec<(HeaderName, HeaderValue)>,
}

impl Http {
    pub(crate) fn new(options: RegistryOptions) -> Self {
        let parallel = Parallel {
            from: options.parallel_from,
            part: options.part_bytes,
            width: options.layer_connections,
            ahead: Arc::new(Semaphore::new(PARTS_AHEAD)),
        };
        Self { options, clients: Clients::default(), parallel, probed: Default::default() }
    }

    pub(super) fn client(&self, url: &Url, transport: &Transport) -> Result<Client, Kind> {
        let (tls, local) = (url.scheme() == "https", endpoint::is_loopback(url));
        self.clients.get(&self.options, transport, tls, local)
    }

    /// Sends one request and follows redirects. The authorization, client certificates and further
    /// headers go to the first address and to redirects within its origin, never to another host,
    /// port or scheme.
    pub(super) async fn exchange(
        &self,
        method: Method,
        start: &Url,
        ask: &Ask,
        authorization: Option<&HeaderValue>,
        transport: &Transport,
    ) -> Result<Response, Kind> {
        let mut url = start.clone();
        let mut authorization = authorization;
        let mut transport = std::borrow::Cow::Borrowed(transport);
        for _ in 0..=REDIRECTS {
            let mut request = self.client(&url, &transport)?.request(method.clone(), url.clone());
            request = request.headers(headers(&transport, ask, authorization)?);
            if let Some((_, body)) = &ask.body {
                request = request.body(body.clone());
            }
            let sent = tokio::time::timeout(self.options.stall_timeout, request.send()).await;
            let reply = match sent {
                Ok(reply) => reply.map_err(|error| failure(&error, &url))?,
                Err(_) => return Err(no_answer(&url, self.options.stall_timeout)),
            };
            if !matches!(reply.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(reply);
            }
            let next = target(&url, &reply)?;
            if !endpoint::same_origin(&url, &next) {
                authorization = None;
                let same_host = url.host_str() == next.host_str();
                transport = std::borrow::Cow::Owned(transport.elsewhere(same_host));
            }
            url = next;
        }
        Err(Kind::RegistryUnavailable {
            message: format!("{}: more than {REDIRECTS} redirects", redacted(start)),
        })
    }
}

/// Headers of the configuration, overridden by our own.
fn headers(
    transport: &Transport,
    ask: &Ask,
    authorization: Option<&HeaderValue>,
) -> Result<HeaderMap, Kind> {
    let mut headers = HeaderMap::new();
    for (name, value) in &transport.headers {
        let pair = HeaderName::from_bytes(name.as_bytes()).ok();
        let pair = pair.zip(HeaderValue::from_str(value).ok());
        let (name, mut value) = pair.ok_or_else(|| Kind::Malformed {
            object: "header of the configuration",
            message: format!("{name:?} or its value has characters that no header may have"),
        })?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    if let Some(accept) = ask.accept {
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
    }
    let written = |text: String| {
        HeaderValue::from_str(&text)
            .map_err(|error| Kind::Malformed { object: "request", message: error.to_string() })
    };
    if let Some((from, to)) = ask.range {
        let to = to.map(|to| (to - 1).to_string()).unwrap_or_default();
        headers.insert(RANGE, written(format!("bytes={from}-{to}"))?);
    }
    if let Some(range) = &ask.content_range {
        headers.insert(CONTENT_RANGE, written(range.clone())?);
    }
    if let Some((media_type, _)) = &ask.body {
        headers.insert(CONTENT_TYPE, written(media_type.clone())?);
    }
    headers.extend(ask.conditions.iter().cloned());
    if let Some(value) = authorization {
        headers.insert(AUTHORIZATION, value.clone());
    }
    Ok(headers)
}

/// Where a redirect leads, if it may be followed.
fn target(from: &Url, reply: &Response) -> Result<Url, Kind> {
    let refuse =
        |why: &str| Kind::RegistryUnavailable { message: format!("{}: {why}", redacted(from)) };
    let location = reply.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let location = location.ok_or_else(|| refuse("redirect without a usable location"))?;
    let next =
        from.join(location).map_err(|_| refuse("redirect to something that is no address"))?;
    if !matches!(next.scheme(), "https" | "http") {
        return Err(refuse("redirect to something other than HTTP"));
    }
    if from.scheme() == "https" && next.scheme() == "http" {
        return Err(refuse("redirect from HTTPS to plain HTTP is refused"));
    }
    if !next.username().is_empty() || next.password().is_some() {
        return Err(refuse("redirect to an address with credentials in it is refused"));
    }
    Ok(next)
}

pub(super) fn no_answer(url: &Url, after: Duration) -> Kind {
    Kind::RegistryUnavailable {
        message: format!("{}: nothing came for {} s", redacted(url), after.as_secs()),
    }
}

/// What a failed transfer means.
pub(super) fn failure(error: &reqwest::Error, url: &Url) -> Kind {
    let at = redacted(url);
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(tls) = find_tls(cause) {
            return tls_failure(tls, url);
        }
        let message = if cause.to_string() == "dns error" {
            let why = cause.source().map(ToString::to_string).unwrap_or_default();
            Some(format!(
                "{at}: the name cannot be resolved ({}); check it and the DNS of this machine",
                printable(&why)
            ))
        } else {
            let io = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
            let refused = io == Some(std::io::ErrorKind::ConnectionRefused);
            refused.then(|| format!("{at}: connection refused: nothing listens there"))
        };
        if let Some(message) = message {
            return Kind::RegistryUnavailable { message };
        }
        source = cause.source();
    }
    Kind::RegistryUnavailable { message: format!("{at}: {}", chain(error)) }
}

/// A TLS error, also from inside an I/O error, which does not show it as its source.
fn find_tls<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
        return Some(tls);
    }
    find_tls(cause.downcast_ref::<std::io::Error>()?.get_ref()?)
}

fn tls_failure(error: &rustls::Error, url: &Url) -> Kind {
    let host = redacted(url);
    let message = match error {
        rustls::Error::InvalidCertificate(wrong) => match wrong {
            CertificateError::UnknownIssuer => format!(
                "{host}: signed by an unknown authority; add the authority's certificate to the configuration"
            ),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                format!("{host}: expired")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                format!("{host}: not valid yet; check the clock of this machine")
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("{host}: made for another name")
            }
            other => format!("{host}: {}", printable(&other.to_string())),
        },
        rustls::Error::InvalidMessage(_) => {
            return Kind::RegistryUnavailable {
                message: format!(
                    "{host}: the server does not speak TLS; list it as insecure to use plain HTTP"
                ),
            };
        }
        other => format!("{host}: {}", printable(&other.to_string())),
    };
    Kind::Tls { message }
}

/// The innermost cause, which is what a person can act on. Without the address: its query may
/// hold a secret.
pub(super) fn chain(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if error.source().is_none() {
        return if error.is_timeout() { "timed out".into() } else { "the request failed".into() };
    }
    printable(&cause.to_string())
}

/// Reads a reply of at most `limit` bytes. `what` names it in an error.
pub(super) async fn body(
    mut reply: Response,
    what: &str,
    limit: u64,
    stall: Duration,
) -> Result<Vec<u8>, Kind> {
    let url = reply.url().clone();
    let large = |size| Kind::TooLarge { what: what.to_owned(), size, limit };
    if let Some(length) = reply.content_length().filter(|length| *length > limit) {
        return Err(large(length));
    }
    let mut bytes = Vec::new();
    loop {
        match tokio::time::timeout(stall, reply.chunk()).await {
            Err(_) => return Err(no_answer(&url, stall)),
            Ok(Err(error)) => return Err(failure(&error, &url)),
            Ok(Ok(None)) => return Ok(bytes),
            Ok(Ok(Some(chunk))) => {
                let size = (bytes.len() + chunk.len()) as u64;
                if size > limit {
                    return Err(large(size));
                }
                bytes.extend_from_slice(&chunk);
            }
        }
    }
}

/// What a reply other than success means, with the registry's own words.
pub(super) async fn refusal(reply: Response, stall: Duration) -> Kind {
    let status = reply.status();
    let retry_after = reply.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = retry_after.and_then(retry_time);
    let at = redacted(reply.url());
    let bytes = body(reply, "error reply", ERROR_BODY, stall).await.unwrap_or_default();
    let words = registry_words(&bytes);
    let message =
        if words.is_empty() { format!("{at}: {status}") } else { format!("{at}: {words}") };
    match status {
        StatusCode::UNAUTHORIZED => Kind::Unauthorized { message },
        StatusCode::FORBIDDEN => Kind::Forbidden { message },
        StatusCode::NOT_FOUND => Kind::NotFound { message },
        StatusCode::TOO_MANY_REQUESTS => Kind::RateLimited { message, retry_after },
        status if status.is_server_error() => {
            Kind::RegistryUnavailable { message: format!("{message} ({})", status.as_u16()) }
        }
        status => Kind::Refused { status: status.as_u16(), message },
    }
}

/// `Retry-After`: seconds, or a date.
fn retry_time(text: &str) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

/// The error document of the distribution specification, or plain text.
fn registry_words(bytes: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Vec<Entry>,
    }
    #[derive(serde::Deserialize)]
    struct Entry {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    if let Ok(document) = serde_json::from_slice::<Errors>(bytes) {
        let entries = document.errors.iter().map(|entry| match (&*entry.code, &*entry.message) {
            (code, "") => code.to_owned(),
            ("", message) => message.to_owned(),
            (code, message) => format!("{code}: {message}"),
        });
        return printable(&entries.collect::<Vec<_>>().join("; "));
    }
    let text = String::from_utf8_lossy(bytes);
    if text.trim_start().starts_with('<') { String::new() } else { printable(&text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        for (body, want) in [
            (r#"{"errors":[{"code":"DENIED","message":"no\nway"}]}"#, "DENIED: no way"),
            (r#"{"errors":[{"code":"A"},{"message":"b"}]}"#, "A; b"),
            (r#"{"errors":null}"#, r#"{"errors":null}"#),
            ("<html>", ""),
            ("plain", "plain"),
            ("", ""),
        ] {
            assert_eq!(registry_words(body.as_bytes()), want);
        }
    }
}
