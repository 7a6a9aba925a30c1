//! Valid archives with random damage: unpacking never panics, never hangs, and never touches
//! anything outside. The generator knows the format, so that most damage gets past the checksum.

use proptest::prelude::*;

use super::super::slab::BLOCK;
use super::super::testing::{Builder, Head};
use super::hostile::Yard;
use super::unpack;

/// Names that have to do with each other, and with what lies outside.
const NAMES: &[&str] = &[
    "a",
    "b",
    "a/b",
    "b/a",
    "a/b/a",
    "./a",
    "/b",
    "a/",
    ".",
    "..",
    "../a",
    "a/../b",
    ".wh.a",
    "a/.wh.b",
    "a/.wh..wh..opq",
    ".wh..wh..opq",
    ".wh..wh.x",
    "",
    "a//b",
    "c/d/e",
    "../../canary/etc/shadow",
    "link",
    "link/x",
    "link/etc/shadow",
];

fn name() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(NAMES)
}

/// One member, with or without an extension before it.
fn member() -> impl Strategy<Value = Builder> {
    let kind = proptest::sample::select(b"01234567SxgLK\0Q".as_slice());
    let record = proptest::sample::select(
        &[
            "path",
            "linkpath",
            "size",
            "uid",
            "gid",
            "mtime",
            "SCHILY.xattr.user.x",
            "SCHILY.xattr.security.capability",
            "GNU.sparse.major",
            "GNU.sparse.minor",
            "GNU.sparse.map",
            "GNU.sparse.numblocks",
            "GNU.sparse.realsize",
            "GNU.sparse.name",
            "GNU.sparse.offset",
            "GNU.sparse.numbytes",
            "LIBARCHIVE.xattr.user.y",
        ][..],
    );
    let value = proptest::sample::select(
        &[
            "0",
            "1",
            "5",
            "512",
            "0,5",
            "5,1",
            "a",
            "b",
            "a/b",
            "../x",
            "-1",
            "99999999999",
            "",
            "1.5",
            "link/x",
            "/",
            "2147483648",
        ][..],
    );
    let records = proptest::collection::vec((record, value), 0..4);
    let size = proptest::sample::select(&[0_u64, 1, 5, 512, 513, 2000][..]);
    (kind, name(), name(), records, size, 0_u64..0o10000).prop_map(
        |(kind, name, link, records, size, mode)| {
            let records: Vec<(&str, &[u8])> =
                records.iter().map(|(key, value)| (*key, value.as_bytes())).collect();
            let mut builder = Builder::default();
            if !records.is_empty() {
                builder = builder.pax(&records);
            }
            let head = Head::new(kind, name.as_bytes()).link(link.as_bytes()).mode(mode).size(size);
            let head = if kind == b'S' { head.gnu() } else { head };
            let data: &[u8] = b"1\n0\n5\n";
            let mut data = data.to_vec();
            data.resize(size as usize, b'x');
            builder.head(head.device(1, 3)).data(&data)
        },
    )
}

/// Changes a byte; in a header the checksum follows, most of the time.
fn damage(archive: &mut [u8], at: usize, byte: u8, seal: bool) {
    let at = at % archive.len();
    archive[at] = byte;
    let start = at / BLOCK * BLOCK;
    match archive[start..].first_chunk_mut::<BLOCK>() {
        Some(block) if seal && block[257..262] == *b"ustar" => {
            *block = Head { block: *block }.sealed();
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_archives_harm_nobody(
        members in proptest::collection::vec(member(), 1..12),
        changes in proptest::collection::vec((any::<usize>(), any::<u8>(), any::<bool>()), 0..6),
        cut in proptest::option::weighted(0.2, any::<usize>()),
    ) {
        let yard = Yard::new();
        let mut builder = Builder::default()
            .dir("a", 0o755)
            .symlink("link", "../../canary")
            .file("b", b"contents");
        for member in members {
            builder.bytes.extend(member.bytes);
        }
        let mut archive = builder.end();
        for (at, byte, seal) in changes {
            damage(&mut archive, at, byte, seal);
        }
        if let Some(cut) = cut {
            archive.truncate(cut % archive.len());
        }
        let _ = unpack(&archive, &yard.layer());
        yard.check("damaged archive");
    }
}
