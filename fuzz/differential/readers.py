#!/usr/bin/env python3
"""Compares our archive reader with Go's archive/tar over generated archives.

usage: readers.py <unpack-differential> <golist> [count] [seed]

Right and damaged headers of every dialect; after damage the checksum is made right again, or
nothing would get past it. Allowed: both list the same, both fail, or ours refuses what Go takes
(counted by reason). Anything else is a bug and ends with status 1.
"""

import collections
import io
import os
import random
import subprocess
import sys
import tarfile
import tempfile

ours, theirs = sys.argv[1:3]
count = int(sys.argv[3]) if len(sys.argv) > 3 else 10_000
seed = int(sys.argv[4]) if len(sys.argv) > 4 else 1
rng = random.Random(seed)


def seal(block):
    """The block with a right checksum."""
    block = bytearray(block)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def header(kind, name, size=0, link=b"", magic=b"ustar\x0000", prefix=b"", **fields):
    block = bytearray(512)
    put = lambda at, text: block.__setitem__(slice(at, at + len(text)), text)
    put(0, name[:100])
    for at, width, key, default in (
        (100, 8, "mode", 0o644), (108, 8, "uid", 0), (116, 8, "gid", 0),
        (124, 12, "size", size), (136, 12, "mtime", 1000),
        (329, 8, "major", 0), (337, 8, "minor", 0),
    ):
        value = fields.get(key, default)
        put(at, value if isinstance(value, bytes) else b"%0*o\0" % (width - 1, value))
    block[156] = kind
    put(157, link[:100])
    put(257, magic)
    put(345, prefix)
    return block


def padded(data):
    return data + b"\0" * (-len(data) % 512)


def record(key, value):
    body = b" " + key + b"=" + value + b"\n"
    length = len(body)
    while length != len(body) + len(str(length)):
        length = len(body) + len(str(length))
    return str(length).encode() + body


NUMBERS = [b"0", b"1", b"5", b"512", b"513", b"1000", b"4096", b"-1", b"+3", b"", b"x", b"1.5",
           b"9223372036854775807", b"9223372036854775808", b" 5", b"0x10", b"1_0", b"-0"]
TEXTS = [b"a", b"dir/", b"a/b", b"n" * 150, b"", b"nul\0x", b"new\nline", b"=", b"../x", b"\xff\xfe"]
KEYS = [(b"path", TEXTS), (b"linkpath", TEXTS), (b"size", NUMBERS), (b"uid", NUMBERS),
        (b"gid", NUMBERS), (b"mtime", NUMBERS + [b"-1.5", b"1.123456789123", b"1.", b".5", b"-0.5"]),
        (b"uname", TEXTS), (b"SCHILY.xattr.user.a", TEXTS), (b"SCHILY.xattr.security.capability", TEXTS),
        (b"comment", TEXTS), 
        (b"GNU.sparse.major", [b"0", b"1", b"2", b""]), (b"GNU.sparse.minor", [b"0", b"1"]),
        (b"GNU.sparse.name", TEXTS), (b"GNU.sparse.size", NUMBERS),
        (b"GNU.sparse.realsize", NUMBERS), (b"GNU.sparse.numblocks", NUMBERS),
        (b"GNU.sparse.map", [b"0,5", b"0,1,2,3", b"5,0", b"1", b"", b"0,5,", b"512,512", b"3,2,1,1"]),
        (b"GNU.sparse.offset", NUMBERS), (b"GNU.sparse.numbytes", NUMBERS)]


def pax(kind=ord("x")):
    if rng.random() < 0.4:
        data = b"".join(record(*sparse_record) for sparse_record in sparse_records())
    else:
        chosen = [rng.choice(KEYS) for _ in range(rng.randrange(1, 4))]
        data = b"".join(record(key, value_of(values)) for key, values in chosen)
    if rng.random() < 0.1:
        at = rng.randrange(len(data) + 1)
        data = data[:at] + rng.choice([b"", b"\0", b"x", b" ", b"9"]) + data[at + rng.randrange(2):]
    return seal(header(kind, b"PaxHeaders/x", len(data))) + padded(data)


def value_of(values):
    """Mostly a value that is valid for the key."""
    return rng.choice(values[:5] if rng.random() < 0.9 else values)


def sparse_records():
    """Records of a sparse file, mostly right."""
    version = rng.choice([(b"1", b"0"), (b"0", b"1"), (b"0", b"0"), None])
    if version:
        yield b"GNU.sparse.major", version[0]
        yield b"GNU.sparse.minor", version[1]
    yield rng.choice([b"GNU.sparse.size", b"GNU.sparse.realsize"]), rng.choice([b"4096", b"10", b"5"])
    if rng.random() < 0.7:
        yield b"GNU.sparse.name", b"sparse-name"
    if version == (b"1", b"0"):
        return
    pairs = rng.choice([[(0, 5)], [(0, 5), (100, 5)], [(1000, 512)], [], [(5, 5), (5, 5)], [(5, 0)]])
    yield b"GNU.sparse.numblocks", str(len(pairs) + (rng.random() < 0.1)).encode()
    if rng.random() < 0.5:
        for offset, length in pairs:
            yield b"GNU.sparse.offset", str(offset).encode()
            yield b"GNU.sparse.numbytes", str(length).encode()
    else:
        yield b"GNU.sparse.map", ",".join(f"{o},{n}" for o, n in pairs).encode()


def old_sparse():
    block = header(ord("S"), b"old-sparse", rng.choice([5, 10, 512]), magic=b"ustar  \0")
    pairs = rng.choice([[(0, 5)], [(0, 5), (512, 5)], [(100, 512)], [(512, 512), (2048, 1)]])
    for at, (offset, length) in enumerate(pairs):
        block[386 + 24 * at:386 + 24 * at + 24] = b"%011o\0%011o\0" % (offset, length)
    block[483:495] = b"%011o\0" % rng.choice([5, 612, 4096, 2049])
    extra = b""
    if rng.random() < 0.3:
        block[482] = 1
        extra = bytearray(512)
        extra[:24] = b"%011o\0%011o\0" % (3000, rng.choice([0, 5]))
        extra = bytes(extra)
    return seal(block) + extra + padded(b"x" * rng.choice([5, 10, 512, 517]))


def member():
    draw = rng.random()
    if draw < 0.1:
        return old_sparse()
    kind = ord(rng.choice("0000000000112233445566\x00\x007xgLK" + "VQ" * (rng.random() < 0.05)))
    if kind in b"xg":
        return pax(kind)
    if kind in b"LK":
        name = rng.choice(TEXTS) + b"\0" * rng.randrange(2)
        return seal(header(kind, b"././@LongLink", len(name), magic=b"ustar  \0")) + padded(name)
    size = rng.choice([0, 0, 1, 5, 10, 512, 700])
    magic = rng.choice([b"ustar\x0000", b"ustar\x0000", b"ustar  \0", b"\0" * 8, b"ustar\x00xx"])
    number = [0, 1, 1000] if rng.random() < 0.8 else [0, 1, 1000, b"\x80" + b"\0" * 6 + b"\x07", b"\xff" * 8, b"  644 \0 ", b"12x\0\0\0\0\0",
              b"\0" * 8, b" " * 8, b"\x80\0\0\0\x7f\xff\xff\xff"]
    block = header(kind, rng.choice(TEXTS), size, rng.choice(TEXTS), magic,
                   rng.choice([b"", b"", b"prefix", b"\xffp"]),
                   mode=rng.choice(number), uid=rng.choice(number), gid=rng.choice(number[:3]))
    data = b""
    if rng.random() < 0.2:
        data = b"1\n0\n%d\n" % rng.choice([5, 10, 0])
    data = (data.ljust(512, b"\0") if data else b"") + b"y" * size
    if kind in b"123456" and rng.random() < 0.7:
        data = b""
    out = b""
    if rng.random() < 0.4:
        out += pax()
    return out + seal(block) + padded(data)


def from_tarfile():
    """Archives of an independent writer."""
    out = io.BytesIO()
    form = rng.choice([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for _ in range(rng.randrange(1, 6)):
            info = tarfile.TarInfo(rng.choice(["a", "d/" + "x" * 90, "y/" * 60 + "z", "ü", "s"]))
            info.type = rng.choice([b"0", b"1", b"2", b"3", b"5", b"6"])
            info.linkname = rng.choice(["t", "l" * 90, "d/../x"])
            info.uid, info.gid = rng.choice([0, 1000, 2_000_000]), rng.choice([0, 5])
            info.mtime = rng.choice([0, 1_700_000_000] + ([1.25] if form == tarfile.PAX_FORMAT else []))
            data = bytes(rng.randrange(256) for _ in range(rng.choice([0, 10, 600])))
            info.size = len(data) if info.type == b"0" else 0
            try:
                archive.addfile(info, io.BytesIO(data))
            except ValueError:
                pass
    return out.getvalue()


def damaged(archive):
    archive = bytearray(archive)
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        if not archive:
            break
        at = rng.randrange(len(archive))
        if rng.random() < 0.5:
            at = at // 512 * 512 + rng.choice([0, 99, 100, 108, 124, 125, 135, 136, 156, 157, 257, 263, 345, 386, 482, 483])
        if at >= len(archive):
            continue
        archive[at] = rng.choice([0, 32, 48, 49, 55, 56, 128, 255, ord("x"), ord("S"), rng.randrange(256)])
        start = at // 512 * 512
        if rng.random() < 0.9 and bytes(archive[start + 257:start + 262]) == b"ustar":
            archive[start:start + 512] = seal(archive[start:start + 512])
    if rng.random() < 0.05:
        del archive[rng.randrange(len(archive) + 1):]
    return bytes(archive)


def archive():
    if rng.random() < 0.2:
        return damaged(from_tarfile())
    body = b"".join(member() for _ in range(rng.randrange(1, 5)))
    end = rng.choice([b"\0" * 1024] * 8 + [b"", b"\0" * 512])
    return (damaged(body) if rng.random() < 0.4 else body) + end


def listings(tool, paths):
    found, path = {}, None
    out = subprocess.run(tool + paths, capture_output=True, check=True).stdout.decode("latin-1")
    for line in out.splitlines():
        if line.startswith("== "):
            path = line[3:]
            found[path] = []
        else:
            found[path].append(line)
    assert len(found) == len(paths), "a tool stopped early"
    return found


outcomes, reasons, bugs = collections.Counter(), collections.Counter(), []
with tempfile.TemporaryDirectory() as work:
    for start in range(0, count, 500):
        paths = []
        for number in range(start, min(start + 500, count)):
            paths.append(os.path.join(work, f"{number}.tar"))
            with open(paths[-1], "wb") as out:
                out.write(archive())
        mine, others = listings([ours, "list"], paths), listings([theirs], paths)
        for path in paths:
            a, b = mine[path], others[path]
            bad_a = bool(a) and a[-1].startswith("ERROR")
            bad_b = bool(b) and b[-1].startswith("ERROR")
            if not bad_a and not bad_b and a == b:
                outcomes["same"] += 1
            elif bad_a and bad_b and (a[:-1] == b[:len(a) - 1] or a[:len(b) - 1] == b[:-1]):
                outcomes["both refuse"] += 1
            elif bad_a and not bad_b and a[:-1] == b[:len(a) - 1]:
                outcomes["only ours refuses"] += 1
                reasons[a[-1].split(": ", 1)[-1]] += 1
            else:
                bugs.append(path)
                if len(bugs) <= 2:
                    keep = f"/tmp/differs-{seed}-{len(bugs)}.tar"
                    os.link(path, keep) if not os.path.exists(keep) else None
                    print("DIFFERS", keep, "\n ours:", *a, "\n go:", *b, sep="\n  ")
        for path in paths:
            os.unlink(path)
print(dict(outcomes))
for reason, number in reasons.most_common():
    print(f"  {number:6} {reason}")
print(f"{len(bugs)} differences in {count} archives, seed {seed}")
sys.exit(bool(bugs))
