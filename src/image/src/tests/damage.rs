//! What the disk says is checked, not believed.

use super::fake::Fake;
use super::parts::{ImageParts, Pack, image, layer};
use super::{open, reference};
use crate::registry::sha256;
use std::path::{Path, PathBuf};

fn parts(base: &[u8]) -> ImageParts {
    // The upper layer implies a directory of the lower one: it is unpacked once for each.
    image(vec![
        layer(&[("d/", b""), ("d/base", base)], Pack::Gzip),
        layer(&[("d/c", b"1")], Pack::Gzip),
    ])
}

fn damage(root: &Path, hex: &str) -> PathBuf {
    let path = root.join("store/content/blobs/sha256").join(hex);
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    path
}

#[tokio::test]
async fn a_damaged_blob_is_fetched_again() {
    let temp = tempfile::tempdir().unwrap();
    let fake = Fake::plain();
    let (one, two) = (parts(b"1"), parts(b"2"));
    fake.put_image("x", "1", &one);
    fake.put_image("x", "2", &two);
    let store = open(temp.path());
    store.pull(&reference(&fake.name("x:1")), None, None).await.unwrap();
    let top = sha256(&one.layers[1].packed);
    let path = damage(temp.path(), top.hex());
    let id = store.pull(&reference(&fake.name("x:2")), None, None).await.unwrap();
    assert_eq!(id, two.id());
    assert_eq!(sha256(&std::fs::read(path).unwrap()), top);
}

#[tokio::test]
async fn a_configuration_that_changed_is_not_run() {
    let temp = tempfile::tempdir().unwrap();
    let fake = Fake::plain();
    let parts = parts(b"1");
    fake.put_image("x", "1", &parts);
    let name = reference(&fake.name("x:1"));
    let store = open(temp.path());
    let id = store.pull(&name, None, None).await.unwrap();
    drop(store);
    // Still the same JSON to a reader: only the digest tells.
    let path = temp.path().join("store/content/blobs/sha256").join(id.hex());
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.push(b' ');
    std::fs::write(&path, &bytes).unwrap();
    let store = open(temp.path());
    assert!(store.get(id.as_str()).is_none());
    assert_eq!(store.pull(&name, None, None).await.unwrap(), id);
}
