//! The process dies at every step of a pull and of a removal: what is found after is whole or
//! absent, and nothing is left that nobody needs.

use super::fake::Fake;
use super::parts::{ImageParts, Pack, image, layer, noise};
use super::{assert_empty, names, open, reference};
use std::path::Path;

const PULL: [&str; 6] =
    ["layer-synced", "blob-named", "layer-named", "blobs-named", "names-synced", "row-written"];
const REMOVAL: [&str; 4] = ["row-removed", "garbage-retired", "lease-written", "writable-removed"];

pub(super) fn parts() -> ImageParts {
    image(vec![
        layer(&[("a", &noise(1, 100_000))], Pack::Gzip),
        layer(&[("d/", b""), ("d/b", &noise(2, 100_000))], Pack::Zstd),
        // Implies a directory of the layer below.
        layer(&[("d/c", b"1")], Pack::Plain),
    ])
}

/// What the child process does; it is this test binary, started again.
#[tokio::test]
async fn crash_child() {
    let (Ok(root), Ok(name)) =
        (std::env::var("ORLOP_TEST_CRASH_ROOT"), std::env::var("ORLOP_TEST_CRASH_IMAGE"))
    else {
        return;
    };
    if std::env::var_os("ORLOP_TEST_CRASH_LENIENT").is_some() {
        // Calls fail: what matters is what is found after.
        let Ok(store) = crate::ImageStore::open(super::options(Path::new(&root))) else { return };
        for _ in 0..2 {
            let Ok(id) = store.pull(&reference(&name), None, None).await else { continue };
            let _ = store.create_rootfs(&id, "c");
            let _ = store.remove_rootfs("c");
            let _ = store.remove(id.as_str()).await;
        }
        return;
    }
    let store = open(Path::new(&root));
    let id = store.pull(&reference(&name), None, None).await.unwrap();
    store.create_rootfs(&id, "c").unwrap();
    store.remove_rootfs("c").unwrap();
    store.remove(id.as_str()).await.unwrap();
}

/// Runs the child until it aborts at `point`.
fn crash(root: &Path, name: &str, point: &str) {
    let this = std::env::current_exe().unwrap();
    let done = super::registry::command(this.to_str().unwrap())
        .args(["--exact", "tests::crash::crash_child", "--nocapture"])
        .env("ORLOP_TEST_CRASH_ROOT", root)
        .env("ORLOP_TEST_CRASH_IMAGE", name)
        .env("ORLOP_TEST_CRASH_AT", point)
        .output()
        .unwrap();
    use std::os::unix::process::ExitStatusExt;
    assert!(done.status.signal().is_some(), "{point} was not reached: {done:?}");
}

#[tokio::test]
async fn whole_or_absent() {
    let fake = Fake::plain();
    fake.put_image("x", "1", &parts());
    let name = fake.name("x:1");
    for point in PULL.into_iter().chain(REMOVAL) {
        let temp = tempfile::tempdir().unwrap();
        crash(temp.path(), &name, point);
        assert!(!temp.path().join("store/clean").exists());
        check_whole_or_absent(temp.path(), &name, point).await;
    }
}

/// What must hold after any end of a process that pulled and removed.
pub(super) async fn check_whole_or_absent(dir: &Path, name: &str, point: &str) {
    let root = dir.join("store");
    let store = open(dir);
    let unfinished = |dir: &str| names(&root.join(dir)).iter().any(|name| name.starts_with("tmp-"));
    assert!(!unfinished("snapshots") && !unfinished("content/ingest"), "{point}");
    if store.list().is_empty() {
        if store.rootfs_keys().is_empty() {
            assert_empty(dir, &store);
        }
    } else {
        let image = store.get(name).unwrap();
        assert_eq!(image.id, parts().id(), "{point}");
        assert_eq!(names(&root.join("snapshots")).len(), 3, "{point}");
        let sealed =
            |l: &crate::Layer| root.join("snapshots").join(l.snapshot.hex()).join("meta.json");
        assert!(image.layers.iter().all(|layer| sealed(layer).exists()), "{point}");
        assert_eq!(store.verify(false).await.unwrap().findings, [], "{point}");
    }
    let keys = store.rootfs_keys();
    assert_eq!(names(&root.join("writable")), keys, "{point}");
    keys.iter().for_each(|key| store.remove_rootfs(key).unwrap());
    // And it goes on.
    let id = store.pull(&reference(name), None, None).await.unwrap();
    let rootfs = store.create_rootfs(&id, "again").unwrap();
    assert_eq!(std::fs::read(rootfs.lower[2].join("a")).unwrap(), noise(1, 100_000), "{point}");
    store.remove(id.as_str()).await.unwrap();
    store.remove_rootfs("again").unwrap();
    assert_empty(dir, &store);
}
