//! Whether the store is what its digests say, and what is done where it is not.

use crate::StoreError;
use crate::disk::{self, ImageRecord};
use crate::inner::Inner;
use crate::pull::{Again, Hold, complete};
use orlop_model::Digest;
use sha2::{Digest as _, Sha256};
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};

/// What a check of the whole store found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Images looked at.
    pub images: u64,
    /// Unpacked layers compared with their blobs, unpacked again.
    pub layers: u64,
    /// Blobs compared with their digests.
    pub blobs: u64,
    /// Layers that could only be counted, since their blob is not here.
    pub counted: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// `blob sha256:…`, `layer sha256:…` or `image sha256:…`.
    pub object: String,
    /// What is wrong with it.
    pub problem: String,
    /// What was done about it, or is to be done.
    pub outcome: String,
    /// Whether it is right now.
    pub repaired: bool,
}

impl Inner {
    /// After an unclean stop: looks at what was committed since the last clean one. What is not
    /// whole loses its name, so that it is unpacked or fetched again.
    pub(crate) fn check_recent(&self, epoch: u64, records: &[ImageRecord]) {
        let recent: Vec<_> = {
            let state = self.state();
            let recent = state.layers.iter().filter(|(_, meta)| meta.epoch >= epoch);
            recent.map(|(name, meta)| (name.clone(), meta.clone())).collect()
        };
        for (name, meta) in recent {
            let why = match disk::miscounted(&self.layout.layer(&name), &meta) {
                Ok(None) => continue,
                Ok(Some(why)) => why,
                Err(error) => {
                    tracing::warn!(layer = %name, %error, "a layer cannot be looked at and is left alone");
                    continue;
                }
            };
            if self.in_use(&name) {
                tracing::error!(layer = %name, why, "a layer is damaged, but a container uses it: it is left; when the container is gone, run `orlop image verify --repair`");
                continue;
            }
            tracing::warn!(layer = %name, why, "a layer is damaged; it is unpacked or fetched again");
            if let Err(error) = self.forget_layer(&name) {
                tracing::error!(layer = %name, %error, "a damaged layer cannot be removed");
            }
        }
        for layer in records.iter().flat_map(|record| &record.layers) {
            let size = self.state().blobs.get(&layer.blob).copied();
            if size.is_some_and(|size| size != layer.blob_size) {
                tracing::warn!(blob = %layer.blob, size, expected = layer.blob_size, "a blob is damaged and is removed");
                let _ = self.forget_blob(&layer.blob);
            }
        }
        for manifest in records.iter().flat_map(|record| &record.manifests) {
            let known = self.state().blobs.contains_key(manifest);
            if known && self.hash_blob(manifest).ok().as_ref() != Some(manifest) {
                tracing::warn!(blob = %manifest, "a manifest is damaged and is removed");
                let _ = self.forget_blob(manifest);
            }
        }
    }

    /// Unpacks again what images lack, where their blobs are here.
    pub(crate) fn complete_images(&self, records: &[ImageRecord]) {
        for record in records {
            if let Err(kind) = complete(self, record) {
                tracing::warn!(image = %record.id, %kind, "the image cannot be completed");
            }
        }
    }

    fn in_use(&self, snapshot: &Digest) -> bool {
        self.state().leases.values().any(|lease| lease.snapshots.contains(snapshot))
    }

    fn hash_blob(&self, digest: &Digest) -> io::Result<Digest> {
        let mut file = File::open(self.layout.blob(digest))?;
        let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 256 << 10]);
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                return Ok(Digest::from_sha256(&hasher.finalize().into()));
            }
            hasher.update(&buffer[..read]);
        }
    }

    /// Checks everything against digests; blocking, and as slow as unpacking all of it again.
    pub(crate) fn verify(&self, repair: bool) -> Result<Report, StoreError> {
        let mut report = Report::default();
        self.verify_blobs(repair, &mut report);
        let records: Vec<ImageRecord> =
            self.state().images.values().map(|known| known.record.clone()).collect();
        let mut seen = HashSet::new();
        for record in &records {
            report.images += 1;
            for index in 0..record.layers.len() {
                if seen.insert(record.layers[index].snapshot.clone()) {
                    self.verify_layer(record, index, repair, &mut report);
                }
            }
        }
        // What lost its last user meanwhile.
        self.collect();
        Ok(report)
    }

    fn verify_blobs(&self, repair: bool, report: &mut Report) {
        let blobs: Vec<Digest> = self.state().blobs.keys().cloned().collect();
        for blob in blobs {
            report.blobs += 1;
            let problem = match self.hash_blob(&blob) {
                Ok(actual) if actual == blob => continue,
                Ok(actual) => format!("its content has the digest {actual}"),
                // Collected while this ran.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if !self.state().blobs.contains_key(&blob) {
                        continue;
                    }
                    "its file is gone".to_owned()
                }
                Err(error) => format!("it cannot be read: {error}"),
            };
            let outcome = if repair {
                match self.forget_blob(&blob) {
                    Ok(()) => "removed; a pull fetches it again where it is needed".to_owned(),
                    Err(error) => format!("cannot be removed: {error}"),
                }
            } else {
                "run with --repair to remove it".to_owned()
            };
            report.findings.push(Finding {
                object: format!("blob {blob}"),
                problem,
                outcome,
                repaired: repair,
            });
        }
    }

    fn verify_layer(&self, record: &ImageRecord, index: usize, repair: bool, report: &mut Report) {
        let layer = &record.layers[index];
        let meta = self.state().layers.get(&layer.snapshot).cloned();
        let Some(meta) = meta else { return };
        let hold = Hold::new(self, vec![layer.snapshot.clone(), layer.blob.clone()]);
        let tree = self.layout.layer(&layer.snapshot);
        let kept = self.state().blobs.contains_key(&layer.blob);
        let (problem, again) = if kept {
            report.layers += 1;
            match Again::unpack(self, record, index) {
                Ok(again) => match disk::difference(&tree, &again.tree()) {
                    Ok(None) => (None, None),
                    Ok(Some(what)) => (Some(what), Some(again)),
                    Err(error) => (Some(format!("it cannot be read: {error}")), Some(again)),
                },
                Err(kind) => (Some(format!("it cannot be compared: {kind}")), None),
            }
        } else {
            report.counted += 1;
            let counted = disk::miscounted(&tree, &meta);
            (counted.unwrap_or_else(|error| Some(format!("it cannot be read: {error}"))), None)
        };
        if let Some(problem) = problem {
            let (repaired, outcome) = match again {
                _ if !repair => (false, "run with --repair to put it right".to_owned()),
                _ if self.in_use(&layer.snapshot) => {
                    (false, "left: a container uses it; remove the container first".to_owned())
                }
                None => (false, "remove the image and pull it again".to_owned()),
                Some(again) => match self.replace_layer(&layer.snapshot, again) {
                    Ok(()) => (true, "unpacked again".to_owned()),
                    Err(why) => (false, why),
                },
            };
            let object = format!("layer {} of image {}", layer.diff_id, record.id);
            report.findings.push(Finding { object, problem, outcome, repaired });
        }
        drop(hold);
    }

    fn replace_layer(&self, name: &Digest, again: Again) -> Result<(), String> {
        self.forget_layer(name).map_err(|error| format!("cannot be removed: {error}"))?;
        again.finish(self).map(drop).map_err(|kind| kind.to_string())
    }
}
