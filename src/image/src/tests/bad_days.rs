//! Registries that go away, lie or are full of themselves; disks that are full.

use super::fake::{Fake, Reply, Request};
use super::parts::{
    ImageParts, OCI_INDEX, OCI_MANIFEST, Pack, descriptor, image, layer, noise, packed, tar_of,
    with_config,
};
use super::registry::command;
use super::{assert_empty, open, options, reference};
use crate::registry::sha256;
use crate::{ImageStore, PullError, PullErrorKind as Kind};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

async fn fails(store: &ImageStore, name: &str) -> PullError {
    store.pull(&reference(name), None, None).await.unwrap_err()
}

fn two_layers() -> ImageParts {
    image(vec![
        layer(&[("a", &noise(1, 400_000))], Pack::Gzip),
        layer(&[("b", &noise(2, 2 << 20))], Pack::Zstd),
    ])
}

fn is_last_layer(request: &Request, image: &ImageParts) -> bool {
    request.path.ends_with(sha256(&image.layers.last().unwrap().packed).as_str())
}

#[tokio::test]
async fn cut_in_mid_layer_is_resumed() {
    let temp = tempfile::tempdir().unwrap();
    let parts = two_layers();
    let (target, cuts) = (parts.clone(), AtomicU32::new(0));
    let full = parts.layers[1].packed.clone();
    let fake = Fake::start(move |request| {
        if !is_last_layer(request, &target) || cuts.fetch_add(1, Ordering::SeqCst) > 3 {
            return None;
        }
        // Twice by range, once by a server that starts again.
        let from = request
            .header("range")
            .map_or(0, |range| range[6..].trim_end_matches('-').parse().unwrap());
        let mut reply = if from > 0 && cuts.load(Ordering::SeqCst) != 3 {
            let range = format!("bytes {from}-{}/{}", full.len() - 1, full.len());
            Reply::new(206, &[("Content-Range", &range)], &full[from..])
        } else {
            Reply::new(200, &[], &full)
        };
        reply.cut = Some((reply.body.len() / 2).max(1));
        Some(reply)
    });
    fake.put_image("x", "1", &parts);
    let store = open(temp.path());
    let id = store.pull(&reference(&fake.name("x:1")), None, None).await.unwrap();
    let rootfs = store.create_rootfs(&id, "c").unwrap();
    assert_eq!(std::fs::read(rootfs.lower[0].join("b")).unwrap(), noise(2, 2 << 20));
    let ranges = fake.seen().iter().filter(|request| request.header("range").is_some()).count();
    assert!(ranges >= 3, "{ranges}");
}

#[tokio::test]
async fn registry_gone_in_mid_layer() {
    let temp = tempfile::tempdir().unwrap();
    let parts = two_layers();
    let target = parts.clone();
    let full = parts.layers[1].packed.clone();
    let fake = Fake::start(move |request| {
        is_last_layer(request, &target).then(|| match request.header("range") {
            None => Reply { cut: Some(full.len() / 2), ..Reply::new(200, &[], &full) },
            Some(_) => Reply::new(503, &[], b"going down"),
        })
    });
    fake.put_image("x", "1", &parts);
    let store = open(temp.path());
    let error = fails(&store, &fake.name("x:1")).await;
    assert!(error.to_string().starts_with("RegistryUnavailable"), "{error}");
    assert!(error.to_string().contains("going down (503)"), "{error}");
    assert_empty(temp.path(), &store);
}

#[tokio::test]
async fn stalled_and_silent() {
    let temp = tempfile::tempdir().unwrap();
    let parts = two_layers();
    let target = parts.clone();
    let full = parts.layers[1].packed.clone();
    let fake = Fake::start(move |request| {
        is_last_layer(request, &target).then(|| Reply {
            cut: Some(1000),
            hang: true,
            ..Reply::new(200, &[], &full)
        })
    });
    fake.put_image("x", "1", &parts);
    let mut options = options(temp.path());
    options.registry.stall_timeout = Duration::from_millis(100);
    options.registry.retries = 1;
    let store = ImageStore::open(options).unwrap();
    let error = fails(&store, &fake.name("x:1")).await;
    assert!(matches!(error.kind, Kind::RegistryUnavailable { .. }), "{error}");
    assert_empty(temp.path(), &store);
}

#[tokio::test]
async fn nobody_there() {
    let temp = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let store = open(temp.path());
    let error = fails(&store, &format!("127.0.0.1:{port}/x:1")).await.to_string();
    assert!(error.starts_with("RegistryUnavailable: pull 127.0.0.1"), "{error}");
    assert!(error.to_lowercase().contains("connection refused"), "{error}");
    assert_empty(temp.path(), &store);
}

#[tokio::test]
async fn statuses_are_told_apart() {
    let temp = tempfile::tempdir().unwrap();
    let fake = Fake::start(|request| {
        let status: u16 = request.path.rsplit('/').next()?.strip_prefix('s')?.parse().ok()?;
        let body = br#"{"errors":[{"code":"CODE","message":"the registry's words"}]}"#;
        Some(Reply::new(status, &[("Retry-After", "77")], body))
    });
    let store = open(temp.path());
    for status in [401, 403, 404, 418, 429, 500] {
        let error = fails(&store, &fake.name(&format!("x:s{status}"))).await;
        let right = match &error.kind {
            Kind::Unauthorized { .. } => status == 401,
            Kind::Forbidden { .. } => status == 403,
            Kind::NotFound { .. } => status == 404,
            Kind::Refused { status: refused, .. } => *refused == 418 && status == 418,
            Kind::RateLimited { retry_after, .. } => {
                status == 429 && *retry_after == Some(Duration::from_secs(77))
            }
            Kind::RegistryUnavailable { .. } => status == 500,
            _ => false,
        };
        assert!(right, "{status}: {error:?}");
        assert!(error.to_string().contains("CODE: the registry's words"), "{error}");
    }
    let tries = |s: u16| fake.seen().iter().filter(|r| r.path.ends_with(&format!("s{s}"))).count();
    assert_eq!((tries(404), tries(429), tries(500)), (1, 1, 4));
}

#[tokio::test]
async fn short_rate_limit_is_waited_for() {
    let temp = tempfile::tempdir().unwrap();
    let parts = two_layers();
    let count = AtomicU32::new(0);
    let fake = Fake::start(move |request| {
        let limited =
            request.path.contains("/manifests/") && count.fetch_add(1, Ordering::SeqCst) < 2;
        limited.then(|| Reply::new(429, &[("Retry-After", "0")], b"slow down"))
    });
    fake.put_image("x", "1", &parts);
    let store = open(temp.path());
    store.pull(&reference(&fake.name("x:1")), None, None).await.unwrap();
}

/// Tag, declared type, content, and what the refusal says.
type Hostile = (&'static str, &'static str, Vec<u8>, &'static str);

fn manifests_as_they_are(good: &ImageParts) -> Vec<Hostile> {
    let deep = format!("{{\"schemaVersion\":2,\"x\":{}{}}}", "[".repeat(100), "]".repeat(100));
    vec![
        ("type", OCI_INDEX, good.manifest.clone(), "was sent as"),
        ("deep", OCI_MANIFEST, deep.into_bytes(), "levels deep"),
        ("not-json", OCI_MANIFEST, b"<html>".to_vec(), "manifest is not valid"),
        ("array", OCI_MANIFEST, b"[]".to_vec(), "manifest is not valid"),
        (
            "schema1",
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            b"{\"schemaVersion\":1}".to_vec(),
            "schema 1 has been retired",
        ),
        ("big", OCI_MANIFEST, vec![b' '; (4 << 20) + 1], "manifest is too large"),
    ]
}

fn manifests_changed(good: &ImageParts) -> Vec<Hostile> {
    let value: serde_json::Value = serde_json::from_slice(&good.manifest).unwrap();
    let changed = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut value = value.clone();
        change(&mut value);
        serde_json::to_vec(&value).unwrap()
    };
    let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    let many = changed(&|v| v["layers"] = json!(vec![v["layers"][0].clone(); 501]));
    vec![
        (
            "both",
            OCI_MANIFEST,
            changed(&|v| v["manifests"] = json!([])),
            "both an index and a manifest",
        ),
        ("null", OCI_MANIFEST, changed(&|v| v["layers"] = json!(null)), "manifest is not valid"),
        (
            "version",
            OCI_MANIFEST,
            changed(&|v| v["schemaVersion"] = json!(3)),
            "schemaVersion is not 2",
        ),
        (
            "urls",
            OCI_MANIFEST,
            changed(&|v| v["layers"][0]["urls"] = json!(["https://evil.example/"])),
            "outside the registry",
        ),
        (
            "foreign",
            OCI_MANIFEST,
            changed(&|v| v["layers"][0]["mediaType"] = json!(foreign)),
            "outside the registry",
        ),
        (
            "erofs",
            OCI_MANIFEST,
            changed(&|v| v["layers"][0]["mediaType"] = json!("application/vnd.erofs")),
            "is not supported",
        ),
        (
            "artifact",
            OCI_MANIFEST,
            changed(&|v| v["config"]["mediaType"] = json!("application/vnd.helm")),
            "not an image",
        ),
        (
            "path",
            OCI_MANIFEST,
            changed(&|v| v["config"]["digest"] = json!("sha256:../../x")),
            "manifest is not valid",
        ),
        ("many", OCI_MANIFEST, many, "number of layers is too large: 501"),
        (
            "negative",
            OCI_MANIFEST,
            changed(&|v| v["layers"][0]["size"] = json!(-1)),
            "manifest is not valid",
        ),
        (
            "count",
            OCI_MANIFEST,
            changed(&|v| v["layers"] = json!([v["layers"][0]])),
            "names 2 layers, the manifest 1",
        ),
        (
            "config-longer",
            OCI_MANIFEST,
            changed(&|v| v["config"]["size"] = json!(1 + v["config"]["size"].as_u64().unwrap())),
            "size mismatch",
        ),
        (
            "layer-shorter",
            OCI_MANIFEST,
            changed(&|v| {
                v["layers"][1]["size"] = json!(v["layers"][1]["size"].as_u64().unwrap() - 1)
            }),
            "size mismatch",
        ),
        (
            "layer-longer",
            OCI_MANIFEST,
            changed(&|v| {
                v["layers"][1]["size"] = json!(v["layers"][1]["size"].as_u64().unwrap() + 1)
            }),
            "ended after",
        ),
        (
            "huge",
            OCI_MANIFEST,
            changed(&|v| v["layers"][1]["size"] = json!(u64::MAX)),
            "no space left",
        ),
    ]
}

#[tokio::test]
async fn hostile_documents() {
    let temp = tempfile::tempdir().unwrap();
    let fake = Fake::plain();
    let good = two_layers();
    fake.put_image("x", "good", &good);
    let cases = manifests_as_they_are(&good).into_iter().chain(manifests_changed(&good));
    let store = open(temp.path());
    for (tag, media_type, bytes, want) in cases {
        fake.put_manifest("x", tag, media_type, &bytes);
        let error = fails(&store, &fake.name(&format!("x:{tag}"))).await.to_string();
        assert!(error.contains(want), "{tag}: {error}");
        assert_empty(temp.path(), &store);
    }
}

#[tokio::test]
async fn wrong_content_is_told_by_its_digest() {
    let temp = tempfile::tempdir().unwrap();
    let good = two_layers();
    let other = noise(9, good.layers[1].packed.len());
    let store = open(temp.path());
    let fake = Fake::plain();
    // A layer of the right size with another content; a manifest by digest; a configuration.
    for (case, target) in [
        ("layer", format!("/v2/x/blobs/{}", sha256(&good.layers[1].packed))),
        ("manifest", format!("/v2/x/manifests/{}", good.digest())),
        ("image configuration", format!("/v2/x/blobs/{}", good.id())),
    ] {
        fake.put_image("x", "1", &good);
        let content = if case == "layer" { other.clone() } else { noise(3, 100) };
        fake.put(&target, OCI_MANIFEST, &content);
        let error = fails(&store, &fake.name(&format!("x@{}", good.digest()))).await;
        assert!(
            matches!(&error.kind, Kind::DigestMismatch { object, .. } if *object == case),
            "{case}: {error}"
        );
        assert_empty(temp.path(), &store);
    }
}

#[tokio::test]
async fn damaged_layers() {
    let temp = tempfile::tempdir().unwrap();
    let fake = Fake::plain();
    let store = open(temp.path());
    let good = layer(&[("f", &noise(4, 100_000))], Pack::Gzip);
    // Right digests of the wrong things.
    let mut cut = good.clone();
    cut.packed.truncate(good.packed.len() / 2);
    let mut garbage = good.clone();
    garbage.packed.extend_from_slice(b"garbage after the member");
    let mut other = good.clone();
    other.tar = tar_of(&[("other", b"")]);
    let not_tar = packed(noise(5, 10_000), Pack::Gzip);
    for (tag, part, want) in [
        ("cut", cut, "cannot be unpacked"),
        ("garbage", garbage, "cannot be unpacked"),
        ("diffid", other, "does not hold what the image configuration says"),
        ("not-tar", not_tar, "cannot be unpacked"),
    ] {
        fake.put_image("x", tag, &image(vec![part]));
        let error = fails(&store, &fake.name(&format!("x:{tag}"))).await.to_string();
        assert!(error.contains(want), "{tag}: {error}");
        assert_empty(temp.path(), &store);
    }
}

#[tokio::test]
async fn hostile_configuration() {
    let temp = tempfile::tempdir().unwrap();
    let fake = Fake::plain();
    let store = open(temp.path());
    for (tag, config) in [
        ("null", json!(null)),
        (
            "type",
            json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "x", "diff_ids": []}}),
        ),
        (
            "ids",
            json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": ["sha256:x"]}}),
        ),
        ("none", json!({"architecture": "amd64", "os": "linux"})),
    ] {
        let parts = with_config(vec![], &config, OCI_MANIFEST);
        fake.put_image("x", tag, &parts);
        let error = fails(&store, &fake.name(&format!("x:{tag}"))).await.to_string();
        assert!(error.contains("image configuration is not valid"), "{tag}: {error}");
    }
    let large = descriptor("application/vnd.oci.image.config.v1+json", &vec![b' '; (8 << 20) + 1]);
    let manifest =
        json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": large, "layers": []});
    fake.put_manifest("x", "large", OCI_MANIFEST, &serde_json::to_vec(&manifest).unwrap());
    let error = fails(&store, &fake.name("x:large")).await.to_string();
    assert!(error.contains("image configuration is too large"), "{error}");
    assert_empty(temp.path(), &store);
}

#[tokio::test]
async fn abandoned_pull_stops_and_leaves_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let parts = two_layers();
    let target = parts.clone();
    let full = parts.layers[1].packed.clone();
    let (reached, wait) = tokio::sync::oneshot::channel();
    let reached = std::sync::Mutex::new(Some(reached));
    let fake = Fake::start(move |request| {
        is_last_layer(request, &target).then(|| {
            reached.lock().unwrap().take().map(|reached| reached.send(()));
            Reply { cut: Some(1000), hang: true, ..Reply::new(200, &[], &full) }
        })
    });
    fake.put_image("x", "1", &parts);
    let store = open(temp.path());
    let (first, name) = (store.clone(), fake.name("x:1"));
    let pull = tokio::spawn(async move { first.pull(&reference(&name), None, None).await });
    wait.await.unwrap();
    pull.abort();
    assert!(pull.await.unwrap_err().is_cancelled());
    // The last clone is dropped once the abandoned work has wound down.
    let weak = Arc::downgrade(store.inner());
    let root = temp.path().join("store");
    drop(store);
    while weak.upgrade().is_some() {
        tokio::task::yield_now().await;
    }
    for dir in ["snapshots", "content/ingest", "content/blobs/sha256"] {
        assert_eq!(super::names(&root.join(dir)), [""; 0], "{dir}");
    }
}

/// A small ext4 of its own, unmounted with the test.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn make(temp: &Path, megabytes: u64) -> Self {
        let (file, mount) = (temp.join("disk"), temp.join("mount"));
        std::fs::create_dir(&mount).unwrap();
        std::fs::File::create(&file).unwrap().set_len(megabytes << 20).unwrap();
        run("mkfs.ext4", &["-q", "-m", "0", file.to_str().unwrap()]);
        run("mount", &["-o", "loop", file.to_str().unwrap(), mount.to_str().unwrap()]);
        Self(mount)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        run("umount", &[self.0.to_str().unwrap()]);
    }
}

fn run(program: &str, args: &[&str]) {
    let done = command(program).args(args).output().unwrap();
    assert!(done.status.success(), "{program} {args:?}: {done:?}");
}

#[tokio::test]
async fn disk_full_while_unpacking() {
    let temp = tempfile::tempdir().unwrap();
    let disk = SmallDisk::make(temp.path(), 40);
    let fake = Fake::plain();
    // Zeros: small as blobs, too large as files.
    let zeros = vec![0; 30 << 20];
    fake.put_image(
        "x",
        "1",
        &image(vec![
            layer(&[("small", b"1")], Pack::Gzip),
            layer(&[("a", &zeros)], Pack::Gzip),
            layer(&[("b", &zeros)], Pack::Zstd),
        ]),
    );
    // Larger than the disk as a blob: refused before anything is fetched.
    fake.put_image("x", "2", &image(vec![layer(&[("a", &noise(6, 50 << 20))], Pack::Plain)]));
    fake.put_image("x", "3", &image(vec![layer(&[("fits", b"1")], Pack::Gzip)]));
    let store = open(&disk.0);
    for tag in ["x:1", "x:2"] {
        let error = fails(&store, &fake.name(tag)).await;
        assert!(matches!(error.kind, Kind::NoSpace { .. }), "{error}");
        assert!(error.to_string().contains("no space left"), "{error}");
        assert_empty(&disk.0, &store);
    }
    store.pull(&reference(&fake.name("x:3")), None, None).await.unwrap();
    drop(store);
}
