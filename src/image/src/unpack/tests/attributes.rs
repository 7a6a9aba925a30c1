//! Owners, modes, times, attributes, devices and holes arrive as the archive says.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use tempfile::TempDir;

use super::super::testing::{Builder, Head};
use super::{opaque, unpack};

fn xattrs(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut list = vec![0; 4096];
    let length = rustix::fs::llistxattr(path, &mut list).unwrap();
    let mut found: Vec<(String, Vec<u8>)> = list[..length]
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty() && *name != b"security.selinux")
        .map(|name| {
            let mut value = vec![0; 4096];
            let length = rustix::fs::lgetxattr(path, name, &mut value).unwrap();
            value.truncate(length);
            (String::from_utf8(name.to_vec()).unwrap(), value)
        })
        .collect();
    found.sort();
    found
}

const CAPABILITY: &[u8] = b"\x01\x00\x00\x02\x00\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

#[test]
fn modes_owners_and_times() {
    let dir = TempDir::new().unwrap();
    let head = |kind: u8, name: &str| Head::new(kind, name.as_bytes());
    let mut builder = Builder::default();
    let modes = [0, 0o1, 0o222, 0o600, 0o644, 0o666, 0o777, 0o1777, 0o2755, 0o4755, 0o6711, 0o7777];
    for mode in modes {
        for (uid, gid) in [(0, 0), (0, 50), (1000, 0), (0o7_777_777, 1)] {
            let name = format!("{mode:o}.{uid}.{gid}");
            builder = builder
                .head(head(b'0', &format!("f{name}")).mode(mode).owner(uid, gid))
                .head(head(b'5', &format!("d{name}")).mode(mode).owner(uid, gid))
                .head(head(b'3', &format!("c{name}")).mode(mode).owner(uid, gid).device(1, 3))
                .head(head(b'4', &format!("b{name}")).mode(mode).owner(uid, gid).device(259, 70000))
                .head(head(b'6', &format!("p{name}")).mode(mode).owner(uid, gid))
                .head(head(b'2', &format!("l{name}")).mode(mode).owner(uid, gid).link(b"x"))
                // A set-group-id directory does not hand its group to what is in it.
                .head(head(b'0', &format!("d{name}/f")).mode(0o640))
                .head(head(b'5', &format!("d{name}/d")).mode(0o750));
        }
    }
    unpack(&builder.end(), dir.path()).unwrap();
    for mode in modes {
        for (uid, gid) in [(0, 0), (0, 50), (1000, 0), (0o7_777_777, 1)] {
            for kind in ["f", "d", "c", "b", "p", "l"] {
                let name = format!("{kind}{mode:o}.{uid}.{gid}");
                let meta = std::fs::symlink_metadata(dir.path().join(&name)).unwrap();
                let expected = if kind == "l" { 0o777 } else { mode };
                assert_eq!(u64::from(meta.mode() & 0o7777), expected, "{name}");
                assert_eq!((u64::from(meta.uid()), u64::from(meta.gid())), (uid, gid), "{name}");
                assert_eq!((meta.mtime(), meta.mtime_nsec()), (1000, 0), "{name}");
                if kind == "b" {
                    assert_eq!(meta.rdev(), rustix::fs::makedev(259, 70000), "{name}");
                }
            }
            for (name, expected) in [("f", 0o640), ("d", 0o750)] {
                let name = format!("d{mode:o}.{uid}.{gid}/{name}");
                let meta = std::fs::symlink_metadata(dir.path().join(&name)).unwrap();
                assert_eq!((meta.mode() & 0o7777, meta.gid()), (expected, 0), "{name}");
            }
        }
    }
}

#[test]
fn pax_times_and_owners() {
    let dir = TempDir::new().unwrap();
    let pax: [(&str, &[u8]); 3] =
        [("mtime", b"1234567890.123456789"), ("uid", b"4294967294"), ("gid", b"3000000000")];
    let archive = Builder::default()
        .pax(&pax)
        .dir("d", 0o755)
        .pax(&pax)
        .file("d/f", b"x")
        .pax(&pax)
        .symlink("d/l", "x")
        .pax(&[("mtime", b"-1.5")])
        .file("old", b"")
        .end();
    unpack(&archive, dir.path()).unwrap();
    for name in ["d", "d/f", "d/l"] {
        let meta = std::fs::symlink_metadata(dir.path().join(name)).unwrap();
        assert_eq!((meta.mtime(), meta.mtime_nsec()), (1_234_567_890, 123_456_789), "{name}");
        assert_eq!((meta.uid(), meta.gid()), (4_294_967_294, 3_000_000_000), "{name}");
    }
    let meta = std::fs::symlink_metadata(dir.path().join("old")).unwrap();
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (-2, 500_000_000));
}

#[test]
fn attributes_that_are_not_the_image_s_to_give_are_dropped() {
    let dir = TempDir::new().unwrap();
    let pax: Vec<(&str, &[u8])> = vec![
        ("SCHILY.xattr.security.capability", CAPABILITY),
        ("SCHILY.xattr.user.note", b"with\nnewline and \0"),
        ("SCHILY.xattr.user.empty", b""),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ("SCHILY.xattr.trusted.overlay.redirect", b"/.."),
        ("SCHILY.xattr.trusted.other", b"x"),
        ("SCHILY.xattr.user.overlay.opaque", b"y"),
        ("SCHILY.xattr.user.overlay.redirect", b"/.."),
        ("SCHILY.xattr.security.selinux", b"system_u:object_r:etc_t:s0"),
        ("SCHILY.xattr.security.ima", b"\x01"),
        ("SCHILY.xattr.security.evm", b"\x02"),
        ("SCHILY.xattr.system.nfs4_acl", b"x"),
        ("LIBARCHIVE.xattr.user.other", b"aGk="),
        ("LIBARCHIVE.xattr.trusted.overlay.metacopy", b""),
    ];
    let archive = Builder::default()
        .pax(&pax)
        .file("f", b"x")
        .pax(&pax)
        .dir("d", 0o755)
        .pax(&pax)
        .symlink("l", "x")
        .pax(&pax)
        .head(Head::new(b'6', b"p"))
        .end();
    unpack(&archive, dir.path()).unwrap();
    let user = vec![
        ("user.empty".to_owned(), Vec::new()),
        ("user.note".to_owned(), b"with\nnewline and \0".to_vec()),
        ("user.other".to_owned(), b"hi".to_vec()),
    ];
    let mut file = vec![("security.capability".to_owned(), CAPABILITY.to_vec())];
    file.extend(user.clone());
    assert_eq!(xattrs(&dir.path().join("f")), file);
    assert_eq!(xattrs(&dir.path().join("d")), user);
    assert_eq!(xattrs(&dir.path().join("l")), []);
    assert_eq!(xattrs(&dir.path().join("p")), []);
    assert!(!opaque(&dir.path().join("d")));
}

#[test]
fn a_capability_stays_when_the_owner_changes() {
    let dir = TempDir::new().unwrap();
    let archive = Builder::default()
        .pax(&[("SCHILY.xattr.security.capability", CAPABILITY)])
        .head(Head::new(b'0', b"f").mode(0o4755).owner(1000, 1000).size(1))
        .data(b"x")
        .end();
    unpack(&archive, dir.path()).unwrap();
    let path = dir.path().join("f");
    assert_eq!(xattrs(&path), [("security.capability".to_owned(), CAPABILITY.to_vec())]);
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o4755);
}

#[test]
fn a_default_acl_is_not_handed_on() {
    let dir = TempDir::new().unwrap();
    // Version 2: owner rwx, group ---, mask rwx, other ---.
    let acl = b"\x02\0\0\0\x01\0\x07\0\xff\xff\xff\xff\x04\0\0\0\xff\xff\xff\xff\
        \x10\0\x07\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";
    let archive = Builder::default()
        .pax(&[("SCHILY.xattr.system.posix_acl_default", acl)])
        .dir("d", 0o755)
        .file("d/f", b"")
        .dir("d/e", 0o755)
        .end();
    unpack(&archive, dir.path()).unwrap();
    assert_eq!(std::fs::metadata(dir.path().join("d/f")).unwrap().mode() & 0o777, 0o755);
    assert_eq!(xattrs(&dir.path().join("d/f")), []);
    assert_eq!(xattrs(&dir.path().join("d/e")), []);
}

#[test]
fn holes_stay_holes() {
    let dir = TempDir::new().unwrap();
    let size = 32_u64 << 20;
    let archive = Builder::default()
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.realsize", size.to_string().as_bytes()),
            ("GNU.sparse.name", b"sparse"),
        ])
        .head(Head::new(b'0', b"x").size(512 + 5))
        .data(b"2\n1048576\n5\n33554432\n0\n")
        .data(b"hello")
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.realsize", size.to_string().as_bytes()),
            ("GNU.sparse.name", b"empty"),
        ])
        .head(Head::new(b'0', b"x").size(512))
        .data(b"0\n")
        .end();
    unpack(&archive, dir.path()).unwrap();
    let contents = std::fs::read(dir.path().join("sparse")).unwrap();
    assert_eq!(contents.len() as u64, size);
    assert_eq!(&contents[1 << 20..(1 << 20) + 5], b"hello");
    assert_eq!(contents.iter().filter(|&&byte| byte != 0).count(), 5);
    for name in ["sparse", "empty"] {
        let meta = std::fs::metadata(dir.path().join(name)).unwrap();
        assert_eq!(meta.len(), size, "{name}");
        assert!(meta.blocks() < 1000, "{name} takes {} blocks", meta.blocks());
    }
}

#[test]
fn files_larger_than_all_buffers() {
    let dir = TempDir::new().unwrap();
    let big: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let archive = Builder::default().file("a", b"1").file("big", &big).file("z", b"2").end();
    unpack(&archive, dir.path()).unwrap();
    assert!(std::fs::read(dir.path().join("big")).unwrap() == big);
    assert_eq!(std::fs::read(dir.path().join("z")).unwrap(), b"2");
}
