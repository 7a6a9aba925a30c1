#!/usr/bin/env python3
"""Writes a valid document of each kind into a directory, with the byte before it that says which it is."""
import json
import pathlib
import sys

DIGEST = "sha256:" + "ab" * 32


def pointer(kind, **more):
    return {"mediaType": kind, "digest": DIGEST, "size": 7, **more}


OCI = "application/vnd.oci.image."
MANIFEST = {"schemaVersion": 2, "mediaType": OCI + "manifest.v1+json", "config": pointer(OCI + "config.v1+json"),
            "layers": [pointer(OCI + "layer.v1.tar+gzip"), pointer(OCI + "layer.v1.tar+zstd", urls=[])]}
INDEX = {"schemaVersion": 2, "mediaType": OCI + "index.v1+json", "manifests": [
    pointer(OCI + "manifest.v1+json", platform={"os": "linux", "architecture": "amd64", "variant": "v3"}),
    pointer(OCI + "manifest.v1+json", platform={"os": "unknown", "architecture": "unknown"})]}
CONFIG = {"architecture": "amd64", "os": "linux", "config": {"Env": ["A=b"], "Cmd": ["sh"], "Volumes": {"/v": {}}},
          "rootfs": {"type": "layers", "diff_ids": [DIGEST]}, "history": [{"created_by": "x", "empty_layer": True}]}
SIGNATURES = {"schemaVersion": 2, "layers": [pointer("application/vnd.dev.cosign.simplesigning.v1+json",
                                                     annotations={"dev.cosignproject.cosign/signature": "AAAA"})]}

out = pathlib.Path(sys.argv[1])
for name, which, document in [("manifest", 0, MANIFEST), ("index", 1, INDEX), ("typed", 2, MANIFEST), ("config", 3, CONFIG),
                              ("signatures", 4, SIGNATURES)]:
    (out / name).write_bytes(bytes([which]) + json.dumps(document).encode())
(out / "challenge").write_bytes(b"\x05" + b'Bearer realm="https://a.example/t",service="s",scope="repository:x:pull", Basic realm=r')
