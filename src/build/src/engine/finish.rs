//! The last part of a build: the image, and the root of a step that failed.

use super::graph::Outcome;
use super::metadata::add_labels;
use super::{Build, BuildError, Built};
use std::sync::atomic::Ordering;

impl Build<'_> {
    pub(crate) fn finish(&self, outcome: &Outcome) -> Result<Built, BuildError> {
        let failed = |error: String| BuildError::Other(error);
        let mut config = outcome.config.clone();
        add_labels(&mut config.config, &self.request.labels);
        config.rootfs.diff_ids =
            outcome.layers.iter().map(|layer| layer.diff_id.to_string()).collect();
        let bytes = serde_json::to_vec(&config).map_err(|error| failed(error.to_string()))?;
        let store = &self.engine.store;
        let id = store
            .commit_built(&bytes, outcome.layers.clone(), &self.request.tags)
            .map_err(|error| failed(error.to_string()))?;
        if !self.request.annotations.is_empty() {
            store
                .complete(id.as_str(), &self.request.annotations)
                .map_err(|error| failed(error.to_string()))?;
        }
        Ok(Built {
            id,
            config: bytes,
            layers: outcome.layers.clone(),
            reused: self.counter.reused.load(Ordering::Relaxed),
            made: self.counter.made.load(Ordering::Relaxed),
        })
    }
}
