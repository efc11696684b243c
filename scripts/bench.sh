#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Measures the release build; with COMPARE=containerd Debian's containerd and runc as well.
#
#   scripts/bench.sh [OPTIONS OF THE BENCHMARK]      such as --count 10; see --help
#   PULL=1       also pulls a large image, gzip and zstd
#   --network 1000    measures the network alone; with
#   CNI=bridge        pods get the network of the reference plugins, or with
#   CNI=nothing       that of a plugin which does nothing, instead of the built-in one, and with
#   SOURCE_CHECK=false    the built-in one does not check what pods send
#   RESTART=1    also kills the daemon over 500 pods and starts it again
#   CRIQUET, MONITOR, BENCH    programs that are used as they are, and not built
#   --scale 1000    measures calls with ever more pods, and draws the curves
#   JSON=FILE    where the figures go (target/bench.json)
#   PLOT=FILE    where the curves go (target/bench.svg)

. "$(dirname "$0")/lib.sh"
need_root
NAME=criquet-bench-$$
WORK=$(mktemp -d /var/tmp/criquet-bench.XXXXXX)

finish() {
    local status=$?
    trap '' INT TERM
    # The one that was started last, by the benchmark itself.
    [ ! -e "$WORK/daemon.pid" ] || stop "$(cat "$WORK/daemon.pid")"
    stop_all
    restore_forwarding
    for cgroup in "$NAME" "$NAME-server" "$NAME-containerd"; do
        remove_cgroup "$cgroup"
    done
    remove_networks
    # Mounts of containerd's, should it have left any.
    awk -v work="$WORK/" 'index($2, work) == 1 { print $2 }' /proc/mounts | sort -r |
        while read -r mount; do umount -l "$mount"; done
    if [ "$status" = 0 ]; then rm -rf "$WORK"; else say "logs are in $WORK"; fi
    exit "$status"
}
BRIDGES=()
save_forwarding
trap finish EXIT
trap 'exit 130' INT TERM

# Bridges and rules stay when a daemon ends, for the pods that run on.
remove_networks() {
    local link
    for link in "${BRIDGES[@]}"; do
        [ -e "/sys/class/net/$link" ] || continue
        ip link del "$link" || say "the bridge $link stays; remove it by hand"
    done
    [ ${#BRIDGES[@]} = 0 ] || nft delete table inet "$NAME" 2> /dev/null ||
        say "the packet filter table $NAME may be left; it has no effect without the bridge"
}

# A CNI network in the place of the built-in one.
configure_cni() {
    local plugin
    case $CNI in
        bridge)
            CNI_BIN=$(dirname "$(unpack containernetworking-plugins usr/lib/cni/bridge)")
            plugin='{"type": "bridge", "bridge": "'cqp$$'", "isGateway": true, "ipMasq": true,
              "ipam": {"type": "host-local", "dataDir": "'$WORK/ipam'",
                       "ranges": [[{"subnet": "10.233.0.0/16"}]],
                       "routes": [{"dst": "0.0.0.0/0"}]}}'
            BRIDGES+=("cqp$$")
            ;;
        nothing)
            CNI_BIN=$WORK/bin
            plugin='{"type": "nothing"}'
            mkdir -p "$CNI_BIN"
            printf '%s\n' '#include <stdio.h>' 'int main(void) {' \
                'return puts("{\"cniVersion\": \"1.0.0\"}") < 0; }' > "$WORK/nothing.c"
            cc -Os -static -o "$CNI_BIN/nothing" "$WORK/nothing.c"
            ;;
        *) die "CNI can be bridge or nothing, not $CNI" ;;
    esac
    mkdir -p "$WORK/cni"
    printf '{"cniVersion": "1.0.0", "name": "bench", "plugins": [%s]}\n' "$plugin" \
        > "$WORK/cni/10-bench.conflist"
}

start_criquet() {
    [ -z "${CNI:-}" ] || configure_cni
    write_config "$WORK" "$NAME" "$WORK/registry/certs.d"
    BRIDGES+=("$BRIDGE")
    start "$WORK/criquet.log" bash -c \
        '. scripts/lib.sh; in_cgroup "$@"' bash "$NAME-server" \
        "$CRIQUET" serve --config "$WORK/criquet.toml"
    wait_for 10 "the daemon" test -S "$WORK/criquet.sock"
}

# containerd as kubeadm would configure it, with everything in directories of its own.
start_containerd() {
    local containerd runc cni directory=$WORK/containerd
    containerd=$(unpack containerd usr/bin/containerd)
    runc=$(unpack runc usr/sbin/runc)
    cni=$(dirname "$(unpack containernetworking-plugins usr/lib/cni/bridge)")
    mkdir -p "$directory/cni"
    pause_image
    cat > "$directory/cni/10-bridge.conflist" <<- END
		{"cniVersion": "0.4.0", "name": "bench", "plugins": [
		  {"type": "bridge", "bridge": "cqc$$", "isGateway": true, "ipMasq": true,
		   "ipam": {"type": "host-local", "dataDir": "$directory/ipam",
		            "ranges": [[{"subnet": "10.232.0.0/16"}]],
		            "routes": [{"dst": "0.0.0.0/0"}]}},
		  {"type": "portmap", "capabilities": {"portMappings": true}}]}
	END
    cat > "$directory/config.toml" <<- END
		version = 2
		root = "$directory/root"
		state = "$directory/state"
		disabled_plugins = ["io.containerd.snapshotter.v1.aufs",
		  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
		  "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.tracing"]
		[grpc]
		address = "$directory/containerd.sock"
		[plugins."io.containerd.internal.v1.opt"]
		path = "$directory/opt"
		[plugins."io.containerd.grpc.v1.cri"]
		sandbox_image = "$REGISTRY/bench/pause:1"
		restrict_oom_score_adj = true
		[plugins."io.containerd.grpc.v1.cri".cni]
		bin_dir = "$cni"
		conf_dir = "$directory/cni"
		[plugins."io.containerd.grpc.v1.cri".registry]
		config_path = "$WORK/registry/certs.d"
		[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
		runtime_type = "io.containerd.runc.v2"
		[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
		BinaryName = "$runc"
		SystemdCgroup = false
	END
    BRIDGES+=("cqc$$")
    start "$directory/log" bash -c \
        '. scripts/lib.sh; in_cgroup "$@"' bash "$NAME-containerd" \
        env PATH="$(dirname "$containerd"):$PATH" \
        "$containerd" --config "$directory/config.toml"
    wait_for 20 "containerd" test -S "$directory/containerd.sock"
}

# What waits in place of a pod: as small as the real one.
pause_image() {
    printf '#include <unistd.h>\nint main(void) { for (;;) pause(); }\n' > "$WORK/pause.c"
    cc -Os -static -o "$WORK/pause" "$WORK/pause.c"
    python3 scripts/make-image.py "http://$REGISTRY" bench/pause:1 --program "$WORK/pause"
}

if [ -n "${BENCH:-}" ]; then
    build_release
else
    build_release --bench cri
    BENCH=$(cargo build --release --bench cri --message-format=json 2> /dev/null |
        sed -n 's/.*"executable":"\([^"]*\/cri-[^"]*\)".*/\1/p')
fi
BUSYBOX=$(unpack busybox-static bin/busybox)
start_registry "$WORK/registry"
python3 scripts/make-image.py "http://$REGISTRY" bench/busybox:1 --busybox "$BUSYBOX"

ARGUMENTS=(--endpoint "unix://$WORK/criquet.sock" --image "$REGISTRY/bench/busybox:1"
    --cgroup-parent "/$NAME" --floor-program "$BUSYBOX" --json "${JSON:-$TARGET/bench.json}"
    --plot "${PLOT:-$TARGET/bench.svg}")
if [ -n "${PULL:-}" ]; then
    for how in gzip zstd; do
        [ "$how" = gzip ] || command -v zstd > /dev/null || continue
        python3 scripts/make-image.py "http://$REGISTRY" "bench/large:$how" \
            --busybox "$BUSYBOX" --fill 400 --compress "$how"
        ARGUMENTS+=(--pull "$REGISTRY/bench/large:$how")
    done
fi
if [ -n "${RESTART:-}" ]; then
    ARGUMENTS+=(--restart "echo \$\$ > $WORK/daemon.pid && echo \$\$ > $(cpu_hierarchy)/$NAME-server/cgroup.procs &&
        exec $CRIQUET serve --config $WORK/criquet.toml >> $WORK/criquet.log 2>&1")
fi
start_criquet
case ${COMPARE:-} in
    '') ;;
    containerd)
        start_containerd
        ARGUMENTS+=(--compare "unix://$WORK/containerd/containerd.sock")
        ;;
    *) die "COMPARE can be containerd, not $COMPARE" ;;
esac
"$BENCH" "${ARGUMENTS[@]}" "$@"
