//! Names of images as CRI wants them, and rows that have lost what they describe.

use super::parts::{Pack, image, layer};
use super::pull::pull;
use super::registry::Registry;
use super::{assert_empty, names, open, reference};
use crate::registry::sha256;

#[tokio::test]
async fn a_tag_moves() {
    let temp = tempfile::tempdir().unwrap();
    let registry = Registry::start(temp.path());
    let base = layer(&[("base", b"1")], Pack::Gzip);
    let old = image(vec![base.clone(), layer(&[("old", b"1")], Pack::Gzip)]);
    let new = image(vec![base, layer(&[("new", b"1")], Pack::Gzip)]);
    registry.push("n", "t", &old);
    let store = open(temp.path());
    let name = registry.name("n:t");
    pull(&store, &name).await;
    registry.push("n", "t", &new);
    let id = pull(&store, &name).await;
    assert_eq!(id, new.id());
    assert_eq!(store.get(&name).unwrap().id, new.id());
    let left = store.get(old.id().as_str()).unwrap();
    assert!(left.repo_tags.is_empty() && left.repo_digests.len() == 1);
    assert_eq!(store.list().len(), 2);
    store.remove(old.id().hex()).await.unwrap();
    assert_eq!(names(&temp.path().join("store/snapshots")).len(), 2);
    drop(store);
    let store = open(temp.path());
    assert_eq!(store.get(&name).unwrap().id, new.id());
    assert_eq!(store.list().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn same_content_from_two_registries() {
    let temp = tempfile::tempdir().unwrap();
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (one, two) = (Registry::start(one.path()), Registry::start(two.path()));
    let parts = image(vec![layer(&[("f", b"1")], Pack::Gzip)]);
    one.push("a", "1", &parts);
    two.push("b", "2", &parts);
    let store = open(temp.path());
    let names = [one.name("a:1"), two.name("b:2")];
    let ids = [pull(&store, &names[0]).await, pull(&store, &names[1]).await];
    assert_eq!(ids[0], ids[1]);
    let found = store.get(&names[1]).unwrap();
    assert_eq!((found.repo_tags.len(), found.repo_digests.len(), store.list().len()), (2, 2, 1));
    // By any name, by many at once: all names go.
    let mut set = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let (store, name) = (store.clone(), names[0].clone());
        set.spawn(async move { store.remove(&name).await });
    }
    while let Some(done) = set.join_next().await {
        done.unwrap().unwrap();
    }
    assert_empty(temp.path(), &store);
}

#[tokio::test]
async fn missing_layers_are_healed() {
    let temp = tempfile::tempdir().unwrap();
    let registry = Registry::start(temp.path());
    let parts = image(vec![layer(&[("f", b"1")], Pack::Gzip), layer(&[("g", b"1")], Pack::Plain)]);
    registry.push("h", "1", &parts);
    let store = open(temp.path());
    let name = registry.name("h:1");
    pull(&store, &name).await;
    drop(store);
    let snapshots = temp.path().join("store/snapshots");
    let victim = snapshots.join(&names(&snapshots)[0]);
    std::fs::remove_file(victim.join("meta.json")).unwrap();
    std::fs::create_dir(snapshots.join("tmp-77")).unwrap();
    std::fs::write(temp.path().join("store/content/ingest/tmp-9"), b"x").unwrap();
    // From its blob at the start, without a registry.
    drop(registry);
    let store = open(temp.path());
    assert!(store.get(&name).is_some());
    assert_eq!((names(&snapshots).len(), victim.join("meta.json").exists()), (2, true));
    assert_eq!(names(&temp.path().join("store/content/ingest")), [""; 0]);
    drop(store);
    // Or by the next pull, where the blob is gone too.
    let registry = Registry::start(temp.path());
    std::fs::remove_dir_all(&victim).unwrap();
    let blob = sha256(&parts.layers[0].packed);
    let other = sha256(&parts.layers[1].packed);
    for blob in [blob, other] {
        std::fs::remove_file(temp.path().join("store/content/blobs/sha256").join(blob.hex()))
            .unwrap();
    }
    let store = open(temp.path());
    assert_empty(temp.path(), &store);
    registry.push("h", "1", &parts);
    pull(&store, &registry.name("h:1")).await;
    assert_eq!(names(&snapshots).len(), 2);
}

#[tokio::test]
async fn damaged_index_costs_no_layer() {
    let temp = tempfile::tempdir().unwrap();
    let registry = Registry::start(temp.path());
    let parts = image(vec![layer(&[("f", b"1")], Pack::Gzip)]);
    registry.push("i", "1", &parts);
    let store = open(temp.path());
    let name = registry.name("i:1");
    let id = pull(&store, &name).await;
    let rootfs = store.create_rootfs(&id, "c").unwrap();
    drop(store);
    std::fs::write(temp.path().join("store/images.redb"), b"damage").unwrap();
    let store = open(temp.path());
    assert!(store.list().is_empty());
    assert_eq!(store.rootfs("c"), Some(rootfs));
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let sink = seen.clone();
    let listener: crate::Progress =
        std::sync::Arc::new(move |event| sink.lock().unwrap().push(event));
    store.pull(&reference(&name), None, Some(listener)).await.unwrap();
    let fetching = seen.lock().unwrap().iter().any(|event| {
        matches!(
            event,
            crate::ProgressEvent::Layer { state: crate::LayerState::Fetching { .. }, .. }
        )
    });
    assert!(!fetching && store.get(&name).is_some());
}

#[tokio::test]
async fn keys_that_are_no_names() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path());
    let id = image(vec![]).id();
    for key in ["", ".", "..", "a/b", "../x", &"k".repeat(129), "a\0"] {
        assert!(
            matches!(store.create_rootfs(&id, key), Err(crate::StoreError::Key { .. })),
            "{key:?}"
        );
        assert!(matches!(store.remove_rootfs(key), Err(crate::StoreError::Key { .. })), "{key:?}");
    }
    assert!(matches!(store.create_rootfs(&id, "k"), Err(crate::StoreError::NotFound { .. })));
    assert!(matches!(store.user_database(&id), Err(crate::StoreError::NotFound { .. })));
}
