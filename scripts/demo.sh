#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds Criquet, and shows a pod's whole life with a registry and a daemon of its own.

. "$(dirname "$0")/lib.sh"
need_root
for program in cargo cc python3; do
    command -v "$program" > /dev/null || die "there is no $program; see docs/install.md"
done
NAME=criquet-demo-$$
WORK=$(mktemp -d /var/tmp/criquet-demo.XXXXXX)

finish() {
    local status=$?
    trap '' INT TERM
    [ -e "$WORK/daemon.pid" ] && [ -d "/proc/$(cat "$WORK/daemon.pid")" ] &&
        grep -qs "$WORK" "/proc/$(cat "$WORK/daemon.pid")/cmdline" &&
        stop "$(cat "$WORK/daemon.pid")"
    stop_all
    restore_forwarding
    remove_cgroup "$NAME"
    remove_cgroup "$NAME-daemon"
    if [ "$status" = 0 ]; then
        rm -rf "$WORK"
    else
        say "the demonstration failed; what the daemon wrote:"
        tail -n 20 "$WORK/daemon.log" >&2 || true
        say "everything else is in $WORK"
    fi
    exit "$status"
}
save_forwarding
trap finish EXIT
trap 'exit 130' INT TERM

say "1. building"
build_demo
say "2. a registry on loopback, with one image"
BUSYBOX=$(unpack busybox-static bin/busybox)
start_registry "$WORK/registry"
python3 scripts/make-image.py "http://$REGISTRY" demo/busybox:1 --busybox "$BUSYBOX"
write_config "$WORK" "$NAME" "$WORK/registry/certs.d"
mkdir -p "$(cpu_hierarchy)/$NAME-daemon"
say "3. a pod's life"
# Without exec: the trap must run afterwards.
"$DEMO" --criquet "$CRIQUET" --work "$WORK" --name "$NAME" \
    --image "$REGISTRY/demo/busybox:1"
