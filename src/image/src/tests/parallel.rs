//! Big layers over several connections: in order, whatever the server makes of ranges.

use super::fake::{Fake, Reply, Request};
use super::parts::{ImageParts, Pack, image, layer, noise};
use super::{options, reference};
use crate::registry::sha256;
use crate::{ImageStore, PullErrorKind as Kind};
use std::sync::{Arc, Condvar, Mutex};

const PART: usize = 100_000;

fn parts() -> ImageParts {
    image(vec![layer(&[("big", &noise(7, 1_234_567))], Pack::Plain)])
}

fn packed() -> Vec<u8> {
    parts().layers[0].packed.clone()
}

fn is_layer(request: &Request) -> bool {
    request.path.ends_with(sha256(&packed()).as_str())
}

fn store(root: &std::path::Path) -> ImageStore {
    let mut options = options(root);
    options.registry.parallel_from = 4 * PART as u64;
    options.registry.part_bytes = PART as u64;
    ImageStore::open(options).unwrap()
}

/// First and last byte that a request asks for.
fn asked(request: &Request) -> Option<(usize, usize)> {
    let (from, to) = request.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
    Some((from.parse().unwrap(), to.parse().unwrap_or(packed().len() - 1)))
}

fn part(from: usize, to: usize) -> Reply {
    let range = format!("bytes {from}-{to}/{}", packed().len());
    Reply::new(206, &[("Content-Range", &range)], &packed()[from..=to])
}

async fn pulled(fake: &Fake) {
    fake.put_image("a", "1", &parts());
    let temp = tempfile::tempdir().unwrap();
    let store = store(temp.path());
    let id = store.pull(&reference(&fake.name("a:1")), None, None).await.unwrap();
    let rootfs = store.create_rootfs(&id, "c").unwrap();
    assert_eq!(std::fs::read(rootfs.lower[0].join("big")).unwrap(), noise(7, 1_234_567));
}

#[tokio::test]
async fn parts_are_fetched_at_the_same_time_and_once() {
    // The second part is not answered before the third was asked for.
    let asked_third = Arc::new((Mutex::new(false), Condvar::new()));
    let gate = asked_third.clone();
    let fake = Fake::start(move |request| {
        let (from, to) = asked(request).filter(|_| is_layer(request))?;
        let (third, changed) = &*gate;
        if from == 2 * PART {
            *third.lock().unwrap() = true;
            changed.notify_all();
        } else if from == PART {
            let waited = changed.wait_while(third.lock().unwrap(), |third| !*third);
            drop(waited.unwrap());
        }
        Some(part(from, to))
    });
    pulled(&fake).await;
    let mut ranges: Vec<_> = fake.seen().iter().filter(|r| is_layer(r)).filter_map(asked).collect();
    ranges.sort_unstable();
    let mut next = 0;
    for (from, to) in ranges {
        assert_eq!(from, next, "no byte is asked for twice");
        next = to + 1;
    }
    assert_eq!(next, packed().len());
}

#[tokio::test]
async fn a_server_without_ranges_sends_everything_once() {
    let fake = Fake::start(|request| is_layer(request).then(|| Reply::new(200, &[], &packed())));
    pulled(&fake).await;
    assert_eq!(fake.seen().iter().filter(|request| is_layer(request)).count(), 1);
}

#[tokio::test]
async fn parts_that_are_cut_are_resumed() {
    let cut = Mutex::new(std::collections::HashSet::new());
    let fake = Fake::start(move |request| {
        let (from, to) = asked(request).filter(|_| is_layer(request))?;
        let mut reply = part(from, to);
        // Every whole part breaks once.
        if from % PART == 0 && cut.lock().unwrap().insert(from) {
            reply.cut = Some(PART / 3);
        }
        Some(reply)
    });
    pulled(&fake).await;
}

#[tokio::test]
async fn a_part_that_cannot_be_had_fails_the_pull() {
    let temp = tempfile::tempdir().unwrap();
    let fake = Fake::start(|request| {
        let (from, to) = asked(request).filter(|_| is_layer(request))?;
        Some(if from >= 5 * PART { Reply::new(404, &[], b"gone") } else { part(from, to) })
    });
    fake.put_image("a", "1", &parts());
    let store = store(temp.path());
    let error = store.pull(&reference(&fake.name("a:1")), None, None).await.unwrap_err();
    assert!(matches!(error.kind, Kind::NotFound { .. }), "{error}");
    super::assert_empty(temp.path(), &store);
}
