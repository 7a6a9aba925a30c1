#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test runs programs of others, and says what it skips"
)]

use super::*;
use std::process::Command;

fn fill(dir: &Path) {
    std::fs::create_dir_all(dir.join("a/b")).unwrap();
    std::fs::write(dir.join("a/file"), vec![1; 100_000]).unwrap();
    std::fs::hard_link(dir.join("a/file"), dir.join("a/again")).unwrap();
    std::os::unix::fs::symlink("/", dir.join("a/b/root")).unwrap();
}

/// `du`, an implementation that we did not write.
fn du(dir: &Path, flag: &str) -> u64 {
    let output = Command::new("du").args(["-s", flag]).arg(dir).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_walk_finds_what_du_finds() {
    let temp = tempfile::tempdir().unwrap();
    fill(temp.path());
    let found = walk(temp.path(), || false).unwrap();
    assert_eq!(found, (du(temp.path(), "-B1"), du(temp.path(), "--inodes")));
    assert_eq!(found.1, 5);
}

#[test]
fn a_walk_stops_when_the_store_ends_and_is_not_led_deeper() {
    let temp = tempfile::tempdir().unwrap();
    for n in 0..SLICE {
        std::fs::write(temp.path().join(n.to_string()), "").unwrap();
    }
    assert!(walk(temp.path(), || true).is_err());
    let temp = tempfile::tempdir().unwrap();
    let mut at = orlop_sys::fs::open_dir(temp.path()).unwrap();
    for _ in 0..2 * DEEPEST {
        rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
        at = openat(&at, "d", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    }
    assert_eq!(walk(temp.path(), || false).unwrap().1, 1 + DEEPEST as u64);
}

/// Without projects an answer is what was known; a walk follows in the background, and no second one
/// before its result has aged.
#[test]
fn asking_does_not_wait_for_a_walk() {
    // tmpfs counts for no projects.
    let temp = tempfile::tempdir_in("/dev/shm").unwrap();
    let dir = temp.path().join("layer");
    std::fs::create_dir_all(dir.join("upper")).unwrap();
    let accounts = Accounts::default();
    accounts.open("layer", &orlop_sys::fs::open_dir(&dir).unwrap());
    fill(&dir.join("upper"));
    assert_eq!(accounts.usage("layer", &dir).unwrap().inodes, 1, "as it was made");
    let found = loop {
        let found = accounts.usage("layer", &dir).unwrap();
        if found.inodes != 1 {
            break found;
        }
        std::thread::yield_now();
    };
    assert_eq!(found.inodes, 5);
    assert!(found.bytes >= 100_000, "{found:?}");
    accounts.close("layer");
    assert_eq!(accounts.usage("layer", &dir), None, "an earlier daemon's, as far as is known");
}

/// A file system with project quotas, in a file.
struct Quotas {
    dir: tempfile::TempDir,
}

impl Quotas {
    /// `None`, said aloud, where the machine has no such file systems.
    fn new() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let (image, mount) = (dir.path().join("image"), dir.path().join("mount"));
        std::fs::File::create(&image).unwrap().set_len(32 << 20).unwrap();
        std::fs::create_dir(&mount).unwrap();
        let run = |command: &mut Command| {
            command.output().is_ok_and(|output| {
                eprint!("{}", String::from_utf8_lossy(&output.stderr));
                output.status.success()
            })
        };
        let made = run(Command::new("mkfs.ext4")
            .args(["-q", "-O", "quota,project", "-E", "quotatype=prjquota"])
            .arg(&image));
        let mounted = made
            && run(Command::new("mount").args(["-o", "loop,prjquota"]).arg(&image).arg(&mount));
        mounted.then(|| Self { dir })
    }
}

impl Drop for Quotas {
    fn drop(&mut self) {
        let umount = Command::new("umount").arg(self.dir.path().join("mount")).status();
        assert!(umount.unwrap().success());
    }
}

#[test]
fn with_project_quotas_an_answer_is_exact_at_once() {
    let Some(quotas) = Quotas::new() else {
        eprintln!("skipped: no loop device, or a kernel without project quotas on ext4");
        return;
    };
    let store = quotas.dir.path().join("mount");
    let layer = |key: &str| {
        let dir = store.join(key);
        std::fs::create_dir(&dir).unwrap();
        dir
    };
    let accounts = Accounts::default();
    let (first, second) = (layer("first"), layer("second"));
    accounts.open("first", &orlop_sys::fs::open_dir(&first).unwrap());
    accounts.open("second", &orlop_sys::fs::open_dir(&second).unwrap());
    std::fs::create_dir(first.join("upper")).unwrap();
    fill(&first.join("upper"));
    rustix::fs::syncfs(orlop_sys::fs::open_dir(&store).unwrap()).unwrap();
    let found = accounts.usage("first", &first).unwrap();
    // The layer's own directory counts too.
    assert_eq!((found.bytes, found.inodes), (du(&first, "-B1"), 6));
    assert_eq!(accounts.usage("second", &second).unwrap().inodes, 1);
    // Another daemon finds the projects, and gives new layers others.
    let later = Accounts::default();
    assert_eq!(later.usage("first", &first).unwrap().inodes, 6);
    let third = layer("third");
    later.open("third", &orlop_sys::fs::open_dir(&third).unwrap());
    assert_eq!(later.usage("third", &third).unwrap().inodes, 1);
    assert_eq!(accounts.usage("first", &first).unwrap().inodes, 6);
}
