//! What members do to each other in one layer. The expected trees were compared with what umoci
//! makes of the same archives (fuzz/differential/compare).

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use orlop_sys::fs::open_dir;
use tempfile::TempDir;

use super::super::testing::Builder;
use super::super::{adopt_parents, copy_attributes};
use super::{outcome, tree, unpack};

fn layer() -> Builder {
    Builder::default()
}

#[test]
fn names_and_replacements() {
    let table: &[(&str, Builder, &str)] = &[
        ("absolute", layer().file("/x", b"1").file("//y//./z", b"2"), "x 755 1|y/ 755|y/z 755 2"),
        ("slash at the end", layer().file("x/", b"1"), "x 755 1"),
        ("root", layer().dir("./", 0o711).file("./x", b"1"), "x 755 1"),
        (
            "link as parent",
            layer().dir("b", 0o755).symlink("a", "b").file("a/x", b"1"),
            "a -> b|b/ 755|b/x 755 1",
        ),
        (
            "absolute link as parent",
            layer().dir("b", 0o755).symlink("a", "/b").file("a/x", b"1"),
            "a -> /b|b/ 755|b/x 755 1",
        ),
        (
            "link out of the root as parent",
            layer().symlink("a", "../../etc").file("a/x", b"1"),
            "a -> ../../etc|etc/ 755|etc/x 755 1",
        ),
        (
            "link to nothing as parent",
            layer().symlink("a", "/no/where").file("a/x", b"1"),
            "a -> /no/where|no/ 755|no/where/ 755|no/where/x 755 1",
        ),
        (
            "file over directory",
            layer().dir("a", 0o755).file("a/b/x", b"1").file("a", b"2"),
            "a 755 2",
        ),
        (
            "file over directory, then in it",
            layer().dir("a", 0o755).file("a/x", b"1").symlink("a", "b").file("a/y", b"2"),
            "a -> b|b/ 755|b/y 755 2",
        ),
        (
            "directory over file",
            layer().file("a", b"1").dir("a", 0o711).file("a/x", b"2"),
            "a/ 711 opaque|a/x 755 2",
        ),
        (
            "directory over link",
            layer().dir("b", 0o700).symlink("a", "b").dir("a", 0o711),
            "a/ 711 opaque|b/ 700",
        ),
        (
            "directory twice",
            layer().dir("a", 0o700).file("a/x", b"1").dir("a", 0o711),
            "a/ 711|a/x 755 1",
        ),
        (
            "file over link",
            layer().file("b", b"1").symlink("a", "b").file("a", b"2"),
            "a 755 2|b 755 1",
        ),
        (
            "file twice",
            layer().file("a", b"1").hard_link("b", "a").file("a", b"2"),
            "a 755 2|b 755 1",
        ),
        (
            "hard link",
            layer().file("d/f", b"1").hard_link("a", "/d/f").hard_link("b", "./a"),
            "a 755 1|b 755 1|d/ 755|d/f 755 1",
        ),
        (
            "hard link through a link",
            layer().file("d/f", b"1").symlink("s", "d").hard_link("a", "s/f"),
            "a 755 1|d/ 755|d/f 755 1|s -> d",
        ),
        (
            "hard link to a link",
            layer().symlink("s", "/etc/shadow").hard_link("a", "s"),
            "a -> /etc/shadow|s -> /etc/shadow",
        ),
        (
            "hard link over file",
            layer().file("a", b"1").file("b", b"2").hard_link("b", "a"),
            "a 755 1|b 755 1",
        ),
        (
            "hard link over directory",
            layer().file("a", b"1").file("b/c", b"2").hard_link("b", "a"),
            "a 755 1|b 755 1",
        ),
    ];
    for (name, builder, expected) in table {
        let found = outcome(&builder.clone().end()).unwrap_or_else(|error| error);
        assert_eq!(found.replace('\n', "|"), *expected, "{name}");
    }
}

#[test]
fn whiteouts() {
    let table: &[(&str, Builder, &str)] = &[
        ("alone", layer().dir("d", 0o755).file("d/.wh.x", b""), "d/ 755|d/x whiteout"),
        (
            "opaque",
            layer().dir("d", 0o755).file("d/x", b"1").file("d/.wh..wh..opq", b""),
            "d/ 755 opaque|d/x 755 1",
        ),
        ("after the file", layer().file("x", b"1").file(".wh.x", b""), "x 755 1"),
        ("before the file", layer().file(".wh.x", b"").file("x", b"1"), "x 755 1"),
        ("after the directory", layer().dir("d", 0o755).file(".wh.d", b""), "d/ 755 opaque"),
        ("before the directory", layer().file(".wh.d", b"").dir("d", 0o755), "d/ 755 opaque"),
        (
            "before what is in it",
            layer().file(".wh.d", b"").file("d/x", b"1"),
            "d/ 755 opaque|d/x 755 1",
        ),
        ("twice", layer().file(".wh.x", b"").file(".wh.x", b""), "x whiteout"),
        (
            "through a link",
            layer().dir("b", 0o755).symlink("a", "b").file("a/.wh.y", b""),
            "a -> b|b/ 755|b/y whiteout",
        ),
        ("of aufs itself", layer().file(".wh..wh.aufs", b"").file(".wh..wh.plnk/1.2", b"x"), ""),
    ];
    for (name, builder, expected) in table {
        let found = outcome(&builder.clone().end()).unwrap_or_else(|error| error);
        assert_eq!(found.replace('\n', "|"), *expected, "{name}");
    }
}

#[test]
fn counts_and_digest() {
    let dir = TempDir::new().unwrap();
    let archive = layer()
        .dir("./", 0o755)
        .file("a", b"12345")
        .file("a", b"123")
        .hard_link("b", "a")
        .file("d/e/f", b"")
        .file("d/.wh.x", b"")
        .end();
    let unpacked = unpack(&archive, dir.path()).unwrap();
    assert_eq!(unpacked.entries, 6);
    assert_eq!(unpacked.bytes, 8);
    assert_eq!(unpacked.inodes, 5);
    assert_eq!(unpacked.implicit_dirs, [PathBuf::from("d"), PathBuf::from("d/e")]);
    assert!(unpacked.root_described);
    assert!(!unpacked.opaque_root);
    use sha2::Digest as _;
    assert_eq!(unpacked.diff_id, <[u8; 32]>::from(sha2::Sha256::digest(&archive)));

    let dir = TempDir::new().unwrap();
    let unpacked = unpack(&layer().file(".wh..wh..opq", b"").end(), dir.path()).unwrap();
    assert!(unpacked.opaque_root && !unpacked.root_described);
}

/// Names that are files, links and directories in turn, over many directories: the last member of
/// a name wins, however the threads run.
#[test]
fn the_last_member_of_a_name_wins() {
    let mut builder = layer();
    for round in 0..30 {
        for number in 0..50 {
            let name = format!("d{}/f{number}", number % 7);
            let text = round.to_string();
            builder = match (round + number) % 4 {
                0 => builder.file(&name, text.as_bytes()),
                1 => builder.symlink(&name, &text),
                2 => builder.dir(&name, 0o700).file(&format!("{name}/x/y"), b""),
                _ => builder.file("source", text.as_bytes()).hard_link(&name, "source"),
            };
        }
        if round % 10 == 0 {
            builder = builder.symlink("d3", "d4").dir("d3", 0o755);
        }
    }
    for number in 0..50 {
        builder = builder.file(&format!("d{}/f{number}", number % 7), b"last");
    }
    let found = outcome(&builder.end()).unwrap();
    for number in 0..50 {
        let line = format!("d{}/f{number} 755 last", number % 7);
        assert!(found.lines().any(|found| found == line), "{line}: {found}");
    }
}

fn attributes(path: &Path) -> (u32, u32, i64) {
    use std::os::unix::fs::MetadataExt as _;
    let meta = std::fs::symlink_metadata(path).unwrap();
    (meta.mode() & 0o7777, meta.uid(), meta.mtime())
}

#[test]
fn implied_directories_look_like_those_below() {
    use super::super::testing::Head;
    let top = TempDir::new().unwrap();
    let middle = TempDir::new().unwrap();
    let bottom = TempDir::new().unwrap();
    let described = |name: &[u8], mode, uid| Head::new(b'5', name).mode(mode).owner(uid, 0);
    let archive = layer()
        .head(described(b"tmp", 0o1777, 3))
        .head(described(b"tmp/deep", 0o700, 4))
        .head(described(b"gone", 0o700, 5))
        .head(described(b"behind", 0o700, 6))
        .head(described(b"behind/x", 0o700, 6));
    unpack(&archive.end(), bottom.path()).unwrap();
    let archive = layer()
        .file(".wh.gone", b"")
        .head(described(b"behind", 0o711, 7))
        .file("behind/.wh..wh..opq", b"");
    unpack(&archive.end(), middle.path()).unwrap();
    let archive = layer()
        .file("tmp/deep/f", b"")
        .file("gone/f", b"")
        .file("behind/x/f", b"")
        .file("new/f", b"");
    let unpacked = unpack(&archive.end(), top.path()).unwrap();

    let fds = [top.path(), middle.path(), bottom.path()].map(|path| open_dir(path).unwrap());
    let lower = [fds[1].as_fd(), fds[2].as_fd()];
    adopt_parents(fds[0].as_fd(), &lower, &unpacked.implicit_dirs).unwrap();
    for (name, expected) in [
        ("tmp", (0o1777, 3, 1000)),
        ("tmp/deep", (0o700, 4, 1000)),
        ("gone", (0o755, 0, 0)),
        ("behind", (0o711, 7, 1000)),
        ("behind/x", (0o755, 0, 0)),
        ("new", (0o755, 0, 0)),
    ] {
        assert_eq!(attributes(&top.path().join(name)), expected, "{name}");
    }
    // The opaque mark is the layer's own and is not copied.
    assert!(!tree(top.path()).contains("opaque"));

    let other = TempDir::new().unwrap();
    let from = open_dir(bottom.path().join("tmp")).unwrap();
    let to = open_dir(other.path()).unwrap();
    copy_attributes(from.as_fd(), to.as_fd()).unwrap();
    assert_eq!(attributes(other.path()), (0o1777, 3, 1000));
}
