#!/usr/bin/env python3
"""Makes container images from tar files and puts them into a registry, with nothing but Python.

    image.py push --registry 127.0.0.1:5000 --name web/nginx:1 --layer base.tar --layer nginx.tar \\
        --config '{"Cmd": ["nginx"]}' [--compression gzip|zstd|none] [--docker] [--platform linux/amd64] [--index]
    image.py delta BASE.tar ROOT OUT.tar      # the layer that turns BASE into the tree at ROOT

The input of the tests and of the README's command where no public registry can be reached.
"""
import argparse
import gzip
import hashlib
import http.client
import io
import json
import os
import stat
import subprocess
import sys
import tarfile

OCI = "application/vnd.oci.image."
DOCKER = "application/vnd.docker."
TYPES = {
    False: {"manifest": OCI + "manifest.v1+json", "config": OCI + "config.v1+json", "index": OCI + "index.v1+json",
            "none": OCI + "layer.v1.tar", "gzip": OCI + "layer.v1.tar+gzip", "zstd": OCI + "layer.v1.tar+zstd"},
    True: {"manifest": DOCKER + "distribution.manifest.v2+json", "config": DOCKER + "container.image.v1+json",
           "index": DOCKER + "distribution.manifest.list.v2+json", "none": DOCKER + "image.rootfs.diff.tar",
           "gzip": DOCKER + "image.rootfs.diff.tar.gzip"},
}


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def compress(data, how):
    if how == "gzip":
        out = io.BytesIO()
        with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1, mtime=0) as stream:
            stream.write(data)
        return out.getvalue()
    if how == "zstd":
        return subprocess.run(["zstd", "-q", "-1", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout
    return data


class Registry:
    """The few calls of the distribution API that a push needs."""

    def __init__(self, address):
        self.address = address

    def call(self, method, path, body=None, headers=None, want=(200, 201, 202)):
        connection = http.client.HTTPConnection(self.address, timeout=60)
        connection.request(method, path, body, headers or {})
        reply = connection.getresponse()
        text = reply.read()
        if reply.status not in want:
            sys.exit(f"{method} {path}: {reply.status} {text[:300]!r}")
        return reply

    def blob(self, repository, data):
        name = digest(data)
        if self.call("HEAD", f"/v2/{repository}/blobs/{name}", want=(200, 404)).status == 200:
            return name
        place = self.call("POST", f"/v2/{repository}/blobs/uploads/", b"").getheader("Location")
        place = place.split(self.address, 1)[-1]
        self.call("PUT", f"{place}{'&' if '?' in place else '?'}digest={name}", data, {"Content-Type": "application/octet-stream"})
        return name

    def manifest(self, repository, reference, document, media_type):
        data = json.dumps(document, sort_keys=True).encode()
        self.call("PUT", f"/v2/{repository}/manifests/{reference}", data, {"Content-Type": media_type})
        return {"mediaType": media_type, "digest": digest(data), "size": len(data)}


def push(options):
    registry, types = Registry(options.registry), TYPES[options.docker]
    repository, _, tag = options.name.rpartition(":")
    operating_system, architecture = options.platform.split("/")[:2]
    layers, diff_ids = [], []
    for path in options.layer:
        with open(path, "rb") as file:
            plain = file.read()
        data = compress(plain, options.compression)
        layers.append({"mediaType": types[options.compression], "digest": registry.blob(repository, data), "size": len(data)})
        diff_ids.append(digest(plain))
    config = json.dumps({"architecture": architecture, "os": operating_system, "config": json.loads(options.config),
                         "rootfs": {"type": "layers", "diff_ids": diff_ids},
                         "history": [{"created_by": "image.py"} for _ in layers]}, sort_keys=True).encode()
    manifest = {"schemaVersion": 2, "mediaType": types["manifest"], "layers": layers,
                "config": {"mediaType": types["config"], "digest": registry.blob(repository, config), "size": len(config)}}
    if options.index:
        entry = registry.manifest(repository, digest(json.dumps(manifest, sort_keys=True).encode()), manifest, types["manifest"])
        entry["platform"] = {"os": operating_system, "architecture": architecture}
        index = {"schemaVersion": 2, "mediaType": types["index"], "manifests": [entry]}
        entry = registry.manifest(repository, tag, index, types["index"])
    else:
        entry = registry.manifest(repository, tag, manifest, types["manifest"])
    print(entry["digest"])


def same(entry, path, info):
    """Whether the tree's file is what the base already has."""
    if entry is None or stat.S_IMODE(info.st_mode) != entry.mode or (info.st_uid, info.st_gid) != (entry.uid, entry.gid):
        return False
    if stat.S_ISDIR(info.st_mode):
        return entry.isdir()
    if stat.S_ISLNK(info.st_mode):
        return entry.issym() and os.readlink(path) == entry.linkname
    return (entry.isreg() or entry.islnk()) and int(info.st_mtime) == int(entry.mtime) and (entry.islnk() or entry.size == info.st_size)


def delta(base, root, out):
    with tarfile.open(base) as tar:
        before = {os.path.normpath(entry.name): entry for entry in tar}
    after = set()
    empty = {os.path.join(root, name) for name in ("dev", "proc", "sys")}
    with tarfile.open(out, "w", format=tarfile.PAX_FORMAT) as tar:
        for folder, folders, files in os.walk(root):
            folders.sort()
            if folder in empty:
                folders.clear()
                continue
            for name in sorted(folders + files):
                path = os.path.join(folder, name)
                relative = os.path.relpath(path, root)
                after.add(relative)
                if not same(before.get(relative), path, os.lstat(path)):
                    tar.add(path, relative, recursive=False)
        gone = {name for name in before if name != "." and name not in after}
        for name in sorted(gone):
            if os.path.dirname(name) not in gone:
                tar.addfile(tarfile.TarInfo(os.path.join(os.path.dirname(name), ".wh." + os.path.basename(name))))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("push")
    one.add_argument("--registry", required=True)
    one.add_argument("--name", required=True, help="repository:tag")
    one.add_argument("--layer", action="append", default=[], help="an uncompressed tar file")
    one.add_argument("--config", default="{}", help="the config object of the image, as JSON")
    one.add_argument("--compression", choices=["gzip", "zstd", "none"], default="gzip")
    one.add_argument("--docker", action="store_true", help="Docker schema 2 instead of OCI media types")
    one.add_argument("--index", action="store_true", help="put the manifest under an index")
    one.add_argument("--platform", default="linux/amd64")
    two = commands.add_parser("delta")
    two.add_argument("base")
    two.add_argument("root")
    two.add_argument("out")
    options = parser.parse_args()
    if options.command == "push":
        push(options)
    else:
        delta(options.base, options.root, options.out)


if __name__ == "__main__":
    main()
