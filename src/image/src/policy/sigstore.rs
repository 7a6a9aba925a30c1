//! Signatures as cosign stores them: a manifest with the tag `sha256-<hex>.sig` beside the image,
//! whose layers are documents that name the image's digest, each with its signature in an
//! annotation.

use crate::PullErrorKind as Kind;
use crate::hosts::covers;
use crate::registry::{Descriptor, check_depth, printable};
use base64::Engine as _;
use orlop_model::{Digest, Reference};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Most signatures that are looked at for one image.
const SIGNATURES: usize = 64;
/// Most bytes of a signed document.
pub(crate) const PAYLOAD: u64 = 64 << 10;
const PAYLOAD_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const ANNOTATION: &str = "dev.cosignproject.cosign/signature";
/// What a public key on the curve P-256 looks like in DER (RFC 5480), up to its point.
const P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// A signed document and its signature, kept with the image so that it can be checked again without
/// the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Signature {
    /// The document, as signed.
    pub(crate) payload: String,
    /// Base64 of the signature.
    pub(crate) signature: String,
}

#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    identity: Identity,
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Identity {
    #[serde(rename = "docker-reference", default)]
    reference: String,
}

#[derive(Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: Digest,
}

/// The documents that a signature manifest points to, with their signatures in base64.
pub(crate) fn parse_manifest(bytes: &[u8]) -> Result<Vec<(Descriptor, String)>, Kind> {
    #[derive(Deserialize)]
    struct Manifest {
        #[serde(default)]
        layers: Vec<Layer>,
    }
    #[derive(Deserialize)]
    struct Layer {
        #[serde(flatten)]
        descriptor: Descriptor,
        #[serde(default)]
        annotations: BTreeMap<String, String>,
    }
    const OBJECT: &str = "signature manifest";
    check_depth(bytes, OBJECT)?;
    let manifest: Manifest = serde_json::from_slice(bytes)
        .map_err(|e| Kind::Malformed { object: OBJECT, message: printable(&e.to_string()) })?;
    let mut found = Vec::new();
    for mut layer in manifest.layers {
        let signature = layer.annotations.remove(ANNOTATION);
        let signed = layer.descriptor.media_type == PAYLOAD_TYPE;
        if let Some(signature) = signature.filter(|_| signed && layer.descriptor.size <= PAYLOAD) {
            found.push((layer.descriptor, signature));
        }
    }
    found.truncate(SIGNATURES);
    Ok(found)
}

/// Whether one of the keys signed one of the digests for this repository.
pub(super) fn check(
    name: &str,
    digests: &[Digest],
    signatures: &[Signature],
    keys: &[PathBuf],
    identity: Option<&str>,
) -> Result<(), String> {
    let keys = keys.iter().map(|path| read_key(path)).collect::<Result<Vec<_>, _>>()?;
    if signatures.is_empty() {
        return Err(format!("{name} must be signed, and no signature was found beside the image"));
    }
    let mut reason = String::new();
    for signature in signatures {
        match check_one(name, digests, signature, &keys, identity) {
            Ok(()) => return Ok(()),
            Err(why) => reason = why,
        }
    }
    Err(format!("{name} must be signed: {reason}"))
}

fn check_one(
    name: &str,
    digests: &[Digest],
    signature: &Signature,
    keys: &[Vec<u8>],
    identity: Option<&str>,
) -> Result<(), String> {
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(signature.signature.trim())
        .map_err(|_| "a signature is not base64")?;
    let signed = |key: &Vec<u8>| {
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key);
        key.verify(signature.payload.as_bytes(), &bytes).is_ok()
    };
    // Nothing of the document is looked at before it is known who wrote it.
    if !keys.iter().any(signed) {
        return Err("the signature was not made with any of the keys".into());
    }
    let payload: Payload = serde_json::from_str(&signature.payload)
        .map_err(|error| format!("the signed document is not the expected JSON: {error}"))?;
    let critical = payload.critical;
    if critical.kind != "cosign container image signature" {
        return Err(format!("a document of the type {:?} was signed", critical.kind));
    }
    if !digests.contains(&critical.image.digest) {
        return Err(format!("another image was signed: {}", critical.image.digest));
    }
    let signed_for = Reference::parse(&critical.identity.reference).map(|r| r.name());
    let signed_for = signed_for.map_err(|error| format!("the signed document: {error}"))?;
    let right = match identity {
        Some("*") => true,
        Some(prefix) => covers(prefix, &signed_for).is_some(),
        None => signed_for == name,
    };
    if right { Ok(()) } else { Err(format!("it was signed as {signed_for}")) }
}

/// The point of a P-256 public key.
fn read_key(path: &Path) -> Result<Vec<u8>, String> {
    let wrong = |what: &str| format!("public key {}: {what}", path.display());
    let key = SubjectPublicKeyInfoDer::from_pem_file(path).map_err(|e| wrong(&e.to_string()))?;
    match key.strip_prefix(&P256) {
        Some(point) if point.len() == 65 => Ok(point.to_vec()),
        _ => Err(wrong("not an ECDSA key on the curve P-256, which is what is supported")),
    }
}
