//! What the store knows, in memory: everything that is asked often is answered from here. Changes
//! come after the disk's.

use crate::disk::{ImageRecord, LayerMeta};
use crate::{CachedStep, Image, UserDatabase};
use oci_spec::image::ImageConfiguration;
use orlop_model::{Digest, Reference};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Which layers a container needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    /// The image that it was made from.
    pub(crate) image: Digest,
    /// Names of snapshots, lowest first.
    pub(crate) snapshots: Vec<Digest>,
}

impl orlop_store::Record for Lease {
    const KIND: &'static str = "lease";
}

/// An image as row and as seen from outside.
#[derive(Clone)]
pub(crate) struct Known {
    pub(crate) record: ImageRecord,
    pub(crate) image: Arc<Image>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) images: BTreeMap<Digest, Known>,
    /// Tags and digests with full names.
    names: HashMap<String, Digest>,
    pub(crate) layers: HashMap<Digest, LayerMeta>,
    pub(crate) blobs: HashMap<Digest, u64>,
    pub(crate) leases: HashMap<String, Lease>,
    /// Snapshots and blobs that a running pull counts on, with how many do.
    held: HashMap<Digest, u32>,
    pub(crate) users: HashMap<Digest, Arc<UserDatabase>>,
    /// What builds made, by key.
    pub(crate) steps: HashMap<Digest, CachedStep>,
}

/// What nothing refers to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Garbage {
    pub(crate) layers: Vec<Digest>,
    pub(crate) blobs: Vec<Digest>,
}

impl State {
    /// What was found on disk, before the images are known.
    pub(crate) fn found(
        layers: Vec<(Digest, LayerMeta)>,
        blobs: Vec<(Digest, u64)>,
        leases: HashMap<String, Lease>,
    ) -> Self {
        let (layers, blobs) = (layers.into_iter().collect(), blobs.into_iter().collect());
        Self { layers, blobs, leases, ..Self::default() }
    }

    /// Puts an image in place of the one with the same id.
    pub(crate) fn insert(&mut self, known: Known) {
        self.forget(&known.record.id.clone());
        for name in known.record.tags.iter().chain(&known.record.digests) {
            self.names.insert(name.clone(), known.record.id.clone());
        }
        self.images.insert(known.record.id.clone(), known);
    }

    /// Takes an image and its names out.
    pub(crate) fn forget(&mut self, id: &Digest) -> Option<Known> {
        let known = self.images.remove(id)?;
        self.names.retain(|_, owner| owner != id);
        self.users.remove(id);
        Some(known)
    }

    /// Who has a full name.
    pub(crate) fn owner(&self, name: &str) -> Option<&Known> {
        self.images.get(self.names.get(name)?)
    }

    /// By id, unique prefix of the hexadecimal id, or reference.
    pub(crate) fn find(&self, text: &str) -> Option<&Known> {
        if let Ok(id) = Digest::parse(text) {
            return self.images.get(&id);
        }
        if let Ok(id) = Digest::parse(&format!("sha256:{text}")) {
            return self.images.get(&id);
        }
        if let Ok(reference) = Reference::parse(text)
            && let Some(known) = self.owner(&full_name(&reference))
        {
            return Some(known);
        }
        self.by_prefix(text.strip_prefix("sha256:").unwrap_or(text))
    }

    fn by_prefix(&self, prefix: &str) -> Option<&Known> {
        if prefix.is_empty() || !prefix.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let mut hits =
            self.images.values().filter(|known| known.record.id.hex().starts_with(prefix));
        let first = hits.next()?;
        hits.next().is_none().then_some(first)
    }

    /// The snapshot that serves a layer: under its own name where it does not depend on what is
    /// below it, or where nothing is; under the chain's name otherwise.
    pub(crate) fn snapshot_for(&self, diff_id: &Digest, chain: &Digest) -> Option<Digest> {
        match self.layers.get(diff_id) {
            Some(meta) if meta.adopted == 0 || diff_id == chain => Some(diff_id.clone()),
            _ => self.layers.contains_key(chain).then(|| chain.clone()),
        }
    }

    /// What overlayfs is to stack of an image's layers (lowest first), top first, and the topmost
    /// that says what the root directory looks like.
    pub(crate) fn stack(&self, snapshots: &[Digest]) -> (Vec<Digest>, Option<Digest>) {
        let (mut stack, mut root) = (Vec::new(), None);
        for name in snapshots.iter().rev() {
            // A layer may occur twice; overlayfs takes a directory only once. What the upper one
            // holds hides all of the lower one.
            if stack.contains(name) {
                continue;
            }
            stack.push(name.clone());
            let meta = self.layers.get(name);
            if root.is_none() && meta.is_some_and(|meta| meta.root_described) {
                root = Some(name.clone());
            }
            if meta.is_some_and(|meta| meta.opaque_root) {
                break;
            }
        }
        (stack, root)
    }

    pub(crate) fn hold(&mut self, digests: &[Digest]) {
        for digest in digests {
            *self.held.entry(digest.clone()).or_default() += 1;
        }
    }

    pub(crate) fn release(&mut self, digests: &[Digest]) {
        for digest in digests {
            if let Some(count) = self.held.get_mut(digest) {
                *count -= 1;
                if *count == 0 {
                    self.held.remove(digest);
                }
            }
        }
    }

    /// Takes out what no image, container or running pull refers to.
    pub(crate) fn take_garbage(&mut self) -> Garbage {
        let mut needed: HashSet<&Digest> = self.held.keys().collect();
        for Known { record, .. } in self.images.values() {
            needed.insert(&record.id);
            needed.extend(&record.manifests);
            needed.extend(record.layers.iter().flat_map(|layer| [&layer.snapshot, &layer.blob]));
        }
        for step in self.steps.values() {
            needed.insert(&step.layer.snapshot);
            needed.extend(&step.below);
        }
        needed.extend(self.leases.values().flat_map(|lease| &lease.snapshots));
        let unneeded = |digest: &&Digest| !needed.contains(*digest);
        let layers: HashSet<_> = self.layers.keys().filter(unneeded).cloned().collect();
        let blobs: HashSet<_> = self.blobs.keys().filter(unneeded).cloned().collect();
        self.layers.retain(|digest, _| !layers.contains(digest));
        self.blobs.retain(|digest, _| !blobs.contains(digest));
        Garbage { layers: layers.into_iter().collect(), blobs: blobs.into_iter().collect() }
    }

    /// Builds the outside view of a row. `None` where a layer is missing.
    pub(crate) fn view(
        &self,
        record: ImageRecord,
        config: ImageConfiguration,
        pinned: &[String],
    ) -> Option<Known> {
        let mut seen = HashSet::new();
        let mut size = self.blobs.get(&record.id).copied().unwrap_or(1);
        for layer in &record.layers {
            let meta = self.layers.get(&layer.snapshot)?;
            if seen.insert(&layer.snapshot) {
                size += meta.bytes;
            }
        }
        let mut names = record.tags.iter().chain(&record.digests);
        let image = Arc::new(Image {
            id: record.id.clone(),
            repo_tags: record.tags.clone(),
            repo_digests: record.digests.clone(),
            size,
            config,
            layers: record.layers.clone(),
            pinned: names.any(|name| pinned.iter().any(|pattern| matches(pattern, name))),
        });
        Some(Known { record, image })
    }
}

/// Directories of these snapshots (lowest first) for overlayfs, top first and never empty, and the
/// one that says what the root looks like.
pub(crate) fn stack_paths(
    inner: &crate::inner::Inner,
    snapshots: &[Digest],
) -> (Vec<std::path::PathBuf>, Option<std::path::PathBuf>) {
    let (stack, root) = inner.state().stack(snapshots);
    let mut lower: Vec<_> = stack.iter().map(|name| inner.layout.layer(name)).collect();
    if lower.is_empty() {
        // An image without layers: overlayfs wants one directory all the same.
        lower.push(inner.layout.empty());
    }
    (lower, root.map(|name| inner.layout.layer(&name)))
}

/// How a reference is kept: with a digest the tag is left out, since it proves nothing.
pub(crate) fn full_name(reference: &Reference) -> String {
    match reference.digest() {
        Some(digest) => format!("{}@{digest}", reference.name()),
        None => format!("{}:{}", reference.name(), reference.tag().unwrap_or("latest")),
    }
}

/// The tags by which an image goes out that was asked for like this: that name, or all of them
/// where it was asked for by its id.
pub(crate) fn names_of(record: &ImageRecord, asked: &str) -> Vec<String> {
    let name = Reference::parse(asked).map(|reference| full_name(&reference)).unwrap_or_default();
    if record.tags.contains(&name) {
        vec![name]
    } else if record.digests.contains(&name) {
        Vec::new()
    } else {
        record.tags.clone()
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => Reference::parse(pattern).is_ok_and(|reference| full_name(&reference) == name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Layer;

    fn digest(byte: &str) -> Digest {
        Digest::parse(&format!("sha256:{}", byte.repeat(32))).unwrap()
    }

    fn meta(byte: &str, adopted: u64) -> LayerMeta {
        LayerMeta {
            version: 1,
            diff_id: digest(byte),
            entries: 1,
            bytes: 10,
            inodes: 1,
            adopted,
            root_described: false,
            opaque_root: false,
            epoch: 0,
        }
    }

    fn known(state: &State, id: &str, tags: &[&str], layers: &[&str]) -> Known {
        let layer = |l: &&str| Layer {
            diff_id: digest(l),
            blob: digest("bb"),
            blob_size: 1,
            snapshot: digest(l),
        };
        let record = ImageRecord {
            version: 1,
            id: digest(id),
            tags: tags.iter().map(ToString::to_string).collect(),
            digests: vec![format!("r.io/a@{}", digest("dd"))],
            layers: layers.iter().map(layer).collect(),
            manifests: vec![digest("dd")],
            signatures: vec![],
        };
        state.view(record, ImageConfiguration::default(), &["r.io/pause*".into()]).unwrap()
    }

    fn sample() -> State {
        let mut state = State::default();
        for byte in ["11", "22", "33"] {
            state.layers.insert(digest(byte), meta(byte, 0));
            state.blobs.insert(digest(byte), 5);
        }
        let image = known(&state, "a1", &["r.io/a:1", "r.io/pause:3"], &["11", "22", "11"]);
        state.insert(image);
        state
    }

    #[test]
    fn names() {
        let mut state = sample();
        let other = known(&state, "a2", &["docker.io/library/x:latest"], &["33"]);
        state.insert(other);
        for (text, hit) in [
            ("r.io/a:1", Some("a1")),
            ("r.io/a", None),
            ("x", Some("a2")),
            (digest("a1").as_str(), Some("a1")),
            (digest("a1").hex(), Some("a1")),
            (&digest("a1").hex()[..12], Some("a1")),
            ("sha256:a1a1", Some("a1")),
            ("a", None),
            ("", None),
            ("A1", None),
        ] {
            assert_eq!(state.find(text).map(|k| &k.record.id), hit.map(digest).as_ref(), "{text}");
        }
        let image = &state.find("r.io/a:1").unwrap().image;
        assert!(image.pinned && image.size == 21);
        state.forget(&digest("a1"));
        assert!(state.find("r.io/a:1").is_none() && state.find("x").is_some());
    }

    #[test]
    fn garbage() {
        let mut state = sample();
        state.hold(&[digest("33"), digest("33")]);
        assert_eq!(state.take_garbage().layers, vec![]);
        state.release(&[digest("33")]);
        assert_eq!(state.take_garbage().layers, vec![]);
        state.release(&[digest("33")]);
        assert_eq!(state.take_garbage().layers, vec![digest("33")]);
        state
            .leases
            .insert("c".into(), Lease { image: digest("a1"), snapshots: vec![digest("22")] });
        state.forget(&digest("a1"));
        assert_eq!(state.take_garbage().layers, vec![digest("11")]);
        state.leases.clear();
        assert_eq!(state.take_garbage().layers, vec![digest("22")]);
    }

    #[test]
    fn stacks() {
        let mut state = sample();
        state.layers.get_mut(&digest("22")).unwrap().root_described = true;
        let all = |names: &[&str]| names.iter().map(|name| digest(name)).collect::<Vec<_>>();
        let order = all(&["11", "22", "33", "11"]);
        assert_eq!(state.stack(&order), (all(&["11", "33", "22"]), Some(digest("22"))));
        state.layers.get_mut(&digest("33")).unwrap().opaque_root = true;
        assert_eq!(state.stack(&order), (all(&["11", "33"]), None));
    }

    #[test]
    fn adopted_attributes_bind_a_layer_to_its_chain() {
        let mut state = State::default();
        state.layers.insert(digest("11"), meta("11", 2));
        state.layers.insert(digest("c1"), meta("22", 1));
        assert_eq!(state.snapshot_for(&digest("11"), &digest("11")), Some(digest("11")));
        assert_eq!(state.snapshot_for(&digest("11"), &digest("c2")), None);
        assert_eq!(state.snapshot_for(&digest("22"), &digest("c1")), Some(digest("c1")));
        state.layers.insert(digest("22"), meta("22", 0));
        assert_eq!(state.snapshot_for(&digest("22"), &digest("c9")), Some(digest("22")));
    }
}
