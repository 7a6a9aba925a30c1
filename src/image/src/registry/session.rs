//! One pull's conversation with all hosts of a registry: mirrors first, then the registry itself.

use super::document;
use super::host::{Fetched, Host};
use super::http::Http;
use super::parallel::Parallel;
use crate::hosts::{self, Capabilities, Endpoint};
use crate::policy::{self, Signature};
use crate::{Auth, PullErrorKind as Kind, keyring};
use bytes::Bytes;
use orlop_model::{Digest, Reference};
use std::sync::Arc;

pub(crate) struct Session {
    hosts: Vec<Arc<Host>>,
    http: Arc<Http>,
}

/// What went wrong at the hosts that were asked already.
#[derive(Default)]
pub(super) struct Failures {
    mirrors: Vec<String>,
    last: Option<Kind>,
}

impl Failures {
    /// Notes the failure of one host; gives it back where asking another makes no sense.
    pub(super) fn add(&mut self, host: &Host, kind: Kind) -> Result<(), Kind> {
        if matches!(kind, Kind::Cancelled | Kind::Store { .. } | Kind::NoSpace { .. }) {
            return Err(kind);
        }
        if !host.is_own() {
            tracing::debug!(host = host.name(), %kind, "a mirror failed; the next host is asked");
            self.mirrors.push(format!("mirror {}: {kind}", host.name()));
        }
        self.last = Some(kind);
        Ok(())
    }

    /// The last host's failure, which is the registry's own where it was asked, with the others'.
    pub(super) fn end(mut self, what: &str) -> Kind {
        let Some(kind) = self.last else {
            let message = format!("no host of the configuration may be asked for {what}");
            return Kind::RegistryUnavailable { message };
        };
        // The last one is in `last` already.
        if self.mirrors.last().is_some_and(|text| text.ends_with(&kind.to_string())) {
            self.mirrors.pop();
        }
        if self.mirrors.is_empty() { kind } else { kind.with_note(&self.mirrors.join("; ")) }
    }
}

impl Session {
    /// Reads the configuration of hosts and of credentials. Nothing is sent yet. Credentials that
    /// came with the request are for the registry itself, never for a mirror.
    pub(crate) async fn open(
        http: Arc<Http>,
        reference: &Reference,
        auth: Option<Auth>,
    ) -> Result<Self, Kind> {
        let (work, name) = (http.clone(), reference.clone());
        let found = tokio::task::spawn_blocking(move || {
            let endpoints = hosts::endpoints(&name, &work.options)?;
            let with_auth = |endpoint: Endpoint| {
                let given = auth.clone().filter(|_| endpoint.registry == name.registry());
                let files = &work.options.auth_files;
                let auth = match given {
                    Some(auth) => Some(auth),
                    None => keyring::find(files, &endpoint.registry, &endpoint.repository)?,
                };
                Ok((endpoint, auth))
            };
            endpoints.into_iter().map(with_auth).collect::<Result<Vec<_>, Kind>>()
        });
        let found = found.await.map_err(|error| Kind::Store { message: error.to_string() })??;
        let count = found.len();
        let hosts = found.into_iter().enumerate().map(|(index, (endpoint, auth))| {
            Host::new(http.clone(), endpoint, auth, index + 1 == count).map(Arc::new)
        });
        Ok(Self { hosts: hosts.collect::<Result<_, _>>()?, http: http.clone() })
    }

    fn able(&self, need: impl Fn(Capabilities) -> bool) -> impl Iterator<Item = &Arc<Host>> {
        self.hosts.iter().filter(move |host| need(host.able()))
    }

    pub(super) fn parallel(&self) -> Parallel {
        self.http.parallel.clone()
    }

    /// Hosts that give content by digest.
    pub(super) fn pullable(&self) -> Vec<Arc<Host>> {
        self.able(|able| able.pull).cloned().collect()
    }

    /// How many hosts give content by digest.
    pub(crate) fn sources(&self) -> usize {
        self.able(|able| able.pull).count()
    }

    /// Asks the registry itself whether it takes the credentials.
    pub(crate) async fn greet(&self) -> Result<(), Kind> {
        match self.hosts.iter().find(|host| host.is_own()) {
            Some(host) => host.greet().await,
            None => Err(Failures::default().end("whether it takes the credentials")),
        }
    }

    /// The host that takes content, which is the registry's own or one that is said to.
    pub(crate) fn pushable(&self) -> Option<&Arc<Host>> {
        let own = self.able(|able| able.push).find(|host| host.is_own());
        own.or_else(|| self.able(|able| able.push).last())
    }

    /// The digest that the registry has for a tag or digest, by one request without a body. `None`
    /// where no host says.
    pub(crate) async fn head_manifest(&self, tag_or_digest: &str) -> Result<Option<Digest>, Kind> {
        let mut failures = Failures::default();
        for host in self.for_manifest(tag_or_digest) {
            match host.head_manifest(tag_or_digest).await {
                Ok(found) => return Ok(found),
                Err(kind) => failures.add(host, kind)?,
            }
        }
        Err(failures.end("tags"))
    }

    /// Fetches a manifest or index, checked against `expected` where that is known.
    pub(crate) async fn manifest(
        &self,
        tag_or_digest: &str,
        expected: Option<&Digest>,
    ) -> Result<Fetched, Kind> {
        let mut failures = Failures::default();
        for host in self.for_manifest(tag_or_digest) {
            match host.manifest(tag_or_digest, expected).await {
                Ok(found) => return Ok(found),
                Err(kind) => failures.add(host, kind)?,
            }
        }
        Err(failures.end("manifests"))
    }

    /// A tag is only asked of who may say what it stands for.
    fn for_manifest(&self, tag_or_digest: &str) -> impl Iterator<Item = &Arc<Host>> {
        let by_digest = Digest::parse(tag_or_digest).is_ok();
        self.able(move |able| if by_digest { able.pull } else { able.resolve })
    }

    /// Fetches the configuration, checked against its descriptor.
    pub(crate) async fn config(&self, descriptor: &document::Descriptor) -> Result<Bytes, Kind> {
        self.small_blob(descriptor, "image configuration", document::CONFIG_LIMIT).await
    }

    /// Fetches a small blob, checked against its descriptor.
    pub(crate) async fn small_blob(
        &self,
        descriptor: &document::Descriptor,
        object: &'static str,
        limit: u64,
    ) -> Result<Bytes, Kind> {
        let mut failures = Failures::default();
        for host in self.able(|able| able.pull) {
            match host.small_blob(descriptor, object, limit).await {
                Ok(found) => return Ok(found),
                Err(kind) => failures.add(host, kind)?,
            }
        }
        Err(failures.end("content"))
    }

    /// What cosign stored beside the image with that digest; nothing where there is nothing.
    pub(crate) async fn signatures(&self, digest: &Digest) -> Result<Vec<Signature>, Kind> {
        let tag = format!("sha256-{}.sig", digest.hex());
        let manifest = match self.manifest(&tag, None).await {
            Ok(manifest) => manifest,
            Err(Kind::NotFound { .. }) => return Ok(Vec::new()),
            Err(kind) => return Err(kind),
        };
        let mut found = Vec::new();
        for (descriptor, signature) in policy::parse_manifest(&manifest.bytes)? {
            let limit = policy::PAYLOAD;
            let payload = self.small_blob(&descriptor, "signed document", limit).await?;
            if let Ok(payload) = String::from_utf8(payload.into()) {
                found.push(Signature { payload, signature });
            }
        }
        Ok(found)
    }
}
