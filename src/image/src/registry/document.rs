//! Manifests, indexes and image configurations: read strictly, since everything that follows
//! depends on them.

use super::printable;
use crate::PullErrorKind as Kind;
use oci_spec::image::ImageConfiguration;
use orlop_model::{Digest, Platform};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// Most bytes of a manifest or index.
pub(crate) const MANIFEST_LIMIT: u64 = 4 << 20;
/// Most bytes of an image configuration.
pub(crate) const CONFIG_LIMIT: u64 = 8 << 20;
/// Most layers: what overlayfs stacks.
const LAYERS_LIMIT: usize = 500;
/// Deepest nesting of a document.
const DEPTH_LIMIT: usize = 64;

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1";

/// What a registry may answer with.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// A pointer to content.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default)]
    urls: Option<Vec<String>>,
}

impl Descriptor {
    /// A layer that is here.
    pub(crate) fn of(digest: Digest, size: u64) -> Self {
        Self { media_type: String::new(), digest, size, urls: None }
    }

    /// Whether content of exactly `actual` bytes is what was announced.
    pub(crate) fn check_size(&self, object: &'static str, actual: u64) -> Result<(), Kind> {
        if actual == self.size { Ok(()) } else { Err(self.wrong_size(object, actual)) }
    }

    /// Whether content of `actual` bytes, perhaps not all, can be what was announced.
    pub(crate) fn check_not_over(&self, object: &'static str, actual: u64) -> Result<(), Kind> {
        if actual <= self.size { Ok(()) } else { Err(self.wrong_size(object, actual)) }
    }

    fn wrong_size(&self, object: &'static str, actual: u64) -> Kind {
        Kind::SizeMismatch { object, digest: self.digest.clone(), expected: self.size, actual }
    }
}

/// What a manifest address answered with.
#[derive(Debug)]
pub(crate) enum Document {
    Manifest(Manifest),
    Index(Index),
}

/// One image.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// One image for several platforms.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Index {
    manifests: Vec<Entry>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    media_type: String,
    // Checked when the entry is chosen: others may be of kinds that are not known here.
    digest: String,
    size: u64,
    #[serde(default)]
    platform: Option<EntryPlatform>,
}

#[derive(Debug, Clone, Deserialize)]
struct EntryPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

/// The member names that say what a document is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    #[serde(default)]
    schema_version: Option<u64>,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    manifests: Option<IgnoredAny>,
    #[serde(default)]
    layers: Option<IgnoredAny>,
    #[serde(default)]
    config: Option<IgnoredAny>,
    #[serde(default)]
    fs_layers: Option<IgnoredAny>,
}

fn malformed(object: &'static str, message: impl std::fmt::Display) -> Kind {
    Kind::Malformed { object, message: printable(&message.to_string()) }
}

impl Document {
    /// Reads what came with `content_type`; an empty type counts as not given.
    pub(crate) fn parse(bytes: &[u8], content_type: &str) -> Result<Self, Kind> {
        check_depth(bytes, "manifest")?;
        let shape: Shape = serde_json::from_slice(bytes).map_err(|e| malformed("manifest", e))?;
        let header = content_type.split(';').next().unwrap_or_default().trim();
        let declared = declared(header, shape.media_type.as_deref())?;
        refuse_schema1(&shape, declared)?;
        if shape.schema_version != Some(2) {
            return Err(malformed("manifest", "schemaVersion is not 2"));
        }
        // A document that can be read in two ways is read differently by two programs.
        if shape.manifests.is_some() && (shape.layers.is_some() || shape.config.is_some()) {
            return Err(malformed("manifest", "it is both an index and a manifest"));
        }
        let is_index = match declared {
            Some(OCI_INDEX | DOCKER_LIST) => true,
            Some(OCI_MANIFEST | DOCKER_MANIFEST) => false,
            None => shape.manifests.is_some(),
            Some(other) => return Err(unsupported("manifest", other, "")),
        };
        if is_index {
            let index: Index = serde_json::from_slice(bytes).map_err(|e| malformed("index", e))?;
            return Ok(Self::Index(index));
        }
        let manifest: Manifest =
            serde_json::from_slice(bytes).map_err(|e| malformed("manifest", e))?;
        manifest.check()?;
        Ok(Self::Manifest(manifest))
    }
}

/// The media type of header and body, which must agree where both are given. Types that say
/// nothing (JSON, plain text) count as not given.
fn declared<'a>(header: &'a str, body: Option<&'a str>) -> Result<Option<&'a str>, Kind> {
    let header = Some(header).filter(|text| {
        !matches!(*text, "" | "application/json" | "text/plain" | "application/octet-stream")
    });
    let body = body.filter(|text| !text.is_empty());
    match (header, body) {
        (Some(header), Some(body)) if header != body => Err(malformed(
            "manifest",
            format!("it says that it is {body:?}, but was sent as {header:?}"),
        )),
        (header, body) => Ok(body.or(header)),
    }
}

fn refuse_schema1(shape: &Shape, declared: Option<&str>) -> Result<(), Kind> {
    let named = declared.is_some_and(|declared| declared.starts_with(SCHEMA1));
    if named || shape.schema_version == Some(1) || shape.fs_layers.is_some() {
        let hint = "; Docker schema 1 has been retired: push the image again with a current tool";
        return Err(unsupported("manifest", declared.unwrap_or(SCHEMA1), hint));
    }
    Ok(())
}

fn unsupported(object: &'static str, media_type: &str, hint: &'static str) -> Kind {
    Kind::UnsupportedMediaType { object, media_type: printable(media_type), hint }
}

/// Refuses what is nested too deeply, without reading it as JSON.
pub(crate) fn check_depth(bytes: &[u8], object: &'static str) -> Result<(), Kind> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_LIMIT {
            return Err(malformed(object, format!("nested more than {DEPTH_LIMIT} levels deep")));
        }
    }
    Ok(())
}

impl Manifest {
    fn check(&self) -> Result<(), Kind> {
        if self.layers.len() > LAYERS_LIMIT {
            let (size, limit) = (self.layers.len() as u64, LAYERS_LIMIT as u64);
            return Err(Kind::TooLarge { what: "number of layers".into(), size, limit });
        }
        match self.config.media_type.as_str() {
            "application/vnd.oci.image.config.v1+json"
            | "application/vnd.docker.container.image.v1+json" => {}
            other => {
                let hint = "; this is an artifact, not an image that can run";
                return Err(unsupported("image configuration", other, hint));
            }
        }
        if self.config.size > CONFIG_LIMIT {
            let (size, limit) = (self.config.size, CONFIG_LIMIT);
            return Err(Kind::TooLarge { what: "image configuration".into(), size, limit });
        }
        self.layers.iter().try_for_each(check_layer)
    }
}

/// Which compression it is is told by the content, but the type must be one of a tar archive.
fn check_layer(layer: &Descriptor) -> Result<(), Kind> {
    let media_type = layer.media_type.as_str();
    if layer.urls.as_ref().is_some_and(|urls| !urls.is_empty())
        || media_type.contains("nondistributable")
        || media_type.contains(".foreign.")
    {
        let hint = "; layers that lie outside the registry are refused";
        return Err(unsupported("layer", media_type, hint));
    }
    match media_type {
        "application/vnd.oci.image.layer.v1.tar"
        | "application/vnd.oci.image.layer.v1.tar+gzip"
        | "application/vnd.oci.image.layer.v1.tar+zstd"
        | "application/vnd.docker.image.rootfs.diff.tar"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Ok(()),
        other if other.contains("encrypted") => {
            Err(unsupported("layer", other, "; encrypted layers are not supported"))
        }
        other => Err(unsupported(
            "layer",
            other,
            "; a tar archive, plain or with gzip or zstd, is expected",
        )),
    }
}

impl Index {
    /// The entry for a platform: the closest variant, the first of equals.
    pub(crate) fn choose(&self, wanted: &Platform) -> Result<Descriptor, Kind> {
        let mut best: Option<(&Entry, String)> = None;
        for entry in &self.manifests {
            let Some(platform) = entry.platform() else { continue };
            if !platform.runs_on(wanted) {
                continue;
            }
            // Later variants sort later, and what has none comes before all of them.
            let rank = if platform.variant == wanted.variant {
                "\u{10ffff}".to_owned()
            } else {
                platform.variant.unwrap_or_default()
            };
            if best.as_ref().is_none_or(|(_, top)| rank > *top) {
                best = Some((entry, rank));
            }
        }
        let Some((entry, _)) = best else {
            let mut available: Vec<String> = self
                .manifests
                .iter()
                .filter_map(Entry::platform)
                .map(|p| printable(&p.to_string()))
                .collect();
            available.sort();
            available.dedup();
            available.truncate(50);
            return Err(Kind::NoPlatform { wanted: wanted.to_string(), available });
        };
        let digest = Digest::parse(&entry.digest).map_err(|error| malformed("index", error))?;
        if entry.size > MANIFEST_LIMIT {
            return Err(Kind::TooLarge {
                what: "manifest".into(),
                size: entry.size,
                limit: MANIFEST_LIMIT,
            });
        }
        Ok(Descriptor {
            media_type: entry.media_type.clone(),
            digest,
            size: entry.size,
            urls: None,
        })
    }
}

impl Entry {
    /// `None` for what is no image: attestations say "unknown".
    fn platform(&self) -> Option<Platform> {
        let platform = self.platform.as_ref()?;
        if platform.os == "unknown" || platform.os.is_empty() {
            return None;
        }
        let variant = platform.variant.clone().filter(|text| !text.is_empty());
        Some(Platform {
            os: platform.os.clone(),
            architecture: platform.architecture.clone(),
            variant,
        })
    }
}

/// An image configuration that belongs to its manifest.
pub(crate) struct Config {
    pub(crate) image: ImageConfiguration,
    pub(crate) diff_ids: Vec<Digest>,
}

impl Config {
    /// Reads the configuration of an image with `layers` layers.
    pub(crate) fn parse(bytes: &[u8], layers: usize) -> Result<Self, Kind> {
        const OBJECT: &str = "image configuration";
        check_depth(bytes, OBJECT)?;
        let image: ImageConfiguration =
            serde_json::from_slice(bytes).map_err(|e| malformed(OBJECT, e))?;
        let root = image.rootfs();
        if root.typ() != "layers" {
            return Err(malformed(
                OBJECT,
                format!("rootfs.type is {:?}, not \"layers\"", root.typ()),
            ));
        }
        let ids: Result<Vec<_>, _> = root.diff_ids().iter().map(|id| Digest::parse(id)).collect();
        let diff_ids = ids.map_err(|error| malformed(OBJECT, error))?;
        if diff_ids.len() != layers {
            let found = diff_ids.len();
            return Err(malformed(
                OBJECT,
                format!("it names {found} layers, the manifest {layers}"),
            ));
        }
        Ok(Self { image, diff_ids })
    }

    /// Whether the image runs on `wanted`, by its own account.
    pub(crate) fn check_platform(&self, wanted: &Platform) -> Result<(), Kind> {
        let own = Platform {
            os: self.image.os().to_string(),
            architecture: self.image.architecture().to_string(),
            variant: self.image.variant().clone().filter(|text| !text.is_empty()),
        };
        if own.runs_on(wanted) || own.architecture.is_empty() {
            return Ok(());
        }
        let available = vec![printable(&own.to_string())];
        Err(Kind::NoPlatform { wanted: wanted.to_string(), available })
    }
}
