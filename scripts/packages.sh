#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds packages in target/packages: .deb, .rpm, .tar.gz, and their checksums.
#
#   scripts/packages.sh
#   ARCHITECTURE=arm64      for 64-bit ARM; see scripts/packages/arm64.sh
#   VERSION=0.1.1           another version than that of Cargo.toml
#   PROGRAMS=DIRECTORY      with criquet and criquet-monitor that are built already
#   TWICE=1                 builds and packs a second time in another directory, and compares
#                           byte by byte; with PROGRAMS it only packs
#
# The programs run with glibc 2.31 (Debian 11, Ubuntu 20.04, RHEL 9) and later ones: they are
# linked with that one, which is looked at. Files have the time of the last commit.

. "$(dirname "$0")/lib.sh"
ARCHITECTURE=${ARCHITECTURE:-$(dpkg --print-architecture)}
case $ARCHITECTURE in
    amd64) MACHINE=x86_64 ;;
    arm64) MACHINE=aarch64 ;;
    *) die "ARCHITECTURE is amd64 or arm64" ;;
esac
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
CARGO_VERSION=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
VERSION=${VERSION:-$CARGO_VERSION}
OUT=$TARGET/packages
# What the tables of Cargo.toml take files from.
TREE=$TOP/target/packages/tree
NEWEST_GLIBC=2.31

# tool NAME VERSION [OPTIONS OF CARGO]: a command of cargo, built once below target/tools. It is
# built faster than it runs, but for what compares texts of licences all the time.
tool() {
    local name=$1 version=$2 crate fast=()
    shift 2
    [ -x "$TOOLS/cargo/bin/$name" ] && return
    say "building $name"
    for crate in spdx regex regex-automata aho-corasick memchr lzma-sys liblzma-sys zstd-sys; do
        fast+=(--config "profile.release.package.$crate.opt-level=3")
    done
    CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=0 \
        CARGO_PROFILE_RELEASE_DEBUG=0 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        CARGO_TARGET_DIR=$TOOLS/build \
        cargo install --quiet --locked --root "$TOOLS/cargo" "$@" "${fast[@]}" "$name@$version"
}

# The programs are the same wherever they are built.
build_programs() {
    if [ "$ARCHITECTURE" != "$(dpkg --print-architecture)" ]; then
        scripts/packages/arm64.sh "$TARGET/arm64"
        PROGRAMS=$TARGET/arm64/programs
        return
    fi
    local sysroot=$TARGET/sysroot/$ARCHITECTURE triple=$MACHINE-unknown-linux-gnu
    scripts/packages/sysroot.sh "$sysroot" "$ARCHITECTURE"
    scripts/packages/build.sh "$triple" "$sysroot"
    PROGRAMS=$TARGET/$triple/programs
}

# What a program needs of glibc, the newest last.
glibc_versions() {
    objdump -T "$1" | grep -oE 'GLIBC_[0-9.]+' | sed 's/GLIBC_//' | sort -Vu
}

check_programs() {
    local newest
    newest=$(glibc_versions "$PROGRAMS/criquet" | tail -n 1)
    say "criquet needs glibc $newest"
    [ "$(printf '%s\n' "$newest" "$NEWEST_GLIBC" | sort -V | tail -n 1)" = "$NEWEST_GLIBC" ] ||
        die "criquet needs glibc $newest, and was to run with $NEWEST_GLIBC"
    readelf -lW "$PROGRAMS/criquet-monitor" | grep -q INTERP &&
        die "criquet-monitor is not static"
    say "criquet-monitor is static"
}

# Licences of all crates, and a list of them in the manner of CycloneDX.
list_crates() {
    local doc=$1
    # All crates are looked at, also those for other systems; what is there suffices then.
    cargo fetch --locked
    "$TOOLS/cargo/bin/cargo-about" --color never -L error generate --locked --offline \
        --target "$MACHINE-unknown-linux-gnu" -c deploy/packages/about.toml \
        -o "$doc/LICENCES" deploy/packages/about.hbs
    # A library of C inside of a crate. SQLite is another, and in the public domain.
    local zstd
    zstd=$(cargo metadata --locked --offline --format-version 1 | python3 -c '
import json, os, sys
for package in json.load(sys.stdin)["packages"]:
    if package["name"] == "zstd-sys":
        print(os.path.dirname(package["manifest_path"]))')/zstd/LICENSE
    { printf '\nBSD 3-Clause "New" or "Revised" License\nfor zstd (in zstd-sys)\n%s\n\n' \
        "$(printf '%.0s-' {1..50})" && cat "$zstd"; } >> "$doc/LICENCES"
    "$TOOLS/cargo/bin/cargo-cyclonedx" cyclonedx --quiet --format json --spec-version 1.5 \
        --no-build-deps --target "$MACHINE-unknown-linux-gnu" --override-filename sbom.cdx
    # Names are made of the place of the sources.
    sed "s|path+file://$TOP#|path+file:///criquet#|g" sbom.cdx.json > "$doc/sbom.cdx.json"
    rm sbom.cdx.json
}

make_tree() {
    local doc=$TREE/usr/share/doc/criquet share=$TREE/usr/share file
    rm -rf "$TREE"
    install -D -m 755 "$PROGRAMS/criquet" "$TREE/usr/bin/criquet"
    install -D -m 755 "$PROGRAMS/criquet-monitor" "$TREE/usr/libexec/criquet/criquet-monitor"
    install -D -m 755 deploy/packages/steps "$TREE/usr/libexec/criquet/steps"
    install -D -m 644 deploy/criquet.service "$TREE/usr/lib/systemd/system/criquet.service"
    install -D -m 644 deploy/config.toml "$TREE/etc/criquet/config.toml"
    "$PAGES_PROGRAM" "$OUT/pages"
    mkdir -p "$share/man/man8" "$doc"
    for file in "$OUT"/pages/man/*.8; do
        gzip -9n < "$file" > "$share/man/man8/$(basename "$file").gz"
    done
    install -D -m 644 "$OUT/pages/bash/criquet.bash" \
        "$share/bash-completion/completions/criquet"
    install -D -m 644 "$OUT/pages/zsh/_criquet" "$share/zsh/site-functions/_criquet"
    install -D -m 644 "$OUT/pages/fish/criquet.fish" \
        "$share/fish/vendor_completions.d/criquet.fish"
    cp deploy/crictl.yaml README.md CHANGELOG.md LICENSE docs/*.md "$doc/"
    cp "$OUT/lists/"* "$doc/"
    chmod -R u=rwX,go=rX "$TREE"
    find "$TREE" -exec touch -hd "@$SOURCE_DATE_EPOCH" {} +
}

# pack DIRECTORY
pack() {
    local out=$1 name=criquet-$VERSION-linux-$ARCHITECTURE
    rm -rf "$out"
    mkdir -p "$out"
    "$TOOLS/cargo/bin/cargo-deb" deb --quiet --no-build --no-strip \
        --target "$MACHINE-unknown-linux-gnu" --deb-version "$VERSION" --output "$out/"
    "$TOOLS/cargo/bin/cargo-generate-rpm" generate-rpm --arch "$MACHINE" \
        --set-metadata "version = \"$VERSION\"" --source-date "$SOURCE_DATE_EPOCH" \
        --output "$out/"
    tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
        --format=gnu --transform "s,^\.,$name," -C "$TREE" -cf - . | gzip -9n > "$out/$name.tar.gz"
}

# The same once more from a copy of the sources elsewhere. The directory's name differs in its
# length as well, which moves everything behind a name that is left in a program.
compare_with_another() {
    local other
    other=$(mktemp -d /var/tmp/criquet-built-elsewhere.XXXXXX)
    trap 'rm -rf "$other"' EXIT
    say "once more in $other"
    git ls-files -z | tar --null -T - -cf - | tar -C "$other" -xf -
    mkdir -p "$other/target"
    ln -s "$TOOLS" "$other/target/tools"
    env -u TWICE -u CARGO_TARGET_DIR "ARCHITECTURE=$ARCHITECTURE" "VERSION=$VERSION" \
        "PROGRAMS=$GIVEN_PROGRAMS" "PAGES_PROGRAM=$PAGES_PROGRAM" "$other/scripts/packages.sh"
    diff -r "$OUT/$ARCHITECTURE" "$other/target/packages/$ARCHITECTURE" ||
        die "what was built in $other differs"
    say "built twice, in $TOP and in $other: the same, byte for byte"
}

GIVEN_PROGRAMS=${PROGRAMS:-}
tool cargo-deb 3.8.0
tool cargo-generate-rpm 0.21.1
tool cargo-about 0.9.3 --features cli
tool cargo-cyclonedx 0.5.9
[ -n "${PROGRAMS:-}" ] || build_programs
check_programs
if [ -z "${PAGES_PROGRAM:-}" ]; then
    PAGES_PROGRAM=$TARGET/debug/criquet-pages
    cargo build --features pages --bin criquet-pages
fi
mkdir -p "$OUT/lists"
list_crates "$OUT/lists"
make_tree
pack "$OUT/$ARCHITECTURE"
(cd "$OUT/$ARCHITECTURE" && sha256sum -- * | tee SHA256SUMS)
[ -z "${TWICE:-}" ] || compare_with_another
