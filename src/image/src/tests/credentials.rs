//! Credentials reach the registry that they are for, and nobody else.

use super::fake::{Fake, Reply};
use super::parts::{ImageParts, Pack, image, layer};
use super::registry::{Demands, Registry, command};
use super::{open, options, reference};
use crate::{Auth, ImageStore, PullErrorKind as Kind};
use std::path::Path;
use std::sync::Arc;

fn secret() -> Auth {
    Auth::Basic { username: "user".into(), password: "secret".into() }
}

fn small() -> ImageParts {
    image(vec![layer(&[("f", b"x")], Pack::Gzip)])
}

const USER_SECRET: &str = "Basic dXNlcjpzZWNyZXQ=";

#[tokio::test]
async fn basic_authentication() {
    let temp = tempfile::tempdir().unwrap();
    Registry::start(temp.path()).push("a", "1", &small());
    let demands = Demands { user: Some(("user", "secret")), ..Demands::default() };
    let registry = Registry::with(temp.path(), &demands);
    let store = open(temp.path());
    let name = reference(&registry.name("a:1"));
    let error = store.pull(&name, None, None).await.unwrap_err();
    assert!(matches!(&error.kind, Kind::Unauthorized { .. }), "{error}");
    assert!(error.to_string().contains("UNAUTHORIZED: authentication required"), "{error}");
    let wrong = Auth::Basic { username: "user".into(), password: "wrong".into() };
    let error = store.pull(&name, Some(wrong.clone()), None).await.unwrap_err();
    assert!(matches!(error.kind, Kind::Unauthorized { .. }), "{error}");
    assert_eq!(store.pull(&name, Some(secret()), None).await.unwrap(), small().id());
    // The image is here, but these credentials may not have it.
    let error = store.pull(&name, Some(wrong), None).await.unwrap_err();
    assert!(matches!(error.kind, Kind::Unauthorized { .. }), "{error}");
}

pub(super) fn openssl(dir: &Path, args: &str) {
    let done = command("openssl").current_dir(dir).args(args.split_whitespace()).output().unwrap();
    assert!(done.status.success(), "openssl {args}: {done:?}");
}

/// A certificate by `ca` for `names`, valid for so many days from now on.
pub(super) fn certificate(dir: &Path, name: &str, names: &str, days: i32) -> Demands<'static> {
    std::fs::write(dir.join("ext"), format!("subjectAltName={names}\n")).unwrap();
    openssl(
        dir,
        &format!("req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"),
    );
    let span = if days < 0 {
        "-not_before 20200101000000Z -not_after 20210101000000Z".to_owned()
    } else {
        format!("-days {days}")
    };
    // The shape that lets a start in the past be given.
    std::fs::write(dir.join("index.txt"), "").unwrap();
    std::fs::write(dir.join("serial"), "01\n").unwrap();
    std::fs::write(
        dir.join("ca.cnf"),
        "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\nunique_subject=no\n[p]\ncommonName=supplied\n",
    )
    .unwrap();
    let span = span.replace("-not_before", "-startdate").replace("-not_after", "-enddate");
    openssl(
        dir,
        &format!(
            "ca -batch -notext -config ca.cnf -cert ca.pem -keyfile ca.key -in {name}.csr -out {name}.pem -extfile ext {span}"
        ),
    );
    Demands {
        user: None,
        tls: Some((dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")))),
        client_ca: None,
    }
}

#[tokio::test]
async fn tls_and_its_failures() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    Registry::start(dir).push("a", "1", &small());
    openssl(
        dir,
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=testca -days 2",
    );
    let good = Registry::with(dir, &certificate(dir, "good", "IP:127.0.0.1", 2));
    let expired = Registry::with(dir, &certificate(dir, "expired", "IP:127.0.0.1", -1));
    let named = Registry::with(dir, &certificate(dir, "named", "DNS:elsewhere.example", 2));
    let mut trusting = options(dir);
    trusting.registry.ca_files = vec![dir.join("ca.pem")];
    let store = ImageStore::open(trusting).unwrap();
    store.pull(&reference(&good.name("a:1")), None, None).await.unwrap();
    for (registry, want) in [(&expired, "expired"), (&named, "another name")] {
        let error = store.pull(&reference(&registry.name("a:1")), None, None).await.unwrap_err();
        assert!(matches!(error.kind, Kind::Tls { .. }), "{error}");
        assert!(error.to_string().contains(want), "{error}");
    }
    drop(store);
    let store = open(dir);
    let error = store.pull(&reference(&good.name("a:1")), None, None).await.unwrap_err();
    assert!(matches!(error.kind, Kind::Tls { .. }), "{error}");
    assert!(error.to_string().contains("unknown authority"), "{error}");
}

/// A registry that wants a token from `realm`, and gives the image for it.
fn guarded(realm: impl Fn() -> String + Send + Sync + 'static) -> Fake {
    let fake = Fake::start(move |request| {
        let token = request.path.starts_with("/token");
        if token || request.header("authorization") == Some("Bearer good") {
            return token.then(|| Reply::new(200, &[], br#"{"token":"good"}"#));
        }
        let challenge =
            format!("Bearer realm=\"{}\",service=\"s\",scope=\"repository:a:pull\"", realm());
        Some(Reply::new(401, &[("WWW-Authenticate", &challenge)], b"{}"))
    });
    fake.put_image("a", "1", &small());
    fake
}

#[tokio::test]
async fn token_from_the_registry_itself() {
    let temp = tempfile::tempdir().unwrap();
    let port = Arc::new(std::sync::OnceLock::new());
    let own = port.clone();
    let fake = guarded(move || format!("http://127.0.0.1:{}/token", own.get().unwrap()));
    port.set(fake.port).unwrap();
    let store = open(temp.path());
    store.pull(&reference(&fake.name("a:1")), Some(secret()), None).await.unwrap();
    let seen = fake.seen();
    let token = seen.iter().find(|request| request.path.starts_with("/token")).unwrap();
    assert_eq!(token.header("authorization"), Some(USER_SECRET));
    assert!(token.path.contains("service=s") && token.path.contains("scope=repository%3Aa%3Apull"));
    // The password goes to the token service alone, and one token serves the whole pull.
    assert!(
        seen.iter()
            .filter(|r| !r.path.starts_with("/token"))
            .all(|r| r.header("authorization") != Some(USER_SECRET))
    );
    assert_eq!(seen.iter().filter(|r| r.path.starts_with("/token")).count(), 1);
}

#[tokio::test]
async fn token_service_elsewhere_gets_no_credentials() {
    let temp = tempfile::tempdir().unwrap();
    let evil = Fake::start(|_| Some(Reply::new(403, &[], b"who are you")));
    let port = evil.port;
    let fake = guarded(move || format!("http://127.0.0.1:{port}/token"));
    let store = open(temp.path());
    let error = store.pull(&reference(&fake.name("a:1")), Some(secret()), None).await.unwrap_err();
    assert!(
        error.to_string().contains("the credentials were not sent to the token service"),
        "{error}"
    );
    assert!(evil.seen().iter().all(|request| request.header("authorization").is_none()));
    assert!(!evil.seen().is_empty());
}

#[tokio::test]
async fn realms_that_are_refused() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path());
    for realm in
        ["http://evil.example/token", "ftp://127.0.0.1/", "nonsense", "https://u:p@evil.example/"]
    {
        let fake = guarded(move || realm.to_owned());
        let error =
            store.pull(&reference(&fake.name("a:1")), Some(secret()), None).await.unwrap_err();
        assert!(matches!(error.kind, Kind::Malformed { .. }), "{realm}: {error}");
    }
}

#[tokio::test]
async fn redirects_lose_the_authorization() {
    let temp = tempfile::tempdir().unwrap();
    let parts = small();
    // Where blobs lie in the field: another host, with a signed address.
    let storage = Fake::plain();
    storage.put_image("a", "1", &parts);
    let port = storage.port;
    let fake = Fake::start(move |request| {
        if request.header("authorization") != Some(USER_SECRET) {
            return Some(Reply::new(401, &[("WWW-Authenticate", "Basic realm=\"r\"")], b"{}"));
        }
        let to = format!("http://127.0.0.1:{port}{}", request.path);
        request.path.contains("/blobs/").then(|| Reply::new(307, &[("Location", &to)], b""))
    });
    fake.put_image("a", "1", &parts);
    let store = open(temp.path());
    store.pull(&reference(&fake.name("a:1")), Some(secret()), None).await.unwrap();
    assert_eq!(storage.seen().len(), 2);
    assert!(
        storage
            .seen()
            .iter()
            .all(|r| r.header("authorization").is_none() && r.header("cookie").is_none())
    );
}

#[tokio::test]
async fn bad_redirects() {
    let temp = tempfile::tempdir().unwrap();
    let store = open(temp.path());
    for (location, want) in [
        ("ftp://x/", "other than HTTP"),
        ("http://u:p@127.0.0.1/", "credentials in it"),
        ("/v2/a/manifests/1?secret=1", "redirects"),
    ] {
        let fake = Fake::start(move |request| {
            request
                .path
                .contains("/manifests/")
                .then(|| Reply::new(307, &[("Location", location)], b""))
        });
        let error =
            store.pull(&reference(&fake.name("a:1")), None, None).await.unwrap_err().to_string();
        assert!(error.contains(want) && !error.contains("secret"), "{location}: {error}");
    }
}

#[tokio::test]
async fn other_kinds_of_credentials() {
    let temp = tempfile::tempdir().unwrap();
    let port = Arc::new(std::sync::OnceLock::new());
    let own = port.clone();
    let fake = guarded(move || format!("http://127.0.0.1:{}/token", own.get().unwrap()));
    port.set(fake.port).unwrap();
    let store = open(temp.path());
    let name = reference(&fake.name("a:1"));
    store.pull(&name, Some(Auth::RegistryToken("good".into())), None).await.unwrap();
    assert!(fake.seen().iter().all(|request| !request.path.starts_with("/token")));
    store.remove(small().id().as_str()).await.unwrap();
    store.pull(&name, Some(Auth::IdentityToken("refresh".into())), None).await.unwrap();
    let seen = fake.seen();
    let token = seen.iter().find(|request| request.path.starts_with("/token")).unwrap();
    assert_eq!((token.method.as_str(), token.header("authorization")), ("POST", None));
}
