//! Images from the store into an archive that is both an OCI layout and what `docker load` reads.
//! The same images give the same bytes.

use super::ArchiveError;
use crate::PullErrorKind as Kind;
use crate::disk::ImageRecord;
use crate::inner::Inner;
use crate::pull::Hold;
use crate::registry::{Document, MANIFEST_LIMIT};
use orlop_model::Digest;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;

const CONFIG: &str = "application/vnd.oci.image.index.v1+json";

/// The manifest of an image for this platform, as it was pulled, with its media type.
pub(crate) fn manifest_of(
    inner: &Inner,
    record: &ImageRecord,
) -> Result<(Digest, String, Vec<u8>), ArchiveError> {
    for digest in &record.manifests {
        let Ok(file) = File::open(inner.layout.blob(digest)) else { continue };
        let mut bytes = Vec::new();
        let read = file.take(MANIFEST_LIMIT).read_to_end(&mut bytes);
        read.map_err(|source| ArchiveError::Stream { op: "read the store", source })?;
        if let Ok(Document::Manifest(manifest)) = Document::parse(&bytes, "")
            && manifest.config.digest == record.id
        {
            let named: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            let media_type = named["mediaType"].as_str().map_or_else(
                || "application/vnd.oci.image.manifest.v1+json".to_owned(),
                str::to_owned,
            );
            return Ok((digest.clone(), media_type, bytes));
        }
    }
    let blob = record.manifests.first().unwrap_or(&record.id).clone();
    Err(ArchiveError::Incomplete { image: record.id.clone(), blob })
}

/// Writes images by name or id. An image that is asked for by a name goes out with that name, by
/// id with all its tags.
pub(crate) fn export(
    inner: &Arc<Inner>,
    names: &[String],
    target: impl Write,
) -> Result<(), ArchiveError> {
    let mut images: BTreeMap<Digest, (ImageRecord, Vec<String>)> = BTreeMap::new();
    for name in names {
        let record = crate::materialize::complete(inner, name, &BTreeMap::new())?;
        let id = record.id.clone();
        let asked = crate::state::names_of(&record, name);
        images.entry(id).or_insert_with(|| (record, Vec::new())).1.extend(asked);
    }
    let mut blobs = BTreeMap::new();
    let (mut index, mut docker) = (Vec::new(), Vec::new());
    let held = images.values().flat_map(|(record, _)| {
        let layers = record.layers.iter().map(|layer| layer.blob.clone());
        layers.chain(record.manifests.iter().cloned()).chain([record.id.clone()])
    });
    let _hold = Hold::new(&**inner, held.collect());
    for (record, tags) in images.values() {
        let (digest, media_type, bytes) = manifest_of(inner, record)?;
        blobs.insert(digest.clone(), bytes.len() as u64);
        for blob in std::iter::once(&record.id).chain(record.layers.iter().map(|l| &l.blob)) {
            let size = inner.state().blobs.get(blob).copied();
            let missing =
                || ArchiveError::Incomplete { image: record.id.clone(), blob: blob.clone() };
            blobs.insert(blob.clone(), size.ok_or_else(missing)?);
        }
        let entry = json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
        for tag in tags {
            let mut named = entry.clone();
            let short = tag.rsplit(':').next().unwrap_or_default();
            named["annotations"] = json!({
                "io.containerd.image.name": tag, "org.opencontainers.image.ref.name": short,
            });
            index.push(named);
        }
        if tags.is_empty() {
            index.push(entry);
        }
        let path = |blob: &Digest| format!("blobs/sha256/{}", blob.hex());
        let layers: Vec<_> = record.layers.iter().map(|layer| path(&layer.blob)).collect();
        docker.push(json!({"Config": path(&record.id), "RepoTags": tags, "Layers": layers}));
    }
    let index = json!({"schemaVersion": 2, "mediaType": CONFIG, "manifests": index});
    write(inner, target, &blobs, &index, &docker)
        .map_err(|source| ArchiveError::Stream { op: "write the archive", source })
}

fn write(
    inner: &Inner,
    target: impl Write,
    blobs: &BTreeMap<Digest, u64>,
    index: &Value,
    docker: &[Value],
) -> io::Result<()> {
    let mut archive = tar::Builder::new(target);
    for dir in ["blobs/", "blobs/sha256/"] {
        archive.append_data(&mut header(tar::EntryType::Directory, 0o755, 0), dir, io::empty())?;
    }
    for (digest, size) in blobs {
        let file = File::open(inner.layout.blob(digest))?;
        let mut head = header(tar::EntryType::Regular, 0o644, *size);
        archive.append_data(
            &mut head,
            format!("blobs/sha256/{}", digest.hex()),
            file.take(*size),
        )?;
    }
    let documents = [
        ("index.json", index.to_string()),
        ("manifest.json", Value::from(docker).to_string()),
        ("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#.to_owned()),
    ];
    for (name, text) in documents {
        let mut head = header(tar::EntryType::Regular, 0o644, text.len() as u64);
        archive.append_data(&mut head, name, text.as_bytes())?;
    }
    archive.into_inner()?.flush()
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

impl From<ArchiveError> for Kind {
    fn from(error: ArchiveError) -> Self {
        Self::Store { message: error.to_string() }
    }
}
