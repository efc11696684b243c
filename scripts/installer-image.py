#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the image of deploy/daemonset.yaml as an OCI archive: a busybox, and what it installs.

    installer-image.py OUT.tar --name NAME:TAG --busybox BUSYBOX --arch amd64 FILE...

Each FILE is found in /criquet.  The same files make the same archive.
"""

import argparse
import gzip
import importlib.util
import io
import json
import os
import pathlib
import tarfile

# The name has a hyphen, which `import` does not take.
spec = importlib.util.spec_from_file_location(
    "make_image", pathlib.Path(__file__).with_name("make-image.py"))
make_image = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make_image)

INDEX = "application/vnd.oci.image.index.v1+json"


def files_layer(paths):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        make_image.add(archive, "criquet", tarfile.DIRTYPE)
        for path in sorted(paths, key=os.path.basename):
            data = pathlib.Path(path).read_bytes()
            mode = 0o755 if os.access(path, os.X_OK) else 0o644
            make_image.add(archive, f"criquet/{os.path.basename(path)}", mode=mode, data=data)
    return out.getvalue()


class Layout:
    """An OCI layout in a tar file, blob by blob."""

    def __init__(self, path):
        self.archive = tarfile.open(path, mode="w", format=tarfile.USTAR_FORMAT)
        self.known = set()

    def file(self, name, data):
        make_image.add(self.archive, name, mode=0o644, data=data)

    def blob(self, data, kind):
        digest = make_image.digest(data)
        if digest not in self.known:
            self.known.add(digest)
            self.file(f"blobs/{digest.replace(':', '/')}", data)
        return {"mediaType": kind, "digest": digest, "size": len(data)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("out")
    parser.add_argument("--name", required=True)
    parser.add_argument("--busybox", required=True, help="a static one, for that architecture")
    parser.add_argument("--arch", required=True)
    parser.add_argument("files", nargs="+")
    args = parser.parse_args()
    tars = [make_image.base_layer(args.busybox), files_layer(args.files)]
    layout = Layout(args.out)
    layers = [layout.blob(gzip.compress(tar, 9, mtime=0), make_image.LAYER + "+gzip")
              for tar in tars]
    config = {
        "architecture": args.arch,
        "os": "linux",
        "config": {
            "Env": ["PATH=/bin:/usr/bin"],
            "Entrypoint": ["/bin/sh", "/criquet/installer.sh"],
            "Cmd": ["install"],
            "WorkingDir": "/",
        },
        "rootfs": {"type": "layers", "diff_ids": [make_image.digest(tar) for tar in tars]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": make_image.MANIFEST,
        "config": layout.blob(json.dumps(config).encode(), make_image.CONFIG),
        "layers": layers,
    }
    entry = layout.blob(json.dumps(manifest).encode(), make_image.MANIFEST)
    entry["platform"] = {"os": "linux", "architecture": args.arch}
    entry["annotations"] = {
        "io.containerd.image.name": args.name,
        "org.opencontainers.image.ref.name": args.name.rpartition(":")[2],
    }
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}
    layout.file("index.json", json.dumps(index).encode())
    layout.file("oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
    layout.archive.close()


if __name__ == "__main__":
    main()
