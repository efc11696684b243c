#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Cross-builds the programs for 64-bit ARM, into DIRECTORY/programs, in a root of Debian unstable:
# its Rust has a standard library for that architecture, and its compilers are cross ones. Nothing
# of it is installed on the machine.
#
#   scripts/packages/arm64.sh DIRECTORY

. "$(dirname "$0")/../lib.sh"
need_root
OUT=$1
ROOT=$OUT/root
TRIPLE=aarch64-unknown-linux-gnu
PACKAGES=cargo,rustc,libstd-rust-dev:arm64,gcc,libc6-dev,gcc-aarch64-linux-gnu,libc6-dev:arm64,git
PACKAGES+=,ca-certificates,libgcc-s1:arm64
PATH=$PATH:/usr/sbin:/sbin

if [ ! -e "$OUT/complete" ]; then
    say "installing Debian unstable with its cross compilers (some minutes)"
    rm -rf "$ROOT"
    mkdir -p "$OUT"
    MIRROR=$(apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(CREATED_BY)' |
        sed -n 's|^\(.*/debian\)/* Debian Packages$|\1|p' | head -n 1)
    [ -n "$MIRROR" ] || die "there is no Debian archive among the sources of apt"
    # A mirror may stand still, as one of snapshots does; what is signed stays signed.
    mmdebstrap --quiet --mode=root --variant=apt --architectures=amd64,arm64 \
        --include="$PACKAGES" --aptopt='Acquire::Languages "none"' \
        --aptopt='Acquire::Check-Valid-Until "false"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        unstable "$ROOT" \
        "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $MIRROR unstable main"
    touch "$OUT/complete"
fi
scripts/packages/sysroot.sh "$TARGET/sysroot/arm64" arm64
cargo fetch --locked --target "$TRIPLE"

# The project and its crates are seen inside; mounts go with the process that made them.
mkdir -p "$ROOT/project" "$ROOT/cargo" "$ROOT/target" "$OUT/target"
CARGO_DIRECTORY=${CARGO_HOME:-$HOME/.cargo}
unshare --mount --propagation private bash -euo pipefail -c "
    mount --bind '$TOP' '$ROOT/project'
    mount --bind -o ro '$CARGO_DIRECTORY' '$ROOT/cargo'
    mount --bind '$OUT/target' '$ROOT/target'
    mount -t proc proc '$ROOT/proc'
    exec chroot '$ROOT' env -i PATH=/usr/bin:/bin HOME=/root CARGO_HOME=/cargo \
        CARGO_TARGET_DIR=/target CARGO_NET_OFFLINE=true \
        /project/scripts/packages/build.sh $TRIPLE '/project${TARGET#"$TOP"}/sysroot/arm64'"
mkdir -p "$OUT/programs"
cp "$OUT/target/$TRIPLE/programs/"* "$OUT/programs/"
