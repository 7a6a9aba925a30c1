//! Results beside the store: OCI and Docker archives, the root as an archive or a directory.

use anyhow::{Context, bail};
use flate2::{Compression, GzBuilder};
use orlop_build::{Built, Engine};
use orlop_model::Digest;
use std::fs::File;
use std::io::{BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

/// `--output`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Output {
    kind: Kind,
    dest: Option<PathBuf>,
    compression: Compressed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The store alone.
    Image,
    Oci,
    Docker,
    Tar,
    Local,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compressed {
    Not,
    Gzip,
    Zstd,
}

impl Output {
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let mut output = Self { kind: Kind::Image, dest: None, compression: Compressed::Gzip };
        if !text.contains('=') {
            // A path alone is a directory, a dash an archive on standard output.
            output.kind = if text == "-" { Kind::Tar } else { Kind::Local };
            output.dest = Some(PathBuf::from(text));
            return Ok(output);
        }
        for part in text.split(',') {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            match (key, value) {
                ("type", "image") => output.kind = Kind::Image,
                ("type", "oci") => output.kind = Kind::Oci,
                ("type", "docker") => output.kind = Kind::Docker,
                ("type", "tar") => output.kind = Kind::Tar,
                ("type", "local") => output.kind = Kind::Local,
                ("dest", path) => output.dest = Some(PathBuf::from(path)),
                ("compression", "uncompressed") => output.compression = Compressed::Not,
                ("compression", "gzip") => output.compression = Compressed::Gzip,
                ("compression", "zstd") => output.compression = Compressed::Zstd,
                _ => bail!(
                    "--output {text}: {part:?} is not known; expected type=image|oci|docker|tar|local, dest=PATH, compression=uncompressed|gzip|zstd"
                ),
            }
        }
        if output.dest.is_none() && output.kind != Kind::Image {
            bail!("--output {text}: a dest=PATH is missing");
        }
        Ok(output)
    }

    pub(crate) fn write(
        &self,
        engine: &Engine,
        built: &Built,
        tags: &[String],
    ) -> anyhow::Result<()> {
        let Some(dest) = &self.dest else { return Ok(()) };
        match self.kind {
            Kind::Image => Ok(()),
            Kind::Oci | Kind::Docker => self.archive(engine, built, tags, dest),
            Kind::Tar => {
                let mut out = open(dest)?;
                engine.write_root(&built.layers, &mut out).context("writing the archive")?;
                out.flush().context("writing the archive")
            }
            Kind::Local => engine
                .copy_root(&built.layers, dest)
                .with_context(|| format!("writing {}", dest.display())),
        }
    }

    fn archive(
        &self,
        engine: &Engine,
        built: &Built,
        tags: &[String],
        dest: &Path,
    ) -> anyhow::Result<()> {
        let mut tar = tar::Builder::new(open(dest)?);
        let mut layers = Vec::new();
        let mut written = std::collections::HashSet::new();
        for index in 0..built.layers.len() {
            let (digest, size, mut file) = self.layer(engine, built, index)?;
            if written.insert(digest.clone()) {
                append_file(&mut tar, &blob(&digest), &mut file, size)?;
            }
            layers.push(serde_json::json!({
                "mediaType": self.media_type(),
                "digest": digest.to_string(),
                "size": size,
            }));
        }
        append(&mut tar, &blob(&built.id), &built.config)?;
        let manifest = serde_json::to_vec(&serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": built.id.to_string(),
                "size": built.config.len(),
            },
            "layers": layers,
        }))?;
        let digest = orlop_build::key::digest(&manifest);
        append(&mut tar, &blob(&digest), &manifest)?;
        let descriptor = |tag: Option<&String>| {
            let mut value = serde_json::json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": digest.to_string(),
                "size": manifest.len(),
            });
            if let Some(tag) = tag {
                value["annotations"] = serde_json::json!({
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
        let index = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": manifests,
        });
        append(&mut tar, "index.json", &serde_json::to_vec(&index)?)?;
        append(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        if self.kind == Kind::Docker {
            let paths: Vec<String> = layers
                .iter()
                .filter_map(|layer| layer["digest"].as_str())
                .map(|digest| format!("blobs/{}", digest.replace(':', "/")))
                .collect();
            let list = serde_json::json!([{
                "Config": blob(&built.id), "RepoTags": tags, "Layers": paths,
            }]);
            append(&mut tar, "manifest.json", &serde_json::to_vec(&list)?)?;
        }
        tar.into_inner().and_then(|mut out| out.flush()).context("writing the archive")
    }

    fn media_type(&self) -> &'static str {
        match self.compression {
            Compressed::Not => "application/vnd.oci.image.layer.v1.tar",
            Compressed::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Compressed::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }

    /// The layer as it goes out: digest, size, and a file at its start.
    fn layer(
        &self,
        engine: &Engine,
        built: &Built,
        index: usize,
    ) -> anyhow::Result<(Digest, u64, File)> {
        let mut file = temporary()?;
        let failed = || format!("writing layer {}", built.layers[index].diff_id);
        match self.compression {
            Compressed::Not => {
                engine.write_layer(&built.layers, index, &mut file).with_context(failed)?;
            }
            Compressed::Gzip => {
                // No name and no time in the header: the same bytes always.
                let mut out = GzBuilder::new().write(&mut file, Compression::new(6));
                engine.write_layer(&built.layers, index, &mut out).with_context(failed)?;
                out.finish().with_context(failed)?;
            }
            Compressed::Zstd => {
                let mut out = zstd::Encoder::new(&mut file, 3).with_context(failed)?;
                engine.write_layer(&built.layers, index, &mut out).with_context(failed)?;
                out.finish().with_context(failed)?;
            }
        }
        let size = file.stream_position()?;
        file.rewind()?;
        let digest = orlop_build::key::digest_of(&mut file)?;
        file.rewind()?;
        Ok((digest, size, file))
    }
}

fn blob(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn open(dest: &Path) -> anyhow::Result<Box<dyn Write>> {
    if dest == Path::new("-") {
        return Ok(Box::new(std::io::stdout()));
    }
    let file = File::create(dest).with_context(|| format!("making {}", dest.display()))?;
    Ok(Box::new(BufWriter::with_capacity(1 << 20, file)))
}

fn temporary() -> anyhow::Result<File> {
    let flags =
        rustix::fs::OFlags::TMPFILE | rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    let dir = std::env::temp_dir();
    let fd = rustix::fs::open(&dir, flags, rustix::fs::Mode::from_raw_mode(0o600))
        .with_context(|| format!("making a file in {}", dir.display()))?;
    Ok(File::from(fd))
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_size(size);
    header.set_mtime(0);
    header
}

fn append<W: Write>(tar: &mut tar::Builder<W>, path: &str, bytes: &[u8]) -> anyhow::Result<()> {
    tar.append_data(&mut header(bytes.len() as u64), path, bytes).context("writing the archive")
}

fn append_file<W: Write>(
    tar: &mut tar::Builder<W>,
    path: &str,
    file: &mut File,
    size: u64,
) -> anyhow::Result<()> {
    tar.append_data(&mut header(size), path, file).context("writing the archive")
}
