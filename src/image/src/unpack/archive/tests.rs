//! What the reader makes of archives, right and wrong ones.

use super::super::testing::{Builder, Head, record};
use super::*;

/// A member and the pieces of its contents, each with its place.
type Listed = (Member, Vec<(u64, Vec<u8>)>);

fn read(archive: &[u8]) -> Result<Vec<Listed>, UnpackError> {
    let limits = Limits { sparse_segments: 100, ..Limits::default() };
    let mut reader = Reader::new(Stream::new(archive, None), &limits);
    let mut members = Vec::new();
    while let Some(member) = reader.next()? {
        let mut contents = Vec::new();
        while let Some((offset, chunk)) = reader.contents(&member)? {
            contents.push((offset, chunk.to_vec()));
        }
        members.push((member, contents));
    }
    reader.drain()?;
    Ok(members)
}

fn names(archive: &[u8]) -> Result<Vec<String>, UnpackError> {
    let members = read(archive)?;
    Ok(members.iter().map(|(member, _)| member.path.escape_ascii().to_string()).collect())
}

fn one(archive: &[u8]) -> Listed {
    let mut members = read(archive).unwrap();
    assert_eq!(members.len(), 1);
    members.remove(0)
}

#[test]
fn plain_members() {
    let archive = Builder::default()
        .dir("d/", 0o1777)
        .file("d/f", b"hello")
        .symlink("s", "d/f")
        .hard_link("h", "d/f")
        .head(Head::new(b'3', b"c").device(1, 3))
        .head(Head::new(b'6', b"p"))
        .end();
    let members = read(&archive).unwrap();
    let kinds: Vec<Kind> = members.iter().map(|(member, _)| member.kind).collect();
    use Kind::{Character, Directory, Fifo, File, HardLink, Symlink};
    assert_eq!(kinds, [Directory, File, Symlink, HardLink, Character, Fifo]);
    assert_eq!(members[0].0.mode, 0o1777);
    assert_eq!(members[1].1, [(0, b"hello".to_vec())]);
    assert_eq!(members[2].0.link, b"d/f");
    assert_eq!(members[4].0.device, (1, 3));
}

#[test]
fn names_of_every_length() {
    let long = "n".repeat(300);
    let archive = Builder::default()
        .long(b'L', long.as_bytes())
        .long(b'K', b"target")
        .symlink("cut", "cut")
        .pax(&[("path", long.as_bytes()), ("linkpath", b"t")])
        .symlink("cut", "cut")
        .head({
            let mut head = Head::new(b'0', b"name");
            head.put(345, b"prefix");
            head
        })
        .end();
    let members = read(&archive).unwrap();
    assert_eq!(members[0].0.path, long.as_bytes());
    assert_eq!(members[0].0.link, b"target");
    assert_eq!(members[1].0.path, long.as_bytes());
    assert_eq!(members[1].0.link, b"t");
    assert_eq!(members[2].0.path, b"prefix/name");
}

#[test]
fn pax_values_win() {
    let capability = b"\x01\x00\x00\x02\n=\n\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let archive = Builder::default()
        .pax(&[
            ("size", b"3"),
            ("uid", b"4294967294"),
            ("gid", b"7"),
            ("mtime", b"-1.25"),
            ("SCHILY.xattr.security.capability", capability),
            ("LIBARCHIVE.xattr.user.a%20b", b"aGk"),
            ("LIBARCHIVE.xattr.security.capability", b"AAAA"),
            ("path", b"first"),
            ("path", b"last"),
            ("comment", b""),
        ])
        .head(Head::new(b'0', b"x").size(1024))
        .data(b"abc")
        .file("next", b"")
        .end();
    let members = read(&archive).unwrap();
    let (member, contents) = &members[0];
    assert_eq!(contents, &[(0, b"abc".to_vec())]);
    assert_eq!((member.uid, member.gid), (4_294_967_294, 7));
    assert_eq!(member.mtime, (-2, 750_000_000));
    assert_eq!(member.path, b"last");
    assert_eq!(member.xattrs[&b"security.capability"[..]], capability);
    assert_eq!(member.xattrs[&b"user.a b"[..]], b"hi");
    assert_eq!(members[1].0.path, b"next");
}

/// Sizes that one reader sees and another does not: each hides a member in a file's contents.
#[test]
fn a_size_cannot_be_hidden() {
    let inner = Builder::default().file("hidden", b"").bytes;
    for records in [
        vec![("SCHILY.xattr.user.x", &b"a\nb"[..]), ("size", b"512")],
        vec![("size", &b"0"[..]), ("size", b"512")],
        vec![("comment", &b"size=0\n11 size=0\n"[..]), ("size", b"512")],
    ] {
        let archive =
            Builder::default().pax(&records).file("a", b"").data(&inner).file("b", b"").end();
        assert_eq!(names(&archive).unwrap(), ["a", "b"]);
    }
}

#[test]
fn numbers() {
    for (field, expected) in [
        (&b"0000755\0"[..], Some(0o755)),
        (b"    755 ", Some(0o755)),
        (b"\0\0\0\0\0\0\0\0", Some(0)),
        (b"        ", Some(0)),
        (b"75\x005", Some(0o75)),
        (b"0000758\0", None),
        (b"-0000755", None),
        (b"\x80\0\0\0\0\0\x01\0", Some(256)),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
        (b"\xff\xff\xff\xff\xff\xff\xff\x00", Some(-256)),
        (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Some(i64::MAX)),
        (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
        (b"\x81\0\0\0\0\0\0\0\0\0\0\0", None),
    ] {
        assert_eq!(header::number(field), expected, "{}", field.escape_ascii());
    }
}

#[test]
fn times() {
    for (value, expected) in [
        ("1", Some((1, 0))),
        ("1.", Some((1, 0))),
        ("1.5", Some((1, 500_000_000))),
        ("1.1234567899", Some((1, 123_456_789))),
        ("-1", Some((-1, 0))),
        ("-0.5", Some((-1, 500_000_000))),
        ("-1.000000001", Some((-2, 999_999_999))),
        ("", None),
        (".5", None),
        ("1.5x", None),
        ("1e3", None),
        ("9223372036854775808", None),
    ] {
        let records = Records::parse(&record("mtime", value.as_bytes()), 0).unwrap();
        let time = if value.is_empty() {
            // An empty value takes the record back.
            assert_eq!(records.time("mtime"), Ok(None));
            continue;
        } else {
            records.time("mtime")
        };
        assert_eq!(time.ok().flatten(), expected, "{value}");
    }
}

#[test]
fn malformed_pax_is_an_error() {
    for data in [
        &b"x"[..],
        b"11 path=ab",
        b"10 path=ab\n",
        b"12 path=ab\n",
        b"99 path=ab\n",
        b"0 path=ab\n",
        b"-11 path=ab\n",
        b"99999999999999999999 path=ab\n",
        b"11 pathxab\n\n",
        b"6 =ab\n",
        b"11 path=a\0\n",
        b"11 path=ab\n\0\0",
        b"10 size=x\n",
        b"11 size=-1\n",
        b"11 size=+-\n",
        b"9 uid=a\n",
        b"30 size=18446744073709551616\n\n",
        b"25 GNU.sparse.numbytes=1\n",
        b"22 GNU.sparse.offset=1\n",
        b"22 GNU.sparse.major=2\n",
    ] {
        let archive = Builder::default().pax_raw(data).file("f", b"").end();
        assert!(read(&archive).is_err(), "{}", data.escape_ascii());
    }
}

#[test]
fn damaged_archives_are_errors() {
    let good = Builder::default().file("f", &[1; 700]).end();
    for cut in [1, 511, 513, 700, 1024, 1211] {
        assert!(read(&good[..cut]).is_err(), "cut at {cut}");
    }
    // Without padding, without end, with one block of it, with bytes after it.
    for cut in [1212, 1536, 2048, 2560] {
        assert_eq!(names(&good[..cut]).unwrap(), ["f"], "cut at {cut}");
    }
    assert_eq!(names(&[good.as_slice(), b"garbage"].concat()).unwrap(), ["f"]);
    assert!(names(b"").unwrap().is_empty());

    let mut sum = good.clone();
    sum[0] ^= 1;
    assert!(read(&sum).is_err());
    let mut lone = Builder::default().file("f", b"");
    lone.bytes.extend([0; BLOCK_SIZE]);
    assert!(read(&lone.file("g", b"").end()).is_err());
    for builder in [
        Builder::default().pax(&[("path", b"a")]),
        Builder::default().long(b'L', b"a"),
        Builder::default().pax(&[("path", b"a")]).pax(&[("path", b"b")]).file("f", b""),
        Builder::default().long(b'L', b"a").long(b'L', b"b").file("f", b""),
        Builder::default().long(b'K', b"a").long(b'K', b"b").file("f", b""),
        Builder::default().head(Head::new(b'V', b"volume")),
        Builder::default().head(Head::new(b'Q', b"?")),
        Builder::default().head({
            let mut head = Head::new(b'0', b"negative");
            head.put(124, &[0xff; 12]);
            head
        }),
    ] {
        assert!(read(&builder.end()).is_err());
    }
}

const BLOCK_SIZE: usize = super::super::slab::BLOCK;

#[test]
fn extension_headers_are_bounded() {
    let head = |kind, size| Head::new(kind, b"x").gnu().size(size);
    for kind in [b'x', b'g', b'L', b'K'] {
        // The size alone is enough to refuse: nothing is read or allocated for it.
        let archive = Builder::default().head(head(kind, 1 << 30)).end();
        assert!(matches!(read(&archive), Err(UnpackError::Limit { .. })), "{kind}");
    }
}

#[test]
fn only_files_have_contents() {
    for kind in [b'1', b'2', b'3', b'5', b'6'] {
        let archive = Builder::default()
            .head(Head::new(kind, b"a").link(b"b").size(512))
            .file("next", b"x")
            .end();
        assert_eq!(names(&archive).unwrap(), ["a", "next"]);
        let archive = Builder::default()
            .pax(&[("size", b"512")])
            .head(Head::new(kind, b"a").link(b"b"))
            .file("next", b"x")
            .end();
        assert_eq!(names(&archive).unwrap(), ["a", "next"]);
    }
}

/// A file of 4 KiB whose bytes 512..1024 and 2048..2049 are stored.
fn expect_sparse(archive: &[u8]) {
    let (member, contents) = one(archive);
    assert_eq!(member.path, b"sparse");
    assert_eq!(member.size, 4096);
    assert_eq!(contents, [(512, vec![1; 512]), (2048, vec![2])]);
}

#[test]
fn sparse_files_of_all_formats() {
    let stored = [&[1; 512][..], &[2]].concat();
    let size = stored.len() as u64;
    let common: [(&str, &[u8]); 2] = [("GNU.sparse.size", b"4096"), ("GNU.sparse.numblocks", b"2")];
    let zero_zero: Vec<(&str, &[u8])> = [
        ("GNU.sparse.offset", &b"512"[..]),
        ("GNU.sparse.numbytes", b"512"),
        ("GNU.sparse.offset", b"2048"),
        ("GNU.sparse.numbytes", b"1"),
    ]
    .into_iter()
    .chain(common)
    .collect();
    let file = |name: &[u8]| Head::new(b'0', name).size(size);
    let archive = Builder::default().pax(&zero_zero).head(file(b"sparse")).data(&stored).end();
    expect_sparse(&archive);

    let zero_one: Vec<(&str, &[u8])> =
        [("GNU.sparse.map", &b"512,512,2048,1"[..]), ("GNU.sparse.name", b"sparse")]
            .into_iter()
            .chain(common)
            .collect();
    let archive = Builder::default().pax(&zero_one).head(file(b"other")).data(&stored).end();
    expect_sparse(&archive);

    let one_zero: [(&str, &[u8]); 4] = [
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.realsize", b"4096"),
        ("GNU.sparse.name", b"sparse"),
    ];
    let archive = Builder::default()
        .pax(&one_zero)
        .head(Head::new(b'0', b"other").size(512 + size))
        .data(b"2\n512\n512\n2048\n1\n")
        .data(&stored)
        .end();
    expect_sparse(&archive);
}

fn old_gnu(pairs: &[(u64, u64)], real: u64, stored: u64) -> Head {
    let mut head = Head::new(b'S', b"sparse").gnu().size(stored);
    head.octal(483, 12, real);
    for (at, (offset, length)) in pairs.iter().enumerate() {
        head.octal(386 + 24 * at, 12, *offset).octal(398 + 24 * at, 12, *length);
    }
    head
}

#[test]
fn old_gnu_sparse_files() {
    let stored = [&[1; 512][..], &[2]].concat();
    let head = old_gnu(&[(512, 512), (2048, 1)], 4096, 513);
    expect_sparse(&Builder::default().head(head.clone()).data(&stored).end());

    // The map goes on in a block of its own.
    let mut head = old_gnu(&[(512, 512)], 4096, 513);
    head.block[482] = 1;
    let mut more = [0; 512];
    more[..12].copy_from_slice(b"00000004000\0");
    more[12..24].copy_from_slice(b"00000000001\0");
    expect_sparse(&Builder::default().head(head).data(&more).data(&stored).end());
}

#[test]
fn wrong_sparse_maps_are_errors() {
    for (pairs, real, stored) in [
        (&[(512, 512)][..], 4096, 513),
        (&[(512, 513)], 4096, 512),
        (&[(0, 512), (511, 1)], 4096, 513),
        (&[(4000, 100)], 4096, 100),
        (&[(1 << 32, 1 << 32)], 4096, 1),
    ] {
        let archive = Builder::default().head(old_gnu(pairs, real, stored)).data(&[0; 513]).end();
        assert!(read(&archive).is_err(), "{pairs:?}");
    }
    for map in ["3\n0\n1\n", "-1\n", "999999999\n", "1\n0\n-1\n", "1\nx\n1\n", "", "1\n0\n512\n"] {
        let archive = Builder::default()
            .pax(&[
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.realsize", b"4096"),
            ])
            .head(Head::new(b'0', b"f").size(512))
            .data(map.as_bytes())
            .end();
        assert!(read(&archive).is_err(), "{map:?}");
    }
    for (map, blocks) in
        [("0,1", "2"), ("0", "1"), ("0,1,2", "1"), ("", "1"), ("0,9", "1"), ("0,1", "1000000000")]
    {
        let archive = Builder::default()
            .pax(&[
                ("GNU.sparse.map", map.as_bytes()),
                ("GNU.sparse.size", b"8"),
                ("GNU.sparse.numblocks", blocks.as_bytes()),
                ("GNU.sparse.major", b"0"),
                ("GNU.sparse.minor", b"1"),
            ])
            .file("f", b"x")
            .end();
        assert!(read(&archive).is_err(), "{map:?}");
    }
}
