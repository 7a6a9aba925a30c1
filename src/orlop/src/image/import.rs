//! `import`: an image of one layer from a tar file of a root. It is sent to the store as an archive of
//! images that has just this one.

use super::transfer::{load_from, send_archive};
use crate::args::images::ImportArgs;
use crate::door::Images;
use anyhow::{Context, bail};
use orlop_model::{Platform, Reference, Timestamp};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{IsTerminal, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// From a compressed stream to a plain one.
type Unpack = fn(Box<dyn Read>) -> anyhow::Result<Box<dyn Read>>;

/// Bytes that tell a format.
const HEAD: usize = 262;

pub(super) async fn import(client: &mut Images, arguments: &ImportArgs) -> anyhow::Result<()> {
    let host = Platform::host();
    if let Some(wanted) = &arguments.platform
        && *wanted != host.to_string()
        && *wanted != format!("{}/{}", host.os, host.architecture)
    {
        bail!("--platform {wanted}: this machine has images for {host} only");
    }
    let name = arguments.name.as_deref().map(Reference::parse).transpose()?;
    if name.as_ref().is_some_and(|name| name.digest().is_some()) {
        bail!("a name that is given has a tag and no digest");
    }
    if let Some(change) = arguments.change.first() {
        bail!(
            "--change {change}: not possible here; import without it, then build a Dockerfile of FROM and \
             this instruction"
        );
    }
    let file = arguments.file.clone();
    let layer = match tokio::task::spawn_blocking(move || layer(&file)).await?? {
        Source::Root(layer) => layer,
        Source::Images(archive) => {
            // Whoever means `load` is understood, and told.
            let _ =
                writeln!(std::io::stderr(), "orlop: an archive of images, read as by orlop load");
            return load_from(client, archive, arguments.name.as_slice(), false).await;
        }
    };
    let names: Vec<String> = name.iter().map(ToString::to_string).collect();
    let created = Timestamp::now().rfc3339();
    let message = arguments
        .message
        .clone()
        .unwrap_or_else(|| format!("Imported from {}", arguments.file.display()));
    let config = json!({
        "architecture": host.architecture, "os": host.os, "variant": host.variant,
        "created": created, "config": {},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
        "history": [{"created": created, "comment": message}],
    });
    let archive = archive(layer, &config.to_string(), &names)?;
    let done = send_archive(client, archive, &[]).await?;
    for image in done.images {
        writeln!(std::io::stdout(), "{}", image.id)?;
    }
    Ok(())
}

struct Layer {
    diff_id: String,
    file: File,
    size: u64,
}

/// What a tar file is.
enum Source {
    Root(Layer),
    Images(Box<dyn Read + Send>),
}

/// Entries that only an archive of images begins with.
const IMAGES: [&[u8]; 4] = [b"blobs/", b"index.json", b"oci-layout", b"manifest.json"];

/// The plain tar file, in a file without a name, with its digest.
fn layer(path: &Path) -> anyhow::Result<Source> {
    let mut source: Box<dyn Read + Send> = if path == Path::new("-") {
        if std::io::stdin().is_terminal() {
            bail!("standard input is a terminal: name a file, or feed a tar file in");
        }
        Box::new(std::io::stdin())
    } else if path.to_str().is_some_and(|path| path.contains("://")) {
        bail!("{}: fetch it first, then import the file", path.display());
    } else {
        Box::new(File::open(path).with_context(|| format!("{} cannot be opened", path.display()))?)
    };
    let mut head = Vec::with_capacity(HEAD);
    source.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
    if IMAGES.iter().any(|name| head.starts_with(name)) {
        return Ok(Source::Images(Box::new(std::io::Cursor::new(head).chain(source))));
    }
    let plain: Unpack = match head.as_slice() {
        [0x1f, 0x8b, ..] => |all| Ok(Box::new(flate2::read::MultiGzDecoder::new(all))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => |all| Ok(Box::new(zstd::stream::read::Decoder::new(all)?)),
        [b'B', b'Z', b'h', ..] | [0xfd, b'7', b'z', b'X', b'Z', ..] => {
            bail!(
                "this is compressed with bzip2 or xz: unpack it first, as in xz -dc FILE | orlop import -"
            )
        }
        head if head.get(257..262) == Some(b"ustar") => Ok,
        _ => bail!("this is no tar file"),
    };
    let mut tar = plain(Box::new(std::io::Cursor::new(head).chain(source)))?;
    let mut file = tempfile::tempfile().context("a file for the layer")?;
    let (mut hash, mut size) = (Sha256::new(), 0);
    let mut chunk = vec![0; 256 << 10];
    loop {
        let count = tar.read(&mut chunk).context("the tar file cannot be read")?;
        if count == 0 {
            break;
        }
        hash.update(&chunk[..count]);
        size += count as u64;
        file.write_all(&chunk[..count]).context("the layer cannot be kept")?;
    }
    file.seek(SeekFrom::Start(0))?;
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Source::Root(Layer { diff_id: format!("sha256:{hex}"), file, size }))
}

/// What `docker save` writes of one image, as something to read.
fn archive(layer: Layer, config: &str, names: &[String]) -> anyhow::Result<Box<dyn Read + Send>> {
    let manifest = json!([{"Config": "config.json", "RepoTags": names, "Layers": ["layer.tar"]}]);
    let head = |name: &str, size: u64| {
        let mut head = tar::Header::new_ustar();
        head.set_path(name)?;
        head.set_size(size);
        head.set_mode(0o644);
        head.set_cksum();
        anyhow::Ok(head.as_bytes().to_vec())
    };
    let small = |name: &str, text: &str| {
        let mut part = head(name, text.len() as u64)?;
        part.extend_from_slice(text.as_bytes());
        part.resize(part.len().next_multiple_of(512), 0);
        anyhow::Ok(part)
    };
    let mut begin = small("manifest.json", &manifest.to_string())?;
    begin.extend(small("config.json", config)?);
    begin.extend(head("layer.tar", layer.size)?);
    let padding = layer.size.next_multiple_of(512) - layer.size;
    let end = vec![0; padding as usize + 1024];
    let whole = std::io::Cursor::new(begin).chain(layer.file).chain(std::io::Cursor::new(end));
    Ok(Box::new(whole))
}
