#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Format, lints and all tests, with one line of counts at the end.
#
#   scripts/test.sh [ARGUMENTS OF cargo test]
#
# A test that cannot run on this machine prints a line that begins with "skipped:" and says
# why; such tests are counted as skipped, not as passed.

. "$(dirname "$0")/lib.sh"
need_root
LOG=$(mktemp /var/tmp/criquet-test.XXXXXX)
trap 'rm -f "$LOG"' EXIT
FAILED=0

# Tests find programs of Debian packages in PATH, installed or not.
for pair in busybox-static=bin/busybox containernetworking-plugins=usr/lib/cni/bridge \
    nftables=usr/sbin/nft iproute2=sbin/ip; do
    program=${pair##*/}
    if ! command -v "$program" > /dev/null && [ ! -e "/${pair#*=}" ]; then
        PATH=$(dirname "$(unpack "${pair%%=*}" "${pair#*=}")"):$PATH
    fi
done
export PATH

lint() {
    say "$*"
    "$@" || { FAILED=$((FAILED + 1)); say "failed: $*"; }
}
lint cargo fmt --check
lint cargo clippy --all-targets -- -D warnings

# --show-output, so that the reason of a skip is seen.
say "cargo test"
cargo test --no-fail-fast "$@" -- --show-output 2>&1 | tee "$LOG" | grep -Ev '^test .* ok$|^$' || true
[ "${PIPESTATUS[0]}" = 0 ] || STATUS=1

print_counts "$LOG" "${STATUS:-0}" "$FAILED"
