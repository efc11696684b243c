# SPDX-License-Identifier: Apache-2.0
# Functions of the scripts beside this file, which source it.
# Nothing is installed on the machine: Debian packages are unpacked below target/tools.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
TOP=$PWD
TARGET=${CARGO_TARGET_DIR:-$TOP/target}
TOOLS=$TARGET/tools
TRIPLE=$(uname -m)

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

need_root() { [ "$(id -u)" = 0 ] || die "this needs root: namespaces, mounts and cgroups"; }

# unpack PACKAGE FILE: prints where the package's file is, after unpacking it where needed.
unpack() {
    local directory=$TOOLS/$1
    if [ ! -e "$directory/$2" ]; then
        say "unpacking $1"
        rm -rf "$directory"
        mkdir -p "$directory"
        (
            cd "$directory"
            get() { apt-get -qq -o APT::Sandbox::User=root download "$1" > /dev/null 2>&1; }
            get "$1" || { apt-get -qq update && get "$1"; } || die "apt has no package $1"
            dpkg-deb -x ./*.deb .
            rm ./*.deb
        ) || exit 1
    fi
    [ -e "$directory/$2" ] || die "package $1 has no $2"
    printf '%s\n' "$directory/$2"
}

# build_release [TARGETS OF CARGO]: CRIQUET and MONITOR; they are used as they are where they
# are set beforehand.
build_release() {
    [ -n "${CRIQUET:-}" ] || set -- --bin criquet "$@"
    [ $# = 0 ] || cargo build --release "$@"
    CRIQUET=${CRIQUET:-$TARGET/release/criquet}
    if [ -z "${MONITOR:-}" ]; then
        # One monitor runs for each pod: small, and static so that it shares nothing but text.
        cargo rustc --profile monitor --no-default-features --bin criquet-monitor -- \
            -C target-feature=+crt-static -C relocation-model=static
        MONITOR=$TARGET/monitor/criquet-monitor
    fi
}

# The revision that counts as the release before this one.
PREVIOUS_REVISION=bb0df9804e836059dd35861b401a6788878231ed

# build_previous: programs of the release before, in the directory PREVIOUS. They get names of
# their own, so that they are built beside today's with the same dependencies.
build_previous() {
    local source=$TARGET/previous
    if [ "$(cat "$source/revision" 2> /dev/null)" != "$PREVIOUS_REVISION" ]; then
        rm -rf "$source"
        mkdir -p "$source"
        git archive "$PREVIOUS_REVISION" | tar -x -C "$source"
        sed -i -e 's/^name = "criquet"$/name = "criquet-previous"/' \
            -e 's/^default-run = .*//' "$source/Cargo.toml" "$source/Cargo.lock"
        python3 - "$source/Cargo.toml" Cargo.toml <<- 'END'
			import re, sys
			text = open(sys.argv[1]).read()
			text = text.replace('[lib]\nname = "criquet-previous"', '[lib]\nname = "criquet"')
			text = text.replace('[[bin]]\nname = "criquet-previous"',
			                    '[[bin]]\nname = "criquet-previous"\npath = "src/main.rs"')
			text = text.replace('[[bin]]\nname = "criquet-monitor"',
			                    '[[bin]]\nname = "criquet-monitor-previous"\n'
			                    'path = "src/bin/criquet-monitor.rs"')
			for kind in ("bench", "example"):
			    text = re.sub(r"\[\[%s\]\](\n\S.*)+\n" % kind, "", text)
			# With today's profiles the dependencies are those that are built already.
			section = r"\[profile\.[^\n]*\](\n(?!\[).*)*\n?"
			today = open(sys.argv[2]).read()
			profiles = "\n".join(m.group(0) for m in re.finditer(section, today))
			text = re.sub(section, "", text)
			open(sys.argv[1], "w").write(text + "\n[workspace]\n\n" + profiles)
		END
        echo "$PREVIOUS_REVISION" > "$source/revision"
    fi
    cargo build --manifest-path "$source/Cargo.toml" --target-dir "$TARGET" --bins
    PREVIOUS=$TARGET/debug
}

# build_demo: CRIQUET, MONITOR and DEMO in one build, quickly and with little optimisation.
build_demo() {
    cargo build --profile demo --features demo \
        --bin criquet --bin criquet-monitor --bin criquet-demo
    CRIQUET=${CRIQUET:-$TARGET/demo/criquet}
    MONITOR=${MONITOR:-$TARGET/demo/criquet-monitor}
    DEMO=$TARGET/demo/criquet-demo
}

# A port that nobody listens at now.
free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# wait_for SECONDS WHAT COMMAND...
wait_for() {
    local seconds=$1 what=$2
    shift 2
    for _ in $(seq $((seconds * 20))); do
        "$@" > /dev/null 2>&1 && return 0
        sleep 0.05
    done
    die "$what is not there after $seconds s"
}

# A daemon with pods turns on forwarding, which is a setting of the whole machine.
FORWARDING=()
save_forwarding() {
    local file
    for file in /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding; do
        [ ! -e "$file" ] || FORWARDING+=("$file=$(cat "$file")")
    done
}

restore_forwarding() {
    local pair
    for pair in "${FORWARDING[@]}"; do
        [ "$(cat "${pair%%=*}")" = "${pair#*=}" ] || echo "${pair#*=}" > "${pair%%=*}"
    done
}

# Processes that this script has started, ended by finish.
STARTED=()

# start LOG COMMAND...: in the background; its id in LAST.
start() {
    local log=$1
    shift
    setsid "$@" > "$log" 2>&1 < /dev/null &
    LAST=$!
    STARTED+=("$LAST")
}

stop() {
    kill "$1" 2> /dev/null || return 0
    for _ in $(seq 200); do
        kill -0 "$1" 2> /dev/null || return 0
        sleep 0.05
    done
    kill -KILL "$1" 2> /dev/null || true
}

stop_all() {
    local index
    for ((index = ${#STARTED[@]} - 1; index >= 0; index--)); do
        stop "${STARTED[index]}"
    done
    STARTED=()
}

# start_registry DIRECTORY: an empty registry on loopback; its host and port in REGISTRY.
start_registry() {
    local program
    program=$(unpack docker-registry usr/bin/docker-registry)
    REGISTRY=127.0.0.1:$(free_port)
    mkdir -p "$1"
    cat > "$1/config.yml" <<- END
		version: 0.1
		log: {level: warn, accesslog: {disabled: true}}
		storage: {filesystem: {rootdirectory: $1/data}}
		http: {addr: "$REGISTRY"}
	END
    start "$1/log" "$program" serve "$1/config.yml"
    wait_for 10 "the registry" python3 -c \
        "import urllib.request; urllib.request.urlopen('http://$REGISTRY/v2/')"
    # Plain HTTP, which runtimes use only where they are told to.
    mkdir -p "$1/certs.d/$REGISTRY"
    cat > "$1/certs.d/$REGISTRY/hosts.toml" <<- END
		server = "http://$REGISTRY"
		[host."http://$REGISTRY"]
		capabilities = ["pull", "resolve"]
	END
}

# write_config DIRECTORY NAME CERTS: a configuration of which nothing meets another daemon's. Its
# pods are put below a path, also where systemd is; an older daemon has no other way.
write_config() {
    local driver= bin_dirs=
    # Quotes within an expansion of a here-document are not kept by every bash.
    [ -z "${CNI_BIN:-}" ] || bin_dirs='bin_dirs = ["'$CNI_BIN'"]'
    "$CRIQUET" config default 2> /dev/null | grep cgroup_driver > /dev/null &&
        driver='cgroup_driver = "cgroupfs"'
    # A device's name has at most 15 characters.
    BRIDGE=cq$(printf '%s' "$2" | cksum | cut -d ' ' -f 1)
    SUBNET_V4=${SUBNET_V4:-10.231.0.0/16}
    cat > "$1/criquet.toml" <<- END
		root = "$1/root"
		state = "$1/state"
		listen = "unix://$1/criquet.sock"
		log_level = "info"
		monitor_path = "$MONITOR"
		cgroup_parent = "/$2"
		$driver
		netns_dir = "$1/netns"

		[network]
		bridge = "$BRIDGE"
		table = "$2"
		subnet_v4 = "$SUBNET_V4"
		subnet_v6 = "${SUBNET_V6:-fd4a:6b1d:e7::/64}"
		${SOURCE_CHECK:+source_check = $SOURCE_CHECK}

		[cni]
		conf_dir = "$1/cni"
		$bin_dirs

		[registry]
		config_path = "$3"
	END
}

# in_cgroup NAME COMMAND...: executes the command in a cgroup of its own, where its CPU time,
# and that of all it starts, is counted.
in_cgroup() {
    local directory
    directory=$(cpu_hierarchy)/$1
    shift
    mkdir -p "$directory"
    # shellcheck disable=SC2016
    exec sh -c 'echo $$ > "$0/cgroup.procs" && exec "$@"' "$directory" "$@"
}

cpu_hierarchy() {
    local v1
    v1=$(awk '$3 == "cgroup" && $4 ~ /(^|,)cpuacct(,|$)/ { print $2; exit }' /proc/mounts)
    printf '%s\n' "${v1:-/sys/fs/cgroup}"
}

# remove_cgroup NAME: with what is left below it, in every hierarchy.
remove_cgroup() {
    local directory
    for directory in /sys/fs/cgroup/"$1" /sys/fs/cgroup/*/"$1"; do
        [ -d "$directory" ] && find "$directory" -depth -type d -exec rmdir {} + 2> /dev/null
    done
    return 0
}

# print_counts LOG STATUS [MORE FAILURES]: one line about what test programs have printed.
# A test that cannot run on a machine prints a line that begins with "SKIPPED:".
# Fails when something has failed.
print_counts() {
    local log=$1 status=$2 more=${3:-0} passed failed skipped
    counted() {
        awk -v word="$1" '/^test result:/ {
            for (i = 2; i <= NF; i++) if ($i == word ";") sum += $(i - 1)
        } END { print sum + 0 }' "$log"
    }
    skipped=$(grep -c '^SKIPPED:' "$log" || true)
    passed=$(($(counted passed) - skipped))
    failed=$(counted failed)
    # A test program that does not compile, or that dies, has no result of its own.
    if [ "$status" != 0 ] && [ "$failed" = 0 ]; then failed=1; fi
    failed=$((failed + more))
    skipped=$((skipped + $(counted ignored)))
    if [ "$status" != 0 ]; then
        echo "what failed, once more:"
        # Without the stack.
        sed -n -e '/^failures:$/,/^test result:/p' -e '/^error/p' "$log" |
            grep -vE '^$|^ +([0-9]+: |at )' || true
    fi
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" = 0 ]
}

# What of the output of test programs is worth reading: not what passed, nor what it printed.
brief() {
    sed -u -e '/^successes:$/,/^\(failures:\|test result:\)/{/^\(SKIPPED:\|failures:\|test result:\)/!d}' \
        -e '/^test .* ok$/d' -e '/^$/d'
}
