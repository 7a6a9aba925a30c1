//! Layers that try to reach out of their directory, or to take more than their share. Every case
//! ends with a look at what lies outside.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::super::testing::{Builder, Head};
use super::super::{Limits, UnpackError, unpack_layer};
use super::{opaque, outcome, tree, unpack};

/// A directory to unpack into, `<dir>/a/layer`, with things around it that nobody may touch.
pub(super) struct Yard {
    dir: TempDir,
    before: String,
}

impl Yard {
    pub(super) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let root = dir.path();
        std::fs::create_dir_all(root.join("a/layer")).unwrap();
        std::fs::create_dir_all(root.join("canary/etc")).unwrap();
        std::fs::write(root.join("canary/etc/shadow"), "secret").unwrap();
        std::fs::write(root.join("a/shadow"), "secret").unwrap();
        let yard = Self { dir, before: String::new() };
        Self { before: yard.outside(), ..yard }
    }

    pub(super) fn layer(&self) -> PathBuf {
        self.dir.path().join("a/layer")
    }

    fn canary(&self) -> String {
        self.dir.path().join("canary").to_str().unwrap().to_owned()
    }

    /// All but the layer, with inode, owner, mode, links and times.
    fn outside(&self) -> String {
        use std::os::unix::fs::MetadataExt as _;
        let stat = |path: &Path| {
            let meta = std::fs::symlink_metadata(path).unwrap();
            let times = (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
            format!("{:?} {} {:o} {}", times, meta.ino(), meta.mode(), meta.nlink())
        };
        let root = self.dir.path();
        let listing = tree(root);
        let mut lines: Vec<String> = listing
            .lines()
            .filter(|line| !line.starts_with("a/layer"))
            .map(str::to_owned)
            .collect();
        for name in ["canary", "canary/etc", "canary/etc/shadow", "a/shadow"] {
            lines.push(stat(&root.join(name)));
        }
        lines.join("\n")
    }

    pub(super) fn check(&self, case: &str) {
        assert_eq!(self.outside(), self.before, "{case}: something outside changed");
    }
}

/// Members of every kind under one name.
fn every_kind(name: &str) -> Vec<(&'static str, Builder)> {
    let base = Builder::default;
    let head = |kind: u8| Head::new(kind, name.as_bytes()).mode(0o4777).owner(77, 77);
    let (directory, last) = name.rsplit_once('/').unwrap_or((".", name));
    vec![
        ("file", base().head(head(b'0').size(1)).data(b"x")),
        ("directory", base().head(head(b'5'))),
        ("hard link", base().file("source", b"s").head(head(b'1').link(b"source"))),
        ("hard link to it", base().head(Head::new(b'1', b"copy").link(name.as_bytes()))),
        ("symlink", base().head(head(b'2').link(b"x"))),
        ("device", base().head(head(b'3').device(1, 3))),
        ("pipe", base().head(head(b'6'))),
        ("whiteout", base().file(&format!("{directory}/.wh.{last}"), b"")),
        ("opaque", base().file(&format!("{name}/.wh..wh..opq"), b"")),
        ("attribute", base().pax(&[("SCHILY.xattr.user.x", b"y")]).head(head(b'0'))),
        ("child", base().file(&format!("{name}/child"), b"x")),
    ]
}

#[test]
fn nothing_gets_out() {
    for target in ["canary", "relative", "loop", "long loop", "dots", "root"] {
        for name in ["link", "link/x", "link/etc/shadow", "link/../x", "link/", "./link//x"] {
            for (kind, member) in every_kind(name) {
                let yard = Yard::new();
                let canary = yard.canary();
                let mut builder = Builder::default();
                builder = match target {
                    "canary" => builder.pax(&[("linkpath", canary.as_bytes())]).symlink("link", ""),
                    "relative" => builder.symlink("link", "../../canary"),
                    "loop" => builder.symlink("link", "link"),
                    "long loop" => builder.symlink("link", "other/x").symlink("other", "link/x"),
                    "dots" => builder.symlink("link", "../../../../../../../../.."),
                    _ => builder.symlink("link", "/"),
                };
                builder.bytes.extend(&member.bytes);
                // Whether it is refused or lands inside, nothing outside changes.
                let _ = unpack(&builder.end(), &yard.layer());
                yard.check(&format!("{kind} {name} over link to {target}"));
            }
        }
    }
}

#[test]
fn names_that_lead_out_are_refused() {
    let names = ["..", "../x", "a/../../x", "/../x", "a/..", "../a/shadow", "./../canary/etc/x"];
    for name in names {
        for (kind, member) in every_kind(name) {
            let yard = Yard::new();
            let result = unpack(&member.end(), &yard.layer());
            assert!(
                matches!(result, Err(UnpackError::Refused { .. })),
                "{kind} {name}: {result:?}"
            );
            yard.check(&format!("{kind} {name}"));
        }
    }
}

#[test]
fn hard_links_stay_in_the_layer() {
    for (target, reason) in [
        ("../../etc/shadow", "not a name in this layer"),
        ("../shadow", "not a name in this layer"),
        ("/etc/shadow", "not in this layer"),
        ("etc/shadow", "not in this layer"),
        ("absent", "not in this layer"),
        ("dir", "is a directory"),
        ("/", "is a directory"),
        ("", "is a directory"),
        ("gone", "not in this layer"),
        ("new", "is the member itself"),
        ("out/shadow", "not in this layer"),
    ] {
        let yard = Yard::new();
        let archive = Builder::default()
            .dir("dir", 0o755)
            .file(".wh.gone", b"")
            .symlink("out", "../../canary/etc")
            .hard_link("new", target)
            .end();
        let error = unpack(&archive, &yard.layer()).unwrap_err().to_string();
        assert!(error.contains(reason), "{target}: {error}");
        yard.check(target);
    }
    // Attributes that come with a link change what it is linked to in no case.
    let yard = Yard::new();
    let head = Head::new(b'1', b"new").link(b"out").mode(0o777).owner(5, 5);
    let archive = Builder::default().symlink("out", "../../canary/etc/shadow").head(head).end();
    unpack(&archive, &yard.layer()).unwrap();
    yard.check("mode of a hard link to a symbolic link");
}

#[test]
fn members_without_a_meaning_are_refused() {
    let head = |kind: u8, name: &str| Head::new(kind, name.as_bytes());
    let long = "n".repeat(256);
    let deep = "d/".repeat(1025);
    let longest = format!("{}x", "long/".repeat(1000));
    let base = Builder::default;
    let table: Vec<(&str, Builder, &str)> = vec![
        ("root as a file", base().file(".", b"x"), "must be a directory"),
        ("root as a link", base().symlink("/", "/etc"), "must be a directory"),
        ("root as a hard link", base().hard_link("./", "x"), "must be a directory"),
        ("parent is a file", base().file("a", b"").file("a/x", b""), "is not a directory"),
        ("name of 256 bytes", base().long(b'L', long.as_bytes()).file("x", b""), "create \"nnn"),
        (
            "name too deep",
            base().long(b'L', deep.as_bytes()).file("x", b""),
            "components in a name",
        ),
        ("name too long", base().long(b'L', longest.as_bytes()).file("x", b""), "bytes in a name"),
        ("NUL in a name", base().pax(&[("path", b"a\0b")]).file("x", b""), "NUL"),
        ("NUL in a target", base().pax(&[("linkpath", b"a\0b")]).symlink("x", "y"), "NUL"),
        ("link to nothing", base().symlink("x", ""), "link to nothing"),
        ("whiteout of nothing", base().file("d/.wh.", b""), "no name"),
        ("whiteout of .", base().file("d/.wh..", b""), "no name"),
        ("whiteout of ..", base().file("d/.wh...", b""), "no name"),
        ("in a whiteout", base().file(".wh.d/x", b""), "name of a whiteout"),
        ("device 0:0", base().head(head(b'3', "c").device(0, 0)), "whiteout"),
        ("device too large", base().head(head(b'4', "c").device(4096, 0)), "does not exist"),
        ("minor too large", base().head(head(b'4', "c").device(1, 1 << 20)), "does not exist"),
        ("uid too large", base().pax(&[("uid", b"4294967295")]).file("x", b""), "uid 4294967295"),
        ("uid 2^32", base().pax(&[("uid", b"4294967296")]).file("x", b""), "uid 4294967296"),
        ("gid negative", base().pax(&[("gid", b"-1")]).dir("x", 0o755), "gid -1"),
        (
            "capability of version 1",
            base()
                .pax(&[("SCHILY.xattr.security.capability", b"\0\0\0\x01abcdefgh")])
                .file("x", b""),
            "security.capability",
        ),
        (
            "capability cut off",
            base().pax(&[("SCHILY.xattr.security.capability", b"\0\0\0\x02")]).file("x", b""),
            "security.capability",
        ),
    ];
    for (case, builder, reason) in table {
        let yard = Yard::new();
        let error = unpack(&builder.end(), &yard.layer()).unwrap_err().to_string();
        assert!(error.contains(reason), "{case}: {error}");
        yard.check(case);
    }
}

#[test]
fn an_attribute_cannot_forge_an_overlay_mark() {
    let yard = Yard::new();
    let archive = Builder::default()
        .pax(&[
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("LIBARCHIVE.xattr.trusted.overlay.opaque", b"eQ=="),
        ])
        .dir("d", 0o755)
        .end();
    unpack(&archive, &yard.layer()).unwrap();
    assert!(!opaque(&yard.layer().join("d")));
}

#[test]
fn too_much_is_refused() {
    let small = Limits {
        entries: 3,
        bytes: 1000,
        path_len: 50,
        path_depth: 4,
        xattr_bytes: 10,
        extension_bytes: 2000,
        sparse_segments: 2,
        writers: 1,
    };
    let base = Builder::default;
    let huge = Head::new(b'0', b"f").size(0o77_777_777_777);
    let sparse = |size: &'static [u8], map: &'static [u8]| {
        let records: [(&str, &[u8]); 4] = [
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.realsize", size),
            ("GNU.sparse.name", b"s"),
        ];
        base().pax(&records).head(Head::new(b'0', b"x").size(512)).data(map)
    };
    let table = vec![
        ("members", base().file("a", b"").file("b", b"").file("c", b"").file("d", b"")),
        ("bytes", base().file("a", &[0; 600]).file("b", &[0; 600])),
        ("bytes", base().head(huge)),
        ("bytes", sparse(b"1152921504606846976", b"0\n")),
        ("sparse map entries", sparse(b"10", b"1000000000\n")),
        ("bytes in a name", base().file(&"n/".repeat(30), b"")),
        ("components in a name", base().file("a/b/c/d/e", b"")),
        (
            "bytes of extended attributes",
            base().pax(&[("SCHILY.xattr.user.a", b"0123456789")]).file("a", b""),
        ),
        ("bytes in an extension header", base().pax(&[("comment", &[b'x'; 3000])]).file("a", b"")),
        (
            "bytes in an extension header",
            base().head(Head::new(b'x', b"x").size(1 << 30)).file("a", b""),
        ),
        (
            "bytes in an extension header",
            base().head(Head::new(b'L', b"x").gnu().size(1 << 30)).file("a", b""),
        ),
    ];
    for (what, builder) in table {
        let yard = Yard::new();
        let dest = orlop_sys::fs::open_dir(yard.layer()).unwrap();
        let dest = std::os::fd::AsFd::as_fd(&dest);
        let error = unpack_layer(builder.end().as_slice(), dest, &small).unwrap_err();
        assert!(matches!(error, UnpackError::Limit { .. }), "{what}: {error}");
        assert!(error.to_string().contains(what), "{what}: {error}");
    }
}

/// A reader that fails half way: its own message comes out, and the call returns.
#[test]
fn a_failing_reader_ends_it() {
    struct Failing<'bytes>(&'bytes [u8]);
    impl std::io::Read for Failing<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(std::io::Error::other("connection lost")),
                count => Ok(count),
            }
        }
    }
    let yard = Yard::new();
    let dest = orlop_sys::fs::open_dir(yard.layer()).unwrap();
    let archive = Builder::default().file("a", b"1").file("big", &vec![1; 20 << 20]).end();
    for cut in [0, 512, 5000, 10 << 20, archive.len()] {
        let dest = std::os::fd::AsFd::as_fd(&dest);
        let error = unpack_layer(Failing(&archive[..cut]), dest, &Limits::default()).unwrap_err();
        assert!(error.to_string().contains("connection lost"), "{error}");
    }
}

/// An error of a writer thread (here: no room) ends the call too, with the name of the file.
#[test]
fn a_failing_disk_ends_it() {
    let dir = TempDir::new().unwrap();
    let mount = Tmpfs::new(dir.path(), "size=4m");
    let mut builder = Builder::default();
    for number in 0..100 {
        builder = builder.file(&format!("d{}/f{number}", number % 5), &vec![7; 200_000]);
    }
    let error = unpack(&builder.end(), mount.0).unwrap_err();
    let UnpackError::Io { source, .. } = &error else { unreachable!("{error}") };
    assert_eq!(source.kind(), std::io::ErrorKind::StorageFull, "{error}");
}

/// A small file system that goes away with the test.
struct Tmpfs<'path>(&'path Path);

impl<'path> Tmpfs<'path> {
    fn new(path: &'path Path, options: &str) -> Self {
        let options = std::ffi::CString::new(options).unwrap();
        rustix::mount::mount("tmpfs", path, "tmpfs", rustix::mount::MountFlags::NOSUID, &*options)
            .unwrap();
        Self(path)
    }
}

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn long_chains_of_links_cost_little() {
    // Each link leads to a long name through the next one: in full that would be 40^40 steps.
    let target =
        |number: usize| format!("{}l{}", format!("l{}/../", number + 1).repeat(10), number + 1);
    let mut builder = Builder::default().dir("l40", 0o755);
    for number in 0..40 {
        builder = builder.long(b'K', target(number).as_bytes()).symlink(&format!("l{number}"), "");
    }
    let result = outcome(&builder.file("l0/x", b"").end());
    assert!(result.unwrap_err().contains("too many"));
}
