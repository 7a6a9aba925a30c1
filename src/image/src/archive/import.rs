//! Images from an archive into the store.

use super::spool::{Part, Spool};
use super::{ArchiveError, Imported};
use crate::disk::ImageRecord;
use crate::inner::Inner;
use crate::pull::{Again, Hold};
use crate::registry::{CONFIG_LIMIT, Config, Document, MANIFEST_LIMIT, sha256};
use crate::rows::Change;
use crate::state::full_name;
use crate::{Layer, PullErrorKind as Kind};
use orlop_model::{Digest, Reference};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Read;

/// An image that the archive says it has.
struct Found {
    manifest: Digest,
    media_type: String,
    names: Vec<Reference>,
}

/// Reads OCI layouts and Docker archives, also such as are both. Names that the archive gives are
/// kept; with `names`, those are given instead, to its only image.
pub(crate) fn import(
    inner: &Inner,
    source: impl Read,
    names: &[Reference],
) -> Result<Vec<Imported>, ArchiveError> {
    let mut spool = Spool::read(inner, source)?;
    let mut found = match spool.document("index.json") {
        Some(index) => from_layout(index)?,
        None => from_docker(inner, &mut spool)?,
    };
    if found.is_empty() {
        return Err(ArchiveError::Malformed("it has no image".into()));
    }
    if !names.is_empty() {
        if found.len() > 1 {
            let what =
                format!("it has {} images, and a name can only be given to one", found.len());
            return Err(ArchiveError::Malformed(what));
        }
        found[0].names = names.to_vec();
    }
    let parts = spool.parts.keys().cloned().collect();
    let _hold = Hold::new(inner, parts);
    let mut prepared = Vec::new();
    for image in &found {
        let wrong = |kind| wrong(image, kind);
        prepared.push(prepare(inner, &spool, image).map_err(|error| match error {
            Refused::Kind(kind) => wrong(kind),
            Refused::Archive(error) => error,
        })?);
    }
    keep(inner, &mut spool)?;
    let mut imported = Vec::new();
    for (image, (mut record, config)) in found.iter().zip(prepared) {
        unpack(inner, &mut record).map_err(|kind| wrong(image, kind))?;
        let (id, names) = (record.id.clone(), record.tags.clone());
        let config = Box::new(config.image);
        inner.rows.apply(inner, Change::Put { record, config })?;
        imported.push(Imported { id, names });
    }
    Ok(imported)
}

fn wrong(image: &Found, kind: Kind) -> ArchiveError {
    let name = image.names.first().map_or_else(|| image.manifest.to_string(), full_name);
    ArchiveError::Image { image: name, kind: Box::new(kind) }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    media_type: String,
    digest: Digest,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// What `index.json` lists; a manifest that is listed under several names is one image.
fn from_layout(index: &[u8]) -> Result<Vec<Found>, ArchiveError> {
    #[derive(Deserialize)]
    struct Index {
        manifests: Vec<Entry>,
    }
    let index: Index = serde_json::from_slice(index)
        .map_err(|error| ArchiveError::Malformed(format!("index.json: {error}")))?;
    let mut found: Vec<Found> = Vec::new();
    for Entry { media_type, digest, annotations } in index.manifests {
        let get = |key: &str| annotations.get(key).and_then(|name| Reference::parse(name).ok());
        // The second is often only a tag, which is no name for an image.
        let full = |name: &Reference| {
            annotations["org.opencontainers.image.ref.name"].contains(['/', ':'])
                || name.registry() != "docker.io"
        };
        let name = get("io.containerd.image.name")
            .or_else(|| get("org.opencontainers.image.ref.name").filter(full));
        match found.iter_mut().find(|image| image.manifest == digest) {
            Some(image) => image.names.extend(name),
            None => found.push(Found {
                manifest: digest,
                media_type,
                names: name.into_iter().collect(),
            }),
        }
    }
    Ok(found)
}

/// What `manifest.json` lists. It has no manifests of its own: they are made here.
fn from_docker(inner: &Inner, spool: &mut Spool) -> Result<Vec<Found>, ArchiveError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Image {
        config: String,
        #[serde(default)]
        repo_tags: Option<Vec<String>>,
        #[serde(default)]
        layers: Vec<String>,
    }
    const TYPE: &str = "application/vnd.docker.distribution.manifest.v2+json";
    let Some(list) = spool.document("manifest.json") else {
        let what = "it has neither index.json nor manifest.json at its top";
        return Err(ArchiveError::Malformed(what.into()));
    };
    let images: Vec<Image> = serde_json::from_slice(list)
        .map_err(|error| ArchiveError::Malformed(format!("manifest.json: {error}")))?;
    let mut found = Vec::new();
    for image in images {
        let part = |name: &str| {
            let part = spool.by_name(name);
            part.ok_or_else(|| ArchiveError::Malformed(format!("{name:?} is not in it")))
        };
        let describe = |media: &str, Part { digest, size, .. }: &Part| json!({"mediaType": media, "digest": digest, "size": size});
        let layer = "application/vnd.docker.image.rootfs.diff.tar";
        let layers = image.layers.iter().map(|name| Ok(describe(layer, part(name)?)));
        let layers = layers.collect::<Result<Vec<_>, ArchiveError>>()?;
        let config =
            describe("application/vnd.docker.container.image.v1+json", part(&image.config)?);
        let manifest =
            json!({"schemaVersion": 2, "mediaType": TYPE, "config": config, "layers": layers});
        let names = image.repo_tags.unwrap_or_default();
        let names = names.iter().map(|name| {
            Reference::parse(name).map_err(|error| ArchiveError::Malformed(error.to_string()))
        });
        let names = names.collect::<Result<_, _>>()?;
        let manifest = spool.add(inner, manifest.to_string().as_bytes())?;
        found.push(Found { manifest, media_type: TYPE.into(), names });
    }
    Ok(found)
}

enum Refused {
    Kind(Kind),
    Archive(ArchiveError),
}

impl From<Kind> for Refused {
    fn from(kind: Kind) -> Self {
        Self::Kind(kind)
    }
}

impl From<ArchiveError> for Refused {
    fn from(error: ArchiveError) -> Self {
        Self::Archive(error)
    }
}

/// Reads manifest and configuration as strictly as those of a registry.
fn prepare(inner: &Inner, spool: &Spool, image: &Found) -> Result<(ImageRecord, Config), Refused> {
    let mut manifests = vec![image.manifest.clone()];
    let mut media_type = image.media_type.clone();
    let manifest = loop {
        let at = &manifests[manifests.len() - 1];
        let bytes = spool.bytes(inner, at, MANIFEST_LIMIT)?;
        match Document::parse(&bytes, &media_type)? {
            Document::Manifest(manifest) => break manifest,
            Document::Index(_) if manifests.len() > 3 => {
                let message = "indexes are nested more than 3 deep".into();
                return Err(Kind::Malformed { object: "index", message }.into());
            }
            Document::Index(index) => {
                let entry = index.choose(&inner.options.platform)?;
                media_type.clone_from(&entry.media_type);
                manifests.push(entry.digest);
            }
        }
    };
    let id = manifest.config.digest.clone();
    let config = Config::parse(&spool.bytes(inner, &id, CONFIG_LIMIT)?, manifest.layers.len())?;
    config.check_platform(&inner.options.platform)?;
    let mut layers = Vec::new();
    for (descriptor, diff_id) in manifest.layers.iter().zip(&config.diff_ids) {
        let size = match spool.parts.get(&descriptor.digest) {
            Some(part) => Some(part.size),
            None => inner.state().blobs.get(&descriptor.digest).copied(),
        };
        let Some(size) = size else {
            let what = format!("layer {} is not in it", descriptor.digest);
            return Err(ArchiveError::Malformed(what).into());
        };
        descriptor.check_size("layer", size)?;
        layers.push(Layer {
            diff_id: diff_id.clone(),
            blob: descriptor.digest.clone(),
            blob_size: size,
            // Told when it is unpacked.
            snapshot: diff_id.clone(),
        });
    }
    let record = ImageRecord {
        version: ImageRecord::VERSION,
        id,
        tags: image.names.iter().filter(|n| n.digest().is_none()).map(full_name).collect(),
        digests: Vec::new(),
        layers,
        manifests,
        signatures: Vec::new(),
    };
    Ok((record, config))
}

/// Everything that came gets its name, durably.
fn keep(inner: &Inner, spool: &mut Spool) -> Result<(), ArchiveError> {
    let failed = |op| crate::disk::io_error(op, &inner.layout.root);
    inner.syncer.sync().map_err(failed("sync"))?;
    for part in spool.parts.values_mut() {
        if let Some(file) = part.file.take() {
            let kept = inner.keep_blob(file, part.digest.clone(), part.size);
            kept.map_err(failed("name a blob in"))?;
        }
    }
    Ok(())
}

/// Unpacks the layers that are not here yet, and notes how they are called.
fn unpack(inner: &Inner, record: &mut ImageRecord) -> Result<(), Kind> {
    let mut chain: Option<Digest> = None;
    for index in 0..record.layers.len() {
        let diff_id = record.layers[index].diff_id.clone();
        let next = match &chain {
            None => diff_id.clone(),
            Some(below) => sha256(format!("{below} {diff_id}").as_bytes()),
        };
        let known = inner.state().snapshot_for(&diff_id, &next);
        record.layers[index].snapshot = match known {
            Some(snapshot) => snapshot,
            None => Again::unpack(inner, record, index)?.finish(inner)?,
        };
        chain = Some(next);
    }
    Ok(())
}
