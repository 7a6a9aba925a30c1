//! A layer of an image that is here, unpacked again from its blob: to compare, or to put in place of
//! one that is damaged or gone. Blocking.

use super::layer::{self, Stopped, Unfinished, Wanted};
use crate::PullErrorKind as Kind;
use crate::disk::ImageRecord;
use crate::inner::Inner;
use crate::registry::{Descriptor, sha256};
use orlop_model::Digest;
use std::path::Path;

/// A layer that is unpacked and checked against blob digest and diffID, with the attributes of the
/// layers below, but without a name.
pub(crate) struct Again {
    unfinished: Unfinished,
    wanted: Wanted,
    lower: Vec<Digest>,
}

impl Again {
    /// Unpacks layer number `index` of an image from its blob, which must be here.
    pub(crate) fn unpack(inner: &Inner, record: &ImageRecord, index: usize) -> Result<Self, Kind> {
        let layer = &record.layers[index];
        let mut chain = record.layers[0].diff_id.clone();
        for above in &record.layers[1..=index] {
            chain = sha256(format!("{chain} {}", above.diff_id).as_bytes());
        }
        let wanted = Wanted {
            index,
            descriptor: Descriptor::of(layer.blob.clone(), layer.blob_size),
            diff_id: layer.diff_id.clone(),
            chain,
        };
        let unfinished = layer::unpack(inner, &wanted, None).map_err(|stopped| match stopped {
            Stopped::Failed(kind) => kind,
            Stopped::Aborted => Kind::Cancelled,
        })?;
        let lower: Vec<_> =
            record.layers[..index].iter().rev().map(|below| below.snapshot.clone()).collect();
        layer::adopt_from(inner, &unfinished, &lower)?;
        Ok(Self { unfinished, wanted, lower })
    }

    /// The unpacked tree.
    pub(crate) fn tree(&self) -> std::path::PathBuf {
        Path::join(self.unfinished.path(), "fs")
    }

    /// Makes it durable and gives it its name, which nothing may have.
    pub(crate) fn finish(self, inner: &Inner) -> Result<Digest, Kind> {
        layer::finish(inner, &self.wanted, self.unfinished, &self.lower)
    }
}

/// Unpacks what an image lacks of its layers, where their blobs are here.
pub(crate) fn complete(inner: &Inner, record: &ImageRecord) -> Result<(), Kind> {
    for (index, layer) in record.layers.iter().enumerate() {
        let known = inner.state().layers.contains_key(&layer.snapshot);
        if known {
            continue;
        }
        let kept = inner.state().blobs.contains_key(&layer.blob);
        if !kept {
            let message =
                format!("layer {} is gone, and so is its blob {}", layer.diff_id, layer.blob);
            return Err(Kind::Store { message });
        }
        let name = Again::unpack(inner, record, index)?.finish(inner)?;
        tracing::info!(layer = %layer.diff_id, snapshot = %name, "unpacked again from its blob");
    }
    Ok(())
}
