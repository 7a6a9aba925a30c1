//! Clients for connections: certificates, verification, proxies; one client for all hosts that are
//! reached the same way.

use super::printable;
use crate::hosts::Transport;
use crate::{PullErrorKind as Kind, RegistryOptions};
use reqwest::Client;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Clients kept; beyond it all are made anew, which costs a handshake.
const KEPT: usize = 64;

/// What makes two connections need different clients.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    tls: bool,
    local: bool,
    transport: Transport,
    /// Inode, size and change time of every certificate file: a renewed one counts at once.
    files: Vec<(u64, u64, i64, i64)>,
}

/// Clients that were made. They are made when first needed: reading the host's certificates takes
/// time and memory that a node with a local registry never spends.
#[derive(Default)]
pub(super) struct Clients(Mutex<HashMap<Key, Client>>);

impl Clients {
    /// The client for `transport`, over TLS or not, to a loopback address or not.
    pub(super) fn get(
        &self,
        options: &RegistryOptions,
        transport: &Transport,
        tls: bool,
        local: bool,
    ) -> Result<Client, Kind> {
        // Headers go with requests, and without TLS certificates make no difference.
        let transport = Transport {
            headers: Vec::new(),
            ca: if tls { transport.ca.clone() } else { Vec::new() },
            client: if tls { transport.client.clone() } else { Vec::new() },
            skip_verify: tls && transport.skip_verify,
            ..transport.clone()
        };
        let files = if tls { fingerprints(options, &transport) } else { Vec::new() };
        let key = Key { tls, local, transport, files };
        if let Some(client) = self.lock().get(&key) {
            return Ok(client.clone());
        }
        let client = build(options, &key)?;
        let mut clients = self.lock();
        if clients.len() >= KEPT {
            clients.clear();
        }
        Ok(clients.entry(key).or_insert(client).clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Client>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fingerprints(options: &RegistryOptions, transport: &Transport) -> Vec<(u64, u64, i64, i64)> {
    let client = transport.client.iter().flat_map(|(a, b)| [Some(a), b.as_ref()]).flatten();
    let files = options.ca_files.iter().chain(&transport.ca).chain(client);
    files
        .map(|path| {
            let meta = std::fs::metadata(path);
            meta.map_or((0, 0, 0, 0), |m| (m.ino(), m.size(), m.ctime(), m.ctime_nsec()))
        })
        .collect()
}

fn build(options: &RegistryOptions, key: &Key) -> Result<Client, Kind> {
    const WINDOW: u32 = 4 << 20;
    let wrong =
        |what: String| Kind::Store { message: format!("make a client for registries: {what}") };
    let transport = &key.transport;
    let mut builder = Client::builder()
        .tls_backend_preconfigured(tls(options, key)?)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .user_agent(concat!("orlop/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(transport.dial_timeout.unwrap_or(options.connect_timeout))
        .pool_idle_timeout(Duration::from_secs(15))
        .http2_initial_stream_window_size(WINDOW)
        .http2_initial_connection_window_size(4 * WINDOW);
    if let Some(proxy) = &transport.proxy {
        let proxy = reqwest::Proxy::all(proxy.as_str());
        let bad = |error: reqwest::Error| wrong(format!("proxy: {}", super::http::chain(&error)));
        builder = builder.no_proxy().proxy(proxy.map_err(bad)?);
    } else if key.local {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| wrong(super::http::chain(&error)))
}

fn tls(options: &RegistryOptions, key: &Key) -> Result<ClientConfig, Kind> {
    let transport = &key.transport;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| Kind::Tls { message: error.to_string() })?;
    let config = if transport.skip_verify {
        config.dangerous().with_custom_certificate_verifier(Arc::new(NoVerifier(provider.clone())))
    } else if key.tls {
        let roots = roots(options, &transport.ca)?;
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone());
        let verifier =
            verifier.build().map_err(|error| Kind::Tls { message: error.to_string() })?;
        config.with_webpki_verifier(verifier)
    } else {
        config.with_root_certificates(RootCertStore::empty())
    };
    if transport.client.is_empty() {
        return Ok(config.with_no_client_auth());
    }
    let own = transport.client.iter().map(|(certificate, key)| {
        client_certificate(certificate, key.as_deref().unwrap_or(certificate), &provider)
    });
    let own = own.collect::<Result<Vec<_>, _>>()?;
    Ok(config.with_client_cert_resolver(Arc::new(Own(own))))
}

/// The host's certificate authorities, the configured ones and those of the registry.
fn roots(options: &RegistryOptions, more: &[PathBuf]) -> Result<RootCertStore, Kind> {
    let mut store = RootCertStore::empty();
    let host = rustls_native_certs::load_native_certs();
    for error in &host.errors {
        tracing::warn!(%error, "some of the host's certificate authorities cannot be read");
    }
    store.add_parsable_certificates(host.certs);
    for path in options.ca_files.iter().chain(more) {
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
    if store.is_empty() {
        return Err(Kind::Tls {
            message: "this machine trusts no certificate authority: install ca-certificates, or list the registry's authority".into(),
        });
    }
    Ok(store)
}

fn client_certificate(
    certificate: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, Kind> {
    let wrong = |path: &Path, what: &dyn std::fmt::Display| Kind::Tls {
        message: format!("client certificate {}: {}", path.display(), printable(&what.to_string())),
    };
    let chain: Result<Vec<CertificateDer<'static>>, _> =
        CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
    let chain = chain.map_err(|error| wrong(certificate, &error))?;
    if chain.is_empty() {
        return Err(wrong(certificate, &"no PEM certificate in the file"));
    }
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, &error))?;
    let pair = CertifiedKey::from_der(chain, secret, provider);
    Ok(Arc::new(pair.map_err(|error| wrong(key, &error))?))
}

/// Our certificates: the first whose key can sign as the server wants.
#[derive(Debug)]
struct Own(Vec<Arc<CertifiedKey>>);

impl ResolvesClientCert for Own {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.iter().find(|own| own.key.choose_scheme(schemes).is_some()).cloned()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Believes whoever answers, for registries that the operator marked so. Signatures of the
/// handshake are still checked: whoever answers has the key of the certificate that it shows.
#[derive(Debug)]
struct NoVerifier(Arc<CryptoProvider>);

impl ServerCertVerifier for NoVerifier {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
