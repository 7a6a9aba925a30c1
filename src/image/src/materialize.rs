//! Blobs of layers that were never fetched: a build made them, or they were here already, made by a
//! build or by another image's pull, when the image was pulled. The layers themselves are
//! directories; their archives are written when somebody wants to have the image elsewhere, the
//! same bytes each time.

use crate::disk::{ImageRecord, TempFile, io_error};
use crate::inner::Inner;
use crate::pull::Hold;
use crate::registry::{Config, sha256};
use crate::{ImageStore, Layer, StoreError};
use orlop_model::Digest;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::sync::Arc;

/// Writes the archive, uncompressed, of one of an image's layers (lowest first).
pub type LayerWriter =
    Arc<dyn Fn(&ImageStore, &[Layer], usize, &mut dyn Write) -> io::Result<()> + Send + Sync>;

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

impl ImageStore {
    /// Who can write the archives of layers that were built here. A second call changes nothing.
    pub fn set_layer_writer(&self, writer: LayerWriter) {
        let _ = self.shared().writer.set(writer);
    }

    /// Gives an image blobs and a manifest, so that it can leave. An image that has them stays as it
    /// is, unless annotations ask for another manifest. Blocking.
    pub fn complete(
        &self,
        name_or_id: &str,
        annotations: &BTreeMap<String, String>,
    ) -> Result<Digest, StoreError> {
        complete(self.shared(), name_or_id, annotations).map(|record| record.id)
    }
}

/// A file on its way into the store: counted and hashed.
struct Sink {
    file: BufWriter<File>,
    sha256: Sha256,
    size: u64,
}

impl Write for Sink {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = self.file.write(data)?;
        self.sha256.update(&data[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

type Blob = (TempFile, Digest, u64);

/// The image's record with all blobs that it names.
pub(crate) fn complete(
    inner: &Arc<Inner>,
    name_or_id: &str,
    annotations: &BTreeMap<String, String>,
) -> Result<ImageRecord, StoreError> {
    let missing = || StoreError::NotFound { image: name_or_id.to_owned() };
    let id = inner.find(name_or_id).map(|image| image.id.clone()).ok_or_else(missing)?;
    let record = inner.state().images.get(&id).map(|known| known.record.clone());
    let mut record = record.ok_or_else(missing)?;
    let lacking: Vec<usize> = {
        let state = inner.state();
        let lacks = |index: &usize| !state.blobs.contains_key(&record.layers[*index].blob);
        (0..record.layers.len()).filter(lacks).collect()
    };
    if lacking.is_empty() && !record.manifests.is_empty() && annotations.is_empty() {
        return Ok(record);
    }
    let failed = |error| io_error("write the layers of an image to", &inner.layout.root)(error);
    let layers = record.layers.clone();
    let mut blobs: Vec<Blob> = Vec::new();
    for index in lacking {
        if let Some((other, size)) = elsewhere(inner, &layers[index]) {
            (record.layers[index].blob, record.layers[index].blob_size) = (other, size);
            continue;
        }
        let (blob, digest, size) = match write(inner, &layers, index) {
            Ok(written) => written,
            // A pulled one that cannot be written as it was: whoever needs its blob says what to do.
            Err(_) if layers[index].blob != layers[index].diff_id => {
                return Ok(ImageRecord { layers, ..record });
            }
            Err(error) => return Err(failed(error)),
        };
        record.layers[index].blob = digest.clone();
        record.layers[index].blob_size = size;
        // Two empty layers are one blob.
        if blobs.iter().all(|(_, known, _)| *known != digest) {
            blobs.push((blob, digest, size));
        }
    }
    let bytes = std::fs::read(inner.layout.blob(&id)).map_err(failed)?;
    let config = Config::parse(&bytes, layers.len())
        .map_err(|error| StoreError::Index(format!("configuration of {id}: {error}")))?;
    let names = |layers: &[Layer]| layers.iter().map(|l| l.blob.clone()).collect::<Vec<_>>();
    let same = names(&record.layers) == names(&layers);
    let mut held = names(&record.layers);
    if !same || record.manifests.is_empty() || !annotations.is_empty() {
        let made = manifest(inner, &record, bytes.len(), &blobs, annotations).map_err(failed)?;
        let digest = sha256(&made);
        blobs.push((put(inner, &made).map_err(failed)?, digest.clone(), made.len() as u64));
        held.push(digest.clone());
        record.manifests = vec![digest];
    } else {
        inner.syncer.sync().map_err(failed)?;
    }
    let _hold = Hold::new(inner.clone(), held);
    inner.commit_image(blobs, record.clone(), &config)?;
    Ok(record)
}

/// Another image's blob of the same layer, and its size.
fn elsewhere(inner: &Inner, layer: &Layer) -> Option<(Digest, u64)> {
    let state = inner.state();
    let others = state.images.values().flat_map(|known| &known.record.layers);
    let mut same = others.filter(|other| other.diff_id == layer.diff_id);
    same.find_map(|other| Some((other.blob.clone(), *state.blobs.get(&other.blob)?)))
}

fn put(inner: &Inner, bytes: &[u8]) -> io::Result<TempFile> {
    let (temp, mut file) = inner.layout.ingest()?;
    file.write_all(bytes)?;
    file.sync_data()?;
    inner.syncer.sync()?;
    Ok(temp)
}

fn write(inner: &Arc<Inner>, layers: &[Layer], index: usize) -> io::Result<Blob> {
    let writer = inner.writer.get();
    let writer = writer.ok_or_else(|| io::Error::other("nobody can write layers here"))?;
    let (temp, file) = inner.layout.ingest()?;
    let mut sink =
        Sink { file: BufWriter::with_capacity(1 << 20, file), sha256: Sha256::new(), size: 0 };
    {
        // No name and no time in the header: the same bytes always.
        let level = flate2::Compression::new(6);
        let mut gzip = flate2::GzBuilder::new().write(&mut sink, level);
        writer(&ImageStore::of(inner.clone()), layers, index, &mut gzip)?;
        gzip.finish()?;
    }
    sink.flush()?;
    let digest = Digest::from_sha256(&sink.sha256.finalize().into());
    Ok((temp, digest, sink.size))
}

fn manifest(
    inner: &Inner,
    record: &ImageRecord,
    config: usize,
    fresh: &[Blob],
    annotations: &BTreeMap<String, String>,
) -> io::Result<Vec<u8>> {
    let mut layers = Vec::new();
    for layer in &record.layers {
        let own = fresh.iter().any(|(_, digest, _)| *digest == layer.blob);
        let kind = if own { "+gzip" } else { compression(inner, &layer.blob)? };
        layers.push(json!({
            "mediaType": format!("{LAYER}{kind}"),
            "digest": layer.blob,
            "size": layer.blob_size,
        }));
    }
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": record.id, "size": config},
        "layers": layers,
    });
    if !annotations.is_empty() {
        manifest["annotations"] = json!(annotations);
    }
    Ok(serde_json::to_vec(&manifest)?)
}

/// What the media type of a pulled layer's blob ends with.
fn compression(inner: &Inner, blob: &Digest) -> io::Result<&'static str> {
    let mut head = Vec::new();
    File::open(inner.layout.blob(blob))?.take(4).read_to_end(&mut head)?;
    Ok(match head.as_slice() {
        [0x1f, 0x8b, ..] => "+gzip",
        [0x28, 0xb5, 0x2f, 0xfd] => "+zstd",
        _ => "",
    })
}
