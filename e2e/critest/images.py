#!/usr/bin/env python3
"""The images that critest 1.36.0 pulls by fixed names.

    images.py hosts                      # the registries of those names, one a line
    images.py push REGISTRY LAYERS       # pushes all of them; prints the digest of the one that critest asks for by digest

critest knows each by its name in a public registry. Here one registry on loopback answers for all of those names, so a
repository is what comes after the first slash.
"""
import json
import os
import subprocess
import sys

PATH = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
E2E, STAGING, LIBRARY, OWN = "registry.k8s.io/e2e-test-images/", "gcr.io/k8s-staging-cri-tools/", "public.ecr.aws/docker/library/", "registry.k8s.io/"
DIGEST = STAGING + "test-image-digest:latest"
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]


def images():
    """(reference, layers, config, whether with OCI's media types) of each image."""
    shell, nginx = {"Cmd": ["sh"]}, {"Cmd": ["nginx", "-g", "daemon off;"], "ExposedPorts": {"80/tcp": {}}, "StopSignal": "SIGQUIT"}
    for tag in ("1.29-2", "1.37.0"):
        yield E2E + "busybox:" + tag, ["base"], shell, False
    for tag in ("1.35.0-glibc", "1-uclibc", "1", "1-glibc", "1-musl", "latest"):
        # A label makes each another image, as in the public registry.
        yield LIBRARY + "busybox:" + tag, ["base"], {**shell, "Labels": {"tag": tag}}, True
    for name, user in (("uid", "1002"), ("username", "www-data"), ("uid-group", "1003:1004"), ("username-group", "www-data:1004")):
        yield f"{STAGING}test-image-user-{name}:latest", ["base"], {**shell, "User": user}, False
    yield STAGING + "test-image-predefined-group:latest", ["base", "group"], {**shell, "User": "1000"}, False
    for name in ("1", "2", "3", "latest"):
        yield f"{STAGING}test-image-{name}:latest", ["base", "file-" + name], shell, False
    yield DIGEST, ["base", "file-digest"], shell, True
    for tag in ("1", "2", "3"):
        yield STAGING + "test-image-tags:" + tag, ["base", "file-one"], shell, False
    for tag in ("test", "all"):
        yield STAGING + "test-image-tag:" + tag, ["base", "file-" + tag], shell, False
    yield E2E + "nginx:1.14-2", ["base", "nginx"], nginx, False
    yield f"{STAGING}hostnet-nginx-{ARCHITECTURE}:latest", ["base", "nginx", "hostnet"], nginx, True
    yield E2E + "httpd:2.4.39-4", ["base", "httpd"], {"Cmd": ["httpd-foreground"], "ExposedPorts": {"80/tcp": {}}}, False
    yield E2E + "nonewprivs:1.3", ["base", "nonewprivs"], {"Entrypoint": ["/nonewprivs"]}, False
    for tag in ("3.9", "3.10", "3.10.1", "3.10.2", "3.11"):
        yield OWN + "pause:" + tag, ["pause"], {"Entrypoint": ["/pause"], "User": "65535:65535", "Labels": {"tag": tag}}, False


def push(registry, layers):
    tool = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../images/image.py")
    for reference, names, config, oci in images():
        command = [sys.executable, tool, "push", "--registry", registry, "--name", reference.split("/", 1)[1], "--index",
                   "--platform", "linux/" + ARCHITECTURE, "--config", json.dumps({"Env": PATH} | config)]
        for name in names:
            command += ["--layer", f"{layers}/{name}.tar"]
        done = subprocess.run(command + ([] if oci else ["--docker"]), check=True, stdout=subprocess.PIPE, text=True)
        if reference == DIGEST:
            print(done.stdout.strip())


def main():
    if sys.argv[1:] == ["hosts"]:
        # One image is asked for under an older name of its registry, too.
        print("\n".join(sorted({reference.split("/", 1)[0] for reference, *_ in images()} | {"k8s.gcr.io"})))
    elif len(sys.argv) == 4 and sys.argv[1] == "push":
        push(sys.argv[2], sys.argv[3])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
