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

fn tree(root: &Path, image: &crate::Image, layer: usize) -> PathBuf {
    root.join("store/snapshots").join(image.layers[layer].snapshot.hex()).join("fs")
}

/// The store dies instead of being closed.
fn unclean(root: &Path) {
    std::fs::remove_file(root.join("store/clean")).unwrap();
}

#[tokio::test]
async fn after_an_unclean_stop_recent_layers_are_counted_and_unpacked_again() {
    let temp = tempfile::tempdir().unwrap();
    let fake = Fake::plain();
    let parts = parts(b"base");
    fake.put_image("x", "1", &parts);
    let name = reference(&fake.name("x:1"));
    let store = open(temp.path());
    let id = store.pull(&name, None, None).await.unwrap();
    let image = store.get(id.as_str()).unwrap();
    drop(store);
    // What a disk without its last writes looks like: the right name, the wrong size.
    let file = tree(temp.path(), &image, 0).join("d/base");
    for damage in [&b""[..], b"longer than it was"] {
        std::fs::write(&file, damage).unwrap();
        unclean(temp.path());
        let store = open(temp.path());
        assert_eq!(std::fs::read(&file).unwrap(), b"base", "unpacked again from the blob");
        assert_eq!(store.get(id.as_str()).unwrap().layers, image.layers);
    }
    // A whole directory that never reached the disk, and a blob that is short as well.
    std::fs::remove_dir_all(tree(temp.path(), &image, 1)).unwrap();
    let blob = temp.path().join("store/content/blobs/sha256").join(image.layers[1].blob.hex());
    std::fs::write(&blob, b"").unwrap();
    unclean(temp.path());
    let store = open(temp.path());
    assert!(store.get(id.as_str()).is_none(), "absent until it is pulled again");
    assert_eq!(store.pull(&name, None, None).await.unwrap(), id);
    assert_eq!(std::fs::read(tree(temp.path(), &image, 1).join("d/c")).unwrap(), b"1");
    assert_eq!(store.verify(false).await.unwrap().findings, []);
}

#[tokio::test]
async fn what_was_committed_before_a_clean_stop_is_not_walked() {
    let temp = tempfile::tempdir().unwrap();
    let fake = Fake::plain();
    fake.put_image("x", "1", &parts(b"base"));
    let store = open(temp.path());
    let id = store.pull(&reference(&fake.name("x:1")), None, None).await.unwrap();
    let image = store.get(id.as_str()).unwrap();
    drop(store);
    drop(open(temp.path()));
    let file = tree(temp.path(), &image, 0).join("d/base");
    std::fs::write(&file, b"").unwrap();
    unclean(temp.path());
    let store = open(temp.path());
    assert_eq!(std::fs::read(&file).unwrap(), b"", "the start did not look");
    // But whoever asks is told, and may have it put right.
    let report = store.verify(false).await.unwrap();
    assert_eq!((report.images, report.layers, report.blobs), (1, 2, 4));
    let [finding] = &report.findings[..] else { panic!("{report:?}") };
    assert!(!finding.repaired && finding.problem.contains("/d/base: "), "{finding:?}");
    let report = store.verify(true).await.unwrap();
    assert!(report.findings.len() == 1 && report.findings[0].repaired, "{report:?}");
    assert_eq!(std::fs::read(&file).unwrap(), b"base");
    assert_eq!(store.verify(false).await.unwrap().findings, []);
}

#[tokio::test]
async fn verification_sees_every_kind_of_difference() {
    use std::os::unix::fs::PermissionsExt;
    let temp = tempfile::tempdir().unwrap();
    let fake = Fake::plain();
    fake.put_image("x", "1", &parts(b"base"));
    let store = open(temp.path());
    let id = store.pull(&reference(&fake.name("x:1")), None, None).await.unwrap();
    let image = store.get(id.as_str()).unwrap();
    let dir = tree(temp.path(), &image, 0).join("d");
    let file = dir.join("base");
    let same_time = |change: &dyn Fn()| {
        let (of_file, of_dir) =
            [&file, &dir].map(|p| p.metadata().unwrap().modified().unwrap()).into();
        change();
        let set = |path: &Path, time| {
            let handle = std::fs::File::open(path).unwrap();
            handle.set_times(std::fs::FileTimes::new().set_modified(time)).unwrap();
        };
        set(&file, of_file);
        set(&dir, of_dir);
    };
    let changes: [(&dyn Fn(), &str); 5] = [
        (&|| std::fs::write(&file, b"bass").unwrap(), "content"),
        (&|| std::fs::set_permissions(&file, PermissionsExt::from_mode(0o4755)).unwrap(), "mode"),
        (&|| std::fs::hard_link(&file, dir.join("more")).unwrap(), "more: missing or too much"),
        (&|| std::os::unix::fs::chown(&file, Some(7), None).unwrap(), "owner"),
        (
            &|| {
                let fd = std::fs::File::open(&file).unwrap();
                rustix::fs::fsetxattr(fd, "user.x", b"1", rustix::fs::XattrFlags::CREATE).unwrap();
            },
            "extended attributes",
        ),
    ];
    for (change, word) in changes {
        same_time(change);
        let report = store.verify(true).await.unwrap();
        let [finding] = &report.findings[..] else { panic!("{word}: {report:?}") };
        assert!(finding.problem.contains(word) && finding.repaired, "{word}: {finding:?}");
    }
    damage(temp.path(), image.layers[1].blob.hex());
    let report = store.verify(true).await.unwrap();
    assert!(report.findings.iter().any(|f| f.object.starts_with("blob")), "{report:?}");
    // A container that uses the layer is not pulled the rug from under.
    store.create_rootfs(&id, "c").unwrap();
    std::fs::write(&file, b"other").unwrap();
    let report = store.verify(true).await.unwrap();
    assert!(
        report.findings.iter().any(|f| f.outcome.contains("a container uses it")),
        "{report:?}"
    );
    store.remove_rootfs("c").unwrap();
    assert!(store.verify(true).await.unwrap().findings.iter().all(|finding| finding.repaired));
}
