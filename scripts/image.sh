#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the image of deploy/daemonset.yaml, target/packages/criquet-installer.tar: an OCI
# archive, to be pushed with skopeo or imported with `criquet image import` or `ctr`.
#
#   scripts/image.sh
#   NAME=registry.example.com/criquet-installer:1   its name
#   PROGRAMS=DIRECTORY                              with criquet and criquet-monitor

. "$(dirname "$0")/lib.sh"
VERSION=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
NAME=${NAME:-example.com/criquet-installer:$VERSION}
TRIPLE=$(uname -m)-unknown-linux-gnu
if [ -z "${PROGRAMS:-}" ]; then
    ARCHITECTURE=$(dpkg --print-architecture)
    scripts/packages/sysroot.sh "$TARGET/sysroot/$ARCHITECTURE" "$ARCHITECTURE"
    scripts/packages/build.sh "$TRIPLE" "$TARGET/sysroot/$ARCHITECTURE"
    PROGRAMS=$TARGET/$TRIPLE/programs
fi
BUSYBOX=$(unpack busybox-static bin/busybox)
OUT=$TARGET/packages/criquet-installer.tar
mkdir -p "$TARGET/packages"
scripts/installer-image.py "$OUT" --name "$NAME" --busybox "$BUSYBOX" \
    --arch "$(dpkg --print-architecture)" "$PROGRAMS/criquet" "$PROGRAMS/criquet-monitor" \
    deploy/installer/installer.sh deploy/criquet.service deploy/config.toml
say "$NAME is in $OUT"
