//! One pull's conversation with one host: repository, credentials, retries.

use super::challenge::{self, Challenge};
use super::endpoint;
use super::http::{self, Ask, Http};
use super::{document, token};
use crate::Auth;
use crate::PullErrorKind as Kind;
use crate::hosts::{Capabilities, Endpoint};
use bytes::Bytes;
use orlop_model::Digest;
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Method, Response, Url};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::OnceCell;

/// Longest pause between two attempts, and the longest `Retry-After` that is waited for.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A host that is asked for one repository.
pub(crate) struct Host {
    pub(super) http: Arc<Http>,
    endpoint: Endpoint,
    /// Address of the API; known once the host was asked which protocol it speaks.
    base: OnceCell<Url>,
    auth: Option<Auth>,
    /// How often what may be tried again is tried again.
    retries: u32,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What goes with every request to the registry itself.
    authorization: Option<HeaderValue>,
    /// Token service that the credentials were not shown to.
    withheld: Option<String>,
}

/// A manifest or index as fetched.
pub(crate) struct Fetched {
    pub(crate) digest: Digest,
    pub(crate) content_type: String,
    pub(crate) bytes: Bytes,
}

impl Host {
    /// Prepares the conversation; nothing is sent yet. `last`: nobody else can be asked after it,
    /// so that it is worth being patient.
    pub(super) fn new(
        http: Arc<Http>,
        endpoint: Endpoint,
        auth: Option<Auth>,
        last: bool,
    ) -> Result<Self, Kind> {
        let authorization = match &auth {
            Some(Auth::RegistryToken(text)) => Some(
                token::bearer(text)
                    .map_err(|message| Kind::Malformed { object: "registry token", message })?,
            ),
            _ => None,
        };
        let state = Mutex::new(State { authorization, withheld: None });
        let retries = if last { http.options.retries } else { http.options.retries.min(1) };
        Ok(Self { http, endpoint, base: OnceCell::new(), auth, retries, state })
    }

    pub(super) fn able(&self) -> Capabilities {
        self.endpoint.able
    }

    /// Whether this is the registry itself and not a mirror.
    pub(super) fn is_own(&self) -> bool {
        self.endpoint.own
    }

    /// The host, for messages.
    pub(super) fn name(&self) -> &str {
        &self.endpoint.host
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks whether the registry takes the credentials, at the root of its API.
    pub(crate) async fn greet(&self) -> Result<(), Kind> {
        let url = self.base().await?.clone();
        self.send(Method::GET, &url, &Ask::default()).await.map(drop)
    }

    /// The digest that the registry has for a tag or digest, by one request without a body. `None`
    /// where the registry does not say.
    pub(crate) async fn head_manifest(&self, tag_or_digest: &str) -> Result<Option<Digest>, Kind> {
        let ask = Ask { accept: Some(document::ACCEPT), ..Ask::default() };
        let reply =
            self.send(Method::HEAD, &self.url("manifests", tag_or_digest).await?, &ask).await?;
        let value = reply.headers().get(HeaderName::from_static("docker-content-digest"));
        Ok(value.and_then(|value| value.to_str().ok()).and_then(|text| Digest::parse(text).ok()))
    }

    /// Fetches a manifest or index, checked against `expected` where that is known.
    pub(crate) async fn manifest(
        &self,
        tag_or_digest: &str,
        expected: Option<&Digest>,
    ) -> Result<Fetched, Kind> {
        let ask = Ask { accept: Some(document::ACCEPT), ..Ask::default() };
        let url = self.url("manifests", tag_or_digest).await?;
        let (content_type, bytes) =
            self.document(&url, &ask, "manifest", document::MANIFEST_LIMIT).await?;
        let digest = sha256(&bytes);
        match expected {
            Some(expected) if *expected != digest => Err(Kind::DigestMismatch {
                object: "manifest",
                expected: expected.clone(),
                actual: digest,
            }),
            _ => Ok(Fetched { digest, content_type, bytes }),
        }
    }

    /// Fetches a small blob, checked against its descriptor.
    pub(crate) async fn small_blob(
        &self,
        descriptor: &document::Descriptor,
        object: &'static str,
        limit: u64,
    ) -> Result<Bytes, Kind> {
        let url = self.url("blobs", descriptor.digest.as_str()).await?;
        let (_, bytes) = self.document(&url, &Ask::default(), object, limit).await?;
        let actual = sha256(&bytes);
        if actual != descriptor.digest {
            let expected = descriptor.digest.clone();
            return Err(Kind::DigestMismatch { object, expected, actual });
        }
        descriptor.check_size(object, bytes.len() as u64)?;
        Ok(bytes)
    }

    /// A whole small document; a transfer that breaks is repeated.
    async fn document(
        &self,
        url: &Url,
        ask: &Ask,
        what: &str,
        limit: u64,
    ) -> Result<(String, Bytes), Kind> {
        let mut attempt = 0;
        loop {
            let reply = self.send(Method::GET, url, ask).await?;
            let content_type =
                reply.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
            let content_type = content_type.unwrap_or_default().to_owned();
            match http::body(reply, what, limit, self.http.options.stall_timeout).await {
                Ok(bytes) => return Ok((content_type, bytes.into())),
                Err(kind) => self.pause(kind, &mut attempt).await?,
            }
        }
    }

    /// Address of an object of the repository.
    pub(super) async fn url(&self, kind: &str, name: &str) -> Result<Url, Kind> {
        let path = format!("{}/{kind}/{name}", self.endpoint.repository);
        let mut url = self
            .base()
            .await?
            .join(&path)
            .map_err(|error| Kind::Malformed { object: "reference", message: error.to_string() })?;
        if let Some(namespace) = &self.endpoint.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        Ok(url)
    }

    /// The address of the API. A host on loopback, or one that may speak either, is asked first.
    async fn base(&self) -> Result<&Url, Kind> {
        self.base
            .get_or_try_init(|| async {
                let scheme = match self.endpoint.scheme {
                    Some(scheme) => scheme,
                    None => self.probe().await?,
                };
                self.address(scheme)
            })
            .await
    }

    fn address(&self, scheme: &str) -> Result<Url, Kind> {
        Url::parse(&format!("{scheme}://{}{}", self.endpoint.host, self.endpoint.path))
            .map_err(|e| Kind::Malformed { object: "registry name", message: e.to_string() })
    }

    /// Whether the host speaks plain HTTP. A TLS server answers a plain request with a 400 or with
    /// something that is not HTTP. Nothing secret is sent.
    async fn probe(&self) -> Result<&'static str, Kind> {
        let name = &self.endpoint.host;
        if let Some(known) = lock(&self.http.probed).get(name) {
            return Ok(known);
        }
        let url = self.address("http")?;
        let client = self.http.client(&url, &self.endpoint.transport.elsewhere(true))?;
        let stall = self.http.options.stall_timeout;
        let scheme = match tokio::time::timeout(stall, client.get(url.clone()).send()).await {
            Ok(Ok(reply)) if reply.status().as_u16() == 400 => "https",
            Ok(Ok(_)) => "http",
            // Nobody there: not remembered, the real request will say it.
            Ok(Err(error)) if error.is_connect() => return Ok("http"),
            Ok(Err(_)) => "https",
            Err(_) => return Err(http::no_answer(&url, stall)),
        };
        lock(&self.http.probed).insert(name.clone(), scheme);
        Ok(scheme)
    }

    /// Sends a request until it succeeds, its failure is final, or the attempts are used up.
    pub(super) async fn send(
        &self,
        method: Method,
        url: &Url,
        ask: &Ask,
    ) -> Result<Response, Kind> {
        let mut attempt = 0;
        loop {
            match self.authorized(method.clone(), url, ask).await {
                Ok(reply) => return Ok(reply),
                Err(kind) => self.pause(kind, &mut attempt).await?,
            }
        }
    }

    /// Sends a request that must not be repeated: part of an upload.
    pub(super) async fn once(
        &self,
        method: Method,
        url: &Url,
        ask: &Ask,
    ) -> Result<Response, Kind> {
        self.authorized(method, url, ask).await
    }

    /// Waits before another attempt, or gives the failure back where none makes sense.
    pub(super) async fn pause(&self, kind: Kind, attempt: &mut u32) -> Result<(), Kind> {
        let doubled = self.http.options.backoff.saturating_mul(1 << (*attempt).min(10));
        let pause = match &kind {
            Kind::RegistryUnavailable { .. } => doubled.min(LONGEST_PAUSE),
            Kind::RateLimited { retry_after, .. } => match retry_after {
                Some(after) if *after > LONGEST_PAUSE => return Err(kind),
                Some(after) => *after,
                None => doubled.min(LONGEST_PAUSE),
            },
            _ => return Err(kind),
        };
        if *attempt >= self.retries {
            return Err(kind);
        }
        *attempt += 1;
        tracing::debug!(attempt, %kind, "registry request is tried again");
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// One attempt, with one more where the registry asks for (newer) credentials.
    async fn authorized(&self, method: Method, url: &Url, ask: &Ask) -> Result<Response, Kind> {
        let stall = self.http.options.stall_timeout;
        let before = self.state().authorization.clone();
        let transport = &self.endpoint.transport;
        let reply =
            self.http.exchange(method.clone(), url, ask, before.as_ref(), transport).await?;
        if reply.status().is_success() {
            return Ok(reply);
        }
        // A challenge from a host that a redirect led to is not this registry's to make.
        if reply.status().as_u16() != 401 || !endpoint::same_origin(reply.url(), url) {
            return Err(self.explain(http::refusal(reply, stall).await));
        }
        let challenges: Vec<Challenge> = reply
            .headers()
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(challenge::parse)
            .collect();
        let refused = http::refusal(reply, stall).await;
        let Some(authorization) = self.answer(&challenges).await? else {
            return Err(self.explain(refused));
        };
        let reply = self.http.exchange(method, url, ask, Some(&authorization), transport).await?;
        if reply.status().is_success() {
            self.state().authorization = Some(authorization);
            return Ok(reply);
        }
        Err(self.explain(http::refusal(reply, stall).await))
    }

    /// The header that answers the registry's challenges; `None` where we have nothing to show.
    async fn answer(&self, challenges: &[Challenge]) -> Result<Option<HeaderValue>, Kind> {
        if matches!(self.auth, Some(Auth::RegistryToken(_))) {
            return Ok(None);
        }
        for challenge in challenges {
            if let Challenge::Bearer { realm, service, scope } = challenge {
                return self.token(realm, service.as_deref(), scope.as_deref()).await.map(Some);
            }
        }
        match &self.auth {
            Some(Auth::Basic { username, password }) if challenges.contains(&Challenge::Basic) => {
                let header = token::basic(username, password);
                header
                    .map(Some)
                    .map_err(|message| Kind::Malformed { object: "credentials", message })
            }
            _ => Ok(None),
        }
    }

    async fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: Option<&str>,
    ) -> Result<HeaderValue, Kind> {
        let bad = |message: &str| Kind::Malformed {
            object: "challenge of the registry",
            message: message.into(),
        };
        let realm = Url::parse(realm).map_err(|_| bad("its realm is no address"))?;
        if !realm.username().is_empty() || realm.password().is_some() {
            return Err(bad("its realm has credentials in it"));
        }
        let base = self.base().await?;
        let plain_is_fine = realm.scheme() == "http"
            && (endpoint::is_loopback(&realm) && endpoint::is_loopback(base)
                || endpoint::same_origin(&realm, base));
        if realm.scheme() != "https" && !plain_is_fine {
            return Err(bad("its realm is not an HTTPS address"));
        }
        let trusted =
            endpoint::realm_is_trusted(&self.endpoint.registry, base, &realm, &self.http.options);
        if self.auth.is_some() && !trusted {
            self.state().withheld = Some(super::redacted(&realm));
        }
        let own_scope = format!("repository:{}:pull", self.endpoint.repository);
        let wanted = token::Wanted {
            realm: &realm,
            service,
            scope: scope.unwrap_or(&own_scope),
            auth: self.auth.as_ref().filter(|_| trusted),
        };
        let transport = self.endpoint.transport.elsewhere(realm.host_str() == base.host_str());
        token::fetch(&self.http, &transport, &wanted).await.map_err(|kind| self.explain(kind))
    }

    /// Says so where an access failed because credentials were held back.
    fn explain(&self, mut kind: Kind) -> Kind {
        if let Kind::Unauthorized { message }
        | Kind::Forbidden { message }
        | Kind::NotFound { message } = &mut kind
            && let Some(realm) = &self.state().withheld
        {
            message.push_str(&format!(
                " (the credentials were not sent to the token service {realm}, which is not the registry's own; \
                 list it for this registry if it is to be trusted)"
            ));
        }
        kind
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Digest of bytes in memory.
pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    use sha2::Digest as _;
    Digest::from_sha256(&sha2::Sha256::digest(bytes).into())
}
