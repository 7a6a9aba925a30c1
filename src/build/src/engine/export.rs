//! Layers as archives: written again from their directories when someone wants them.

use super::Engine;
use crate::files::copy::Copier;
use crate::files::layer::{self, LayerSource, NEVER};
use crate::files::root::{Implicit, Root};
use crate::files::select::Tree;
use crate::ignore::IgnoreRules;
use orlop_image::{ImageStore, Layer};
use orlop_model::Digest;
use std::collections::HashMap;
use std::io::{self, Write};
use std::os::fd::AsFd;

impl Engine {
    /// As [`write_layer`], of the engine's own store.
    pub fn write_layer(
        &self,
        layers: &[Layer],
        index: usize,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        write_layer(&self.store, layers, index, out)
    }

    /// A file without a name, on the store's disk.
    pub(crate) fn temporary(&self) -> io::Result<std::fs::File> {
        use rustix::fs::{Mode, OFlags};
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&self.caches, flags, Mode::from_raw_mode(0o600))?;
        Ok(fd.into())
    }
}

/// Writes the archive of a layer, uncompressed, to `out`. The archive is the one that the layer's
/// name says, or the writing fails.
pub fn write_layer(
    store: &ImageStore,
    layers: &[Layer],
    index: usize,
    out: &mut dyn Write,
) -> io::Result<()> {
    {
        let layer = &layers[index];
        if layer.blob != layer.diff_id
            && let Ok(blob) = store.open_blob(&layer.blob)
        {
            return inflate(blob, out);
        }
        let snapshots: Vec<Digest> = layers.iter().map(|layer| layer.snapshot.clone()).collect();
        let own = std::slice::from_ref(&snapshots[index]);
        let upper = store.view(own)?;
        // A layer that does not depend on what is below was made over nothing. Which of the two it
        // is, only its digest says, and that is known when all is written.
        for alone in [index == 0, true] {
            let view = match (alone, &snapshots[..index]) {
                (true, _) | (_, []) => None,
                (false, below) => Some(store.view(below)?),
            };
            let source =
                LayerSource { upper: &upper, below: view.as_ref(), started: NEVER, epoch: 0 };
            let check = |out: &mut dyn Write| {
                layer::write(&source, None, out)
                    .map_err(|error| io::Error::other(error.to_string()))
            };
            if check(&mut io::sink())?.diff_id == layer.diff_id {
                check(out)?;
                return Ok(());
            }
        }
        Err(io::Error::other(format!(
            "layer {} is not what it was when it was built: its directory was changed",
            layer.diff_id
        )))
    }
}

fn inflate(blob: std::fs::File, out: &mut dyn Write) -> io::Result<()> {
    let mut file = blob;
    match crate::files::archive::sniff(&mut file)? {
        Some(mut reader) => io::copy(&mut reader, out).map(drop),
        None => Err(io::Error::other("a layer's blob is no archive")),
    }
}

impl Engine {
    /// Writes the whole root of an image as one archive, uncompressed.
    pub fn write_root(&self, layers: &[Layer], out: &mut dyn Write) -> io::Result<()> {
        // A view is a place to start from, not a directory to read; it lives as long as its descriptor.
        let view = self.root_of(layers)?;
        let root = crate::files::content::reopen(view.as_fd(), rustix::fs::OFlags::DIRECTORY)?;
        let source = LayerSource { upper: &root, below: None, started: NEVER, epoch: 0 };
        layer::write(&source, None, out)
            .map(drop)
            .map_err(|error| io::Error::other(error.to_string()))
    }

    /// Copies the whole root of an image into a directory, which is made where it is not there.
    pub fn copy_root(&self, layers: &[Layer], dest: &std::path::Path) -> io::Result<()> {
        std::fs::create_dir_all(dest)?;
        let tree = Tree {
            root: self.root_of(layers)?,
            hidden: IgnoreRules::default(),
            rules_file: String::new(),
            name: "the image".into(),
            owned: true,
        };
        let root = Root(orlop_sys::fs::open_dir(dest)?);
        let exclude = IgnoreRules::default();
        let mut copier = Copier {
            tree: &tree,
            exclude: &exclude,
            owner: None,
            chmod: None,
            implicit: Implicit { uid: 0, gid: 0, mode: 0o755, mtime: 0 },
            root: &root,
            linked: HashMap::new(),
        };
        let other = |error: crate::files::FileError| io::Error::other(error.to_string());
        for selected in tree.select("/", false).map_err(other)? {
            copier.copy(&selected, "/").map_err(other)?;
        }
        Ok(())
    }

    fn root_of(&self, layers: &[Layer]) -> io::Result<std::os::fd::OwnedFd> {
        let snapshots: Vec<Digest> = layers.iter().map(|layer| layer.snapshot.clone()).collect();
        self.store.view(&snapshots)
    }
}
