//! Registries as the operator configured them: mirrors, certificates, credentials from files.

use super::credentials::{certificate, openssl};
use super::fake::{Fake, Reply};
use super::parts::{ImageParts, Pack, image, layer, noise};
use super::registry::{Demands, Registry};
use super::{options, reference};
use crate::registry::sha256;
use crate::{Auth, ImageStore, PullErrorKind as Kind};
use std::path::{Path, PathBuf};

fn parts() -> ImageParts {
    image(vec![layer(&[("f", &noise(1, 300_000))], Pack::Plain)])
}

/// Writes `hosts.toml` for a registry and gives the tree.
fn hosts(root: &Path, registry: &Fake, text: &str) -> PathBuf {
    hosts_for(root, &format!("127.0.0.1:{}", registry.port), text)
}

fn hosts_for(root: &Path, registry: &str, text: &str) -> PathBuf {
    let tree = root.join("certs.d");
    let dir = tree.join(registry);
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("hosts.toml"), text).unwrap();
    tree
}

fn mirror(fake: &Fake) -> String {
    format!("[host.\"http://127.0.0.1:{}\"]\n", fake.port)
}

fn store(root: &Path, tree: PathBuf) -> ImageStore {
    let mut options = options(root);
    options.registry.hosts_dirs = vec![tree];
    options.registry.retries = 1;
    ImageStore::open(options).unwrap()
}

async fn pull(store: &ImageStore, fake: &Fake, auth: Option<Auth>) -> Result<(), Kind> {
    let done = store.pull(&reference(&fake.name("a:1")), auth, None).await;
    done.map(drop).map_err(|error| error.kind)
}

#[tokio::test]
async fn the_mirror_is_asked_first_and_knows_for_whom() {
    let temp = tempfile::tempdir().unwrap();
    let (near, own) = (Fake::plain(), Fake::plain());
    near.put_image("a", "1", &parts());
    let store = store(temp.path(), hosts(temp.path(), &own, &mirror(&near)));
    pull(&store, &own, None).await.unwrap();
    let ns = format!("ns=127.0.0.1%3A{}", own.port);
    assert!(near.seen().iter().all(|r| r.query == ns || r.path == "/v2/"), "{:?}", near.seen());
    assert!(own.seen().is_empty());
    // The name is the registry's, whoever gave the content.
    assert!(store.get(&own.name("a:1")).is_some());
}

#[tokio::test]
async fn a_mirror_that_fails_is_passed_over() {
    for reply in [(404, "gone"), (401, "who"), (403, "no"), (429, "slow"), (500, "broken")] {
        let temp = tempfile::tempdir().unwrap();
        let near = Fake::start(move |_| Some(Reply::new(reply.0, &[], reply.1.as_bytes())));
        let own = Fake::plain();
        let store = store(temp.path(), hosts(temp.path(), &own, &mirror(&near)));
        let kind = pull(&store, &own, None).await.unwrap_err();
        assert!(matches!(kind, Kind::NotFound { .. }), "{reply:?}: {kind}");
        assert!(kind.to_string().contains("manifest unknown"), "{kind}");
        assert!(kind.to_string().contains("mirror 127.0.0.1"), "{kind}");
        own.put_image("a", "1", &parts());
        pull(&store, &own, None).await.unwrap();
    }
}

#[tokio::test]
async fn tags_are_asked_only_of_hosts_that_may_say() {
    let temp = tempfile::tempdir().unwrap();
    let (near, own) = (Fake::plain(), Fake::plain());
    let other = image(vec![layer(&[("f", b"other")], Pack::Gzip)]);
    // The mirror would lie about the tag, but has the blobs.
    near.put_image("a", "1", &other);
    for blob in parts().blobs() {
        near.put(&format!("/v2/a/blobs/{}", sha256(&blob)), "application/octet-stream", &blob);
    }
    own.put_image("a", "1", &parts());
    let text = format!("{}capabilities = ['pull']\n", mirror(&near));
    let store = store(temp.path(), hosts(temp.path(), &own, &text));
    pull(&store, &own, None).await.unwrap();
    assert_eq!(store.list()[0].id, parts().id());
    assert!(near.seen().iter().any(|r| r.path.contains("/blobs/")));
    assert!(near.seen().iter().all(|r| !r.path.contains("/manifests/")));
    assert!(own.seen().iter().all(|r| !r.path.contains("/blobs/")));
}

#[tokio::test]
async fn wrong_bytes_of_a_mirror_are_fetched_from_the_registry() {
    let temp = tempfile::tempdir().unwrap();
    let own = Fake::plain();
    own.put_image("a", "1", &parts());
    let near = Fake::start(|request| {
        let mut wrong = parts().layers[0].packed.clone();
        wrong[600] ^= 1;
        let is_layer = request.path.ends_with(sha256(&parts().layers[0].packed).as_str());
        is_layer.then(|| Reply::new(200, &[], &wrong))
    });
    near.put_image("a", "1", &parts());
    let store = store(temp.path(), hosts(temp.path(), &own, &mirror(&near)));
    pull(&store, &own, None).await.unwrap();
    let id = &store.list()[0].id;
    let rootfs = store.create_rootfs(id, "c").unwrap();
    assert_eq!(std::fs::read(rootfs.lower[0].join("f")).unwrap(), noise(1, 300_000));
}

#[tokio::test]
async fn a_mirror_that_dies_is_continued_at_the_registry() {
    let temp = tempfile::tempdir().unwrap();
    let own = Fake::plain();
    own.put_image("a", "1", &parts());
    let near = Fake::start(|request| {
        let packed = parts().layers[0].packed.clone();
        if !request.path.ends_with(sha256(&packed).as_str()) {
            return None;
        }
        Some(match request.header("range") {
            None => Reply { cut: Some(100_000), ..Reply::new(200, &[], &packed) },
            Some(_) => Reply::new(503, &[], b"going down"),
        })
    });
    near.put_image("a", "1", &parts());
    let store = store(temp.path(), hosts(temp.path(), &own, &mirror(&near)));
    pull(&store, &own, None).await.unwrap();
    let mut seen = own.seen();
    seen.retain(|request| request.path != "/v2/");
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(seen[0].header("range"), Some("bytes=100000-"));
}

#[tokio::test]
async fn a_change_of_the_file_counts_at_once() {
    let temp = tempfile::tempdir().unwrap();
    let (near, own) = (Fake::plain(), Fake::plain());
    own.put_image("a", "1", &parts());
    near.put_image("a", "1", &parts());
    let tree = hosts(temp.path(), &own, "");
    let store = store(temp.path(), tree);
    pull(&store, &own, None).await.unwrap();
    assert!(near.seen().is_empty());
    hosts(temp.path(), &own, &mirror(&near));
    pull(&store, &own, None).await.unwrap();
    assert!(!near.seen().is_empty());
    hosts(temp.path(), &own, "server = 5");
    let kind = pull(&store, &own, None).await.unwrap_err();
    assert!(matches!(kind, Kind::Configuration { .. }), "{kind}");
}

#[tokio::test]
async fn credentials_stay_with_their_host_and_headers_with_theirs() {
    let temp = tempfile::tempdir().unwrap();
    let demand = |wanted: &'static str| {
        move |request: &super::fake::Request| {
            let right = request.header("authorization") == Some(wanted);
            (!right && request.path != "/v2/")
                .then(|| Reply::new(401, &[("WWW-Authenticate", "Basic realm=\"r\"")], b"{}"))
        }
    };
    let near = Fake::start(demand("Basic bWlycm9yOm1pcnJvcg=="));
    let own = Fake::start(demand("Basic dXNlcjpzZWNyZXQ="));
    own.put_image("a", "1", &parts());
    let file = temp.path().join("config.json");
    let text = format!(
        r#"{{"auths": {{"127.0.0.1:{}": {{"auth": "bWlycm9yOm1pcnJvcg=="}}}}}}"#,
        near.port
    );
    std::fs::write(&file, text).unwrap();
    let mut options = options(temp.path());
    let header = "[host.\"http://127.0.0.1:PORT\".header]\nx-own = 'yes'\n";
    let text = mirror(&near) + &header.replace("PORT", &near.port.to_string());
    options.registry.hosts_dirs = vec![hosts(temp.path(), &own, &text)];
    options.registry.auth_files = vec![file];
    let store = ImageStore::open(options).unwrap();
    let auth = Auth::Basic { username: "user".into(), password: "secret".into() };
    pull(&store, &own, Some(auth)).await.unwrap();
    let sent = |fake: &Fake, name: &str| {
        let seen = fake.seen();
        let mut sent: Vec<_> =
            seen.iter().filter_map(|r| r.header(name).map(str::to_owned)).collect();
        sent.dedup();
        sent
    };
    assert_eq!(sent(&near, "authorization"), ["Basic bWlycm9yOm1pcnJvcg=="]);
    assert_eq!(sent(&own, "authorization"), ["Basic dXNlcjpzZWNyZXQ="]);
    assert_eq!(sent(&near, "x-own"), ["yes"]);
    assert!(sent(&own, "x-own").is_empty());
}

#[tokio::test]
async fn tls_as_the_tree_says() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    Registry::start(dir).push("a", "1", &parts());
    openssl(
        dir,
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=testca -days 2",
    );
    let mut demands = certificate(dir, "server", "IP:127.0.0.1", 2);
    certificate(dir, "me", "DNS:me.example", 2);
    demands.client_ca = Some(dir.join("ca.pem"));
    let registry = Registry::with(dir, &Demands { ..demands });
    let name = reference(&registry.name("a:1"));
    let host = format!("127.0.0.1:{}", registry.port);
    let ca = format!("ca = '{0}/ca.pem'\n", dir.display());
    let client = format!("client = [['{0}/me.pem', '{0}/me.key']]\n", dir.display());
    let server = format!("server = 'https://{host}'\n");
    let tree = hosts_for(dir, &host, &server);
    let store = store(dir, tree);
    for (text, want) in [
        (server.clone(), Some("unknown authority")),
        (format!("{server}{ca}"), Some("")),
        (format!("{server}{client}"), Some("unknown authority")),
        (format!("{server}{ca}{client}"), None),
        (format!("{server}skip_verify = true\n{client}"), None),
        (format!("{server}ca = '{}/ca.key'\n", dir.display()), Some("ca.key")),
        (format!("{server}{ca}client = '{}/absent.pem'\n", dir.display()), Some("absent.pem")),
    ] {
        hosts_for(dir, &host, &text);
        match (store.pull(&name, None, None).await, want) {
            (Ok(_), None) => {}
            (Err(error), Some(word)) => {
                assert!(error.to_string().contains(word), "{text}: {error}")
            }
            (got, _) => panic!("{text}: {got:?}"),
        }
    }
}

#[tokio::test]
async fn registries_conf() {
    let temp = tempfile::tempdir().unwrap();
    let (near, own) = (Fake::plain(), Fake::plain());
    near.put_image("all/a", "1", &parts());
    let file = temp.path().join("registries.conf");
    let conf = format!(
        "[aliases]\n'tool' = 'alias.example/tool'\n[[registry]]\nlocation = '127.0.0.1:{}'\n[[registry.mirror]]\nlocation = '127.0.0.1:{}/all'\n[[registry]]\nlocation = 'bad.example'\nblocked = true\n",
        own.port, near.port
    );
    std::fs::write(&file, conf).unwrap();
    let mut options = options(temp.path());
    options.registry.registries_conf = Some(file);
    let store = ImageStore::open(options).unwrap();
    pull(&store, &own, None).await.unwrap();
    assert!(own.seen().is_empty() && store.get(&own.name("a:1")).is_some());
    let error = store.pull(&reference("bad.example/x"), None, None).await.unwrap_err();
    assert!(matches!(error.kind, Kind::Blocked { .. }), "{error}");
    let names = |text: &str| {
        let names = store
            .names(text)
            .map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
        names.unwrap_or_else(|error| error.to_string())
    };
    assert_eq!(names("tool:3"), "alias.example/tool:3");
    assert!(names("nginx").contains("refused"), "{}", names("nginx"));
    assert_eq!(names("r.example/nginx"), "r.example/nginx:latest");
}

#[tokio::test]
async fn nobody_there() {
    let temp = tempfile::tempdir().unwrap();
    let store = store(temp.path(), temp.path().join("absent"));
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for (name, word) in [
        (format!("127.0.0.1:{free}/a"), "connection refused"),
        ("does-not-exist.invalid/a".to_owned(), "cannot be resolved"),
    ] {
        let error = store.pull(&reference(&name), None, None).await.unwrap_err().to_string();
        assert!(error.starts_with("RegistryUnavailable: "), "{error}");
        assert!(error.contains(word), "{error}");
    }
}
