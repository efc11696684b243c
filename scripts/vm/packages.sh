#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Shows in the test machine that a package is installed, started, upgraded under a pod that runs,
# removed and purged: tests/packages.rs with two packages that differ in their versions.
#
#   scripts/vm/packages.sh
#   PROGRAMS=DIRECTORY      with criquet and criquet-monitor that are built already

. "$(dirname "$0")/../lib.sh"
need_root
[ "$TRIPLE" = x86_64 ] || die "the test machine is made for x86_64"
PACKAGES=$TARGET/packages/test
mkdir -p "$PACKAGES"
for pair in old=0.1.0 new=0.1.1; do
    VERSION=${pair#*=} scripts/packages.sh
    cp "$TARGET/packages/amd64/"*.deb "$PACKAGES/${pair%%=*}.deb"
    # Both are of the same programs.
    export PROGRAMS=${PROGRAMS:-$TARGET/x86_64-unknown-linux-gnu/programs}
done
PROGRAM=$(cargo test --no-run --test packages --message-format=json | python3 -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and message["profile"]["test"]:
        print(message["executable"])')
scripts/image.sh
cp "$TARGET/packages/criquet-installer.tar" "$PACKAGES/installer.tar"
CONTAINERD=$(dirname "$(unpack containerd usr/bin/containerd)")
RUNC=$(unpack runc usr/sbin/runc)
VM_SECONDS=${VM_SECONDS:-900} exec scripts/vm.sh -- env "CRIQUET_TEST_PACKAGES=$PACKAGES" \
    CRIQUET_TEST_BUSYBOX=/bin/busybox "CRIQUET_TEST_CONTAINERD=$CONTAINERD" \
    "CRIQUET_TEST_RUNC=$RUNC" "$PROGRAM" --nocapture
