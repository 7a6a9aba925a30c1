//! Images made for tests, as a registry stores them.

use crate::registry::sha256;
use orlop_model::Digest;
use serde_json::{Value, json};
use std::io::Write;

pub(super) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// How a layer is compressed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pack {
    Plain,
    Gzip,
    /// Several gzip members one after the other.
    Members,
    Zstd,
}

/// One layer, plain and packed.
#[derive(Clone)]
pub(super) struct LayerPart {
    pub(super) tar: Vec<u8>,
    pub(super) packed: Vec<u8>,
    media: &'static str,
}

/// Content of an image and what it is called.
#[derive(Clone)]
pub(super) struct ImageParts {
    pub(super) layers: Vec<LayerPart>,
    pub(super) config: Vec<u8>,
    pub(super) manifest: Vec<u8>,
    pub(super) media_type: &'static str,
}

/// A tar of regular files; a name with a slash at its end is a directory.
pub(super) fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_mtime(1_700_000_000);
        header.set_size(content.len() as u64);
        let is_dir = name.ends_with('/');
        header.set_mode(if is_dir { 0o755 } else { 0o644 });
        header.set_entry_type(if is_dir {
            tar::EntryType::Directory
        } else {
            tar::EntryType::Regular
        });
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn layer(files: &[(&str, &[u8])], pack: Pack) -> LayerPart {
    packed(tar_of(files), pack)
}

pub(super) fn packed(tar: Vec<u8>, pack: Pack) -> LayerPart {
    let (packed, media) = match pack {
        Pack::Plain => (tar.clone(), "application/vnd.oci.image.layer.v1.tar"),
        Pack::Gzip => (gzip(&tar), "application/vnd.oci.image.layer.v1.tar+gzip"),
        Pack::Members => {
            let (a, b) = tar.split_at(tar.len() / 2);
            ([gzip(a), gzip(b)].concat(), "application/vnd.docker.image.rootfs.diff.tar.gzip")
        }
        Pack::Zstd => {
            (zstd::encode_all(&tar[..], 1).unwrap(), "application/vnd.oci.image.layer.v1.tar+zstd")
        }
    };
    LayerPart { tar, packed, media }
}

pub(super) fn descriptor(media: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media, "digest": sha256(bytes), "size": bytes.len()})
}

/// An image for this machine.
pub(super) fn image(layers: Vec<LayerPart>) -> ImageParts {
    image_for(layers, "amd64", OCI_MANIFEST)
}

pub(super) fn image_for(
    layers: Vec<LayerPart>,
    arch: &str,
    media_type: &'static str,
) -> ImageParts {
    let ids: Vec<Digest> = layers.iter().map(|layer| sha256(&layer.tar)).collect();
    let config = json!({
        "architecture": arch, "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/sh"], "Entrypoint": null, "Labels": null},
        "rootfs": {"type": "layers", "diff_ids": ids},
    });
    with_config(layers, &config, media_type)
}

pub(super) fn with_config(
    layers: Vec<LayerPart>,
    config: &Value,
    media_type: &'static str,
) -> ImageParts {
    let config = serde_json::to_vec(config).unwrap();
    let config_type = if media_type == DOCKER_MANIFEST {
        "application/vnd.docker.container.image.v1+json"
    } else {
        "application/vnd.oci.image.config.v1+json"
    };
    let pointers: Vec<Value> =
        layers.iter().map(|layer| descriptor(layer.media, &layer.packed)).collect();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media_type,
        "config": descriptor(config_type, &config), "layers": pointers,
    });
    let manifest = serde_json::to_vec(&manifest).unwrap();
    ImageParts { layers, config, manifest, media_type }
}

impl ImageParts {
    pub(super) fn id(&self) -> Digest {
        sha256(&self.config)
    }

    pub(super) fn digest(&self) -> Digest {
        sha256(&self.manifest)
    }

    /// Everything but the manifest.
    pub(super) fn blobs(&self) -> Vec<Vec<u8>> {
        let layers = self.layers.iter().map(|layer| layer.packed.clone());
        layers.chain([self.config.clone()]).collect()
    }
}

/// Operating system, architecture, variant.
type PlatformParts<'a> = (&'a str, &'a str, Option<&'a str>);

/// An index of images for platforms.
pub(super) fn index(images: &[(&ImageParts, PlatformParts<'_>)]) -> Vec<u8> {
    let entry =
        |(image, (os, architecture, variant)): &(&ImageParts, (&str, &str, Option<&str>))| {
            let mut entry = descriptor(image.media_type, &image.manifest);
            entry["platform"] = json!({"os": os, "architecture": architecture});
            if let Some(variant) = variant {
                entry["platform"]["variant"] = json!(variant);
            }
            entry
        };
    let entries: Vec<Value> = images.iter().map(entry).collect();
    serde_json::to_vec(&json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}))
        .unwrap()
}

/// Bytes that do not compress, the same for the same seed.
pub(super) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&next());
    }
    bytes.truncate(len);
    bytes
}
