//! The policy at the pull and at the making of a container, with signatures made by openssl the
//! way cosign makes them. cosign itself is not on the test machine.

use super::credentials::openssl;
use super::fake::Fake;
use super::parts::{ImageParts, OCI_MANIFEST, Pack, image, index, layer};
use super::registry::command;
use super::{options, reference};
use crate::registry::sha256;
use crate::{ImageStore, Policy, PolicyRule, PullErrorKind as Kind, Requirement, StoreError};
use base64::Engine as _;
use orlop_model::Digest;
use serde_json::json;
use std::path::Path;

fn parts() -> ImageParts {
    image(vec![layer(&[("f", b"signed")], Pack::Gzip)])
}

fn keys(dir: &Path) {
    for name in ["good", "other"] {
        openssl(dir, &format!("ecparam -name prime256v1 -genkey -noout -out {name}.key"));
        openssl(dir, &format!("ec -in {name}.key -pubout -out {name}.pub"));
    }
    openssl(dir, "ecparam -name secp384r1 -genkey -noout -out large.key");
    openssl(dir, "ec -in large.key -pubout -out large.pub");
}

/// Stores a signature the way cosign does.
fn sign(dir: &Path, fake: &Fake, repository: &str, key: &str, named: &str, digest: &Digest) {
    let payload = json!({
        "critical": {
            "identity": {"docker-reference": named},
            "image": {"docker-manifest-digest": digest},
            "type": "cosign container image signature",
        },
        "optional": null,
    });
    let payload = serde_json::to_vec(&payload).unwrap();
    put_signed(dir, fake, repository, key, &payload, digest);
}

fn put_signed(dir: &Path, fake: &Fake, repository: &str, key: &str, payload: &[u8], of: &Digest) {
    std::fs::write(dir.join("payload"), payload).unwrap();
    let made = command("openssl")
        .current_dir(dir)
        .args(["dgst", "-sha256", "-sign", key, "payload"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let signature = base64::engine::general_purpose::STANDARD.encode(made.stdout);
    let config = b"{}";
    let manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": sha256(config), "size": 2},
        "layers": [{
            "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json",
            "digest": sha256(payload), "size": payload.len(),
            "annotations": {"dev.cosignproject.cosign/signature": signature},
        }],
    });
    fake.put(
        &format!("/v2/{repository}/blobs/{}", sha256(payload)),
        "application/octet-stream",
        payload,
    );
    let tag = format!("sha256-{}.sig", of.hex());
    fake.put_manifest(repository, &tag, OCI_MANIFEST, &serde_json::to_vec(&manifest).unwrap());
}

fn signed(dir: &Path, key: &str, identity: Option<&str>) -> Requirement {
    Requirement::Signed { keys: vec![dir.join(key)], identity: identity.map(Into::into) }
}

fn store(dir: &Path, fake: &Fake, require: Requirement) -> ImageStore {
    let mut options = options(dir);
    let prefix = format!("127.0.0.1:{}", fake.port);
    options.policy = Policy { rules: vec![PolicyRule { prefix, require }], ..Policy::default() };
    ImageStore::open(options).unwrap()
}

async fn pull(store: &ImageStore, fake: &Fake, name: &str) -> Result<Digest, String> {
    let done = store.pull(&reference(&fake.name(name)), None, None).await;
    done.map_err(|error| {
        assert!(matches!(error.kind, Kind::SignatureValidationFailed { .. }), "{error}");
        let text = error.to_string();
        assert!(text.starts_with("SignatureValidationFailed: "), "{text}");
        text
    })
}

#[tokio::test]
async fn a_signature_must_be_by_the_key_of_the_image_and_for_the_repository() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    keys(dir);
    let fake = Fake::plain();
    for repository in ["good", "none", "other-key", "other-image", "other-name", "changed", "kind"]
    {
        fake.put_image(repository, "1", &parts());
    }
    let digest = parts().digest();
    sign(dir, &fake, "good", "good.key", &fake.name("good"), &digest);
    sign(dir, &fake, "other-key", "other.key", &fake.name("other-key"), &digest);
    let wrong = sha256(b"another");
    let document = json!({"critical": {"identity": {"docker-reference": fake.name("other-image")}, "image": {"docker-manifest-digest": wrong}, "type": "cosign container image signature"}});
    put_signed(dir, &fake, "other-image", "good.key", document.to_string().as_bytes(), &digest);
    sign(dir, &fake, "other-name", "good.key", "r.example/a", &digest);
    let document = json!({"critical": {"identity": {"docker-reference": fake.name("kind")}, "image": {"docker-manifest-digest": digest}, "type": "atomic"}});
    put_signed(dir, &fake, "kind", "good.key", document.to_string().as_bytes(), &digest);
    let store_ = store(dir, &fake, signed(dir, "good.pub", None));
    for (name, want) in [
        ("none:1", Err("no signature was found")),
        ("other-key:1", Err("not made with any of the keys")),
        ("other-image:1", Err("another image was signed")),
        ("other-name:1", Err("signed as r.example/a")),
        ("kind:1", Err("\"atomic\"")),
        ("good:1", Ok(())),
    ] {
        match (pull(&store_, &fake, name).await, want) {
            (Ok(_), Ok(())) => {}
            (Err(text), Err(word)) => assert!(text.contains(word), "{name}: {text}"),
            (got, _) => panic!("{name}: {got:?}"),
        }
        // Nothing of a refused image was fetched.
        if want.is_err() {
            let blob = sha256(&parts().layers[0].packed).to_string();
            assert!(fake.seen().iter().all(|request| !request.path.ends_with(&blob)), "{name}");
        }
    }
    drop(store_);
    let any = store(dir, &fake, signed(dir, "good.pub", Some("*")));
    pull(&any, &fake, "other-name:1").await.unwrap();
    drop(any);
    let large = store(dir, &fake, signed(dir, "large.pub", None));
    let text = pull(&large, &fake, "good:1").await.unwrap_err();
    assert!(text.contains("large.pub") && text.contains("P-256"), "{text}");
}

#[tokio::test]
async fn a_signed_list_covers_its_images() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    keys(dir);
    let fake = Fake::plain();
    fake.put_image("a", "only", &parts());
    let list = index(&[(&parts(), ("linux", "amd64", None))]);
    fake.put_manifest("a", "1", super::parts::OCI_INDEX, &list);
    sign(dir, &fake, "a", "good.key", &fake.name("a"), &sha256(&list));
    let store = store(dir, &fake, signed(dir, "good.pub", None));
    pull(&store, &fake, "a:1").await.unwrap();
    // The image alone has no signature of its own.
    store.remove(parts().id().as_str()).await.unwrap();
    pull(&store, &fake, "a:only").await.unwrap_err();
}

#[tokio::test]
async fn checked_again_when_a_container_is_made() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    keys(dir);
    let fake = Fake::plain();
    fake.put_image("a", "1", &parts());
    let id = {
        let store = store(dir, &fake, Requirement::Allow);
        pull(&store, &fake, "a:1").await.unwrap()
    };
    let refused = |store: &ImageStore| {
        let error = store.create_rootfs(&id, "c").unwrap_err();
        assert!(matches!(error, StoreError::SignatureValidationFailed { .. }), "{error}");
        assert!(error.to_string().starts_with("SignatureValidationFailed: "), "{error}");
    };
    // The policy came after the image.
    {
        let store = store(dir, &fake, signed(dir, "good.pub", None));
        refused(&store);
        pull(&store, &fake, "a:1").await.unwrap_err();
        sign(dir, &fake, "a", "good.key", &fake.name("a"), &parts().digest());
        pull(&store, &fake, "a:1").await.unwrap();
    }
    drop(fake.seen());
    // The registry is not needed for it.
    {
        let store = store(dir, &fake, signed(dir, "good.pub", None));
        let before = fake.seen().len();
        store.create_rootfs(&id, "c").unwrap();
        store.remove_rootfs("c").unwrap();
        assert_eq!(fake.seen().len(), before);
    }
    for (require, allowed) in [
        (signed(dir, "other.pub", None), false),
        (Requirement::Deny, false),
        (Requirement::Digests(vec![sha256(b"x")]), false),
        (Requirement::Digests(vec![parts().digest()]), true),
    ] {
        let store = store(dir, &fake, require);
        if allowed {
            store.create_rootfs(&id, "c").unwrap();
            store.remove_rootfs("c").unwrap();
        } else {
            refused(&store);
        }
    }
}
