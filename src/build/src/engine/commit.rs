//! An image of an image and a layer that no instruction has made: `commit`.

use super::time::rfc3339;
use super::{Engine, NamedContext, Quiet, Request};
use crate::config::{History, ImageConfig};
use crate::exec::NetworkMode;
use crate::files::layer::{self, LayerSource, NEVER};
use crate::key;
use orlop_image::Image;
use orlop_model::{Digest, Platform, Reference};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio_util::sync::CancellationToken;

/// Instructions that may change what is committed: those that change the configuration alone.
const CHANGES: [&str; 11] = [
    "CMD",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "HEALTHCHECK",
    "LABEL",
    "ONBUILD",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// What is committed.
pub struct Commit<'a> {
    /// What the layer lies on.
    pub image: &'a Image,
    /// What made it, for the history.
    pub created_by: &'a str,
    /// Who; empty: nobody says.
    pub author: &'a str,
    /// Why; empty: nobody says.
    pub message: &'a str,
    /// Dockerfile instructions.
    pub changes: &'a [String],
    /// Names of the image.
    pub names: &'a [Reference],
}

impl Engine {
    /// Makes the image; `fill` puts the layer, with overlayfs' marks, into an empty directory. The
    /// image's id, and that of one that was made on the way and is of no use any more.
    pub fn commit(
        &self,
        commit: &Commit<'_>,
        fill: impl FnOnce(&OwnedFd) -> io::Result<()>,
    ) -> Result<(Digest, Option<Digest>), String> {
        check(commit.changes)?;
        let first = self.commit_layer(commit, fill)?;
        if commit.changes.is_empty() {
            return Ok((first, None));
        }
        let changed = self.change(&first, commit)?;
        let superseded = (changed != first).then_some(first);
        Ok((changed, superseded))
    }

    fn commit_layer(
        &self,
        commit: &Commit<'_>,
        fill: impl FnOnce(&OwnedFd) -> io::Result<()>,
    ) -> Result<Digest, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let mut config = self.config_of(commit.image)?;
        let mut layers = commit.image.layers.clone();
        let below: Vec<Digest> = layers.iter().map(|layer| layer.snapshot.clone()).collect();
        let chain = layers.iter().fold(None, |chain: Option<Digest>, layer| {
            Some(key::chain(chain.as_ref(), &layer.diff_id))
        });
        let draft = self.store.draft(&below).map_err(|error| text(&error))?;
        let upper = orlop_sys::fs::open_dir(draft.upper()).map_err(|error| text(&error))?;
        fill(&upper).map_err(|error| text(&error))?;
        let view = match below.as_slice() {
            [] => None,
            below => Some(self.store.view(below).map_err(|error| text(&error))?),
        };
        // What is in the layer has its own times.
        let source = LayerSource { upper: &upper, below: view.as_ref(), started: NEVER, epoch: 0 };
        let finished = layer::write(&source, chain.as_ref(), io::sink());
        let finished = finished.map_err(|error| text(&error))?;
        drop((view, upper));
        let made = (finished.entries > 0).then(|| draft.commit(&finished)).transpose();
        let made = made.map_err(|error| text(&error))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let created = rfc3339(i64::try_from(now).unwrap_or(0));
        let said = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        config.history.push(History {
            created: Some(created.clone()),
            created_by: said(commit.created_by),
            author: said(commit.author),
            comment: said(commit.message),
            empty_layer: made.is_none(),
        });
        config.created = Some(created);
        if let Some(author) = said(commit.author) {
            config.author = Some(author);
        }
        layers.extend(made.clone());
        config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id.to_string()).collect();
        let bytes = serde_json::to_vec(&config).map_err(|error| text(&error))?;
        let names = if commit.changes.is_empty() { commit.names } else { &[] };
        let id = self.store.commit_built(&bytes, layers, names);
        if let Some(made) = made {
            self.store.release_layers(&[made.snapshot]);
        }
        id.map_err(|error| text(&error))
    }

    /// The image with a changed configuration: a build without a single step.
    fn change(&self, base: &Digest, commit: &Commit<'_>) -> Result<Digest, String> {
        let mut dockerfile = format!("FROM {base}\n");
        for change in commit.changes {
            dockerfile.push_str(change);
            dockerfile.push('\n');
        }
        let request = Request {
            annotations: Default::default(),
            dockerfile,
            dockerfile_name: "--change".to_owned(),
            context: None,
            ignore: crate::ignore::IgnoreRules::default(),
            ignore_name: String::new(),
            contexts: std::collections::BTreeMap::<String, NamedContext>::new(),
            target: None,
            build_args: Default::default(),
            labels: Default::default(),
            tags: commit.names.to_vec(),
            no_cache: false,
            no_cache_filter: Vec::new(),
            pull: false,
            secrets: Default::default(),
            ssh: Default::default(),
            network: NetworkMode::None,
            allow_host_network: false,
            allow_insecure: false,
            add_hosts: Vec::new(),
            shm_size: 0,
            ulimits: Vec::new(),
            platform: Platform::host(),
            epoch: None,
            explain: false,
        };
        let built = self.build(&request, &Quiet, &CancellationToken::new());
        built
            .map(|built| built.id)
            .map_err(|error| error.render(&request.dockerfile_name, &request.dockerfile))
    }

    fn config_of(&self, image: &Image) -> Result<ImageConfig, String> {
        let mut bytes = Vec::new();
        let read =
            self.store.open_blob(&image.id).and_then(|mut blob| blob.read_to_end(&mut bytes));
        read.map_err(|error| format!("configuration of {}: {error}", image.id))?;
        serde_json::from_slice(&bytes)
            .map_err(|error| format!("configuration of {}: {error}", image.id))
    }
}

fn check(changes: &[String]) -> Result<(), String> {
    for change in changes {
        let word = change.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
        if !CHANGES.contains(&word.as_str()) || change.contains('\n') {
            return Err(format!(
                "{change:?} cannot change an image: use one of {}",
                CHANGES.join(", ")
            ));
        }
    }
    Ok(())
}
