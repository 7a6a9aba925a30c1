//! From the store to a registry.

use crate::archive::ArchiveError;
use crate::disk::ImageRecord;
use crate::inner::Inner;
use crate::pull::{Hold, blocking};
use crate::registry::Session;
use crate::{Auth, LayerState, Progress, ProgressEvent, PullErrorKind as Kind};
use orlop_model::{Digest, Reference};
use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

/// Blobs first, then the manifest that points to them.
pub(crate) async fn push(
    inner: &Arc<Inner>,
    name_or_id: &str,
    target: &Reference,
    auth: Option<Auth>,
    progress: Option<Progress>,
) -> Result<Digest, Kind> {
    let missing = || Kind::Store { message: format!("image {name_or_id} is not present") };
    let id = inner.find(name_or_id).map(|image| image.id.clone()).ok_or_else(missing)?;
    let (work, name) = (inner.clone(), id.to_string());
    let record = blocking(move || crate::materialize::complete(&work, &name, &BTreeMap::new()));
    let record = record.await?.map_err(|error| Kind::Store { message: error.to_string() })?;
    let held = record.layers.iter().map(|layer| layer.blob.clone());
    let held = held.chain(record.manifests.iter().cloned()).chain([id.clone()]);
    let _hold = Hold::new(inner.clone(), held.collect());
    let (work, wanted) = (inner.clone(), record.clone());
    let manifest = blocking(move || crate::archive::manifest_of(&work, &wanted)).await?;
    let (digest, media_type, bytes) = manifest?;
    let blobs = blobs(inner, &record)?;
    let session = Session::open(inner.http.clone(), target, auth).await?;
    let host = session.pushable().ok_or_else(|| Kind::RegistryUnavailable {
        message: "no host of the configuration may be pushed to".into(),
    })?;
    let tell = |event| {
        if let Some(progress) = &progress {
            progress(event);
        }
    };
    let total = blobs.iter().map(|(_, size)| size).sum();
    tell(ProgressEvent::Resolved { image: id, layers: record.layers.len(), bytes: total });
    let from = neighbour(&record, target);
    for (blob, size) in &blobs {
        let file = File::open(inner.layout.blob(blob)).map(Arc::new);
        let file =
            file.map_err(|error| Kind::Store { message: format!("open {blob}: {error}") })?;
        let event = |state| ProgressEvent::Layer { blob: blob.clone(), state };
        let sending = |done| tell(event(LayerState::Sending { done, total: *size }));
        let sent = host.push_blob(blob, *size, file, from.as_deref(), sending).await?;
        tell(event(if sent { LayerState::Done } else { LayerState::Present }));
    }
    let name = match target.digest() {
        Some(wanted) if *wanted != digest => {
            let expected = wanted.clone();
            return Err(Kind::DigestMismatch { object: "manifest", expected, actual: digest });
        }
        Some(wanted) => wanted.as_str(),
        None => target.tag().unwrap_or("latest"),
    };
    host.push_manifest(name, &media_type, bytes.into()).await?;
    Ok(digest)
}

/// Layers and configuration, each once, with their sizes.
fn blobs(inner: &Inner, record: &ImageRecord) -> Result<Vec<(Digest, u64)>, Kind> {
    let mut found: Vec<(Digest, u64)> = Vec::new();
    for blob in record.layers.iter().map(|layer| &layer.blob).chain([&record.id]) {
        if found.iter().any(|(known, _)| known == blob) {
            continue;
        }
        let size = inner.state().blobs.get(blob).copied();
        let missing = || ArchiveError::Incomplete { image: record.id.clone(), blob: blob.clone() };
        found.push((blob.clone(), size.ok_or_else(missing)?));
    }
    Ok(found)
}

/// Another repository of the same registry that has the image's content, by what it is called here.
fn neighbour(record: &ImageRecord, target: &Reference) -> Option<String> {
    let known = record.digests.iter().chain(&record.tags).filter_map(|n| Reference::parse(n).ok());
    let mut same = known.filter(|name| name.registry() == target.registry());
    same.find(|name| name.repository() != target.repository())
        .map(|name| name.repository().to_owned())
}
