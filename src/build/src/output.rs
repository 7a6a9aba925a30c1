//! An image as an archive: an OCI layout, and what `docker load` reads.

use crate::{Built, Engine, key};
use flate2::{Compression as Level, GzBuilder};
use orlop_model::Digest;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek, Write};

/// How layers are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    Not,
    /// The one that everything reads.
    Gzip,
    /// The faster one.
    Zstd,
}

/// What an archive is beside its image.
#[derive(Debug, Clone, Copy)]
pub struct Archive<'a> {
    /// Names of the image.
    pub tags: &'a [String],
    /// Annotations of its manifest.
    pub annotations: &'a BTreeMap<String, String>,
    /// How its layers are compressed.
    pub compression: Compression,
    /// With the documents that `docker load` reads.
    pub docker: bool,
}

impl Compression {
    /// The media type of a layer.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Not => "application/vnd.oci.image.layer.v1.tar",
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }

    /// Compresses what `write` writes; the same bytes always.
    pub fn compress(
        self,
        out: &mut dyn Write,
        write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        match self {
            Self::Not => write(out),
            Self::Gzip => {
                // No name and no time in the header.
                let mut gzip = GzBuilder::new().write(out, Level::new(6));
                write(&mut gzip)?;
                gzip.finish().map(drop)
            }
            Self::Zstd => {
                let mut zstd = zstd::Encoder::new(out, 3)?;
                write(&mut zstd)?;
                zstd.finish().map(drop)
            }
        }
    }
}

impl Engine {
    /// Writes an image as an archive.
    pub fn write_archive(
        &self,
        built: &Built,
        archive: &Archive<'_>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let mut tar = tar::Builder::new(out);
        let mut layers = Vec::new();
        let mut written = HashSet::new();
        for index in 0..built.layers.len() {
            let (digest, size, mut file) = self.layer(built, index, archive.compression)?;
            if written.insert(digest.clone()) {
                append(&mut tar, &blob(&digest), size, &mut file)?;
            }
            layers.push(json!({
                "mediaType": archive.compression.media_type(),
                "digest": digest.to_string(),
                "size": size,
            }));
        }
        text(&mut tar, &blob(&built.id), &built.config)?;
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": built.id.to_string(),
                "size": built.config.len(),
            },
            "layers": layers,
        });
        if !archive.annotations.is_empty() {
            manifest["annotations"] = json!(archive.annotations);
        }
        let manifest = serde_json::to_vec(&manifest)?;
        let digest = key::digest(&manifest);
        text(&mut tar, &blob(&digest), &manifest)?;
        let index = serde_json::to_vec(&index(archive.tags, &digest, manifest.len()))?;
        text(&mut tar, "index.json", &index)?;
        text(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        if archive.docker {
            let paths: Vec<String> = layers
                .iter()
                .filter_map(|layer| layer["digest"].as_str())
                .map(|digest| format!("blobs/{}", digest.replace(':', "/")))
                .collect();
            let list =
                json!([{"Config": blob(&built.id), "RepoTags": archive.tags, "Layers": paths}]);
            text(&mut tar, "manifest.json", &serde_json::to_vec(&list)?)?;
        }
        tar.into_inner()?.flush()
    }

    /// The layer as it goes out: digest, size, and a file at its start.
    fn layer(
        &self,
        built: &Built,
        index: usize,
        compression: Compression,
    ) -> io::Result<(Digest, u64, File)> {
        let mut file = self.temporary()?;
        compression.compress(&mut file, &mut |out| self.write_layer(&built.layers, index, out))?;
        let size = file.stream_position()?;
        file.rewind()?;
        let digest = key::digest_of(&mut file)?;
        file.rewind()?;
        Ok((digest, size, file))
    }
}

fn index(tags: &[String], manifest: &Digest, size: usize) -> Value {
    let descriptor = |tag: Option<&String>| {
        let mut value = json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": manifest.to_string(),
            "size": size,
        });
        if let Some(tag) = tag {
            value["annotations"] = json!({
                "io.containerd.image.name": tag,
                "org.opencontainers.image.ref.name": tag.rsplit(':').next(),
            });
        }
        value
    };
    let manifests: Vec<_> = match tags {
        [] => vec![descriptor(None)],
        tags => tags.iter().map(|tag| descriptor(Some(tag))).collect(),
    };
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": manifests,
    })
}

fn blob(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn append<W: Write>(
    tar: &mut tar::Builder<W>,
    path: &str,
    size: u64,
    data: &mut dyn Read,
) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_size(size);
    header.set_mtime(0);
    tar.append_data(&mut header, path, data)
}

fn text<W: Write>(tar: &mut tar::Builder<W>, path: &str, mut data: &[u8]) -> io::Result<()> {
    append(tar, path, data.len() as u64, &mut data)
}
