#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes a small OCI image of a static busybox and pushes it to a registry.

    make-image.py http://127.0.0.1:5000 demo/busybox:1 [--busybox /bin/busybox]
    make-image.py http://127.0.0.1:5000 demo/large:gzip --fill 200 [--compress gzip|zstd|none]
    make-image.py http://127.0.0.1:5000 demo/pause:1 --program ./pause

The image has every command that the busybox knows, the directories that programs
expect, and with --fill that many MiB of files in layers of their own: half of it
random, half of it text.  With --program it holds that one static program and nothing
else.  The same program makes the same image.
"""

import argparse
import gzip
import hashlib
import io
import json
import platform
import random
import subprocess
import tarfile
import urllib.error
import urllib.parse
import urllib.request

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
FILL_LAYERS = 4


def add(archive, name, kind=tarfile.REGTYPE, mode=0o755, data=b"", link=""):
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname, info.size = kind, mode, link, len(data)
    archive.addfile(info, io.BytesIO(data))


def base_layer(busybox):
    with open(busybox, "rb") as file:
        program = file.read()
    listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in ("bin", "dev", "etc", "home", "proc", "root", "sys", "usr", "usr/bin", "var",
                     "var/www"):
            add(archive, name, tarfile.DIRTYPE)
        add(archive, "tmp", tarfile.DIRTYPE, 0o1777)
        add(archive, "bin/busybox", data=program)
        for name in sorted(set(listed.stdout.split()) - {"busybox"}):
            add(archive, f"bin/{name}", tarfile.LNKTYPE, link="bin/busybox")
        add(archive, "etc/passwd", mode=0o644, data=b"root:x:0:0:root:/root:/bin/sh\n")
        add(archive, "etc/group", mode=0o644, data=b"root:x:0:\n")
        add(archive, "var/www/index.html", mode=0o644, data=b"served from a pod\n")
    return out.getvalue()


def program_layer(path):
    out = io.BytesIO()
    with open(path, "rb") as file, \
            tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        add(archive, "program", data=file.read())
    return out.getvalue()


def fill_layer(number, size):
    chance = random.Random(number)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        add(archive, f"data{number}", tarfile.DIRTYPE)
        left, index = size, 0
        while left > 0:
            part = min(left, chance.choice((4, 32, 256, 2048)) << 10)
            if index % 2:
                data = chance.randbytes(part)
            else:
                line = f"{index:08x} the quick brown fox jumps over the lazy dog\n".encode()
                data = (line * (part // len(line) + 1))[:part]
            add(archive, f"data{number}/{index}", mode=0o644, data=data)
            left, index = left - part, index + 1
    return out.getvalue()


def compress(data, how):
    if how == "gzip":
        return gzip.compress(data, 6, mtime=0), "+gzip"
    if how == "zstd":
        packed = subprocess.run(["zstd", "-q", "-3", "-c"], input=data, capture_output=True,
                                check=True)
        return packed.stdout, "+zstd"
    return data, ""


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Registry:
    """The push half of the OCI distribution API."""

    def __init__(self, address, repository):
        self.address, self.base = address, f"{address}/v2/{repository}"

    def request(self, method, url, data=None, kind="application/octet-stream"):
        request = urllib.request.Request(url, data=data, method=method)
        if data is not None:
            request.add_header("Content-Type", kind)
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.headers

    def push(self, data, kind):
        descriptor = {"mediaType": kind, "digest": digest(data), "size": len(data)}
        try:
            self.request("HEAD", f"{self.base}/blobs/{descriptor['digest']}")
            return descriptor
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
        place = self.request("POST", f"{self.base}/blobs/uploads/", b"")["Location"]
        place = urllib.parse.urljoin(self.address, place)
        mark = "&" if "?" in place else "?"
        self.request("PUT", f"{place}{mark}digest={descriptor['digest']}", data)
        return descriptor

    def tag(self, manifest, tag):
        self.request("PUT", f"{self.base}/manifests/{tag}", manifest, MANIFEST)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("registry", help="such as http://127.0.0.1:5000")
    parser.add_argument("image", help="repository:tag")
    parser.add_argument("--busybox", default="/bin/busybox", help="a static busybox")
    parser.add_argument("--program", help="a static program instead of the busybox")
    parser.add_argument("--fill", type=int, default=0, metavar="MIB")
    parser.add_argument("--compress", choices=("gzip", "zstd", "none"), default="gzip")
    args = parser.parse_args()
    repository, _, tag = args.image.rpartition(":")
    if not repository:
        parser.error("the image needs a tag: repository:tag")

    registry = Registry(args.registry.rstrip("/"), repository)
    tars = [program_layer(args.program) if args.program else base_layer(args.busybox)]
    tars += [fill_layer(i, (args.fill << 20) // FILL_LAYERS) for i in range(FILL_LAYERS)
             if args.fill]
    layers = []
    for tar in tars:
        data, suffix = compress(tar, args.compress)
        layers.append(registry.push(data, LAYER + suffix))
    machine = platform.machine()
    config = {
        "architecture": ARCHITECTURES.get(machine, machine),
        "os": "linux",
        "config": {
            "Env": ["PATH=/bin:/usr/bin"],
            "Cmd": ["/program" if args.program else "/bin/sh"],
            "WorkingDir": "/",
        },
        "rootfs": {"type": "layers", "diff_ids": [digest(tar) for tar in tars]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": registry.push(json.dumps(config).encode(), CONFIG),
        "layers": layers,
    }
    registry.tag(json.dumps(manifest).encode(), tag)
    size = sum(layer["size"] for layer in layers) / 1048576
    print(f"pushed {args.image}: {len(layers)} layers, {size:.1f} MiB")


if __name__ == "__main__":
    main()
