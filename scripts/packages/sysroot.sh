#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Unpacks the C library of Debian 11 (glibc 2.31) below DIRECTORY, for programs that are to run
# with that one and all later ones: headers and what is linked, nothing is executed.
#
#   scripts/packages/sysroot.sh DIRECTORY [amd64|arm64]

. "$(dirname "$0")/../lib.sh"
OUT=$1
ARCHITECTURE=${2:-amd64}
SUITE=bullseye
PACKAGES=(libc6 libc6-dev libgcc-s1 linux-libc-dev libcrypt1)

[ -e "$OUT/complete" ] && exit 0
say "unpacking the C library of Debian $SUITE for $ARCHITECTURE"
rm -rf "$OUT"
mkdir -p "$OUT/debs" "$OUT/apt/lists/partial" "$OUT/apt/cache/archives/partial"
MIRROR=$(apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(CREATED_BY)' |
    sed -n 's|^\(.*/debian\)/* Debian Packages$|\1|p' | head -n 1)
[ -n "$MIRROR" ] || die "there is no Debian archive among the sources of apt"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $MIRROR $SUITE main" \
    > "$OUT/apt/sources"
# The lists are this script's own: what the machine installs later does not change.
APT=(-qq -o "Dir::Etc::sourcelist=$OUT/apt/sources" -o Dir::Etc::sourceparts=/dev/null
    -o "Dir::State::Lists=$OUT/apt/lists" -o "Dir::Cache=$OUT/apt/cache"
    -o "APT::Architecture=$ARCHITECTURE" -o "APT::Architectures=$ARCHITECTURE"
    -o Dir::State::status=/dev/null -o APT::Sandbox::User=root -o Acquire::Languages=none)
apt-get "${APT[@]}" update || die "the lists of Debian $SUITE cannot be had"
(cd "$OUT/debs" && apt-get "${APT[@]}" download "${PACKAGES[@]}") > /dev/null ||
    die "apt has no ${PACKAGES[*]} in $SUITE"
for package in "$OUT"/debs/*.deb; do
    dpkg-deb -x "$package" "$OUT"
done
# Links to absolute places would lead out of here.
find "$OUT" -type l -lname '/*' | while read -r link; do
    ln -sfr "$OUT$(readlink "$link")" "$link"
done
rm -rf "$OUT/debs" "$OUT/apt" "$OUT/usr/share"
touch "$OUT/complete"
