//! Images in and out: archives that other tools made and read (skopeo), and a real registry to push
//! to.

use super::fake::Fake;
use super::parts::{DOCKER_MANIFEST, ImageParts, Pack, image, image_for, index, layer, noise};
use super::registry::{Registry, command};
use super::{assert_empty, names, open, reference};
use crate::registry::sha256;
use crate::{ArchiveError, ImageStore, LayerState, ProgressEvent};
use orlop_model::Digest;
use std::path::Path;
use std::sync::{Arc, Mutex};

fn parts() -> ImageParts {
    image(vec![
        layer(&[("d/", b""), ("d/a", &noise(1, 100_000))], Pack::Gzip),
        // Implies a directory of the layer below.
        layer(&[("d/b", b"2")], Pack::Zstd),
    ])
}

fn skopeo(dir: &Path, args: &[&str]) {
    let done = command("skopeo")
        .current_dir(dir)
        .args(["--insecure-policy", "--tmpdir"])
        .arg(dir)
        .args(args)
        .output()
        .unwrap();
    assert!(done.status.success(), "skopeo {args:?}: {done:?}");
}

fn import(store: &ImageStore, file: &Path, names: &[&str]) -> Result<Vec<Digest>, ArchiveError> {
    let names: Vec<_> = names.iter().map(|name| reference(name)).collect();
    let imported = store.import(std::fs::File::open(file).unwrap(), &names)?;
    Ok(imported.into_iter().map(|image| image.id).collect())
}

fn content(store: &ImageStore, id: &Digest) -> (Vec<u8>, Vec<u8>) {
    let rootfs = store.create_rootfs(id, "look").unwrap();
    let read = |name| {
        let mut places = rootfs.lower.iter().map(|lower| lower.join(name));
        std::fs::read(places.find(|place| place.exists()).unwrap()).unwrap()
    };
    let found = (read("d/a"), read("d/b"));
    store.remove_rootfs("look").unwrap();
    found
}

#[tokio::test]
async fn what_skopeo_writes_is_read() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let registry = Registry::start(dir);
    // Docker's archive knows no zstd.
    let (dir_and_file, more) =
        ([("d/", &b""[..]), ("d/a", &noise(1, 100_000))], [("d/b", &b"2"[..])]);
    let parts = image(vec![layer(&dir_and_file, Pack::Gzip), layer(&more, Pack::Gzip)]);
    registry.push("a", "1", &parts);
    let source = format!("docker://{}", registry.name("a:1"));
    for (target, kept) in [
        ("docker-archive:docker.tar:r.example/team/app:3", Some("r.example/team/app:3")),
        ("oci-archive:oci.tar:r.example/team/app:4", Some("r.example/team/app:4")),
        ("oci-archive:bare.tar", None),
    ] {
        skopeo(dir, &["copy", "--src-tls-verify=false", &source, target]);
        let file = dir.join(target.split(':').nth(1).unwrap());
        let store = open(dir);
        let ids = import(&store, &file, &[]).unwrap();
        let [id] = &ids[..] else { panic!("{ids:?}") };
        assert_eq!(content(&store, id), (noise(1, 100_000), b"2".to_vec()), "{target}");
        let image = store.get(id.as_str()).unwrap();
        assert_eq!(image.repo_tags, kept.map(str::to_owned).into_iter().collect::<Vec<_>>());
        assert_eq!(store.verify(false).await.unwrap().findings, []);
        // Again, compressed as a whole, with names of our own.
        assert!(command("gzip").args(["-k", "-f"]).arg(&file).status().unwrap().success());
        let packed = format!("{}.gz", file.display());
        let again =
            import(&store, Path::new(&packed), &["x.example/a:1", "x.example/a:2"]).unwrap();
        assert_eq!(again, ids);
        assert_eq!(store.get("x.example/a:2").unwrap().id, *id);
        store.remove(id.as_str()).await.unwrap();
        assert_empty(dir, &store);
    }
}

#[tokio::test]
async fn what_is_written_is_read_by_skopeo_and_by_us() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let fake = Fake::plain();
    fake.put_image("a", "1", &parts());
    let store = open(dir);
    let id = store.pull(&reference(&fake.name("a:1")), None, None).await.unwrap();
    store.tag(id.as_str(), reference("r.example/b:2")).await.unwrap();
    let file = dir.join("out.tar");
    let write = || {
        let mut bytes = Vec::new();
        store.export(&[id.to_string()], &mut bytes).unwrap();
        bytes
    };
    std::fs::write(&file, write()).unwrap();
    assert_eq!(write(), std::fs::read(&file).unwrap(), "the same bytes each time");
    skopeo(dir, &["copy", "docker-archive:out.tar:r.example/b:2", "dir:from-docker"]);
    skopeo(dir, &["copy", "oci-archive:out.tar:2", "dir:from-oci"]);
    let manifest = std::fs::read(dir.join("from-oci/manifest.json")).unwrap();
    assert_eq!(sha256(&manifest), parts().digest(), "the manifest is the one that was pulled");
    store.remove(id.as_str()).await.unwrap();
    assert_empty(dir, &store);
    assert_eq!(import(&store, &file, &[]).unwrap(), std::slice::from_ref(&id));
    assert_eq!(store.get("r.example/b:2").unwrap().repo_tags.len(), 2);
    assert_eq!(content(&store, &id), (noise(1, 100_000), b"2".to_vec()));
    let error = store.export(&["absent".into()], std::io::sink()).unwrap_err();
    assert!(error.to_string().contains("absent"), "{error}");
}

/// An archive of these members; a target makes a symbolic link.
fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    super::parts::tar_of(members)
}

#[tokio::test]
async fn archives_that_are_refused_leave_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path());
    let other = image_for(vec![layer(&[("f", b"1")], Pack::Gzip)], "s390x", DOCKER_MANIFEST);
    let foreign = index(&[(&other, ("linux", "s390x", None))]);
    let list = |digest: &Digest| {
        format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"{digest}","size":1}}]}}"#
        )
    };
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", sha256(bytes).hex());
    let parts = parts();
    let missing = list(&parts.digest()).replace("index.v1", "manifest.v1");
    let good = list(&sha256(&foreign));
    let cases: [(Vec<u8>, &str); 8] = [
        (b"no archive at all, but long enough to be looked at".repeat(30), "archive"),
        (archive(&[]), "neither index.json nor manifest.json"),
        (archive(&[("index.json", b"{")]), "index.json"),
        (archive(&[("index.json", br#"{"manifests":[]}"#)]), "no image"),
        (archive(&[("index.json", missing.as_bytes())]), "is not in it"),
        (
            archive(&[("blobs/sha256/aa", b"x"), ("index.json", missing.as_bytes())]),
            "has the digest",
        ),
        (archive(&[(&blob(&foreign), &foreign), ("index.json", good.as_bytes())]), "linux/s390x"),
        (
            archive(&[
                ("index.json", missing.as_bytes()),
                (&blob(&parts.manifest), &parts.manifest),
                (&blob(&parts.config), &parts.config),
            ]),
            "layer sha256",
        ),
    ];
    for (bytes, word) in cases {
        let error = store.import(&bytes[..], &[]).unwrap_err().to_string();
        assert!(error.contains(word), "{word}: {error}");
        assert_empty(temp.path(), &store);
    }
    // A layer that is not what the configuration says.
    let mut wrong = parts.clone();
    wrong.layers[0] = layer(&[("d/", b""), ("d/a", b"other")], Pack::Gzip);
    let wrong = super::parts::with_config(
        wrong.layers.clone(),
        &serde_json::from_slice(&parts.config).unwrap(),
        super::parts::OCI_MANIFEST,
    );
    let text = list(&wrong.digest()).replace("index.v1", "manifest.v1");
    let mut members = vec![("index.json".to_owned(), text.into_bytes())];
    members
        .extend(wrong.blobs().into_iter().chain([wrong.manifest.clone()]).map(|b| (blob(&b), b)));
    let members: Vec<_> = members.iter().map(|(n, b)| (n.as_str(), b.as_slice())).collect();
    let error = store.import(&archive(&members)[..], &[]).unwrap_err().to_string();
    assert!(error.contains("expected diffID"), "{error}");
    assert_empty(temp.path(), &store);
}

#[tokio::test]
async fn pushed_once_and_mounted_after() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let fake = Fake::plain();
    let large = image(vec![layer(&[("big", &noise(3, 20 << 20))], Pack::Plain)]);
    fake.put_image("a", "1", &large);
    let registry = Registry::start(dir);
    let store = open(dir);
    let id = store.pull(&reference(&fake.name("a:1")), None, None).await.unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let push = async |name: &str, image: &str| {
        let sink = seen.clone();
        sink.lock().unwrap().clear();
        let listener: crate::Progress = Arc::new(move |event| sink.lock().unwrap().push(event));
        let digest = store.push(image, &reference(name), None, Some(listener)).await.unwrap();
        assert_eq!(digest, large.digest());
        let seen = seen.lock().unwrap();
        let sent = |event: &&ProgressEvent| {
            matches!(event, ProgressEvent::Layer { state: LayerState::Sending { .. }, .. })
        };
        seen.iter().filter(sent).count()
    };
    let one = registry.name("one/app:1");
    // Two whole chunks and the rest, and the configuration.
    assert!(push(&one, id.as_str()).await >= 4);
    assert_eq!(push(&one, id.as_str()).await, 0, "it is there already");
    // Known here under the name of that registry, another repository gets it without sending.
    store.tag(id.as_str(), reference(&one)).await.unwrap();
    assert_eq!(push(&registry.name("two:1"), id.as_str()).await, 0, "mounted");
    store.remove(id.as_str()).await.unwrap();
    let again = store.pull(&reference(&registry.name("two:1")), None, None).await.unwrap();
    assert_eq!(again, id);
    let rootfs = store.create_rootfs(&id, "c").unwrap();
    assert_eq!(std::fs::read(rootfs.lower[0].join("big")).unwrap(), noise(3, 20 << 20));
}

#[tokio::test]
async fn names_are_given_and_taken_and_what_nobody_uses_is_pruned() {
    let temp = tempfile::tempdir().unwrap();
    let fake = Fake::plain();
    fake.put_image("a", "1", &parts());
    let store = open(temp.path());
    let id = store.pull(&reference(&fake.name("a:1")), None, None).await.unwrap();
    let other = image(vec![layer(&[("f", b"other")], Pack::Gzip)]);
    fake.put_image("b", "1", &other);
    let other = store.pull(&reference(&fake.name("b:1")), None, None).await.unwrap();
    store.tag(id.as_str(), reference("r.example/x:1")).await.unwrap();
    // A name that is given away is taken from who had it.
    store.tag(other.as_str(), reference("r.example/x:1")).await.unwrap();
    assert_eq!(store.get("r.example/x:1").unwrap().id, other);
    assert_eq!(store.get(id.as_str()).unwrap().repo_tags, [fake.name("a:1")]);
    assert!(store.untag("r.example/x:1").await.unwrap());
    assert!(!store.untag("r.example/x:1").await.unwrap());
    assert!(store.get(other.as_str()).is_some());
    // Names outlive the process.
    drop(store);
    let store = open(temp.path());
    assert_eq!(store.get(other.as_str()).unwrap().repo_tags, [fake.name("b:1")]);
    assert_eq!(store.prune(false, |_| true).await.unwrap(), (vec![], 0));
    store.create_rootfs(&id, "c").unwrap();
    let (removed, bytes) = store.prune(true, |_| true).await.unwrap();
    assert_eq!(removed, [other]);
    assert!(bytes > 0 && store.list().len() == 1);
    store.remove_rootfs("c").unwrap();
    // The last tag goes with the image.
    assert!(store.untag(&fake.name("a:1")).await.unwrap());
    assert_empty(temp.path(), &store);
    assert_eq!(names(&temp.path().join("store/writable")), [""; 0]);
}

#[tokio::test]
async fn running_pulls_are_listed() {
    let temp = tempfile::tempdir().unwrap();
    let fake = Fake::start(|request| {
        let packed = parts().layers[0].packed.clone();
        let is_layer = request.path.ends_with(sha256(&packed).as_str());
        is_layer.then(|| super::fake::Reply {
            cut: Some(50_000),
            hang: true,
            ..super::fake::Reply::new(200, &[], &packed)
        })
    });
    fake.put_image("a", "1", &parts());
    let store = open(temp.path());
    assert!(store.pulls().is_empty());
    let (moved, mut moves) = tokio::sync::mpsc::channel(10_000);
    let listener: crate::Progress = Arc::new(move |event| drop(moved.try_send(event)));
    let name = reference(&fake.name("a:1"));
    let pulling = {
        let (store, name) = (store.clone(), name.clone());
        tokio::spawn(async move { store.pull(&name, None, Some(listener)).await })
    };
    let first = sha256(&parts().layers[0].packed);
    while let Some(event) = moves.recv().await {
        if matches!(&event, ProgressEvent::Layer { blob, state: LayerState::Fetching { .. } } if *blob == first)
        {
            break;
        }
    }
    let pulls = store.pulls();
    let [pull] = &pulls[..] else { panic!("{pulls:?}") };
    assert_eq!((pull.reference.as_str(), pull.layers), (name.to_string().as_str(), 2));
    let sizes = parts().layers.iter().map(|layer| layer.packed.len() as u64).sum::<u64>();
    assert!(pull.bytes == sizes && pull.bytes_done > 0 && pull.bytes_done < sizes, "{pull:?}");
    // Who joins hears what happened before.
    let heard = Arc::new(Mutex::new(Vec::new()));
    let sink = heard.clone();
    let listener: crate::Progress = Arc::new(move |event| sink.lock().unwrap().push(event));
    let mut joined = Box::pin(store.pull(&name, None, Some(listener)));
    assert!(futures_poll(joined.as_mut()).await.is_none());
    let seen = heard.lock().unwrap().clone();
    assert!(matches!(seen[0], ProgressEvent::Resolved { layers: 2, .. }), "{seen:?}");
    assert!(seen.len() > 1, "{seen:?}");
    drop(joined);
    pulling.abort();
    let _ = pulling.await;
    // The abandoned pull winds down; its last act is to leave the list.
    while !store.pulls().is_empty() {
        tokio::task::yield_now().await;
    }
}

/// Polls a future once.
async fn futures_poll<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(match std::pin::Pin::new(&mut future).poll(context) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        })
    })
    .await
}
