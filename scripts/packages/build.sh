#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the programs for packages, into target/TRIPLE/programs: linked with the C library of
# SYSROOT, and without a word of where they were built.
#
#   scripts/packages/build.sh TRIPLE SYSROOT

. "$(dirname "$0")/../lib.sh"
TRIPLE=$1
SYSROOT=$2
LIBRARIES=$SYSROOT/usr/lib/${TRIPLE/-unknown/}
NAME=${TRIPLE//-/_}
COMPILER=gcc
[ "${TRIPLE%%-*}" = "$(uname -m)" ] || COMPILER=${TRIPLE/-unknown/}-gcc

# Places of sources, which end up in messages of panics.
# The last one that fits counts.
REMAP="--remap-path-prefix=$TOP=/criquet --remap-path-prefix=$TARGET=/criquet/target"
REMAP+=" --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
REMAP+=" --remap-path-prefix=$(rustc --print sysroot)=/rust"
C_REMAP="-ffile-prefix-map=$TOP=/criquet -ffile-prefix-map=${CARGO_HOME:-$HOME/.cargo}=/cargo"
# A compiler of Debian looks at its own libraries before those of a sysroot.
LINK="-C link-arg=--sysroot=$SYSROOT -C link-arg=-B$LIBRARIES -C link-arg=-L$LIBRARIES"
LINK+=" -C link-arg=-L$SYSROOT/lib/${TRIPLE/-unknown/}"

export "CC_$NAME=$COMPILER" "CARGO_TARGET_${NAME^^}_LINKER=$COMPILER"
export "CFLAGS_$NAME=--sysroot=$SYSROOT $C_REMAP"
RUSTFLAGS="$REMAP $LINK" cargo build --locked --release --target "$TRIPLE" --bin criquet
# Static: of no C library but the one that it has inside.
export "CFLAGS_$NAME=$C_REMAP"
RUSTFLAGS="$REMAP -C target-feature=+crt-static -C relocation-model=static" \
    cargo build --locked --profile monitor --no-default-features --target "$TRIPLE" \
    --bin criquet-monitor
mkdir -p "$TARGET/$TRIPLE/programs"
cp "$TARGET/$TRIPLE/release/criquet" "$TARGET/$TRIPLE/monitor/criquet-monitor" \
    "$TARGET/$TRIPLE/programs/"
