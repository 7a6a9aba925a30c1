//! Pulls that go well.

use super::parts::{
    DOCKER_MANIFEST, ImageParts, OCI_INDEX, Pack, image, image_for, index, layer, noise,
};
use super::registry::Registry;
use super::{names, open, reference};
use crate::{ImageStore, ProgressEvent};
use orlop_model::Digest;
use std::sync::{Arc, Mutex};

pub(super) async fn pull(store: &ImageStore, name: &str) -> Digest {
    store.pull(&reference(name), None, None).await.unwrap()
}

fn three_layers() -> ImageParts {
    image(vec![
        layer(
            &[
                ("etc/", b""),
                ("etc/passwd", b"root:x:0:0::/root:/bin/sh\n"),
                ("big", &noise(1, 3 << 20)),
            ],
            Pack::Gzip,
        ),
        layer(&[("etc/", b""), ("etc/group", b"staff:x:50:u\n"), ("usr/", b"")], Pack::Zstd),
        layer(&[("usr/", b""), ("usr/x", b"1")], Pack::Plain),
    ])
}

#[tokio::test]
async fn by_tag_then_by_digest() {
    let temp = tempfile::tempdir().unwrap();
    let registry = Registry::start(temp.path());
    let parts = three_layers();
    registry.push("a/b", "1", &parts);
    let store = open(temp.path());
    let name = registry.name("a/b");
    let id = pull(&store, &format!("{name}:1")).await;
    assert_eq!(id, parts.id());
    let found = store.get(&format!("{name}:1")).unwrap();
    assert_eq!(found.repo_tags, [format!("{name}:1")]);
    assert_eq!(found.repo_digests, [format!("{name}@{}", parts.digest())]);
    assert!(found.size > 3 << 20 && found.layers.len() == 3);
    assert_eq!(store.get(id.hex()).unwrap().id, id);
    let by_digest = pull(&store, &format!("{name}@{}", parts.digest())).await;
    assert_eq!(by_digest, id);
    assert_eq!(store.get(id.as_str()).unwrap().repo_tags.len(), 1);

    let rootfs = store.create_rootfs(&id, "c1").unwrap();
    assert_eq!(std::fs::read(rootfs.lower[2].join("big")).unwrap(), noise(1, 3 << 20));
    assert_eq!(std::fs::read(rootfs.lower[0].join("usr/x")).unwrap(), b"1");
    assert!(rootfs.upper.is_dir() && rootfs.work.is_dir());
    assert_eq!(store.create_rootfs(&id, "c1").unwrap(), rootfs);
    let users = store.user_database(&id).unwrap();
    assert_eq!((users.passwd[0].name.as_str(), users.group[0].gid), ("root", 50));
    assert!(Arc::ptr_eq(&users, &store.user_database(&id).unwrap()));

    // What is in use stays until the container is gone.
    store.remove(&format!("{name}:1")).await.unwrap();
    store.remove(&format!("{name}:1")).await.unwrap();
    assert!(store.list().is_empty() && rootfs.lower[0].join("usr/x").exists());
    assert_eq!(store.rootfs("c1"), Some(rootfs));
    store.remove_rootfs("c1").unwrap();
    store.remove_rootfs("c1").unwrap();
    super::assert_empty(temp.path(), &store);
    assert_eq!(names(&temp.path().join("store/writable")), [""; 0]);
}

#[tokio::test]
async fn digest_only_gives_no_tag() {
    let temp = tempfile::tempdir().unwrap();
    let registry = Registry::start(temp.path());
    let parts = image_for(vec![layer(&[("f", b"x")], Pack::Members)], "amd64", DOCKER_MANIFEST);
    registry.push("d", "t", &parts);
    let store = open(temp.path());
    let name = format!("{}@{}", registry.name("d"), parts.digest());
    let id = pull(&store, &name).await;
    let found = store.get(&name).unwrap();
    assert_eq!(
        (found.id.clone(), found.repo_tags.len(), &found.repo_digests[..]),
        (id, 0, &[name][..])
    );
}

#[tokio::test]
async fn index_chooses_the_platform() {
    let temp = tempfile::tempdir().unwrap();
    let registry = Registry::start(temp.path());
    let this = image(vec![layer(&[("f", b"amd")], Pack::Gzip)]);
    let other =
        image_for(vec![layer(&[("f", b"arm")], Pack::Gzip)], "arm64", super::parts::OCI_MANIFEST);
    registry.push("m", "amd", &this);
    registry.push("m", "arm", &other);
    let both =
        index(&[(&other, ("linux", "arm64", Some("v8"))), (&this, ("linux", "amd64", None))]);
    registry.push_manifest("m", "all", OCI_INDEX, &both);
    let none =
        index(&[(&other, ("linux", "arm64", Some("v8"))), (&this, ("unknown", "unknown", None))]);
    registry.push_manifest("m", "none", OCI_INDEX, &none);
    let store = open(temp.path());
    let id = pull(&store, &registry.name("m:all")).await;
    assert_eq!(id, this.id());
    let digest = crate::registry::sha256(&both);
    assert_eq!(
        store.get(id.as_str()).unwrap().repo_digests,
        [format!("{}@{digest}", registry.name("m"))]
    );
    let wanted = orlop_model::Platform::host().to_string();
    for (tag, available) in [("none", "linux/arm64/v8"), ("arm", "linux/arm64")] {
        let error = store
            .pull(&reference(&registry.name(&format!("m:{tag}"))), None, None)
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(&format!("no manifest for platform {wanted}; the image has {available}")),
            "{text}"
        );
    }
    store.remove(id.as_str()).await.unwrap();
    super::assert_empty(temp.path(), &store);
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_pulls_share_layers() {
    let temp = tempfile::tempdir().unwrap();
    let registry = Registry::start(temp.path());
    let base = [
        layer(&[("base", &noise(7, 2 << 20))], Pack::Gzip),
        layer(&[("mid", &noise(8, 1 << 20))], Pack::Zstd),
    ];
    let own =
        |n: u64| image([&base[..], &[layer(&[("own", &noise(n, 1000))], Pack::Gzip)]].concat());
    let images: Vec<ImageParts> = (10..16).map(own).collect();
    for (n, parts) in images.iter().enumerate() {
        registry.push("p", &format!("t{n}"), parts);
    }
    let store = open(temp.path());
    let mut set = tokio::task::JoinSet::new();
    for n in (0..6).chain(0..6) {
        let (store, name) = (store.clone(), registry.name(&format!("p:t{n}")));
        set.spawn(async move { store.pull(&reference(&name), None, None).await.unwrap() });
    }
    while let Some(done) = set.join_next().await {
        done.unwrap();
    }
    assert_eq!(store.list().len(), 6);
    assert_eq!(names(&temp.path().join("store/snapshots")).len(), 2 + 6);
    // Layers, configurations, manifests.
    assert_eq!(names(&temp.path().join("store/content/blobs/sha256")).len(), 8 + 6 + 6);
    for parts in &images[1..] {
        store.remove(parts.id().as_str()).await.unwrap();
    }
    assert_eq!(names(&temp.path().join("store/snapshots")).len(), 3);
    assert!(
        store.create_rootfs(&images[0].id(), "x").unwrap().lower.iter().all(|dir| dir.is_dir())
    );
}

#[tokio::test]
async fn progress_and_restart() {
    let temp = tempfile::tempdir().unwrap();
    let registry = Registry::start(temp.path());
    let parts = three_layers();
    registry.push("r", "1", &parts);
    let store = open(temp.path());
    let seen: Arc<Mutex<Vec<ProgressEvent>>> = Arc::default();
    let sink = seen.clone();
    let listener: crate::Progress = Arc::new(move |event| sink.lock().unwrap().push(event));
    let name = registry.name("r:1");
    store.pull(&reference(&name), None, Some(listener)).await.unwrap();
    let events = std::mem::take(&mut *seen.lock().unwrap());
    let total = parts.layers.iter().map(|layer| layer.packed.len() as u64).sum();
    assert_eq!(events[0], ProgressEvent::Resolved { image: parts.id(), layers: 3, bytes: total });
    let (usage, image) = (store.usage(), store.get(&name).unwrap());
    store.create_rootfs(&parts.id(), "kept").unwrap();
    assert!(matches!(
        ImageStore::open(super::options(temp.path())),
        Err(crate::StoreError::Locked { pid, .. }) if pid == std::process::id().to_string()
    ));
    drop(store);
    assert!(temp.path().join("store/clean").exists());
    let store = open(temp.path());
    assert!(!temp.path().join("store/clean").exists());
    assert_eq!((store.usage(), store.get(&name).unwrap()), (usage, image));
    assert_eq!(store.rootfs_keys(), ["kept"]);
    // Present: the registry is asked, nothing is fetched.
    assert_eq!(pull(&store, &name).await, parts.id());
}

/// An image without layers is still an image.
#[tokio::test]
async fn no_layers() {
    let temp = tempfile::tempdir().unwrap();
    let registry = Registry::start(temp.path());
    let parts = image(vec![]);
    registry.push("s", "1", &parts);
    let store = open(temp.path());
    let id = pull(&store, &registry.name("s:1")).await;
    assert!(store.get(id.as_str()).unwrap().size > 0);
    assert_eq!(store.create_rootfs(&id, "c").unwrap().lower.len(), 1);
    assert!(store.user_database(&id).unwrap().passwd.is_empty());
}
