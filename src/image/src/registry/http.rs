//! One HTTP exchange: connections, redirects, and what a failure means.

use super::{endpoint, printable, redacted};
use crate::PullErrorKind as Kind;
use crate::RegistryOptions;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue, LOCATION, RANGE, RETRY_AFTER};
use reqwest::{Client, Method, Response, StatusCode, Url};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use std::error::Error as _;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Longest chain of redirects that is followed.
const REDIRECTS: usize = 5;
/// Most bytes of an error reply that are read.
const ERROR_BODY: u64 = 64 * 1024;

/// Connections to registries, shared by all pulls. Clients are made when first needed: reading
/// the host's certificates takes time and memory that a node with a local registry never spends.
pub(crate) struct Http {
    pub(super) options: RegistryOptions,
    /// By (needs certificates, is loopback).
    clients: [[OnceLock<Client>; 2]; 2],
    /// Loopback registries whose scheme was found out, and which it was.
    pub(super) probed: std::sync::Mutex<std::collections::HashMap<String, &'static str>>,
}

/// What to ask for, beside the address.
#[derive(Default, Clone)]
pub(super) struct Ask {
    pub(super) accept: Option<&'static str>,
    /// First byte wanted.
    pub(super) from: Option<u64>,
}

impl Http {
    pub(crate) fn new(options: RegistryOptions) -> Self {
        Self { options, clients: Default::default(), probed: Default::default() }
    }

    fn client(&self, url: &Url) -> Result<&Client, Kind> {
        let (tls, local) = (url.scheme() == "https", endpoint::is_loopback(url));
        let slot = &self.clients[usize::from(tls)][usize::from(local)];
        if let Some(client) = slot.get() {
            return Ok(client);
        }
        let client = build(&self.options, tls, local)?;
        Ok(slot.get_or_init(|| client))
    }

    /// Sends one request and follows redirects. The authorization goes to the first address and to
    /// redirects within its origin, never to another host, port or scheme.
    pub(super) async fn exchange(
        &self,
        method: Method,
        start: &Url,
        ask: &Ask,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, Kind> {
        let mut url = start.clone();
        let mut authorization = authorization;
        for _ in 0..=REDIRECTS {
            let mut request = self.client(&url)?.request(method.clone(), url.clone());
            if let Some(accept) = ask.accept {
                request = request.header(ACCEPT, accept);
            }
            if let Some(from) = ask.from {
                request = request.header(RANGE, format!("bytes={from}-"));
            }
            if let Some(value) = authorization {
                request = request.header(AUTHORIZATION, value);
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
            }
            url = next;
        }
        Err(Kind::RegistryUnavailable {
            message: format!("{}: more than {REDIRECTS} redirects", redacted(start)),
        })
    }

    /// A client for a caller that makes its own request (the token service).
    pub(super) fn client_for(&self, url: &Url) -> Result<&Client, Kind> {
        self.client(url)
    }
}

fn build(options: &RegistryOptions, tls: bool, local: bool) -> Result<Client, Kind> {
    const WINDOW: u32 = 4 << 20;
    let roots = if tls { roots(options)? } else { RootCertStore::empty() };
    let wrong =
        |what: String| Kind::Store { message: format!("make a client for registries: {what}") };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut builder = Client::builder()
        .tls_backend_preconfigured(config)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .user_agent(concat!("orlop/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(options.connect_timeout)
        .pool_idle_timeout(Duration::from_secs(15))
        .http2_initial_stream_window_size(WINDOW)
        .http2_initial_connection_window_size(4 * WINDOW);
    if local {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| wrong(chain(&error)))
}

/// The host's certificate authorities and the configured ones.
fn roots(options: &RegistryOptions) -> Result<RootCertStore, Kind> {
    let mut store = RootCertStore::empty();
    let host = rustls_native_certs::load_native_certs();
    for error in &host.errors {
        tracing::warn!(%error, "some of the host's certificate authorities cannot be read");
    }
    store.add_parsable_certificates(host.certs);
    for path in &options.ca_files {
        let wrong = |what: String| Kind::Tls {
            message: format!("certificate authority {}: {what}", path.display()),
        };
        let found = rustls_native_certs::load_certs_from_paths(Some(path), None);
        if let Some(error) = found.errors.first() {
            return Err(wrong(error.to_string()));
        }
        if found.certs.is_empty() {
            return Err(wrong("no PEM certificate in the file".into()));
        }
        for certificate in found.certs {
            store.add(certificate).map_err(|error| wrong(error.to_string()))?;
        }
    }
    Ok(store)
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
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(tls) = find_tls(cause) {
            return tls_failure(tls, url);
        }
        source = cause.source();
    }
    Kind::RegistryUnavailable { message: format!("{}: {}", redacted(url), chain(error)) }
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
fn chain(error: &reqwest::Error) -> String {
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
    let retry_after =
        retry_after.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
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
