#!/usr/bin/env python3
"""Unpacks images with umoci and with ours, merges ours by overlayfs, and compares the trees.

usage: trees.py <unpack-differential> [image-layer.tar ...]

Needs root, umoci and GNU tar. Without further arguments: layers made here, which hold everything
a layer can hold. Layers named on the command line are compared as one more image.
"""

import hashlib
import io
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import time

tool = os.path.abspath(sys.argv[1])
REG, DIR, SYM, LNK = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
CHR, BLK, FIFO = tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE
# Version 2: cap_net_bind_service, permitted and effective. It holds a newline on purpose.
CAPABILITY = bytes.fromhex("0100000200040a000000000000000000000a0000")[:20]


class Layer:
    def __init__(self, path, form=tarfile.PAX_FORMAT):
        self.archive = tarfile.open(path, "w", format=form, encoding="utf-8", errors="surrogateescape")

    def add(self, name, kind, data=b"", mode=0o755, owner=(0, 0), mtime=1_600_000_000, link="",
            device=(0, 0), pax=None):
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.mtime, info.linkname = kind, mode, mtime, link
        info.uid, info.gid = owner
        info.devmajor, info.devminor = device
        info.size = len(data) if kind == REG else 0
        # Values of any bytes: as surrogates, which the encoding above turns back.
        info.pax_headers = {k: v.decode("utf-8", "surrogateescape") for k, v in (pax or {}).items()}
        self.archive.addfile(info, io.BytesIO(data))

    def close(self):
        self.archive.close()


def features(path, form):
    layer = Layer(path, form)
    pax = form == tarfile.PAX_FORMAT
    layer.add("./", DIR, mode=0o755)
    layer.add("./dirs", DIR, mode=0o1777, owner=(1, 2))
    layer.add("dirs/setgid", DIR, mode=0o2775, owner=(0, 50))
    layer.add("dirs/setgid/file", REG, b"group 0")
    layer.add("dirs/none", DIR, mode=0)
    layer.add("dirs/none/file", REG, b"in a directory of mode 0", mode=0)
    for mode in (0o644, 0o600, 0o4755, 0o2755, 0o6711, 0o1644, 0o7777):
        for owner in ((0, 0), (1000, 0), (1234567, 7654321)):
            layer.add(f"modes/{mode:o}-{owner[0]}", REG, b"x" * mode, mode=mode, owner=owner)
    layer.add("links/relative", SYM, link="../modes/644-0")
    layer.add("links/absolute", SYM, link="/modes/644-0", owner=(5, 6))
    layer.add("links/dangling", SYM, link="nowhere/" + "x" * 150)
    layer.add("links/hard", LNK, link="modes/4755-1000")
    layer.add("links/hard2", LNK, link="links/hard")
    layer.add("links/hard-to-symlink", LNK, link="links/relative")
    layer.add("devices/null", CHR, device=(1, 3), mode=0o666)
    layer.add("devices/disk", BLK, device=(259, 65535), mode=0o660, owner=(0, 6))
    layer.add("devices/setuid", CHR, device=(1, 5), mode=0o4755, owner=(7, 8))
    layer.add("devices/pipe", FIFO, mode=0o622, owner=(9, 9))
    layer.add("long/" + "n" * 255, REG, b"255")
    layer.add("long/" + "d" * 200 + "/" + "e" * 200 + "/" + "f" * 200, REG, b"deep")
    layer.add("names/\u00fcml\u00e4ut \u2603", REG, b"utf-8")
    layer.add("names/new\nline 'quote\" \\", REG, b"strange")
    if pax:
        layer.add("names/latin\udcff\udcfe", REG, b"no utf-8")
    layer.add("times/old", REG, b"", mtime=0)
    layer.add("times/later", REG, b"", mtime=4_000_000_000)
    layer.add("times/dir", DIR, mtime=1_000_000_000)
    layer.add("times/dir/file", REG, b"after its directory")
    if pax:
        layer.add("times/fraction", REG, b"", mtime=0, pax={"mtime": b"1234567890.123456789"})
        layer.add("ids/big", REG, b"", owner=(4_000_000_000, 3_000_000_000))
        layer.add("xattrs/capable", REG, b"program", pax={"SCHILY.xattr.security.capability": CAPABILITY})
        layer.add("xattrs/owned", REG, b"program", mode=0o4755, owner=(1000, 1000),
                  pax={"SCHILY.xattr.security.capability": CAPABILITY})
        layer.add("xattrs/user", REG, b"", pax={"SCHILY.xattr.user.note": b"text\nwith = and \xff"})
        layer.add("xattrs/dir", DIR, pax={"SCHILY.xattr.user.dir": b"1"})
    layer.add("big", REG, os.urandom(5_000_000))
    layer.add("replaced/file", REG, b"1")
    layer.add("replaced/hard", LNK, link="replaced/file")
    layer.add("replaced/file", REG, b"2")
    layer.add("replaced/dir/x", REG, b"1")
    layer.add("replaced/dir", REG, b"now a file")
    layer.add("replaced/link", SYM, link="dir")
    layer.add("replaced/link", DIR, mode=0o700)
    layer.add("via", SYM, link="/real")
    layer.add("real", DIR)
    layer.add("via/file", REG, b"through a link of this layer")
    layer.add("lower/gone", REG, b"1")
    layer.add("lower/kept", REG, b"1")
    layer.add("lower/dir/a", REG, b"1")
    layer.add("lower/opaque/a", REG, b"1")
    layer.add("lower/again/a", REG, b"1")
    layer.add("lower/turned/a", REG, b"1")
    layer.add("implied", DIR, mode=0o1770, owner=(3, 4), mtime=1_111_111_111,
              pax={"SCHILY.xattr.user.implied": b"yes"} if pax else None)
    layer.add("implied/deeper", DIR, mode=0o2711, owner=(5, 6), mtime=1_222_222_222)
    layer.close()


def upper(path, form):
    layer = Layer(path, form)
    layer.add("lower/.wh.gone", REG)
    layer.add("lower/.wh.dir", REG)
    layer.add("lower/opaque/b", REG, b"2")
    layer.add("lower/opaque/.wh..wh..opq", REG)
    layer.add("lower/again/", DIR)
    layer.add("lower/again/b", REG, b"2")
    layer.add("lower/.wh.again", REG)
    layer.add("lower/.wh.turned", REG)
    layer.add("lower/turned", DIR)
    layer.add("lower/turned/b", REG, b"2")
    layer.add("implied/deeper/new", REG, b"2")
    layer.add("modes/644-0", REG, b"replaced below", mode=0o600)
    layer.add("long", SYM, link="big")
    layer.add("big", DIR, mode=0o711)
    layer.add("big/inside", REG, b"2")
    layer.close()


def sparse(path, options, work):
    """Holes, in a format of GNU tar."""
    source = os.path.join(work, "sparse")
    if not os.path.exists(source):
        os.mkdir(source)
        with open(source + "/holes", "wb") as out:
            for offset in range(0, 40 << 20, 1 << 20):
                out.seek(offset)
                out.write(os.urandom(4096))
            out.truncate(50 << 20)
        with open(source + "/empty", "wb") as out:
            out.truncate(3 << 20)
        with open(source + "/" + "long" * 40, "wb") as out:
            out.seek(1 << 20)
            out.write(b"end")
        os.setxattr(source + "/holes", "user.sparse", b"yes")
    subprocess.run(["tar", "-C", source, "--sort=name", "-cSf", path, *options, "."], check=True)


def blob(image, data):
    digest = hashlib.sha256(data).hexdigest()
    with open(f"{image}/blobs/sha256/{digest}", "wb") as out:
        out.write(data)
    return {"digest": "sha256:" + digest, "size": len(data)}


def make_image(image, layers):
    os.makedirs(image + "/blobs/sha256")
    oci = "application/vnd.oci.image."
    descriptors = []
    for layer in layers:
        with open(layer, "rb") as data:
            descriptors.append({"mediaType": oci + "layer.v1.tar", **blob(image, data.read())})
    config = {"architecture": "amd64", "os": "linux", "config": {},
              "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in descriptors]}}
    manifest = {"schemaVersion": 2, "mediaType": oci + "manifest.v1+json", "layers": descriptors,
                "config": {"mediaType": oci + "config.v1+json", **blob(image, json.dumps(config).encode())}}
    index = {"mediaType": oci + "manifest.v1+json", **blob(image, json.dumps(manifest).encode()),
             "annotations": {"org.opencontainers.image.ref.name": "t"}}
    with open(image + "/index.json", "w") as out:
        json.dump({"schemaVersion": 2, "manifests": [index]}, out)
    with open(image + "/oci-layout", "w") as out:
        out.write('{"imageLayoutVersion":"1.0.0"}')


def manifest(root):
    """All there is to know of a tree, by path. The root's own attributes belong to whoever mounts
    it; device and inode numbers become groups of names."""
    found, groups = {}, {}
    for directory, subdirectories, files in os.walk(os.fsencode(root)):
        for name in subdirectories + files:
            path = os.path.join(directory, name)
            at = os.path.relpath(path, os.fsencode(root))
            info = os.lstat(path)
            kind = stat.S_IFMT(info.st_mode)
            entry = [oct(info.st_mode), info.st_uid, info.st_gid, info.st_mtime_ns]
            if kind == stat.S_IFREG:
                with open(path, "rb") as data:
                    entry += [info.st_size, hashlib.file_digest(data, "sha256").hexdigest()]
            if kind == stat.S_IFLNK:
                entry.append(os.readlink(path))
            if kind in (stat.S_IFCHR, stat.S_IFBLK):
                entry.append(info.st_rdev)
            names = os.listxattr(path, follow_symlinks=False)
            entry.append(sorted((key, os.getxattr(path, key, follow_symlinks=False)) for key in names))
            if kind != stat.S_IFDIR:
                groups.setdefault(info.st_ino, set()).add(at)
                entry.append(info.st_nlink)
            found[at] = entry
    for group in groups.values():
        for at in group:
            found[at].append(sorted(group))
    return found


def blocks(root):
    return sum(os.lstat(os.path.join(d, f)).st_blocks for d, _, fs in os.walk(os.fsencode(root)) for f in fs)


def reference(name, layers, base):
    """What umoci makes of an image; GNU tar where umoci does not know the format."""
    if name == "sparse-old-gnu":
        os.mkdir(base + "/reference")
        command = ["tar", "-C", base + "/reference", "-xpf", layers[0]]
    else:
        make_image(base + "/image", layers)
        command = ["umoci", "raw", "unpack", "--image", base + "/image:t", base + "/reference"]
    subprocess.run(command, check=True, capture_output=True)


def same(ours, theirs, start):
    """Directories that the archive does not describe, or that a whiteout changed, get whatever
    time it is from umoci; ours are the same every time."""
    if ours and theirs and stat.S_ISDIR(int(ours[0], 8)) and theirs[3] >= start:
        return ours[:3] + ours[4:] == theirs[:3] + theirs[4:]
    return ours == theirs


def compare(name, layers, work):
    """The number of differences."""
    base = os.path.join(work, name)
    os.mkdir(base)
    start = time.time_ns()
    reference(name, layers, base)
    dirs = []
    for number, layer in enumerate(layers):
        target = f"{base}/{number}"
        with open(layer, "rb") as data:
            subprocess.run([tool, "unpack", target, "2", *reversed(dirs)], stdin=data, check=True,
                           capture_output=True)
        dirs.append(target)
    mounted = base + "/merged"
    os.mkdir(mounted)
    os.mkdir(base + "/empty")
    lower = ":".join([*reversed(dirs), base + "/empty"])
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", "ro,lowerdir=" + lower, mounted], check=True)
    try:
        ours, theirs = manifest(mounted), manifest(base + "/reference")
        taken = blocks(mounted), blocks(base + "/reference")
    finally:
        subprocess.run(["umount", mounted], check=True)
    differences = 0
    for at in sorted(ours.keys() | theirs.keys()):
        if not same(ours.get(at), theirs.get(at), start):
            differences += 1
            if differences <= 10:
                print(f"  {at!r}\n    ours  {ours.get(at)}\n    other {theirs.get(at)}")
    print(f"{name}: {len(ours)} entries, {differences} differences, KiB on disk {taken[0] // 2} and {taken[1] // 2}")
    shutil.rmtree(base)
    return differences


def main():
    total = 0
    with tempfile.TemporaryDirectory() as work:
        for name, form in (("pax", tarfile.PAX_FORMAT), ("gnu", tarfile.GNU_FORMAT)):
            features(f"{work}/{name}.lower", form)
            upper(f"{work}/{name}.upper", form)
            total += compare(name, [f"{work}/{name}.lower", f"{work}/{name}.upper"], work)
        for name, options in (
            ("sparse-old-gnu", ["--format=gnu", "--no-xattrs"]),
            ("sparse-0.0", ["--format=pax", "--sparse-version=0.0", "--xattrs"]),
            ("sparse-0.1", ["--format=pax", "--sparse-version=0.1", "--xattrs"]),
            ("sparse-1.0", ["--format=pax", "--sparse-version=1.0", "--xattrs"]),
        ):
            sparse(f"{work}/{name}.tar", options, work)
            total += compare(name, [f"{work}/{name}.tar"], work)
        if sys.argv[2:]:
            total += compare("given", sys.argv[2:], work)
    sys.exit(bool(total))


main()
