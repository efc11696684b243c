#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Format, lints and all tests, with one line of counts at the end.
#
#   scripts/test.sh [ARGUMENTS OF cargo test]
#
# A test that cannot run on this machine prints a line that begins with "SKIPPED:" and says
# why; such tests are counted as skipped, not as passed.

. "$(dirname "$0")/lib.sh"
need_root
LOG=$(mktemp /var/tmp/criquet-test.XXXXXX)
trap 'rm -f "$LOG"' EXIT
FAILED=0

# What tests talk to: CNI plugins, programs that look at what the daemon has made, and
# programs that make images.
install_missing() {
    local missing=() pair
    for pair in /usr/lib/cni/bridge=containernetworking-plugins /usr/sbin/nft=nftables \
        /usr/sbin/iptables=iptables /sbin/ip=iproute2 /usr/bin/unshare=util-linux \
        /usr/bin/skopeo=skopeo /usr/bin/umoci=umoci /sbin/mkfs.ext4=e2fsprogs \
        /usr/bin/python3=python3 /usr/share/doc/python3-venv=python3-venv; do
        [ -e "${pair%%=*}" ] || missing+=("${pair#*=}")
    done
    [ ${#missing[@]} = 0 ] && return
    say "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update
    apt-get -qq install -y --no-remove --no-install-recommends "${missing[@]}"
}
install_missing
CRIQUET_TEST_BUSYBOX=$(unpack busybox-static bin/busybox)
CRIQUET_TEST_CONTAINERD=$(dirname "$(unpack containerd usr/bin/containerd)")
CRIQUET_TEST_RUNC=$(unpack runc usr/sbin/runc)
CRIQUET_TEST_DOCKER_REGISTRY=$(unpack docker-registry usr/bin/docker-registry)
# A client that is not of Go's or Rust's libraries. Its test is skipped where it cannot be had.
if [ ! -e "$TOOLS/grpcio/done" ]; then
    rm -rf "$TOOLS/grpcio"
    python3 -m venv "$TOOLS/grpcio" && "$TOOLS/grpcio/bin/pip" -q install grpcio \
        && touch "$TOOLS/grpcio/done" || say "Python's grpcio cannot be had"
fi
[ ! -e "$TOOLS/grpcio/done" ] || export CRIQUET_TEST_GRPCIO=$TOOLS/grpcio/bin/python
# Without it the queries of the dashboard are not tried, which is counted as skipped.
CRIQUET_TEST_PROMETHEUS=$(unpack prometheus usr/bin/prometheus || true)
export CRIQUET_TEST_BUSYBOX CRIQUET_TEST_CONTAINERD CRIQUET_TEST_DOCKER_REGISTRY
export CRIQUET_TEST_PROMETHEUS CRIQUET_TEST_RUNC

# What an upgrade begins with. A checkout without history has no release before this one.
if git cat-file -e "$PREVIOUS_REVISION" 2> /dev/null; then
    build_previous
    export CRIQUET_TEST_PREVIOUS=$PREVIOUS
fi

lint() {
    say "$*"
    "$@" || { FAILED=$((FAILED + 1)); say "failed: $*"; }
}
lint cargo fmt --check
lint cargo clippy --all-targets --features demo -- -D warnings

# --show-output, so that the reason of a skip is seen.
say "cargo test"
set +e
cargo test --no-fail-fast "$@" -- --show-output 2>&1 | tee "$LOG" | brief
STATUS=${PIPESTATUS[0]}
set -e

print_counts "$LOG" "$STATUS" "$FAILED"
